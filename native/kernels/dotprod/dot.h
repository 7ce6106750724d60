// Sums of four products of bytes in every lane, which is a row: activations come from a lane of their own vector.
#pragma once

#include "kernels/neon/panels.h"

namespace halo {
namespace {
namespace dotprod {

using neon::kRows;
using neon::Sums;

// sum += the products of 16 weights of 4 rows with 16 activations; q[j] has weights 4j .. 4j + 3.
inline int32x4_t dot16(int32x4_t sum, const int8x16_t* q, int8x16_t x) {
  sum = vdotq_laneq_s32(sum, q[0], x, 0);
  sum = vdotq_laneq_s32(sum, q[1], x, 1);
  sum = vdotq_laneq_s32(sum, q[2], x, 2);
  return vdotq_laneq_s32(sum, q[3], x, 3);
}

// The products of 32.
inline int32x4_t dot32(const int8x16_t* q, const uint8_t* x) {
  const int32x4_t sum = dot16(vdupq_n_s32(0), q, neon::load_signed(x));
  return dot16(sum, q + 4, neon::load_signed(x + 16));
}

// One row of activations: both halves in one go, which loads it once. More: half by half, for want of registers.
template <typename Kernel, int T>
void both_halves(const uint8_t* w, const uint8_t* const* xs, Sums* sums) {
  Kernel::template half<T, 0>(w, xs, sums);
  Kernel::template half<T, 1>(w, xs, sums);
}

}  // namespace dotprod
}  // namespace
}  // namespace halo
