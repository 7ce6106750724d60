// Attention's vectors of 8 floats.
#pragma once

#include "kernels/attention.h"
#include "kernels/avx2/elementwise.h"

namespace halo {
namespace {
namespace avx2 {

struct Vectors {
  using Vector = __m256;
  using Part = int;  // how many lanes
  static constexpr int kLanes = 8, kQueries = 2;

  static Part first(int n) { return n; }
  static Vector set(float f) { return _mm256_set1_ps(f); }
  static Vector load(const float* p) { return avx2::load(p); }
  static Vector load(const float* p, Part n) { return load_first(p, n); }
  static Vector load_f16(const uint16_t* p, Part n) { return _mm256_cvtph_ps(load_first16(p, n)); }
  static void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  static void store(float* p, Vector v, Part n) { store_first(p, n, v); }
  static Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector add(Vector a, Vector b, Part n) {
    return _mm256_add_ps(a, _mm256_and_ps(b, _mm256_castsi256_ps(first_lanes(n))));
  }
  static Vector max(Vector a, Vector b, Part n) {
    return _mm256_blendv_ps(a, _mm256_max_ps(a, b), _mm256_castsi256_ps(first_lanes(n)));
  }
  static Vector exp(Vector v) { return avx2::exp(v); }
  static float largest_lane(Vector v) { return avx2::largest_lane(v); }
  static float add_lanes(Vector v) { return avx2::add_lanes(v); }

  // The sums over lanes of four vectors.
  static void add_lanes(const Vector* v, float* out) {
    const Vector ab = _mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    const Vector cd = _mm256_add_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    const Vector all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
};

void attention(const Attention& a) { BlockedAttention<Vectors>::run(a); }

}  // namespace avx2
}  // namespace
}  // namespace halo
