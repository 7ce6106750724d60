// How AVX-512 makes activations; the same bits as the portable kernels.
#pragma once

#include "kernels/activations.h"
#include "kernels/avx512/plain.h"

namespace halo {
namespace {
namespace avx512 {

struct Rounding {
  template <int N>
  static float scale_of(const float* x) {
    __m512 largest = _mm512_setzero_ps();
    __mmask16 nan = 0;
    for (int i = 0; i < N; i += 16) {
      const __m512 v = _mm512_loadu_ps(x + i);
      largest = _mm512_max_ps(_mm512_abs_ps(v), largest);
      nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    }
    return nan != 0 ? __builtin_nanf("") : _mm512_reduce_max_ps(largest) / 127.0f;
  }

  // Half away from zero: adding the float just below a half rounds as std::round does.
  template <int N>
  static int round(const float* x, float inverse, int8_t* out) {
    const __m512 inverses = _mm512_set1_ps(inverse);
    int sum = 0;
    for (int i = 0; i < N; i += 16) {
      const __m512 value = _mm512_mul_ps(_mm512_loadu_ps(x + i), inverses);
      const __m512 sign = _mm512_and_ps(value, _mm512_set1_ps(-0.0f));
      const __m512 moved = _mm512_add_ps(value, _mm512_or_ps(sign, _mm512_set1_ps(0.49999997f)));
      const __mmask16 ok = _mm512_cmp_ps_mask(_mm512_abs_ps(moved), _mm512_set1_ps(128.0f), _CMP_LT_OQ);
      sum += put16(_mm512_cvtepi32_epi8(_mm512_maskz_cvttps_epi32(ok, moved)), out + i);
    }
    return sum;
  }

  template <int N>
  static int copy(const int8_t* in, int8_t* out) {
    int sum = 0;
    for (int i = 0; i < N; i += 16) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
      sum += put16(_mm_max_epi8(v, _mm_set1_epi8(-127)), out + i);
    }
    return sum;
  }

  static int put16(__m128i v, int8_t* out) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
    const __m128i four = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), v);
    const __m128i two = _mm_add_epi32(four, _mm_srli_si128(four, 8));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_srli_si128(two, 4)));
  }

  static void to_f16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; i += 16) {
      const __mmask16 m = first_lanes(n - i);
      _mm256_mask_storeu_epi16(out + i, m, _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, x + i), _MM_FROUND_TO_NEAREST_INT));
    }
  }

  // To nearest, ties to even; a NaN stays one.
  static void to_bf16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; i += 16) {
      const __mmask16 m = first_lanes(n - i);
      const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
      const __m512i u = _mm512_castps_si512(v);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
      const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
      const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
      const __m512i kept = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(64 << 16));
      _mm256_mask_storeu_epi16(out + i, m, _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
    }
  }

  static void from_f16(const uint8_t* in, int n, float* out) { widen<F16>(in, n, out); }
  static void from_bf16(const uint8_t* in, int n, float* out) { widen<BF16>(in, n, out); }

  template <typename W>
  static void widen(const uint8_t* in, int n, float* out) {
    for (int i = 0; i < n; i += 16) {
      const __mmask16 m = first_lanes(n - i);
      _mm512_mask_storeu_ps(out + i, m, W::load(in + i * W::kBytes, m));
    }
  }
};

}  // namespace avx512
}  // namespace
}  // namespace halo
