// Floats to layer-input formats, and those to what products read; the same bits as the portable kernels.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/avx512/elementwise.h"

namespace halo {
namespace {
namespace avx512 {

// max|x| / 127 of 16 * N floats, or NaN if there is one among them: a damaged weight must not look like a zero.
template <int N>
inline float scale_of(const float* x) {
  __m512 largest = _mm512_setzero_ps();
  __mmask16 nan = 0;
  for (int i = 0; i < N; ++i) {
    const __m512 v = _mm512_loadu_ps(x + 16 * i);
    largest = _mm512_max_ps(_mm512_abs_ps(v), largest);
    nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  }
  return nan != 0 ? __builtin_nanf("") : _mm512_reduce_max_ps(largest) / 127.0f;
}

// Rounded half away from zero: adding the float just below a half rounds as std::round does.
inline __m128i round_to_int8(const float* x, __m512 inverse) {
  const __m512 value = _mm512_mul_ps(_mm512_loadu_ps(x), inverse);
  const __m512 sign = _mm512_and_ps(value, _mm512_set1_ps(-0.0f));
  const __m512 moved = _mm512_add_ps(value, _mm512_or_ps(sign, _mm512_set1_ps(0.49999997f)));
  const __mmask16 ok = _mm512_cmp_ps_mask(_mm512_abs_ps(moved), _mm512_set1_ps(128.0f), _CMP_LT_OQ);
  return _mm512_cvtepi32_epi8(_mm512_maskz_cvttps_epi32(ok, moved));
}

inline void quantize_q8_0(const float* x, BlockQ8_0* out) {
  const float scale = scale_of<2>(x);
  const __m512 inverse = _mm512_set1_ps(scale != 0.0f ? 1.0f / scale : 0.0f);
  out->scale = static_cast<uint16_t>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(scale), _MM_FROUND_TO_NEAREST_INT), 0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values), round_to_int8(x, inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values + 16), round_to_int8(x + 16, inverse));
}

// The sum of 16 signed bytes.
inline int add_bytes(__m128i v) {
  const __m128i four = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), v);
  const __m128i two = _mm_add_epi32(four, _mm_srli_si128(four, 8));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_srli_si128(two, 4)));
}

inline void quantize_q8_k(const float* x, BlockQ8_K* out) {
  out->scale = scale_of<16>(x);
  const __m512 inverse = _mm512_set1_ps(out->scale != 0.0f ? 1.0f / out->scale : 0.0f);
  for (int run = 0; run < 16; ++run) {
    const __m128i v = round_to_int8(x + 16 * run, inverse);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values + 16 * run), v);
    out->sums[run] = static_cast<int16_t>(add_bytes(v));
  }
}

inline void to_f16(const float* x, int n, uint16_t* out) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    _mm256_mask_storeu_epi16(out + i, m, _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, x + i), _MM_FROUND_TO_NEAREST_INT));
  }
}

// To nearest, ties to even; a NaN stays one.
inline void to_bf16(const float* x, int n, uint16_t* out) {
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

void quantize(Type format, const float* x, int n, uint8_t* out) {
  switch (format) {
    case Type::F32:
      std::memcpy(out, x, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      return to_f16(x, n, reinterpret_cast<uint16_t*>(out));
    case Type::BF16:
      return to_bf16(x, n, reinterpret_cast<uint16_t*>(out));
    case Type::Q8_0:
      for (int k = 0; k < n / 32; ++k) quantize_q8_0(x + 32 * k, reinterpret_cast<BlockQ8_0*>(out) + k);
      return;
    case Type::Q8_K:
      for (int k = 0; k < n / 256; ++k) quantize_q8_k(x + 256 * k, reinterpret_cast<BlockQ8_K*>(out) + k);
      return;
    default:
      return;  // weights only
  }
}

inline void prepare_q8_0(const BlockQ8_0& in, PreparedQ8* out) {
  const auto* values = reinterpret_cast<const __m256i*>(in.values);
  const __m256i v = _mm256_max_epi8(_mm256_loadu_si256(values), _mm256_set1_epi8(-127));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->values), v);
  const __m256i eight = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), v);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_srli_si128(four, 8));
  const int sum = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_srli_si128(two, 4)));
  out->scale = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(in.scale)));
  out->minus_8 = -8 * sum;
  out->minus_128 = -128 * sum;
  out->unused = 0;
}

// The sums are made anew: a message's may not be those of its values.
inline void prepare_q8_k(const BlockQ8_K& in, PreparedQ8K* out) {
  for (int run = 0; run < 16; run += 2) {
    int sums[2];
    for (int i = 0; i < 2; ++i) {
      const auto* values = reinterpret_cast<const __m128i*>(in.values + 16 * (run + i));
      const __m128i v = _mm_max_epi8(_mm_loadu_si128(values), _mm_set1_epi8(-127));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values + 16 * (run + i)), v);
      sums[i] = add_bytes(v);
      out->minus_32[run + i] = -32 * sums[i];
    }
    out->sums[run / 2] = static_cast<int16_t>(sums[0] + sums[1]);
  }
  out->scale = in.scale;
  for (uint32_t& u : out->unused) u = 0;
}

template <typename W>
void widen(const uint8_t* in, int n, float* out) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    _mm512_mask_storeu_ps(out + i, m, W::load(in + i * W::kBytes, m));
  }
}

void prepare(Type format, const uint8_t* in, int n, uint8_t* out) {
  switch (format) {
    case Type::F32:
      std::memcpy(out, in, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      return widen<F16>(in, n, reinterpret_cast<float*>(out));
    case Type::BF16:
      return widen<BF16>(in, n, reinterpret_cast<float*>(out));
    case Type::Q8_0:
      for (int k = 0; k < n / 32; ++k) {
        prepare_q8_0(reinterpret_cast<const BlockQ8_0*>(in)[k], reinterpret_cast<PreparedQ8*>(out) + k);
      }
      return;
    case Type::Q8_K:
      for (int k = 0; k < n / 256; ++k) {
        prepare_q8_k(reinterpret_cast<const BlockQ8_K*>(in)[k], reinterpret_cast<PreparedQ8K*>(out) + k);
      }
      return;
    default:
      return;
  }
}

}  // namespace avx512
}  // namespace
}  // namespace halo
