// Small things that all AVX2 kernels use: masked ends, conversions, sums over lanes.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/scalar.h"

namespace halo {
namespace {
namespace avx2 {

// All bits of the first n of 8 lanes.
inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline __m256 load(const float* p) { return _mm256_loadu_ps(p); }
inline __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256 load_f16(const void* p) { return _mm256_cvtph_ps(load16(p)); }

inline __m256 load_first(const float* p, int n) { return n >= 8 ? load(p) : _mm256_maskload_ps(p, first_lanes(n)); }

inline void store_first(float* p, int n, __m256 v) {
  if (n >= 8) return _mm256_storeu_ps(p, v);
  _mm256_maskstore_ps(p, first_lanes(n), v);
}

// The first n of 8 16-bit values, the others zero.
inline __m128i load_first16(const uint16_t* p, int n) {
  if (n >= 8) return load16(p);
  uint16_t some[8] = {};
  if (n > 0) std::memcpy(some, p, 2 * static_cast<size_t>(n));
  return load16(some);
}

inline void store_first16(uint16_t* p, int n, __m128i v) {
  uint16_t all[8];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(all), v);
  std::memcpy(p, all, 2 * static_cast<size_t>(n < 8 ? n : 8));
}

inline __m256 abs(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

// Sums over lanes, in a fixed order, which no compiler chooses.
inline float add_lanes(__m256 v) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

inline float largest_lane(__m256 v) {
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

// The sum of 16 signed bytes.
inline int add_bytes(__m128i v) {
  const __m128i two = _mm_maddubs_epi16(_mm_set1_epi8(1), v);
  const __m128i four = _mm_madd_epi16(two, _mm_set1_epi16(1));
  const __m128i eight = _mm_add_epi32(four, _mm_srli_si128(four, 8));
  return _mm_cvtsi128_si32(_mm_add_epi32(eight, _mm_srli_si128(eight, 4)));
}

}  // namespace avx2
}  // namespace
}  // namespace halo
