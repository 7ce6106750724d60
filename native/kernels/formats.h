// The GGUF tensor types and layer-input formats that the kernels know: block layouts and sizes.
// Source: the GGUF specification and ggml's block definitions; the numbers are ggml's type numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halo {

enum class Type : uint8_t { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8 };

struct TypeInfo {
  const char* name;
  int block;        // values a block
  size_t bytes;     // bytes a block
  Type activation;  // the format in which a product with this type takes its other operand
};

// Null for a type that the kernels do not know.
inline const TypeInfo* type_info(int type) {
  static constexpr TypeInfo f32{"F32", 1, 4, Type::F32};
  static constexpr TypeInfo f16{"F16", 1, 2, Type::F16};
  static constexpr TypeInfo q4_0{"Q4_0", 32, 18, Type::Q8_0};
  static constexpr TypeInfo q8_0{"Q8_0", 32, 34, Type::Q8_0};
  switch (type) {
    case 0:
      return &f32;
    case 1:
      return &f16;
    case 2:
      return &q4_0;
    case 8:
      return &q8_0;
    default:
      return nullptr;
  }
}

inline const TypeInfo& info(Type type) { return *type_info(static_cast<int>(type)); }

// Bytes of `n` values; `n` is a whole number of blocks.
inline size_t row_bytes(Type type, int64_t n) {
  const TypeInfo& t = info(type);
  return static_cast<size_t>(n / t.block) * t.bytes;
}

struct BlockQ4_0 {
  uint16_t scale;       // f16
  uint8_t nibbles[16];  // value i in the low half of byte i, value i + 16 in the high half; minus 8
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ8_0 {
  uint16_t scale;  // f16
  int8_t values[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

}  // namespace halo
