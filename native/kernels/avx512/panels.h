// What the products of all block formats use: loads, broadcasts of activations, dot products of bytes.
#pragma once

#include "kernels/avx512/vector.h"
#include "kernels/panels.h"

namespace halo {
namespace {
namespace avx512 {

constexpr int kRows = 16;  // of a panel: one lane each

template <typename Kernel>
constexpr Product panel_product() {
  return Panels<Vectors>::product<Kernel>();
}

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }
inline __m512 load_f16(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }

// Four activations to every lane.
inline __m512i broadcast4(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

// sum += the products of 16 weights of every row with 16 activations; q[j] has weights 4j .. 4j + 3. The broadcasts
// are made from registers: the processor loads only one vector a cycle, but can do two operations.
inline __m512i dot16(__m512i sum, const __m512i* q, const int8_t* x) {
  const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  sum = _mm512_dpbusd_epi32(sum, q[0], _mm512_shuffle_epi32(all, _MM_PERM_AAAA));
  sum = _mm512_dpbusd_epi32(sum, q[1], _mm512_shuffle_epi32(all, _MM_PERM_BBBB));
  sum = _mm512_dpbusd_epi32(sum, q[2], _mm512_shuffle_epi32(all, _MM_PERM_CCCC));
  return _mm512_dpbusd_epi32(sum, q[3], _mm512_shuffle_epi32(all, _MM_PERM_DDDD));
}

// The same for 32; half of the broadcasts are loads, which keeps both the load unit and the shuffles busy.
inline __m512i dot32(__m512i sum, const __m512i* q, const int8_t* x) {
  for (int j = 0; j < 4; ++j) sum = _mm512_dpbusd_epi32(sum, q[j], broadcast4(x + 4 * j));
  return dot16(sum, q + 4, x + 16);
}

}  // namespace avx512
}  // namespace
}  // namespace halo
