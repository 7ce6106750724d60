// What the products of all block formats use, with and without dot product instructions: the walk over panels, scales,
// and the mins of Q4_K and Q5_K.
#pragma once

#include "kernels/kernels.h"
#include "kernels/neon/packing.h"
#include "kernels/neon/vector.h"

namespace halo {
namespace {
namespace neon {

// Walks the panels of a slice. One row of activations goes through both halves of a panel at once, several through one
// half after the other: more sums than that have no registers.
//
// Kernel::half<T, Half, Advance>(w, xs, sums) adds a block of 4 rows to the sums of T rows of activations; with Advance
// it moves xs on to the next block.
template <typename Kernel>
struct Walk {
  struct Rows {
    int begin, end;  // of the panel's rows, those to be stored
  };

  static void store(float* p, float32x4_t v, int first, Rows rows) {
    if (rows.begin <= first && first + 4 <= rows.end) return vst1q_f32(p + first, v);
    float all[4];
    vst1q_f32(all, v);
    for (int r = 0; r < 4; ++r) {
      if (rows.begin <= first + r && first + r < rows.end) p[first + r] = all[r];
    }
  }

  static void one(const uint8_t* panel, int blocks, const uint8_t* x, float* y, Rows rows) {
    float32x4_t low = vdupq_n_f32(0.0f), high = low;
    for (int left = blocks; left > 0; --left, panel += Kernel::kBytes) {
      Kernel::template half<1, 0, false>(panel, &x, &low);
      Kernel::template half<1, 1, true>(panel, &x, &high);
    }
    store(y, low, 0, rows);
    store(y, high, 4, rows);
  }

  template <int T, int Half>
  static void several(const uint8_t* panel, int blocks, const uint8_t* x, size_t x_stride, float* y, size_t y_stride,
                      Rows rows) {
    float32x4_t sums[T];
    const uint8_t* xs[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      sums[t] = vdupq_n_f32(0.0f);
      xs[t] = x + t * x_stride;
    }
    for (int left = blocks; left > 0; --left, panel += Kernel::kBytes) {
      Kernel::template half<T, Half, true>(panel, xs, sums);
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) store(y + t * y_stride, sums[t], 4 * Half, rows);
  }

  template <int T>
  static void both(const uint8_t* panel, int blocks, const uint8_t* x, size_t x_stride, float* y, size_t y_stride,
                   Rows rows) {
    several<T, 0>(panel, blocks, x, x_stride, y, y_stride, rows);
    several<T, 1>(panel, blocks, x, x_stride, y, y_stride, rows);
  }

  static void matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
    const int blocks = w.columns / Kernel::kValues;
    for (int first = w.row_begin / kRows * kRows; first < w.row_end; first += kRows) {
      const uint8_t* panel = w.data + static_cast<size_t>(first / kRows) * w.panel_bytes;
      const Rows rows{w.row_begin - first, w.row_end - first};
      // Row r of the panel is y[first - row_begin + r].
      float* out = y + (static_cast<ptrdiff_t>(first) - w.row_begin);
      int t = 0;
      for (; t + Kernel::kTile <= T; t += Kernel::kTile) {
        both<Kernel::kTile>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
      }
      for (; t + 2 <= T; t += 2) {
        both<2>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
      }
      if (t < T) one(panel, blocks, x + t * x_stride, out + t * y_stride, rows);
    }
  }
};

template <typename Kernel>
constexpr Product panel_product() {
  return {kRows, Kernel::kBytes, pack_panel<typename Kernel::Panel>, Walk<Kernel>::matmul};
}

template <int T, size_t Bytes>
void advance(const uint8_t** xs) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) xs[t] += Bytes;
}

// The rows' scales of one half.
inline float32x4_t scales_of(const uint8_t* scales, int half) { return load_f16(scales + 8 * half); }

// Bit `Bit` of every byte, as 16.
template <int Bit>
int8x16_t fifth(uint8x16_t bits) {
  uint8x16_t moved = bits;
  if constexpr (Bit < 4) moved = vshlq_n_u8(bits, 4 - Bit);
  if constexpr (Bit > 4) moved = vshrq_n_u8(bits, Bit - 4);
  return vreinterpretq_s8_u8(vandq_u8(moved, vdupq_n_u8(16)));
}

// The values of one run of a Q3_K panel, -4 to 3, whose bits are at those places of the bytes.
template <int High, int Low>
int8x16_t value_q3(uint8x16_t high, uint8x16_t low) {
  const uint8x16_t sign = vshlq_n_u8(high, 7 - High), two = vshlq_n_u8(low, 6 - Low);
  return vshrq_n_s8(vreinterpretq_s8_u8(vsriq_n_u8(sign, two, 1)), 5);
}

// Those of a quarter of the half at w: q[4 run + j], vector j of run `run`.
template <typename Panel, int Quarter>
void decode_q3(const uint8_t* w, int8x16_t* q) {
  constexpr int kBit = 4 * (Quarter % 2);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const uint8x16_t high = load(w + Panel::high(Quarter) + 16 * j), low = load(w + Panel::low(Quarter) + 16 * j);
    q[j] = value_q3<kBit, 0>(high, low);
    q[4 + j] = value_q3<kBit + 1, 2>(high, low);
    q[8 + j] = value_q3<kBit + 2, 4>(high, low);
    q[12 + j] = value_q3<kBit + 3, 6>(high, low);
  }
}

// The 8-bit scales of 8 rows for one half: widened.
template <int Half>
int32x4_t half_of(int16x8_t all) {
  return Half == 0 ? vmovl_s16(vget_low_s16(all)) : vmovl_high_s16(all);
}
inline int16x8_t unsigned_scales(const uint8_t* p) { return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))); }
inline int16x8_t signed_scales(const uint8_t* p) { return vmovl_s8(vreinterpret_s8_u8(vld1_u8(p))); }

// sum += the rows' mins of one half times activation sum `Run`.
template <int Half, int Run>
int32x4_t times_sum(int32x4_t sum, int16x8_t mins, int16x8_t sums) {
  return Half == 0 ? vmlal_laneq_s16(sum, vget_low_s16(mins), sums, Run) : vmlal_high_laneq_s16(sum, mins, sums, Run);
}

// Q4_K and Q5_K, one half: adds a block's integer sums `total`, less the mins, to the floats.
template <typename Panel, int T, int Half>
void finish_k(const uint8_t* w, const uint8_t* const* xs, const int32x4_t* total, float32x4_t* sums) {
  int16x8_t mins[8];
#pragma GCC unroll 8
  for (int run = 0; run < 8; ++run) mins[run] = unsigned_scales(w + Panel::kMins + kRows * run);
  const float32x4_t scale = scales_of(w + Panel::kScale, Half), min = scales_of(w + Panel::kMin, Half);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
    const int16x8_t x_sums = vld1q_s16(x->sums);
    int32x4_t below = vdupq_n_s32(0);
    below = times_sum<Half, 0>(below, mins[0], x_sums);
    below = times_sum<Half, 1>(below, mins[1], x_sums);
    below = times_sum<Half, 2>(below, mins[2], x_sums);
    below = times_sum<Half, 3>(below, mins[3], x_sums);
    below = times_sum<Half, 4>(below, mins[4], x_sums);
    below = times_sum<Half, 5>(below, mins[5], x_sums);
    below = times_sum<Half, 6>(below, mins[6], x_sums);
    below = times_sum<Half, 7>(below, mins[7], x_sums);
    sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(total[t]), vmulq_n_f32(scale, x->scale));
    sums[t] = vfmsq_f32(sums[t], vcvtq_f32_s32(below), vmulq_n_f32(min, x->scale));
  }
}

}  // namespace neon
}  // namespace
}  // namespace halo
