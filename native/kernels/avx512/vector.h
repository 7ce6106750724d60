// Vectors of 16 floats: what attention, panels and element-wise operations are made of.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace halo {
namespace {
namespace avx512 {

inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1); }

// In a fixed order, which no compiler chooses.
inline float add_lanes(__m256 low, __m256 high) {
  const __m256 a = _mm256_add_ps(low, high);
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

inline float add_lanes(__m512 v) { return add_lanes(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }

struct Vectors {
  using Vector = __m512;
  using Part = __mmask16;  // the first lanes
  using Rows = __mmask16;  // any run of lanes
  static constexpr int kLanes = 16, kQueries = 4;

  static Part first(int n) { return first_lanes(n); }
  static Rows between(int begin, int end) { return static_cast<Rows>(first_lanes(end) & ~first_lanes(begin)); }
  static Vector set(float f) { return _mm512_set1_ps(f); }
  static Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static Vector load(const float* p, Part m) { return _mm512_maskz_loadu_ps(m, p); }
  static Vector load_f16(const uint16_t* p, Part m) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }
  static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  static void store(float* p, Vector v, Part m) { _mm512_mask_storeu_ps(p, m, v); }
  static void store_rows(float* p, Vector v, Rows m) { _mm512_mask_storeu_ps(p, m, v); }
  static Vector negative(Vector v) { return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f)); }
  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector div(Vector a, Vector b) { return _mm512_div_ps(a, b); }
  static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
  static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector add(Vector a, Vector b, Part m) { return _mm512_mask_add_ps(a, m, a, b); }
  static Vector max(Vector a, Vector b, Part m) { return _mm512_mask_max_ps(a, m, a, b); }
  static float largest_lane(Vector v) { return _mm512_reduce_max_ps(v); }
  static float add_lanes(Vector v) { return avx512::add_lanes(v); }

  // The sums over lanes of four vectors.
  static void add_lanes(const Vector* v, float* out) {
    const Vector ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const Vector cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const Vector all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }

  // Where a < b: yes, elsewhere (NaN too): no.
  static Vector where_less(Vector a, Vector b, Vector yes, Vector no) {
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
  }

  // v * 2^n for integers n, in two factors: n = 128 does not leave the exponent's range.
  static Vector times_power_of_2(Vector v, Vector n) {
    const __m512i k = _mm512_cvttps_epi32(n), half = _mm512_srai_epi32(k, 1), bias = _mm512_set1_epi32(127);
    const __m512i a = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
    const __m512i b = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(k, half), bias), 23);
    return _mm512_mul_ps(_mm512_mul_ps(v, _mm512_castsi512_ps(a)), _mm512_castsi512_ps(b));
  }

  // sum += v to the nearest integer, ties to even, where |v| <= limit; whether that is everywhere.
  static bool add_rounded(Vector v, Vector limit, int32_t* sum, Part m) {
    const __mmask16 ok = _mm512_cmp_ps_mask(_mm512_abs_ps(v), limit, _CMP_LE_OQ);
    const __m512i rounded = _mm512_maskz_cvtps_epi32(ok, v);
    _mm512_mask_storeu_epi32(sum, m, _mm512_add_epi32(_mm512_maskz_loadu_epi32(m, sum), rounded));
    return (ok & m) == m;
  }
};

}  // namespace avx512
}  // namespace
}  // namespace halo
