// What happens to products value by value; the same operations in the same order as the portable kernels.
#pragma once

#include <immintrin.h>

#include "kernels/avx512/plain.h"

namespace halo {
namespace {
namespace avx512 {

// As exp_f32 of scalar.h, bit for bit.
inline __m512 exp(__m512 x) {
  const __m512 low = _mm512_set1_ps(-87.3f), high = _mm512_set1_ps(88.7f);
  const __m512 clamped = _mm512_min_ps(high, _mm512_max_ps(low, x));  // NaN stays NaN
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  const __m512 n =
      _mm512_sub_ps(_mm512_add_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(1.44269504088896341f)), magic), magic);
  const __m512 r = _mm512_sub_ps(_mm512_sub_ps(clamped, _mm512_mul_ps(n, _mm512_set1_ps(0.693359375f))),
                                 _mm512_mul_ps(n, _mm512_set1_ps(-2.12194440e-4f)));
  constexpr float kTerms[] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
  __m512 p = _mm512_set1_ps(1.0f / 5040.0f);
  for (float term : kTerms) p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(term));
  const __m512i k = _mm512_cvttps_epi32(n), half = _mm512_srai_epi32(k, 1), bias = _mm512_set1_epi32(127);
  const __m512i a = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
  const __m512i b = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(k, half), bias), 23);
  const __m512 y = _mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(a)), _mm512_castsi512_ps(b));
  const __m512 small = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, low, _CMP_LT_OQ), _mm512_setzero_ps());
  return _mm512_mask_mov_ps(small, _mm512_cmp_ps_mask(x, high, _CMP_GT_OQ), _mm512_set1_ps(__builtin_inff()));
}

void silu_mul(const float* gate, const float* up, int n, float* out) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    const __m512 g = _mm512_maskz_loadu_ps(m, gate + i), u = _mm512_maskz_loadu_ps(m, up + i);
    const __m512 minus_g = _mm512_xor_ps(g, _mm512_set1_ps(-0.0f));
    const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(_mm512_set1_ps(1.0f), exp(minus_g)));
    _mm512_mask_storeu_ps(out + i, m, _mm512_mul_ps(silu, u));
  }
}

bool add_fixed(const float* y, int n, float scale, float limit, int32_t* sum, float* squares) {
  const __m512 scales = _mm512_set1_ps(scale), limits = _mm512_set1_ps(limit);
  __m512 total = _mm512_setzero_ps();
  bool fits = true;
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    const __m512 v = _mm512_maskz_loadu_ps(m, y + i), value = _mm512_mul_ps(v, scales);
    total = _mm512_fmadd_ps(v, v, total);
    const __mmask16 ok = _mm512_cmp_ps_mask(_mm512_abs_ps(value), limits, _CMP_LE_OQ);
    fits = fits && (ok & m) == m;
    const __m512i rounded = _mm512_maskz_cvtps_epi32(ok, value);  // to nearest, ties to even
    _mm512_mask_storeu_epi32(sum + i, m, _mm512_add_epi32(_mm512_maskz_loadu_epi32(m, sum + i), rounded));
  }
  *squares = add_lanes(total);
  return fits;
}

}  // namespace avx512
}  // namespace
}  // namespace halo
