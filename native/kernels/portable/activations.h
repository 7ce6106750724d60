// Floats to layer-input formats, and those to what products read.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {
namespace portable {

// max|x| / 127, or NaN if there is one among the values: a damaged weight must not look like a zero.
float scale_of(const float* x, int n) {
  float largest = 0.0f;
  for (int i = 0; i < n; ++i) {
    if (!(std::fabs(x[i]) <= largest)) largest = std::fabs(x[i]);
    if (largest != largest) return __builtin_nanf("");
  }
  return largest / 127.0f;
}

int8_t rounded(float value) {  // half away from zero
  const float nearest = std::round(value);
  return static_cast<int8_t>(std::fabs(nearest) <= 127.0f ? nearest : 0.0f);  // NaN gives 0
}

// As ggml's reference quantiser: the scale stored as f16, the values made with the scale in f32.
void quantize_q8_0(const float* x, BlockQ8_0* out) {
  const float scale = scale_of(x, 32);
  const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  out->scale = f32_to_f16(scale);
  for (int i = 0; i < 32; ++i) out->values[i] = rounded(x[i] * inverse);
}

// Like Q8_0, but the scale kept in f32 and for 256 values.
void quantize_q8_k(const float* x, BlockQ8_K* out) {
  out->scale = scale_of(x, 256);
  const float inverse = out->scale != 0.0f ? 1.0f / out->scale : 0.0f;
  for (int run = 0; run < 16; ++run) {
    int sum = 0;
    for (int i = 16 * run; i < 16 * run + 16; ++i) {
      out->values[i] = rounded(x[i] * inverse);
      sum += out->values[i];
    }
    out->sums[run] = static_cast<int16_t>(sum);
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
    case Type::BF16:
      for (int i = 0; i < n; ++i) reinterpret_cast<uint16_t*>(out)[i] = f32_to_bf16(x[i]);
      return;
    case Type::Q8_0:
      for (int k = 0; k < n / 32; ++k) quantize_q8_0(x + 32 * k, reinterpret_cast<BlockQ8_0*>(out) + k);
      return;
    case Type::Q8_K:
      for (int k = 0; k < n / 256; ++k) quantize_q8_k(x + 256 * k, reinterpret_cast<BlockQ8_K*>(out) + k);
      return;
    default:
      return;  // weights only
  }
}

int8_t above_minus_128(int8_t value) { return value < -127 ? int8_t{-127} : value; }

void prepare_q8_0(const BlockQ8_0& in, PreparedQ8* out) {
  int sum = 0;
  for (int i = 0; i < 32; ++i) sum += out->values[i] = above_minus_128(in.values[i]);
  out->scale = f16_to_f32(in.scale);
  out->minus_8 = -8 * sum;
  out->minus_128 = -128 * sum;
  out->unused = 0;
}

// The sums are made anew: a message's may not be those of its values.
void prepare_q8_k(const BlockQ8_K& in, PreparedQ8K* out) {
  std::memset(out, 0, sizeof *out);
  out->scale = in.scale;
  for (int run = 0; run < 16; ++run) {
    int sum = 0;
    for (int i = 16 * run; i < 16 * run + 16; ++i) sum += out->values[i] = above_minus_128(in.values[i]);
    out->minus_32[run] = -32 * sum;
    out->sums[run / 2] = static_cast<int16_t>(out->sums[run / 2] + sum);
  }
}

void prepare(Type format, const uint8_t* in, int n, uint8_t* out) {
  switch (format) {
    case Type::Q8_0:
      for (int k = 0; k < n / 32; ++k) {
        prepare_q8_0(reinterpret_cast<const BlockQ8_0*>(in)[k], reinterpret_cast<PreparedQ8*>(out) + k);
      }
      return;
    case Type::Q8_K:
      for (int k = 0; k < n / 256; ++k) {
        prepare_q8_k(reinterpret_cast<const BlockQ8_K*>(in)[k], reinterpret_cast<PreparedQ8K*>(out) + k);
      }
      return;
    default:
      dequantize(format, in, n, reinterpret_cast<float*>(out));
  }
}

}  // namespace portable
}  // namespace
}  // namespace halo
