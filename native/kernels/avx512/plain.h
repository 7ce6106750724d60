// F32, F16 and BF16 rows as they lie in the file, 16 columns at a time. Each (row, activation row) has one vector
// of sums, added across lanes at the end.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"

namespace halo {
namespace {
namespace avx512 {

struct F32 {
  static constexpr size_t kBytes = 4;
  static __m512 load(const uint8_t* p) { return _mm512_loadu_ps(p); }
  static __m512 load(const uint8_t* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
};

struct F16 {
  static constexpr size_t kBytes = 2;
  static __m512 load(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 load(const uint8_t* p, __mmask16 m) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }
};

struct BF16 {
  static constexpr size_t kBytes = 2;
  static __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
  static __m512 load(const uint8_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static __m512 load(const uint8_t* p, __mmask16 m) { return widen(_mm256_maskz_loadu_epi16(m, p)); }
};

// In a fixed order, which no compiler chooses.
inline float add_lanes(__m512 v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

template <typename W, int R, int T>
void plain_tile(const uint8_t* w, size_t w_stride, const float* const* x, int n, float* y, size_t y_stride) {
  __m512 sums[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) sums[r][t] = _mm512_setzero_ps();
  }
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    __m512 xs[T];
    for (int t = 0; t < T; ++t) xs[t] = _mm512_loadu_ps(x[t] + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m512 v = W::load(w + r * w_stride + i * W::kBytes);
      for (int t = 0; t < T; ++t) sums[r][t] = _mm512_fmadd_ps(v, xs[t], sums[r][t]);
    }
  }
  if (i < n) {
    const auto rest = static_cast<__mmask16>((1u << (n - i)) - 1);
    for (int r = 0; r < R; ++r) {
      const __m512 v = W::load(w + r * w_stride + i * W::kBytes, rest);
      for (int t = 0; t < T; ++t) sums[r][t] = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(rest, x[t] + i), sums[r][t]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) y[t * y_stride + r] = add_lanes(sums[r][t]);
  }
}

template <typename W, int R>
void plain_rows(const uint8_t* w, size_t w_stride, const uint8_t* x, size_t x_stride, int T, int n, float* y,
                size_t y_stride) {
  const float* xs[4];
  for (int t = 0; t < T; t += T - t >= 4 ? 4 : 1) {
    const int rows = T - t >= 4 ? 4 : 1;
    for (int i = 0; i < rows; ++i) xs[i] = reinterpret_cast<const float*>(x + (t + i) * x_stride);
    if (rows == 4) {
      plain_tile<W, R, 4>(w, w_stride, xs, n, y + t * y_stride, y_stride);
    } else {
      plain_tile<W, R, 1>(w, w_stride, xs, n, y + t * y_stride, y_stride);
    }
  }
}

template <typename W>
void plain_matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  const uint8_t* base = w.data + w.column_begin * W::kBytes;
  int r = w.row_begin;
  for (; r + 4 <= w.row_end; r += 4, y += 4) {
    plain_rows<W, 4>(base + r * w.panel_bytes, w.panel_bytes, x, x_stride, T, w.columns, y, y_stride);
  }
  for (; r < w.row_end; ++r, ++y) {
    plain_rows<W, 1>(base + r * w.panel_bytes, w.panel_bytes, x, x_stride, T, w.columns, y, y_stride);
  }
}

constexpr Product kF32{1, F32::kBytes, nullptr, plain_matmul<F32>};
constexpr Product kF16{1, F16::kBytes, nullptr, plain_matmul<F16>};
constexpr Product kBF16{1, BF16::kBytes, nullptr, plain_matmul<BF16>};

}  // namespace avx512
}  // namespace
}  // namespace halo
