// Causal attention with a running maximum (Milakov and Gimelshein 2018), in blocks of positions that start at
// multiples of kPositions: a row's result does not depend on the rows it is computed with.
#pragma once

#include <cmath>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {
namespace portable {

constexpr int kPositions = 64;  // of one block

float score(const float* q, const uint16_t* k, int n) {
  float lane[8] = {};
  for (int i = 0; i < n; ++i) lane[i % 8] += q[i] * f16_to_f32(k[i]);
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// Positions begin .. end - 1 for one query; `largest` and `total` are its running maximum and sum of weights.
void attend(const Attention& a, const float* q, int begin, int end, float* largest, float* total, float* out) {
  float weights[kPositions];
  float block_largest = *largest;
  for (int p = begin; p < end; ++p) {
    weights[p - begin] = a.scale * score(q, a.k + static_cast<size_t>(p) * a.head_dim, a.head_dim);
    if (weights[p - begin] > block_largest) block_largest = weights[p - begin];
  }
  const float fade = exp_f32(*largest - block_largest);
  *largest = block_largest;
  *total *= fade;
  for (int i = 0; i < a.head_dim; ++i) out[i] *= fade;
  for (int p = begin; p < end; ++p) {
    const float weight = exp_f32(weights[p - begin] - block_largest);
    const uint16_t* v = a.v + static_cast<size_t>(p) * a.head_dim;
    *total += weight;
    for (int i = 0; i < a.head_dim; ++i) out[i] += weight * f16_to_f32(v[i]);
  }
}

void attention(const Attention& a) {
  for (int t = 0; t < a.rows; ++t) {
    for (int h = 0; h < a.heads; ++h) {
      const size_t at = t * a.stride + static_cast<size_t>(h) * a.head_dim;
      float* out = a.out + at;
      float largest = -INFINITY, total = 0.0f;
      for (int i = 0; i < a.head_dim; ++i) out[i] = 0.0f;
      const int end = a.first + t + 1;
      for (int p = 0; p < end; p += kPositions) {
        attend(a, a.q + at, p, p + kPositions < end ? p + kPositions : end, &largest, &total, out);
      }
      for (int i = 0; i < a.head_dim; ++i) out[i] /= total;
    }
  }
}

}  // namespace portable
}  // namespace
}  // namespace halo
