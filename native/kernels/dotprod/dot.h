// Sums of four products of bytes in every lane, which is a row: activations come from a lane of their own vector.
#pragma once

#include "kernels/neon/panels.h"

namespace halo {
namespace {
namespace dotprod {

using neon::kRows;

// sum += the products of 16 weights of 4 rows with 16 activations; q[j] has weights 4j .. 4j + 3.
inline int32x4_t dot16(int32x4_t sum, const int8x16_t* q, int8x16_t x) {
  sum = vdotq_laneq_s32(sum, q[0], x, 0);
  sum = vdotq_laneq_s32(sum, q[1], x, 1);
  sum = vdotq_laneq_s32(sum, q[2], x, 2);
  return vdotq_laneq_s32(sum, q[3], x, 3);
}

// The same for 32.
inline int32x4_t dot32(int32x4_t sum, const int8x16_t* q, int8x16_t low, int8x16_t high) {
  return dot16(dot16(sum, q, low), q + 4, high);
}

// The products of 32.
inline int32x4_t dot32(const int8x16_t* q, int8x16_t low, int8x16_t high) {
  return dot32(vdupq_n_s32(0), q, low, high);
}

alignas(16) constexpr int32_t kZeros[4] = {};

// The same where the arithmetic units have more to do than those that load: the sum begins with zeros from memory
// (volatile: or the compiler would load them once and copy them, which is arithmetic).
inline int32x4_t dot32_from_memory(const int8x16_t* q, int8x16_t low, int8x16_t high) {
  int32x4_t zeros;
  asm volatile("ldr %q0, %1" : "=w"(zeros) : "m"(kZeros));
  return dot16(dot16(zeros, q, low), q + 4, high);
}

// One row of 32 activations.
struct Activations32 {
  int8x16_t low, high;
  float scale;
  const PreparedQ8* block;
};

// Loads a row's block. Of several rows, each pointer moves on with its load, in one instruction: the compiler would
// rather keep more addresses than there are registers.
template <bool Several>
Activations32 take_block(const uint8_t** x, bool advance) {
  const auto* block = reinterpret_cast<const PreparedQ8*>(*x);
  if (Several) {
    const uint8_t* next = *x;
    int8x16_t low, high;
    asm("ldp %q0, %q1, [%2], #48" : "=w"(low), "=w"(high), "+r"(next) : "m"(*block));
    static_assert(sizeof(PreparedQ8) == 48);
    *x = next;
    const PreparedQ8* loaded = reinterpret_cast<const PreparedQ8*>(next) - 1;
    return {low, high, loaded->scale, loaded};
  }
  if (advance) *x += sizeof(PreparedQ8);
  return {neon::load_signed(block->values), neon::load_signed(block->values + 16), block->scale, block};
}

}  // namespace dotprod
}  // namespace
}  // namespace halo
