// Parity fragments and what they restore; wire/parity.h says which code this is.
#include "wire/parity.h"

#include <algorithm>

#include "wire/field.h"

namespace halo {

namespace {

uint8_t coefficient(int parity, int data) {
  const auto y = static_cast<uint8_t>(kMaxParity + data);
  return field::multiply(y, field::inverse(static_cast<uint8_t>(parity ^ y)));
}

// What parity fragments in use say of `count` missing data fragments: matrix * missing = right-hand sides, which lie in
// the buffers of the missing fragments themselves.
struct Equations {
  int count = 0;
  int missing[kMaxParity];  // data fragments
  uint8_t matrix[kMaxParity][kMaxParity];
  uint8_t* sides[kMaxParity];
};

void scale(uint8_t factor, uint8_t* side, size_t bytes) {
  field::multiply_add(factor ^ 1, side, bytes, side);  // side + (factor + 1) * side
}

// Gauss-Jordan, without a search for pivots: the leading parts of a Cauchy matrix can all be inverted.
void solve(Equations* e, size_t bytes) {
  for (int pivot = 0; pivot < e->count; ++pivot) {
    uint8_t* row = e->matrix[pivot];
    const uint8_t factor = field::inverse(row[pivot]);
    for (int c = pivot; c < e->count; ++c) row[c] = field::multiply(factor, row[c]);
    scale(factor, e->sides[pivot], bytes);
    for (int r = 0; r < e->count; ++r) {
      if (r == pivot) continue;
      const uint8_t times = e->matrix[r][pivot];
      for (int c = pivot; c < e->count; ++c) e->matrix[r][c] ^= field::multiply(times, row[c]);
      field::multiply_add(times, e->sides[pivot], bytes, e->sides[r]);
    }
  }
}

}  // namespace

void make_parity(const uint8_t* const* data, int k, int index, size_t bytes, uint8_t* out) {
  std::fill_n(out, bytes, uint8_t{0});
  for (int j = 0; j < k; ++j) field::multiply_add(coefficient(index, j), data[j], bytes, out);
}

bool restore(uint8_t* const* fragments, const bool* present, int k, int m, size_t bytes) {
  if (k < 1 || k > kMaxData || m < 0 || m > kMaxParity) return false;
  int here = 0;
  for (int i = 0; i < k + m; ++i) here += present[i] ? 1 : 0;
  if (here < k) return false;
  Equations e;
  for (int j = 0; j < k; ++j) {
    if (!present[j]) e.missing[e.count++] = j;  // at most m, as k are present
  }
  for (int i = 0, equation = 0; equation < e.count; ++i) {
    if (!present[k + i]) continue;
    uint8_t* side = e.sides[equation] = fragments[e.missing[equation]];
    for (int c = 0; c < e.count; ++c) e.matrix[equation][c] = coefficient(i, e.missing[c]);
    std::copy_n(fragments[k + i], bytes, side);
    for (int j = 0; j < k; ++j) {
      if (present[j]) field::multiply_add(coefficient(i, j), fragments[j], bytes, side);
    }
    ++equation;
  }
  solve(&e, bytes);
  return true;
}

}  // namespace halo
