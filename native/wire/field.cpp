// Products by tables: x * c is the XOR of the products of x's two nibbles, and a vector register looks up 16 at once.
#include "wire/field.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace halo::field {

namespace {

constexpr int kPolynomial = 0x11d;

struct Tables {
  uint8_t power[510] = {};  // x^i, long enough for the sum of two logarithms
  uint8_t log[256] = {};    // of all but 0
  // What a factor makes of the low nibble of a byte (16 products), then of the high nibble (16).
  uint8_t nibbles[256][32] = {};

  constexpr uint8_t product(int a, int b) const { return a == 0 || b == 0 ? uint8_t{0} : power[log[a] + log[b]]; }

  constexpr Tables() {
    int value = 1;
    for (int i = 0; i < 255; ++i) {
      power[i] = power[i + 255] = static_cast<uint8_t>(value);
      log[value] = static_cast<uint8_t>(i);
      value <<= 1;
      if (value > 255) value ^= kPolynomial;
    }
    for (int factor = 0; factor < 256; ++factor) {
      for (int nibble = 0; nibble < 16; ++nibble) {
        nibbles[factor][nibble] = product(factor, nibble);
        nibbles[factor][16 + nibble] = product(factor, nibble << 4);
      }
    }
  }
};
constexpr Tables kTables;

void add(const uint8_t* in, size_t n, uint8_t* out) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t a, b;
    std::memcpy(&a, in + i, 8);
    std::memcpy(&b, out + i, 8);
    a ^= b;
    std::memcpy(out + i, &a, 8);
  }
  for (; i < n; ++i) out[i] ^= in[i];
}

void few_bytes(const uint8_t* table, const uint8_t* in, size_t n, uint8_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] ^= table[in[i] & 15] ^ table[16 + (in[i] >> 4)];
}

void portable(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out) {
  const uint8_t* table = kTables.nibbles[factor];
  uint8_t products[256];
  for (int x = 0; x < 256; ++x) products[x] = table[x & 15] ^ table[16 + (x >> 4)];
  for (size_t i = 0; i < n; ++i) out[i] ^= products[in[i]];
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void avx2(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out) {
  const uint8_t* table = kTables.nibbles[factor];
  const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16)));
  const __m256i mask = _mm256_set1_epi8(15);
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
    auto* sum = reinterpret_cast<__m256i*>(out + i);
    const __m256i of_low = _mm256_shuffle_epi8(low, _mm256_and_si256(x, mask));
    const __m256i of_high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi64(x, 4), mask));
    _mm256_storeu_si256(sum, _mm256_xor_si256(_mm256_loadu_si256(sum), _mm256_xor_si256(of_low, of_high)));
  }
  few_bytes(table, in + i, n - i, out + i);
}

__attribute__((target("ssse3"))) void ssse3(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out) {
  const uint8_t* table = kTables.nibbles[factor];
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16));
  const __m128i mask = _mm_set1_epi8(15);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    auto* sum = reinterpret_cast<__m128i*>(out + i);
    const __m128i of_low = _mm_shuffle_epi8(low, _mm_and_si128(x, mask));
    const __m128i of_high = _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi64(x, 4), mask));
    _mm_storeu_si128(sum, _mm_xor_si128(_mm_loadu_si128(sum), _mm_xor_si128(of_low, of_high)));
  }
  few_bytes(table, in + i, n - i, out + i);
}
#elif defined(__aarch64__)
void neon(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out) {
  const uint8_t* table = kTables.nibbles[factor];
  const uint8x16_t low = vld1q_u8(table), high = vld1q_u8(table + 16), mask = vdupq_n_u8(15);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const uint8x16_t x = vld1q_u8(in + i);
    const uint8x16_t product = veorq_u8(vqtbl1q_u8(low, vandq_u8(x, mask)), vqtbl1q_u8(high, vshrq_n_u8(x, 4)));
    vst1q_u8(out + i, veorq_u8(vld1q_u8(out + i), product));
  }
  few_bytes(table, in + i, n - i, out + i);
}
#endif

std::vector<Way> usable() {
  std::vector<Way> found;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) found.push_back({"avx2", avx2});
  if (__builtin_cpu_supports("ssse3")) found.push_back({"ssse3", ssse3});
#elif defined(__aarch64__)
  found.push_back({"neon", neon});  // every 64-bit ARM has it
#endif
  found.push_back({"portable", portable});
  return found;
}

}  // namespace

uint8_t multiply(uint8_t a, uint8_t b) { return kTables.product(a, b); }

uint8_t inverse(uint8_t a) { return kTables.power[255 - kTables.log[a]]; }

const std::vector<Way>& ways() {
  static const std::vector<Way> found = usable();
  return found;
}

void multiply_add(uint8_t factor, const uint8_t* in, size_t n, uint8_t* out) {
  if (factor == 0) return;
  if (factor == 1) return add(in, n, out);
  static const auto fastest = ways().front().multiply_add;
  fastest(factor, in, n, out);
}

}  // namespace halo::field
