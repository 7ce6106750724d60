// Sums of products of all pairs of values, which a least-squares fit needs.
#pragma once

#include <cstddef>

namespace halo {

// The upper triangle of a symmetric (n, n) matrix: row i is columns i to n - 1, rows one after the other.
inline size_t triangle_row(int n, int i) { return size_t(i) * n - size_t(i) * (size_t(i) - 1) / 2; }
inline size_t triangle_size(int n) { return triangle_row(n, n); }

// Rows of the triangle that are computed together.
inline constexpr int kGramRows = 4;

// Adds sum over t of x[t][i] * x[t][j] to the triangle's rows i = first to first + kGramRows - 1 (below n), j >= i;
// x: (rows, n). The sum over t is made before it is added, so that a long sum in float loses little.
void add_gram_rows(const float* x, int rows, int n, int first, float* triangle);

}  // namespace halo
