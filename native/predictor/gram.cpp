// A tile of kGramRows x kTile sums stays in registers while it walks the rows of x.
#include "predictor/gram.h"

#include <algorithm>

namespace halo {

namespace {

constexpr int kTile = 8;  // with kGramRows, 8 vectors of 4 floats: what any 64-bit CPU has

void add_whole_tile(const float* x, int rows, int n, int first, int column, float* const* out) {
  float sums[kGramRows][kTile] = {};
  for (int t = 0; t < rows; ++t) {
    const float* row = x + size_t(t) * n;
    for (int i = 0; i < kGramRows; ++i) {
      for (int j = 0; j < kTile; ++j) sums[i][j] += row[first + i] * row[column + j];
    }
  }
  for (int i = 0; i < kGramRows; ++i) {
    for (int j = 0; j < kTile; ++j) out[i][column + j] += sums[i][j];
  }
}

void add_value(const float* x, int rows, int n, int i, int j, float* out) {
  float sum = 0.0f;
  for (int t = 0; t < rows; ++t) sum += x[size_t(t) * n + i] * x[size_t(t) * n + j];
  out[j] += sum;
}

}  // namespace

void add_gram_rows(const float* x, int rows, int n, int first, float* triangle) {
  float* out[kGramRows];  // row i such that column j is at out[i][j]
  const int last = std::min(first + kGramRows, n);
  for (int i = first; i < last; ++i) {
    out[i - first] = triangle + triangle_row(n, i) - i;
    for (int j = i; j < last; ++j) add_value(x, rows, n, i, j, out[i - first]);
  }
  int column = last;
  for (; last - first == kGramRows && column + kTile <= n; column += kTile) {
    add_whole_tile(x, rows, n, first, column, out);
  }
  for (; column < n; ++column) {
    for (int i = first; i < last; ++i) add_value(x, rows, n, i, column, out[i - first]);
  }
}

}  // namespace halo
