// The kernels for AVX-512 (F, BW, VL, DQ) with VNNI; kernels.h says what this file must not do.
#include "kernels/attention.h"
#include "kernels/avx512/activations.h"
#include "kernels/avx512/iq4_nl.h"
#include "kernels/avx512/plain.h"
#include "kernels/avx512/q36_k.h"
#include "kernels/avx512/q45.h"
#include "kernels/avx512/q45_k.h"
#include "kernels/avx512/q8_0.h"
#include "kernels/elementwise.h"

namespace halo {

namespace {

const Product* product(Type type) {
  switch (type) {
    case Type::F32:
      return &avx512::kF32;
    case Type::F16:
      return &avx512::kF16;
    case Type::BF16:
      return &avx512::kBF16;
    case Type::Q4_0:
      return &avx512::kQ4_0;
    case Type::Q4_1:
      return &avx512::kQ4_1;
    case Type::Q5_0:
      return &avx512::kQ5_0;
    case Type::Q5_1:
      return &avx512::kQ5_1;
    case Type::Q8_0:
      return &avx512::kQ8_0;
    case Type::Q3_K:
      return &avx512::kQ3_K;
    case Type::Q4_K:
      return &avx512::kQ4_K;
    case Type::Q5_K:
      return &avx512::kQ5_K;
    case Type::Q6_K:
      return &avx512::kQ6_K;
    case Type::IQ4_NL:
      return &avx512::kIQ4_NL;
    case Type::Q8_K:
      return nullptr;
  }
  return nullptr;
}

using Rounded = Activations<avx512::Rounding>;
using Elements = Elementwise<avx512::Vectors>;

}  // namespace

const Kernels kAvx512{"avx512",           product,
                      Rounded::quantize,  Rounded::prepare,
                      Elements::silu_mul, BlockedAttention<avx512::Vectors>::run,
                      Elements::add_fixed};

}  // namespace halo
