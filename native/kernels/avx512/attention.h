// Attention's vectors of 16 floats.
#pragma once

#include "kernels/attention.h"
#include "kernels/avx512/elementwise.h"

namespace halo {
namespace {
namespace avx512 {

struct Vectors {
  using Vector = __m512;
  using Part = __mmask16;
  static constexpr int kLanes = 16, kQueries = 4;

  static Part first(int n) { return first_lanes(n); }
  static Vector set(float f) { return _mm512_set1_ps(f); }
  static Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static Vector load(const float* p, Part m) { return _mm512_maskz_loadu_ps(m, p); }
  static Vector load_f16(const uint16_t* p, Part m) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }
  static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  static void store(float* p, Vector v, Part m) { _mm512_mask_storeu_ps(p, m, v); }
  static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector add(Vector a, Vector b, Part m) { return _mm512_mask_add_ps(a, m, a, b); }
  static Vector max(Vector a, Vector b, Part m) { return _mm512_mask_max_ps(a, m, a, b); }
  static Vector exp(Vector v) { return avx512::exp(v); }
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
};

void attention(const Attention& a) { BlockedAttention<Vectors>::run(a); }

}  // namespace avx512
}  // namespace
}  // namespace halo
