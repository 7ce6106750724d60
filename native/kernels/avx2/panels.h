// What the products of all block formats use: broadcasts of activations, dot products of bytes.
#pragma once

#include "kernels/avx2/vector.h"
#include "kernels/panels.h"

namespace halo {
namespace {
namespace avx2 {

constexpr int kRows = 8;  // of a panel: one lane each

template <typename Kernel>
constexpr Product panel_product() {
  return Panels<Vectors>::product<Kernel>();
}

// Four activations to every lane.
inline __m256i broadcast4(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

// Sums of pairs of products of unsigned weights with N groups of 4 activations: 16-bit, two a row. The caller knows
// that they fit.
template <int N>
inline __m256i dot(const __m256i* q, const int8_t* x) {
  __m256i sum = _mm256_maddubs_epi16(q[0], broadcast4(x));
  for (int j = 1; j < N; ++j) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(q[j], broadcast4(x + 4 * j)));
  return sum;
}

// A row's scale, 8 bits each, as both 16-bit halves of its lane.
inline __m256i twice(__m256i scale) {
  return _mm256_or_si256(_mm256_slli_epi32(scale, 16), _mm256_and_si256(scale, _mm256_set1_epi32(0xffff)));
}

}  // namespace avx2
}  // namespace
}  // namespace halo
