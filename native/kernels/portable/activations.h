// How plain C++ makes activations.
#pragma once

#include <cmath>

#include "kernels/activations.h"

namespace halo {
namespace {
namespace portable {

struct Rounding {
  template <int N>
  static float scale_of(const float* x) {
    float largest = 0.0f;
    for (int i = 0; i < N; ++i) {
      if (!(std::fabs(x[i]) <= largest)) largest = std::fabs(x[i]);
      if (largest != largest) return __builtin_nanf("");
    }
    return largest / 127.0f;
  }

  template <int N>
  static int round(const float* x, float inverse, int8_t* out) {
    int sum = 0;
    for (int i = 0; i < N; ++i) {
      const float nearest = std::round(x[i] * inverse);
      sum += out[i] = static_cast<int8_t>(std::fabs(nearest) <= 127.0f ? nearest : 0.0f);
    }
    return sum;
  }

  template <int N>
  static int copy(const int8_t* in, int8_t* out) {
    int sum = 0;
    for (int i = 0; i < N; ++i) sum += out[i] = in[i] < -127 ? int8_t{-127} : in[i];
    return sum;
  }

  static void to_f16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; ++i) out[i] = f32_to_f16(x[i]);
  }
  static void to_bf16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; ++i) out[i] = f32_to_bf16(x[i]);
  }
  static void from_f16(const uint8_t* in, int n, float* out) { dequantize(Type::F16, in, n, out); }
  static void from_bf16(const uint8_t* in, int n, float* out) { dequantize(Type::BF16, in, n, out); }
};

}  // namespace portable
}  // namespace
}  // namespace halo
