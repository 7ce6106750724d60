// The GGUF tensor types and layer-input formats that the kernels know: block layouts and sizes.
// Source: the GGUF specification and ggml's block definitions; the numbers are ggml's type numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halo {

enum class Type : uint8_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  Q8_K = 15,
  IQ4_NL = 20,
  BF16 = 30,
};

struct TypeInfo {
  const char* name;
  int block;        // values a block
  size_t bytes;     // bytes a block
  Type activation;  // the format in which a product with this type takes its other operand
  bool weights;     // false for a type that only activations have
};

// Null for a type that the kernels do not know. (Internal linkage, here and in scalar.h: the linker must not pick
// a copy that was compiled for wider vectors than this machine may have.)
static inline const TypeInfo* type_info(int type) {
  static constexpr TypeInfo f32{"F32", 1, 4, Type::F32, true};
  static constexpr TypeInfo f16{"F16", 1, 2, Type::F16, true};
  static constexpr TypeInfo q4_0{"Q4_0", 32, 18, Type::Q8_0, true};
  // ggml feeds Q4_1 and Q5_1 with Q8_1, which is Q8_0 and the sum of the values: that is made where it is needed, so
  // Q8_0 is what travels.
  static constexpr TypeInfo q4_1{"Q4_1", 32, 20, Type::Q8_0, true};
  static constexpr TypeInfo q5_0{"Q5_0", 32, 22, Type::Q8_0, true};
  static constexpr TypeInfo q5_1{"Q5_1", 32, 24, Type::Q8_0, true};
  static constexpr TypeInfo q8_0{"Q8_0", 32, 34, Type::Q8_0, true};
  static constexpr TypeInfo q3_k{"Q3_K", 256, 110, Type::Q8_K, true};
  static constexpr TypeInfo q4_k{"Q4_K", 256, 144, Type::Q8_K, true};
  static constexpr TypeInfo q5_k{"Q5_K", 256, 176, Type::Q8_K, true};
  static constexpr TypeInfo q6_k{"Q6_K", 256, 210, Type::Q8_K, true};
  static constexpr TypeInfo q8_k{"Q8_K", 256, 292, Type::Q8_K, false};
  static constexpr TypeInfo iq4_nl{"IQ4_NL", 32, 18, Type::Q8_0, true};
  static constexpr TypeInfo bf16{"BF16", 1, 2, Type::BF16, true};
  switch (type) {
    case 0:
      return &f32;
    case 1:
      return &f16;
    case 2:
      return &q4_0;
    case 3:
      return &q4_1;
    case 6:
      return &q5_0;
    case 7:
      return &q5_1;
    case 8:
      return &q8_0;
    case 11:
      return &q3_k;
    case 12:
      return &q4_k;
    case 13:
      return &q5_k;
    case 14:
      return &q6_k;
    case 15:
      return &q8_k;
    case 20:
      return &iq4_nl;
    case 30:
      return &bf16;
    default:
      return nullptr;
  }
}

static inline const TypeInfo& info(Type type) { return *type_info(static_cast<int>(type)); }

// Bytes of `n` values; `n` is a whole number of blocks.
static inline size_t row_bytes(Type type, int64_t n) {
  const TypeInfo& t = info(type);
  return static_cast<size_t>(n / t.block) * t.bytes;
}

struct BlockQ4_0 {
  uint16_t scale;       // f16
  uint8_t nibbles[16];  // value i in the low half of byte i, value i + 16 in the high half; minus 8
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ4_1 {
  uint16_t scale, min;  // f16: value = scale * q + min
  uint8_t nibbles[16];  // as Q4_0, from 0 to 15
};
static_assert(sizeof(BlockQ4_1) == 20);

struct BlockQ5_0 {
  uint16_t scale;       // f16
  uint8_t high[4];      // bit i of these 32, the lowest first: the fifth bit of value i
  uint8_t nibbles[16];  // as Q4_0; minus 16
};
static_assert(sizeof(BlockQ5_0) == 22);

struct BlockQ5_1 {
  uint16_t scale, min;  // f16: value = scale * q + min
  uint8_t high[4];
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

struct BlockIQ4_NL {
  uint16_t scale;       // f16
  uint8_t nibbles[16];  // as Q4_0, but they count kIQ4Values
};
static_assert(sizeof(BlockIQ4_NL) == 18);

static constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

struct BlockQ8_0 {
  uint16_t scale;  // f16
  int8_t values[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// 256 values in 16 runs of 16: value = scale * (scales[run] - 32) * (q - 4). Value i has bits 2j, 2j + 1 of byte
// 32h + l of `low` and bit 4h + j of byte l of `high`, where i = 128h + 32j + l.
struct BlockQ3_K {
  uint8_t high[32];
  uint8_t low[64];
  uint8_t scales[12];  // 6 bits each, see unpack_scales
  uint16_t scale;      // f16
};
static_assert(sizeof(BlockQ3_K) == 110);

// 256 values in 8 runs of 32: value = scale * scales[run] * q - min * mins[run].
struct BlockQ4_K {
  uint16_t scale, min;   // f16
  uint8_t scales[12];    // 6 bits each for 8 scales and 8 mins, see unpack_scales
  uint8_t nibbles[128];  // 32 bytes for two runs: the earlier in the low halves, the later in the high halves
};
static_assert(sizeof(BlockQ4_K) == 144);

struct BlockQ5_K {
  uint16_t scale, min;
  uint8_t scales[12];
  uint8_t high[32];  // bit r of byte i: the fifth bit of value i of run r
  uint8_t nibbles[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// 256 values in 16 runs of 16: value = scale * scales[run] * (q - 32). Two halves of 128 values; in a half, byte
// i (0 .. 63) of the nibbles has value i in its low half and value i + 64 in its high half, and bits 2j, 2j + 1
// of byte i (0 .. 31) of `high` are the upper bits of value i + 32j.
struct BlockQ6_K {
  uint8_t nibbles[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t scale;  // f16
};
static_assert(sizeof(BlockQ6_K) == 210);

struct BlockQ8_K {
  float scale;
  int8_t values[256];
  int16_t sums[16];  // of 16 values each
};
static_assert(sizeof(BlockQ8_K) == 292);

// The 8 scales and 8 mins of a Q4_K or Q5_K block.
static inline void unpack_scales(const uint8_t* packed, uint8_t* scales, uint8_t* mins) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    mins[i] = packed[i + 4] & 63;
    scales[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15) | (packed[i] >> 6 << 4));
    mins[i + 4] = static_cast<uint8_t>((packed[i + 8] >> 4) | (packed[i + 4] >> 6 << 4));
  }
}

// The 16 scales of a Q3_K block.
static inline void unpack_scales(const BlockQ3_K& b, int8_t* scales) {
  for (int i = 0; i < 16; ++i) {
    const int low = b.scales[i % 8] >> (i / 8 * 4) & 15, high = b.scales[8 + i % 4] >> (i / 4 * 2) & 3;
    scales[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

// The 256 unsigned 3-bit values of a Q3_K block, in order.
static inline void unpack_q3(const BlockQ3_K& b, uint8_t* q) {
  for (int run = 0; run < 8; ++run, q += 32) {  // of 32
    const uint8_t* low = b.low + 32 * (run / 4);
    for (int i = 0; i < 32; ++i) {
      q[i] = static_cast<uint8_t>((low[i] >> (run % 4 * 2) & 3) | (b.high[i] >> run & 1) << 2);
    }
  }
}

// The 32 unsigned 5-bit values of a Q5_0 or Q5_1 block, in order; 4-bit ones of Q4_0 or Q4_1 without `high`.
static inline void unpack_q45(const uint8_t* nibbles, const uint8_t* high, uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = nibbles[i] & 15;
    q[i + 16] = nibbles[i] >> 4;
  }
  for (int i = 0; high != nullptr && i < 32; ++i) q[i] |= static_cast<uint8_t>((high[i / 8] >> (i % 8) & 1) << 4);
}

// The 256 unsigned 6-bit values of a Q6_K block, in order.
static inline void unpack_q6(const BlockQ6_K& b, uint8_t* q) {
  for (int half = 0; half < 2; ++half, q += 128) {
    const uint8_t* nibbles = b.nibbles + 64 * half;
    const uint8_t* high = b.high + 32 * half;
    for (int i = 0; i < 32; ++i) {
      q[i] = static_cast<uint8_t>((nibbles[i] & 15) | (high[i] & 3) << 4);
      q[i + 32] = static_cast<uint8_t>((nibbles[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      q[i + 64] = static_cast<uint8_t>((nibbles[i] >> 4) | (high[i] >> 4 & 3) << 4);
      q[i + 96] = static_cast<uint8_t>((nibbles[i + 32] >> 4) | (high[i] >> 6 & 3) << 4);
    }
  }
}

// ---- activations as products read them: made once per sync from the bytes that travelled
//
// Values are -127 to 127: quantisers make no others, and a -128 in a message becomes -127 (products may negate a value,
// or add up pairs of products in 16 bits). Weights may be -128.

struct PreparedQ8 {  // of a Q8_0 block
  int8_t values[32];
  float scale;
  int32_t minus_8, minus_128;  // times the sum of the values: what unsigned weights have too much
  float scaled_sum;            // scale times the sum of the values: what a min is multiplied with
};
static_assert(sizeof(PreparedQ8) == 48);

struct PreparedQ8K {  // of a Q8_K block
  int8_t values[256];
  int32_t minus_32[16];  // times the sum of each 16 values
  int16_t sums[8];       // of each 32 values
  float scale;
  uint32_t unused[3];
};
static_assert(sizeof(PreparedQ8K) == 352);

// Bytes of `n` prepared values; F32, F16 and BF16 become floats.
static inline size_t prepared_bytes(Type format, int64_t n) {
  switch (format) {
    case Type::Q8_0:
      return static_cast<size_t>(n / 32) * sizeof(PreparedQ8);
    case Type::Q8_K:
      return static_cast<size_t>(n / 256) * sizeof(PreparedQ8K);
    default:
      return static_cast<size_t>(n) * 4;
  }
}

}  // namespace halo
