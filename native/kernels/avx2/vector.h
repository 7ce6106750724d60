// Vectors of 8 floats: what attention, panels and element-wise operations are made of, and masked ends, conversions and
// sums over lanes.
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

struct Vectors {
  using Vector = __m256;
  using Part = int;      // how many of the first lanes
  using Rows = __m256i;  // any run of lanes
  static constexpr int kLanes = 8, kQueries = 2;

  static Part first(int n) { return n; }
  static Rows between(int begin, int end) { return _mm256_andnot_si256(first_lanes(begin), first_lanes(end)); }
  static Vector set(float f) { return _mm256_set1_ps(f); }
  static Vector load(const float* p) { return avx2::load(p); }
  static Vector load(const float* p, Part n) { return load_first(p, n); }
  static Vector load_f16(const uint16_t* p, Part n) { return _mm256_cvtph_ps(load_first16(p, n)); }
  static void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  static void store(float* p, Vector v, Part n) { store_first(p, n, v); }
  static void store_rows(float* p, Vector v, Rows rows) { _mm256_maskstore_ps(p, rows, v); }
  static Vector negative(Vector v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector div(Vector a, Vector b) { return _mm256_div_ps(a, b); }
  static Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
  static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector add(Vector a, Vector b, Part n) {
    return _mm256_add_ps(a, _mm256_and_ps(b, _mm256_castsi256_ps(first_lanes(n))));
  }
  static Vector max(Vector a, Vector b, Part n) {
    return _mm256_blendv_ps(a, _mm256_max_ps(a, b), _mm256_castsi256_ps(first_lanes(n)));
  }
  static float largest_lane(Vector v) { return avx2::largest_lane(v); }
  static float add_lanes(Vector v) { return avx2::add_lanes(v); }

  // The sums over lanes of four vectors.
  static void add_lanes(const Vector* v, float* out) {
    const Vector ab = _mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    const Vector cd = _mm256_add_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    const Vector all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }

  // Where a < b: yes, elsewhere (NaN too): no.
  static Vector where_less(Vector a, Vector b, Vector yes, Vector no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }

  // v * 2^n for integers n, in two factors: n = 128 does not leave the exponent's range.
  static Vector times_power_of_2(Vector v, Vector n) {
    const __m256i k = _mm256_cvttps_epi32(n), half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    const __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(v, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
  }

  // sum += v to the nearest integer, ties to even, where |v| <= limit; whether that is everywhere. Lanes beyond n are
  // 0.
  static bool add_rounded(Vector v, Vector limit, int32_t* sum, Part n) {
    const __m256i m = first_lanes(n);
    const __m256 ok = _mm256_cmp_ps(abs(v), limit, _CMP_LE_OQ);
    const __m256i rounded = _mm256_and_si256(_mm256_cvtps_epi32(v), _mm256_castps_si256(ok));
    _mm256_maskstore_epi32(sum, m, _mm256_add_epi32(_mm256_maskload_epi32(sum, m), rounded));
    return _mm256_movemask_ps(ok) == 255;
  }
};

}  // namespace avx2
}  // namespace
}  // namespace halo
