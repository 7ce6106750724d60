// The erasure code of a message's fragments: k data fragments and up to kMaxParity parity fragments of the same size,
// over GF(256). Systematic: data travels as it is, and any k of the k + m fragments restore the message. Parity 0 is
// the XOR of the data.
//
// Parity i is the sum over j of c(i, j) * data[j], where c(i, j) = (8 + j) / (i + (8 + j)) in GF(256) (wire/field.h;
// its + is XOR): the Cauchy matrix of the points 0 .. 7 and 8 .. 8 + k - 1 with each column scaled so that row 0 is
// all ones. Every square part of a Cauchy matrix can be inverted, scaled or not, hence "any k". The coefficients do
// not depend on k or m, so a further parity can be made when it turns out that one is needed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halo {

inline constexpr int kMaxParity = 8;
inline constexpr int kMaxData = 240;

// out = parity fragment `index` (0 .. kMaxParity - 1) of data[0 .. k), each `bytes` long, k in 1 .. kMaxData; `out` is
// none of them. Does not allocate.
void make_parity(const uint8_t* const* data, int k, int index, size_t bytes, uint8_t* out);

// fragments[0 .. k + m): buffers of `bytes`, data first, then parity 0 .. m - 1; present[i] tells which hold what was
// sent. Restores every missing data fragment in place; parity fragments are only read, and the pointer of a missing one
// may be null. False, and nothing written, where fewer than k are present or k or m is out of range. Does not allocate.
bool restore(uint8_t* const* fragments, const bool* present, int k, int m, size_t bytes);

}  // namespace halo
