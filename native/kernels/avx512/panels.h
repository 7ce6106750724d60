// Walks the panels of a slice: 16 rows by up to 8 rows of activations at a time.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace avx512 {

constexpr int kRows = 16;     // of a panel: one lane each
constexpr int kAhead = 4096;  // bytes between what is read and what is fetched into the cache

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }
inline __m512 load_f16(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }

// Four activations to every lane.
inline __m512i broadcast4(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

// The panel's block, asked for before the processor's own prefetcher dares to cross a page.
template <int Bytes>
inline void fetch_ahead(const uint8_t* w) {
  for (int i = 0; i < Bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(w + kAhead + i), _MM_HINT_T0);
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
    if (T == 1) fetch_ahead<Kernel::kBytes>(panel);
    Kernel::template block<T>(panel, xs, sums);
    panel += Kernel::kBytes;
    for (int t = 0; t < T; ++t) xs[t] += Kernel::kActivationBytes;
  }
  for (int t = 0; t < T; ++t) _mm512_mask_storeu_ps(y + t * y_stride, rows, sums[t]);
}

template <typename Kernel>
void matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  const int blocks = w.columns / Kernel::kValues;
  const uint8_t* base = w.data + static_cast<size_t>(w.column_begin / Kernel::kValues) * Kernel::kBytes;
  for (int first = w.row_begin / kRows * kRows; first < w.row_end; first += kRows) {
    const uint8_t* panel = base + static_cast<size_t>(first / kRows) * w.panel_bytes;
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
