// Walks the panels of a slice: 8 rows by up to 4 rows of activations at a time. Panels are read strictly in order.
#pragma once

#include <immintrin.h>

#include "kernels/avx2/vector.h"
#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace avx2 {

constexpr int kRows = 8;  // of a panel: one lane each
constexpr int kTile = 4;

// Four activations to every lane.
inline __m256i broadcast4(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

// Sums of pairs of products of unsigned weights with N groups of 4 activations: 16-bit, two a row. The caller knows
// that they fit.
template <int N>
inline __m256i dot(const __m256i* q, const int8_t* x) {
  __m256i sum = _mm256_maddubs_epi16(q[0], broadcast4(x));
  for (int j = 1; j < N; ++j) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(q[j], broadcast4(x + 4 * j)));
  return sum;
}

// A row's scale, 8 bits each, as both 16-bit halves of its lane.
inline __m256i twice(__m256i scale) {
  return _mm256_or_si256(_mm256_slli_epi32(scale, 16), _mm256_and_si256(scale, _mm256_set1_epi32(0xffff)));
}

template <typename Kernel, int T>
void tile(const uint8_t* panel, int blocks, const uint8_t* x, size_t x_stride, float* y, size_t y_stride,
          __m256i rows) {
  __m256 sums[T];
  const uint8_t* xs[T];
  for (int t = 0; t < T; ++t) {
    sums[t] = _mm256_setzero_ps();
    xs[t] = x + t * x_stride;
  }
  for (int k = 0; k < blocks; ++k) {
    Kernel::template block<T>(panel, xs, sums);
    panel += Kernel::kBytes;
    for (int t = 0; t < T; ++t) xs[t] += Kernel::kActivationBytes;
  }
  for (int t = 0; t < T; ++t) _mm256_maskstore_ps(y + t * y_stride, rows, sums[t]);
}

template <typename Kernel>
void matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  const int blocks = w.columns / Kernel::kValues;
  for (int first = w.row_begin / kRows * kRows; first < w.row_end; first += kRows) {
    const uint8_t* panel = w.data + static_cast<size_t>(first / kRows) * w.panel_bytes;
    const __m256i rows = _mm256_andnot_si256(first_lanes(w.row_begin - first), first_lanes(w.row_end - first));
    // Lane r of the panel is y[first - row_begin + r]; lanes outside the slice are masked.
    float* out = y + (static_cast<ptrdiff_t>(first) - w.row_begin);
    int t = 0;
    for (; t + kTile <= T; t += kTile) {
      tile<Kernel, kTile>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
    }
    for (; t < T; ++t) tile<Kernel, 1>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
  }
}

template <typename Kernel, typename Panel>
constexpr Product panel_product() {
  return {kRows, Kernel::kBytes, pack_panel<Panel>, matmul<Kernel>};
}

}  // namespace avx2
}  // namespace
}  // namespace halo
