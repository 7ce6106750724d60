// Dot products of bytes without dot product instructions: 16-bit sums of a row in 8 lanes, and how those of 4 rows
// become one vector. The caller knows that the sums fit.
#pragma once

#include "kernels/neon/vector.h"

namespace halo {
namespace {
namespace neon {

// 16 weights of one row by 16 activations: 2 products a lane.
inline int16x8_t dot16(int8x16_t w, int8x16_t x) {
  return vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x);
}

// 32: 4 products a lane.
inline int16x8_t dot32(int8x16_t w0, int8x16_t w1, int8x16_t x0, int8x16_t x1) {
  const int16x8_t sum = vmlal_s8(dot16(w0, x0), vget_low_s8(w1), vget_low_s8(x1));
  return vmlal_high_s8(sum, w1, x1);
}

// The sums of 4 rows, two lanes each: four of the old lanes must fit 16 bits together.
inline int16x8_t two_lanes(const int16x8_t* rows) {
  return vpaddq_s16(vpaddq_s16(rows[0], rows[1]), vpaddq_s16(rows[2], rows[3]));
}

// The sums of 4 rows; two of the old lanes must fit 16 bits together.
inline int32x4_t add_rows(const int16x8_t* rows) {
  return vpaddq_s32(vpaddlq_s16(vpaddq_s16(rows[0], rows[1])), vpaddlq_s16(vpaddq_s16(rows[2], rows[3])));
}

}  // namespace neon
}  // namespace
}  // namespace halo
