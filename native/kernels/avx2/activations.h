// How AVX2 makes activations; the same bits as the portable kernels.
#pragma once

#include "kernels/activations.h"
#include "kernels/avx2/plain.h"

namespace halo {
namespace {
namespace avx2 {

struct Rounding {
  template <int N>
  static float scale_of(const float* x) {
    __m256 largest = _mm256_setzero_ps(), nan = largest;
    for (int i = 0; i < N; i += 8) {
      const __m256 v = load(x + i);
      largest = _mm256_max_ps(abs(v), largest);
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
    return _mm256_movemask_ps(nan) != 0 ? __builtin_nanf("") : largest_lane(largest) / 127.0f;
  }

  // Half away from zero: adding the float just below a half rounds as std::round does.
  static __m256i round8(const float* x, __m256 inverse) {
    const __m256 value = _mm256_mul_ps(load(x), inverse);
    const __m256 sign = _mm256_and_ps(value, _mm256_set1_ps(-0.0f));
    const __m256 moved = _mm256_add_ps(value, _mm256_or_ps(sign, _mm256_set1_ps(0.49999997f)));
    const __m256 ok = _mm256_cmp_ps(abs(moved), _mm256_set1_ps(128.0f), _CMP_LT_OQ);
    return _mm256_and_si256(_mm256_cvttps_epi32(moved), _mm256_castps_si256(ok));
  }

  template <int N>
  static int round(const float* x, float inverse, int8_t* out) {
    const __m256 inverses = _mm256_set1_ps(inverse);
    int sum = 0;
    for (int i = 0; i < N; i += 16) {
      const __m256i a = round8(x + i, inverses), b = round8(x + i + 8, inverses);
      const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
      const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
      sum += put16(_mm_packs_epi16(low, high), out + i);
    }
    return sum;
  }

  template <int N>
  static int copy(const int8_t* in, int8_t* out) {
    int sum = 0;
    for (int i = 0; i < N; i += 16) sum += put16(_mm_max_epi8(load16(in + i), _mm_set1_epi8(-127)), out + i);
    return sum;
  }

  static int put16(__m128i v, int8_t* out) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
    const __m128i two = _mm_maddubs_epi16(_mm_set1_epi8(1), v);
    const __m128i four = _mm_madd_epi16(two, _mm_set1_epi16(1));
    const __m128i eight = _mm_add_epi32(four, _mm_srli_si128(four, 8));
    return _mm_cvtsi128_si32(_mm_add_epi32(eight, _mm_srli_si128(eight, 4)));
  }

  static void to_f16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; i += 8) {
      store_first16(out + i, n - i, _mm256_cvtps_ph(load_first(x + i, n - i), _MM_FROUND_TO_NEAREST_INT));
    }
  }
  static void to_bf16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; ++i) out[i] = f32_to_bf16(x[i]);
  }
  static void from_f16(const uint8_t* in, int n, float* out) { widen<F16>(in, n, out); }
  static void from_bf16(const uint8_t* in, int n, float* out) { widen<BF16>(in, n, out); }

  template <typename W>
  static void widen(const uint8_t* in, int n, float* out) {
    for (int i = 0; i < n; i += 8) store_first(out + i, n - i, W::load(in + i * W::kBytes, n - i));
  }
};

}  // namespace avx2
}  // namespace
}  // namespace halo
