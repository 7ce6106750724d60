// Arithmetic in GF(256), the field of the parity fragments: bytes, addition is XOR, multiplication is that of
// polynomials modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), of which x generates every value but zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace halo::field {

uint8_t multiply(uint8_t a, uint8_t b);
uint8_t inverse(uint8_t a);  // of a != 0

// out[i] ^= factor * in[i] for i in [0, n), by the fastest way of this CPU. `in` may be `out`, but not a part of it.
void multiply_add(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out);

// The ways that run on this machine, fastest first; all give the same bytes. The last is plain C++.
struct Way {
  const char* isa;
  void (*multiply_add)(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out);
};
const std::vector<Way>& ways();

}  // namespace halo::field
