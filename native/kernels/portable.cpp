// The portable kernels: plain C++17, the reference that every other variant is tested against.
//
// Sums run in eight lanes that are added in a fixed order: it keeps rounding errors of long rows small, gives the
// same bits everywhere, and lets the compiler use whatever vectors the baseline has.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {

namespace {

constexpr int kLanes = 8;

float add_lanes(const float* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

template <typename A, typename B, typename Term>
float sum_in_lanes(const A* a, const B* b, int n, Term term) {
  float lane[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += term(a[i + j], b[i + j]);
  }
  for (int j = 0; i < n; ++i, ++j) lane[j] += term(a[i], b[i]);
  return add_lanes(lane);
}

float dot_f32(const uint8_t* w, const uint8_t* x, int n) {
  return sum_in_lanes(reinterpret_cast<const float*>(w), reinterpret_cast<const float*>(x), n,
                      [](float a, float b) { return a * b; });
}

float dot_f16(const uint8_t* w, const uint8_t* x, int n) {
  return sum_in_lanes(reinterpret_cast<const uint16_t*>(w), reinterpret_cast<const uint16_t*>(x), n,
                      [](uint16_t a, uint16_t b) { return f16_to_f32(a) * f16_to_f32(b); });
}

float dot_q4_0(const uint8_t* w, const uint8_t* x, int n) {
  const auto* a = reinterpret_cast<const BlockQ4_0*>(w);
  const auto* b = reinterpret_cast<const BlockQ8_0*>(x);
  float lane[kLanes] = {};
  for (int k = 0; k < n / 32; ++k) {
    int sum = 0;
    for (int i = 0; i < 16; ++i) {
      sum += ((a[k].nibbles[i] & 15) - 8) * b[k].values[i];
      sum += ((a[k].nibbles[i] >> 4) - 8) * b[k].values[i + 16];
    }
    lane[k % kLanes] += static_cast<float>(sum) * (f16_to_f32(a[k].scale) * f16_to_f32(b[k].scale));
  }
  return add_lanes(lane);
}

float dot_q8_0(const uint8_t* w, const uint8_t* x, int n) {
  const auto* a = reinterpret_cast<const BlockQ8_0*>(w);
  const auto* b = reinterpret_cast<const BlockQ8_0*>(x);
  float lane[kLanes] = {};
  for (int k = 0; k < n / 32; ++k) {
    int sum = 0;
    for (int i = 0; i < 32; ++i) sum += a[k].values[i] * b[k].values[i];
    lane[k % kLanes] += static_cast<float>(sum) * (f16_to_f32(a[k].scale) * f16_to_f32(b[k].scale));
  }
  return add_lanes(lane);
}

using Dot = float (*)(const uint8_t*, const uint8_t*, int);

Dot dot_of(Type type) {
  switch (type) {
    case Type::F32:
      return dot_f32;
    case Type::F16:
      return dot_f16;
    case Type::Q4_0:
      return dot_q4_0;
    case Type::Q8_0:
      return dot_q8_0;
  }
  return nullptr;
}

void matmul(Type type, const uint8_t* w, size_t w_stride, int rows, int n, const uint8_t* x, size_t x_stride, int T,
            float* y, size_t y_stride) {
  const Dot dot = dot_of(type);
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < T; ++t) y[t * y_stride + r] = dot(w + r * w_stride, x + t * x_stride, n);
  }
}

// As ggml's reference quantiser: scale max|x| / 127 in f32, stored as f16, values rounded half away from zero.
void quantize_q8_0(const float* x, int n, BlockQ8_0* out) {
  for (int k = 0; k < n / 32; ++k, x += 32) {
    float largest = 0.0f;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    out[k].scale = f32_to_f16(scale);
    for (int i = 0; i < 32; ++i) {
      const float value = std::round(x[i] * inverse);
      out[k].values[i] = static_cast<int8_t>(std::fabs(value) <= 127.0f ? value : 0.0f);  // NaN gives 0
    }
  }
}

void quantize(Type format, const float* x, int n, uint8_t* out) {
  switch (format) {
    case Type::F32:
      std::memcpy(out, x, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      for (int i = 0; i < n; ++i) reinterpret_cast<uint16_t*>(out)[i] = f32_to_f16(x[i]);
      return;
    case Type::Q8_0:
      quantize_q8_0(x, n, reinterpret_cast<BlockQ8_0*>(out));
      return;
    case Type::Q4_0:
      return;  // weights only
  }
}

void dequantize(Type type, const uint8_t* in, int n, float* out) {
  switch (type) {
    case Type::F32:
      std::memcpy(out, in, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      for (int i = 0; i < n; ++i) out[i] = f16_to_f32(reinterpret_cast<const uint16_t*>(in)[i]);
      return;
    case Type::Q4_0:
      for (int k = 0; k < n / 32; ++k) {
        const auto& b = reinterpret_cast<const BlockQ4_0*>(in)[k];
        const float scale = f16_to_f32(b.scale);
        for (int i = 0; i < 16; ++i) {
          out[k * 32 + i] = scale * static_cast<float>((b.nibbles[i] & 15) - 8);
          out[k * 32 + i + 16] = scale * static_cast<float>((b.nibbles[i] >> 4) - 8);
        }
      }
      return;
    case Type::Q8_0:
      for (int k = 0; k < n / 32; ++k) {
        const auto& b = reinterpret_cast<const BlockQ8_0*>(in)[k];
        const float scale = f16_to_f32(b.scale);
        for (int i = 0; i < 32; ++i) out[k * 32 + i] = scale * static_cast<float>(b.values[i]);
      }
      return;
  }
}

void silu_mul(const float* gate, const float* up, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
}

void attention(const float* q, int heads, const uint16_t* k, const uint16_t* v, size_t stride, int head_dim, int n,
               float scale, float* scratch, float* out) {
  for (int h = 0; h < heads; ++h) {
    const float* query = q + static_cast<size_t>(h) * head_dim;
    float* result = out + static_cast<size_t>(h) * head_dim;
    float largest = -INFINITY;
    for (int p = 0; p < n; ++p) {
      scratch[p] =
          scale * sum_in_lanes(k + p * stride, query, head_dim, [](uint16_t a, float b) { return f16_to_f32(a) * b; });
      largest = std::max(largest, scratch[p]);
    }
    float total = 0.0f;
    std::fill(result, result + head_dim, 0.0f);
    for (int p = 0; p < n; ++p) {
      const float weight = exp_f32(scratch[p] - largest);
      total += weight;
      for (int i = 0; i < head_dim; ++i) result[i] += weight * f16_to_f32(v[p * stride + i]);
    }
    for (int i = 0; i < head_dim; ++i) result[i] /= total;
  }
}

}  // namespace

const Kernels kPortable{"portable", matmul, quantize, dequantize, silu_mul, attention};

}  // namespace halo
