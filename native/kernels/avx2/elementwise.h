// What happens to products value by value; silu has the same bits as the portable kernel's.
#pragma once

#include "kernels/avx2/vector.h"

namespace halo {
namespace {
namespace avx2 {

// As exp_f32 of scalar.h, bit for bit.
inline __m256 exp(__m256 x) {
  const __m256 low = _mm256_set1_ps(-87.3f), high = _mm256_set1_ps(88.7f);
  const __m256 clamped = _mm256_min_ps(high, _mm256_max_ps(low, x));  // NaN stays NaN
  const __m256 magic = _mm256_set1_ps(12582912.0f);
  const __m256 n =
      _mm256_sub_ps(_mm256_add_ps(_mm256_mul_ps(clamped, _mm256_set1_ps(1.44269504088896341f)), magic), magic);
  const __m256 r = _mm256_sub_ps(_mm256_sub_ps(clamped, _mm256_mul_ps(n, _mm256_set1_ps(0.693359375f))),
                                 _mm256_mul_ps(n, _mm256_set1_ps(-2.12194440e-4f)));
  constexpr float kTerms[] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
  __m256 p = _mm256_set1_ps(1.0f / 5040.0f);
  for (float term : kTerms) p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(term));
  const __m256i k = _mm256_cvttps_epi32(n), half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
  const __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
  const __m256 y = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
  const __m256 small = _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), y);
  return _mm256_blendv_ps(small, _mm256_set1_ps(__builtin_inff()), _mm256_cmp_ps(x, high, _CMP_GT_OQ));
}

void silu_mul(const float* gate, const float* up, int n, float* out) {
  for (int i = 0; i < n; i += 8) {
    const __m256 g = load_first(gate + i, n - i), u = load_first(up + i, n - i);
    const __m256 minus_g = _mm256_xor_ps(g, _mm256_set1_ps(-0.0f));
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), exp(minus_g)));
    store_first(out + i, n - i, _mm256_mul_ps(silu, u));
  }
}

bool add_fixed(const float* y, int n, float scale, float limit, int32_t* sum, float* squares) {
  const __m256 scales = _mm256_set1_ps(scale), limits = _mm256_set1_ps(limit);
  __m256 total = _mm256_setzero_ps();
  bool fits = true;
  for (int i = 0; i < n; i += 8) {
    const __m256i m = first_lanes(n - i);
    const __m256 v = _mm256_maskload_ps(y + i, m), value = _mm256_mul_ps(v, scales);
    total = _mm256_fmadd_ps(v, v, total);
    const __m256 ok = _mm256_cmp_ps(abs(value), limits, _CMP_LE_OQ);  // lanes beyond n are 0
    fits = fits && _mm256_movemask_ps(ok) == 255;
    const __m256i rounded = _mm256_and_si256(_mm256_cvtps_epi32(value), _mm256_castps_si256(ok));  // ties to even
    _mm256_maskstore_epi32(sum + i, m, _mm256_add_epi32(_mm256_maskload_epi32(sum + i, m), rounded));
  }
  *squares = add_lanes(total);
  return fits;
}

}  // namespace avx2
}  // namespace
}  // namespace halo
