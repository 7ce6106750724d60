// F32, F16 and BF16 rows, 8 columns at a time. Each (row, activation row) has four vectors of sums, added across lanes
// at the end.
#pragma once

#include "kernels/avx2/vector.h"
#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace avx2 {

struct F32 {
  static constexpr size_t kBytes = 4;
  static __m256 load(const uint8_t* p) { return avx2::load(reinterpret_cast<const float*>(p)); }
  static __m256 load(const uint8_t* p, int n) { return load_first(reinterpret_cast<const float*>(p), n); }
};

template <__m256 (*Widen)(__m128i)>
struct Half {
  static constexpr size_t kBytes = 2;
  static __m256 load(const uint8_t* p) { return Widen(load16(p)); }
  static __m256 load(const uint8_t* p, int n) { return Widen(load_first16(reinterpret_cast<const uint16_t*>(p), n)); }
};

inline __m256 widen_f16(__m128i v) { return _mm256_cvtph_ps(v); }
inline __m256 widen_bf16(__m128i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }

using F16 = Half<widen_f16>;
using BF16 = Half<widen_bf16>;

constexpr int kChains = 4;
constexpr int kColumns = 8 * kChains;  // that one step takes

// The products of one row with T rows of activations.
template <typename W, int T>
void plain_tile(const uint8_t* w, const float* const* x, int n, float* y, size_t y_stride) {
  __m256 sums[T][kChains];
  for (int t = 0; t < T; ++t) {
    for (int c = 0; c < kChains; ++c) sums[t][c] = _mm256_setzero_ps();
  }
  int i = 0;
  for (; i + kColumns <= n; i += kColumns) {
    for (int c = 0; c < kChains; ++c) {
      const __m256 v = W::load(w + (i + 8 * c) * W::kBytes);
      for (int t = 0; t < T; ++t) sums[t][c] = _mm256_fmadd_ps(v, load(x[t] + i + 8 * c), sums[t][c]);
    }
  }
  for (int c = 0; i + 8 * c < n; ++c) {
    const int rest = n - i - 8 * c;
    const __m256 v = W::load(w + (i + 8 * c) * W::kBytes, rest);
    for (int t = 0; t < T; ++t) sums[t][c] = _mm256_fmadd_ps(v, load_first(x[t] + i + 8 * c, rest), sums[t][c]);
  }
  for (int t = 0; t < T; ++t) {
    const __m256* s = sums[t];
    y[t * y_stride] = add_lanes(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
  }
}

template <typename W>
void plain_matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  for (int r = w.row_begin; r < w.row_end; ++r, ++y) {
    const uint8_t* row = w.data + r * w.panel_bytes;
    const float* xs[2];
    int t = 0;
    for (; t + 2 <= T; t += 2) {
      for (int i = 0; i < 2; ++i) xs[i] = reinterpret_cast<const float*>(x + (t + i) * x_stride);
      plain_tile<W, 2>(row, xs, w.columns, y + t * y_stride, y_stride);
    }
    if (t < T) {
      xs[0] = reinterpret_cast<const float*>(x + t * x_stride);
      plain_tile<W, 1>(row, xs, w.columns, y + t * y_stride, y_stride);
    }
  }
}

constexpr Product kF32{1, F32::kBytes, copy_row<F32::kBytes>, plain_matmul<F32>};
constexpr Product kF16{1, F16::kBytes, copy_row<F16::kBytes>, plain_matmul<F16>};
constexpr Product kBF16{1, BF16::kBytes, copy_row<BF16::kBytes>, plain_matmul<BF16>};

}  // namespace avx2
}  // namespace
}  // namespace halo
