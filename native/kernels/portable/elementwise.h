// What happens to products value by value.
#pragma once

#include <cmath>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {
namespace portable {

void silu_mul(const float* gate, const float* up, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
}

bool add_fixed(const float* y, int n, float scale, float limit, int32_t* sum, float* squares) {
  bool fits = true;
  float total = 0.0f;
  for (int i = 0; i < n; ++i) {
    total += y[i] * y[i];
    const float value = y[i] * scale;
    const bool ok = std::fabs(value) <= limit;  // false for NaN
    fits &= ok;
    const float magic = std::copysign(0x1p23f, value);  // adding it rounds to the nearest integer, ties to even
    const float rounded = std::fabs(value) < 0x1p23f ? (value + magic) - magic : value;
    sum[i] += ok ? static_cast<int32_t>(rounded) : 0;
  }
  *squares = total;
  return fits;
}

}  // namespace portable
}  // namespace
}  // namespace halo
