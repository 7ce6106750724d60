// The kernels for NEON as every 64-bit ARM has it (armv8.0: Raspberry Pi 3 and 4); kernels.h says what this file must
// not do.
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/neon/activations.h"
#include "kernels/neon/plain.h"
#include "kernels/neon/q36_k.h"
#include "kernels/neon/q45.h"
#include "kernels/neon/q45_k.h"
#include "kernels/neon/q8_0.h"

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
      return &neon::kQ4_0;
    case Type::Q4_1:
      return &neon::kQ4_1;
    case Type::Q5_0:
      return &neon::kQ5_0;
    case Type::Q5_1:
      return &neon::kQ5_1;
    case Type::Q8_0:
      return &neon::kQ8_0;
    case Type::Q3_K:
      return &neon::kQ3_K;
    case Type::Q4_K:
      return &neon::kQ4_K;
    case Type::Q5_K:
      return &neon::kQ5_K;
    case Type::Q6_K:
      return &neon::kQ6_K;
    case Type::IQ4_NL:
      return &neon::kIQ4_NL;
    case Type::Q8_K:
      return nullptr;
  }
  return nullptr;
}

using Rounded = Activations<neon::Rounding>;
using Elements = Elementwise<neon::Vectors>;

}  // namespace

const Kernels kNeon{"neon",
                    product,
                    Rounded::quantize,
                    Rounded::prepare,
                    Elements::silu_mul,
                    BlockedAttention<neon::Vectors>::run,
                    Elements::add_fixed};

}  // namespace halo
