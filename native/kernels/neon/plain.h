// F32, F16 and BF16 rows, 4 columns at a time. Each (row, activation row) has four vectors of sums, added across lanes
// at the end.
#pragma once

#include "kernels/kernels.h"
#include "kernels/neon/vector.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace neon {

struct F32 {
  static constexpr size_t kBytes = 4;
  static float32x4_t load(const uint8_t* p) { return vld1q_f32(reinterpret_cast<const float*>(p)); }
  static float32x4_t load(const uint8_t* p, int n) { return load_first(reinterpret_cast<const float*>(p), n); }
};

template <float32x4_t (*Widen)(uint16x4_t)>
struct Half {
  static constexpr size_t kBytes = 2;
  static float32x4_t load(const uint8_t* p) { return Widen(vreinterpret_u16_u8(vld1_u8(p))); }
  static float32x4_t load(const uint8_t* p, int n) { return Widen(load_first16(p, n)); }
};

inline float32x4_t widen_f16(uint16x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(v)); }
inline float32x4_t widen_bf16(uint16x4_t v) { return vreinterpretq_f32_u32(vshll_n_u16(v, 16)); }

using F16 = Half<widen_f16>;
using BF16 = Half<widen_bf16>;

constexpr int kChains = 4;
constexpr int kColumns = 4 * kChains;  // that one step takes

// The products of one row with T rows of activations.
template <typename W, int T>
void plain_tile(const uint8_t* w, const float* const* x, int n, float* y, size_t y_stride) {
  float32x4_t sums[T][kChains];
  for (int t = 0; t < T; ++t) {
    for (int c = 0; c < kChains; ++c) sums[t][c] = vdupq_n_f32(0.0f);
  }
  int i = 0;
  for (; i + kColumns <= n; i += kColumns) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      const float32x4_t v = W::load(w + (i + 4 * c) * W::kBytes);
      for (int t = 0; t < T; ++t) sums[t][c] = vfmaq_f32(sums[t][c], v, vld1q_f32(x[t] + i + 4 * c));
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < kChains; ++c) {
    const int rest = n - i - 4 * c;
    if (rest <= 0) break;
    const float32x4_t v = W::load(w + (i + 4 * c) * W::kBytes, rest);
    for (int t = 0; t < T; ++t) sums[t][c] = vfmaq_f32(sums[t][c], v, load_first(x[t] + i + 4 * c, rest));
  }
  for (int t = 0; t < T; ++t) {
    const float32x4_t* s = sums[t];
    y[t * y_stride] = add_lanes(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
  }
}

template <typename W>
void plain_matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  constexpr int kTile = 4;
  for (int r = w.row_begin; r < w.row_end; ++r, ++y) {
    const uint8_t* row = w.data + r * w.panel_bytes;
    const float* xs[kTile];
    int t = 0;
    for (; t + kTile <= T; t += kTile) {
      for (int i = 0; i < kTile; ++i) xs[i] = reinterpret_cast<const float*>(x + (t + i) * x_stride);
      plain_tile<W, kTile>(row, xs, w.columns, y + t * y_stride, y_stride);
    }
    for (; t < T; ++t) {
      xs[0] = reinterpret_cast<const float*>(x + t * x_stride);
      plain_tile<W, 1>(row, xs, w.columns, y + t * y_stride, y_stride);
    }
  }
}

constexpr Product kF32{1, F32::kBytes, copy_row<F32::kBytes>, plain_matmul<F32>};
constexpr Product kF16{1, F16::kBytes, copy_row<F16::kBytes>, plain_matmul<F16>};
constexpr Product kBF16{1, BF16::kBytes, copy_row<BF16::kBytes>, plain_matmul<BF16>};

}  // namespace neon
}  // namespace
}  // namespace halo
