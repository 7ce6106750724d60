// The kernels for ARM with dot product instructions (armv8.2 and SDOT: Raspberry Pi 5); kernels.h says what this file
// must not do.
#include "kernels/attention.h"
#include "kernels/dotprod/q36_k.h"
#include "kernels/dotprod/q45.h"
#include "kernels/dotprod/q45_k.h"
#include "kernels/dotprod/q4_0.h"
#include "kernels/dotprod/q8_0.h"
#include "kernels/elementwise.h"
#include "kernels/neon/activations.h"
#include "kernels/neon/plain.h"

namespace halo {

namespace {

const Product* product(Type type) {
  switch (type) {
    case Type::F32:
      return &neon::kF32;
    case Type::F16:
      return &neon::kF16;
    case Type::BF16:
      return &neon::kBF16;
    case Type::Q4_0:
      return &dotprod::kQ4_0;
    case Type::Q4_1:
      return &dotprod::kQ4_1;
    case Type::Q5_0:
      return &dotprod::kQ5_0;
    case Type::Q5_1:
      return &dotprod::kQ5_1;
    case Type::Q8_0:
      return &dotprod::kQ8_0;
    case Type::Q3_K:
      return &dotprod::kQ3_K;
    case Type::Q4_K:
      return &dotprod::kQ4_K;
    case Type::Q5_K:
      return &dotprod::kQ5_K;
    case Type::Q6_K:
      return &dotprod::kQ6_K;
    case Type::IQ4_NL:
      return &dotprod::kIQ4_NL;
    case Type::Q8_K:
      return nullptr;
  }
  return nullptr;
}

using Rounded = Activations<neon::Rounding>;
using Elements = Elementwise<neon::Vectors>;

}  // namespace

const Kernels kDotprod{"dotprod",          product,
                       Rounded::quantize,  Rounded::prepare,
                       Elements::silu_mul, BlockedAttention<neon::Vectors>::run,
                       Elements::add_fixed};

}  // namespace halo
