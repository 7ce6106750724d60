// Walks the panels of a slice: 16 rows by up to 8 rows of activations at a time. Panels are read strictly in order,
// which the processor fetches ahead by itself; asking for it measured 4 to 28% slower.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace avx512 {

constexpr int kRows = 16;  // of a panel: one lane each

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }
inline __m512 load_f16(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }

// Four activations to every lane.
inline __m512i broadcast4(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

// sum += the products of 16 weights of every row with 16 activations; q[j] has weights 4j .. 4j + 3. The broadcasts
// are made from registers: the processor loads only one vector a cycle, but can do two operations.
inline __m512i dot16(__m512i sum, const __m512i* q, const int8_t* x) {
  const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  sum = _mm512_dpbusd_epi32(sum, q[0], _mm512_shuffle_epi32(all, _MM_PERM_AAAA));
  sum = _mm512_dpbusd_epi32(sum, q[1], _mm512_shuffle_epi32(all, _MM_PERM_BBBB));
  sum = _mm512_dpbusd_epi32(sum, q[2], _mm512_shuffle_epi32(all, _MM_PERM_CCCC));
  return _mm512_dpbusd_epi32(sum, q[3], _mm512_shuffle_epi32(all, _MM_PERM_DDDD));
}

// The same for 32; half of the broadcasts are loads, which keeps both the load unit and the shuffles busy.
inline __m512i dot32(__m512i sum, const __m512i* q, const int8_t* x) {
  for (int j = 0; j < 4; ++j) sum = _mm512_dpbusd_epi32(sum, q[j], broadcast4(x + 4 * j));
  return dot16(sum, q + 4, x + 16);
}

template <typename Kernel, int T>
void tile(const uint8_t* panel, int blocks, const uint8_t* x, size_t x_stride, float* y, size_t y_stride,
          __mmask16 rows) {
  __m512 sums[T];
  const uint8_t* xs[T];
  for (int t = 0; t < T; ++t) {
    sums[t] = _mm512_setzero_ps();
    xs[t] = x + t * x_stride;
  }
  for (int k = 0; k < blocks; ++k) {
    Kernel::template block<T>(panel, xs, sums);
    panel += Kernel::kBytes;
    for (int t = 0; t < T; ++t) xs[t] += Kernel::kActivationBytes;
  }
  for (int t = 0; t < T; ++t) _mm512_mask_storeu_ps(y + t * y_stride, rows, sums[t]);
}

template <typename Kernel>
void matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  const int blocks = w.columns / Kernel::kValues;
  for (int first = w.row_begin / kRows * kRows; first < w.row_end; first += kRows) {
    const uint8_t* panel = w.data + static_cast<size_t>(first / kRows) * w.panel_bytes;
    int skip = w.row_begin - first, keep = w.row_end - first;
    if (skip < 0) skip = 0;
    if (keep > kRows) keep = kRows;
    const auto rows = static_cast<__mmask16>((1u << keep) - (1u << skip));
    // Lane r of the panel is y[first - row_begin + r]; lanes outside the slice are masked.
    float* out = y + (static_cast<ptrdiff_t>(first) - w.row_begin);
    int t = 0;
    for (; t + Kernel::kTile <= T; t += Kernel::kTile) {
      tile<Kernel, Kernel::kTile>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
    }
    for (; t + 2 <= T; t += 2) {
      tile<Kernel, 2>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
    }
    if (t < T) tile<Kernel, 1>(panel, blocks, x + t * x_stride, x_stride, out + t * y_stride, y_stride, rows);
  }
}

template <typename Kernel, typename Panel>
constexpr Product panel_product() {
  return {kRows, Kernel::kBytes, pack_panel<Panel>, matmul<Kernel>};
}

}  // namespace avx512
}  // namespace
}  // namespace halo
