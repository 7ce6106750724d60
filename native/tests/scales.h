// Where the f16 scales of a block of weights are: random bytes there would be no sensible weights.
#pragma once

#include <vector>

#include "kernels/formats.h"

namespace halo {

inline std::vector<int> scales_at(Type type) {
  switch (type) {
    case Type::Q4_0:
    case Type::Q5_0:
    case Type::Q8_0:
    case Type::IQ4_NL:
      return {0};
    case Type::Q4_1:
    case Type::Q5_1:
    case Type::Q4_K:
    case Type::Q5_K:
      return {0, 2};
    case Type::Q3_K:
      return {108};
    case Type::Q6_K:
      return {208};
    default:
      return {};
  }
}

}  // namespace halo
