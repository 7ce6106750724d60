// Dot products of rows as they lie in the file with prepared activations.
//
// Sums run in eight lanes that are added in a fixed order: it keeps rounding errors of long rows small, gives the
// same bits everywhere, and lets the compiler use whatever vectors the baseline has.
#pragma once

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {
namespace portable {

constexpr int kLanes = 8;

float add_lanes(const float* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// Weights without blocks: `Value` turns one into a float; the activations are floats.
template <typename W, float (*Value)(W)>
float dot_plain(const uint8_t* row, const uint8_t* activations, int n) {
  const auto* w = reinterpret_cast<const W*>(row);
  const auto* x = reinterpret_cast<const float*>(activations);
  float lane[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += Value(w[i + j]) * x[i + j];
  }
  for (int j = 0; i < n; ++i, ++j) lane[j] += Value(w[i]) * x[i];
  return add_lanes(lane);
}

float same(float f) { return f; }
float from_f16(uint16_t h) { return f16_to_f32(h); }
float from_bf16(uint16_t h) { return bf16_to_f32(h); }

// Weights in blocks: the product of a block is a float.
template <typename W, typename X, int Values, float (*Term)(const W&, const X&)>
float dot_blocks(const uint8_t* row, const uint8_t* activations, int n) {
  const auto* w = reinterpret_cast<const W*>(row);
  const auto* x = reinterpret_cast<const X*>(activations);
  float lane[kLanes] = {};
  for (int k = 0; k < n / Values; ++k) lane[k % kLanes] += Term(w[k], x[k]);
  return add_lanes(lane);
}

float q4_0(const BlockQ4_0& w, const PreparedQ8& x) {
  int sum = x.minus_8;
  for (int i = 0; i < 16; ++i) {
    sum += (w.nibbles[i] & 15) * x.values[i];
    sum += (w.nibbles[i] >> 4) * x.values[i + 16];
  }
  return static_cast<float>(sum) * (f16_to_f32(w.scale) * x.scale);
}

// The integer sum of unsigned values of 4 bits, or 5 with `high`.
int dot_q45(const uint8_t* nibbles, const uint8_t* high, const int8_t* x) {
  uint8_t q[32];
  unpack_q45(nibbles, high, q);
  int sum = 0;
  for (int i = 0; i < 32; ++i) sum += q[i] * x[i];
  return sum;
}

float scaled_with_min(uint16_t scale, uint16_t min, int sum, const PreparedQ8& x) {
  return static_cast<float>(sum) * (f16_to_f32(scale) * x.scale) + f16_to_f32(min) * x.scaled_sum;
}

float q4_1(const BlockQ4_1& w, const PreparedQ8& x) {
  return scaled_with_min(w.scale, w.min, dot_q45(w.nibbles, nullptr, x.values), x);
}

float q5_0(const BlockQ5_0& w, const PreparedQ8& x) {
  const int sum = 2 * x.minus_8 + dot_q45(w.nibbles, w.high, x.values);
  return static_cast<float>(sum) * (f16_to_f32(w.scale) * x.scale);
}

float q5_1(const BlockQ5_1& w, const PreparedQ8& x) {
  return scaled_with_min(w.scale, w.min, dot_q45(w.nibbles, w.high, x.values), x);
}

float iq4_nl(const BlockIQ4_NL& w, const PreparedQ8& x) {
  int sum = 0;
  for (int i = 0; i < 16; ++i) {
    sum += kIQ4Values[w.nibbles[i] & 15] * x.values[i];
    sum += kIQ4Values[w.nibbles[i] >> 4] * x.values[i + 16];
  }
  return static_cast<float>(sum) * (f16_to_f32(w.scale) * x.scale);
}

float q8_0(const BlockQ8_0& w, const PreparedQ8& x) {
  int sum = 0;
  for (int i = 0; i < 32; ++i) sum += w.values[i] * x.values[i];
  return static_cast<float>(sum) * (f16_to_f32(w.scale) * x.scale);
}

float q3_k(const BlockQ3_K& w, const PreparedQ8K& x) {
  int8_t scales[16];
  uint8_t q[256];
  unpack_scales(w, scales);
  unpack_q3(w, q);
  int sum = 0;
  for (int run = 0; run < 16; ++run) {
    int inner = x.minus_32[run] / 8;
    for (int i = 16 * run; i < 16 * run + 16; ++i) inner += q[i] * x.values[i];
    sum += scales[run] * inner;
  }
  return x.scale * f16_to_f32(w.scale) * static_cast<float>(sum);
}

float scaled_runs(uint16_t scale, uint16_t min, const uint8_t* packed, const int* runs, const PreparedQ8K& x) {
  uint8_t scales[8], mins[8];
  unpack_scales(packed, scales, mins);
  int sum = 0, below = 0;
  for (int run = 0; run < 8; ++run) {
    sum += scales[run] * runs[run];
    below += mins[run] * x.sums[run];
  }
  return x.scale * f16_to_f32(scale) * static_cast<float>(sum) - x.scale * f16_to_f32(min) * static_cast<float>(below);
}

float q4_k(const BlockQ4_K& w, const PreparedQ8K& x) {
  int runs[8] = {};
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      runs[2 * pair] += (w.nibbles[32 * pair + i] & 15) * x.values[64 * pair + i];
      runs[2 * pair + 1] += (w.nibbles[32 * pair + i] >> 4) * x.values[64 * pair + 32 + i];
    }
  }
  return scaled_runs(w.scale, w.min, w.scales, runs, x);
}

float q5_k(const BlockQ5_K& w, const PreparedQ8K& x) {
  int runs[8] = {};
  for (int run = 0; run < 8; ++run) {
    for (int i = 0; i < 32; ++i) {
      const int q = (w.nibbles[32 * (run / 2) + i] >> (run % 2 * 4) & 15) | (w.high[i] >> run & 1) << 4;
      runs[run] += q * x.values[32 * run + i];
    }
  }
  return scaled_runs(w.scale, w.min, w.scales, runs, x);
}

float q6_k(const BlockQ6_K& w, const PreparedQ8K& x) {
  uint8_t q[256];
  unpack_q6(w, q);
  int sum = 0;
  for (int run = 0; run < 16; ++run) {
    int inner = x.minus_32[run];
    for (int i = 16 * run; i < 16 * run + 16; ++i) inner += q[i] * x.values[i];
    sum += w.scales[run] * inner;
  }
  return x.scale * f16_to_f32(w.scale) * static_cast<float>(sum);
}

template <float (*Dot)(const uint8_t*, const uint8_t*, int)>
void matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  for (int r = w.row_begin; r < w.row_end; ++r) {
    for (int t = 0; t < T; ++t) {
      y[t * y_stride + (r - w.row_begin)] = Dot(w.data + r * w.panel_bytes, x + t * x_stride, w.columns);
    }
  }
}

template <float (*Dot)(const uint8_t*, const uint8_t*, int), size_t BlockBytes>
constexpr Product plain_product() {
  return {1, BlockBytes, nullptr, matmul<Dot>};
}

constexpr Product kF32 = plain_product<dot_plain<float, same>, 4>();
constexpr Product kF16 = plain_product<dot_plain<uint16_t, from_f16>, 2>();
constexpr Product kBF16 = plain_product<dot_plain<uint16_t, from_bf16>, 2>();
constexpr Product kQ4_0 = plain_product<dot_blocks<BlockQ4_0, PreparedQ8, 32, q4_0>, 18>();
constexpr Product kQ4_1 = plain_product<dot_blocks<BlockQ4_1, PreparedQ8, 32, q4_1>, 20>();
constexpr Product kQ5_0 = plain_product<dot_blocks<BlockQ5_0, PreparedQ8, 32, q5_0>, 22>();
constexpr Product kQ5_1 = plain_product<dot_blocks<BlockQ5_1, PreparedQ8, 32, q5_1>, 24>();
constexpr Product kIQ4_NL = plain_product<dot_blocks<BlockIQ4_NL, PreparedQ8, 32, iq4_nl>, 18>();
constexpr Product kQ8_0 = plain_product<dot_blocks<BlockQ8_0, PreparedQ8, 32, q8_0>, 34>();
constexpr Product kQ3_K = plain_product<dot_blocks<BlockQ3_K, PreparedQ8K, 256, q3_k>, 110>();
constexpr Product kQ4_K = plain_product<dot_blocks<BlockQ4_K, PreparedQ8K, 256, q4_k>, 144>();
constexpr Product kQ5_K = plain_product<dot_blocks<BlockQ5_K, PreparedQ8K, 256, q5_k>, 176>();
constexpr Product kQ6_K = plain_product<dot_blocks<BlockQ6_K, PreparedQ8K, 256, q6_k>, 210>();

const Product* product(Type type) {
  switch (type) {
    case Type::F32:
      return &kF32;
    case Type::F16:
      return &kF16;
    case Type::BF16:
      return &kBF16;
    case Type::Q4_0:
      return &kQ4_0;
    case Type::Q4_1:
      return &kQ4_1;
    case Type::Q5_0:
      return &kQ5_0;
    case Type::Q5_1:
      return &kQ5_1;
    case Type::Q8_0:
      return &kQ8_0;
    case Type::Q3_K:
      return &kQ3_K;
    case Type::Q4_K:
      return &kQ4_K;
    case Type::Q5_K:
      return &kQ5_K;
    case Type::Q6_K:
      return &kQ6_K;
    case Type::IQ4_NL:
      return &kIQ4_NL;
    case Type::Q8_K:
      return nullptr;
  }
  return nullptr;
}

}  // namespace portable
}  // namespace
}  // namespace halo
