// Walks the panels of a slice: a panel's rows by several rows of activations at a time. Panels are read strictly in
// order, which the processor fetches ahead by itself; asking for it measured 4 to 28% slower (AVX-512).
//
// `V` is a variant's vectors, one lane for each row of a panel; `Kernel` multiplies one block of all rows of a panel.
// Everything is in an anonymous namespace: each variant compiles its own.
#pragma once

#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {

template <typename V>
struct Panels {
  static constexpr int kRows = V::kLanes;

  template <typename Kernel, int T>
  static void tile(const uint8_t* panel, int blocks, const uint8_t* x, size_t x_stride, float* y, size_t y_stride,
                   typename V::Rows rows) {
    typename V::Vector sums[T];
    const uint8_t* xs[T];
    for (int t = 0; t < T; ++t) {
      sums[t] = V::set(0.0f);
      xs[t] = x + t * x_stride;
    }
    for (int k = 0; k < blocks; ++k) {
      Kernel::template block<T>(panel, xs, sums);
      panel += Kernel::kBytes;
      for (int t = 0; t < T; ++t) xs[t] += Kernel::kActivationBytes;
    }
    for (int t = 0; t < T; ++t) V::store_rows(y + t * y_stride, sums[t], rows);
  }

  template <typename Kernel>
  static void matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
    const int blocks = w.columns / Kernel::kValues;
    for (int first = w.row_begin / kRows * kRows; first < w.row_end; first += kRows) {
      const uint8_t* panel = w.data + static_cast<size_t>(first / kRows) * w.panel_bytes;
      const typename V::Rows rows = V::between(w.row_begin - first, w.row_end - first);
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

  template <typename Kernel>
  static constexpr Product product() {
    return {kRows, Kernel::kBytes, pack_panel<typename Kernel::Panel>, matmul<Kernel>};
  }
};

}  // namespace
}  // namespace halo
