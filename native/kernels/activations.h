// Floats to layer-input formats, and those to what products read: what is the same in every variant.
//
// `V` is how a variant does it (see portable/activations.h for the plain meaning):
//   scale_of<N>(x)         max|x| / 127 of N floats, or NaN if there is one: a damaged weight must not look like a zero
//   round<N>(x, inv, out)  N floats times inv to bytes, half away from zero, NaN to 0; returns their sum
//   copy<N>(in, out)       N bytes, a -128 as -127; returns their sum
//   to_f16, to_bf16, from_f16, from_bf16
// Everything is in an anonymous namespace: each variant compiles its own.
#pragma once

#include <cstring>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {

template <typename V>
struct Activations {
  // As ggml's reference quantiser: the scale stored as f16, the values made with the scale in f32.
  static void quantize_q8_0(const float* x, BlockQ8_0* out) {
    const float scale = V::template scale_of<32>(x);
    out->scale = f32_to_f16(scale);
    V::template round<32>(x, scale != 0.0f ? 1.0f / scale : 0.0f, out->values);
  }

  // Like Q8_0, but the scale kept in f32 and for 256 values.
  static void quantize_q8_k(const float* x, BlockQ8_K* out) {
    out->scale = V::template scale_of<256>(x);
    const float inverse = out->scale != 0.0f ? 1.0f / out->scale : 0.0f;
    for (int run = 0; run < 16; ++run) {
      out->sums[run] = static_cast<int16_t>(V::template round<16>(x + 16 * run, inverse, out->values + 16 * run));
    }
  }

  static void quantize(Type format, const float* x, int n, uint8_t* out) {
    switch (format) {
      case Type::F32:
        std::memcpy(out, x, static_cast<size_t>(n) * 4);
        return;
      case Type::F16:
        return V::to_f16(x, n, reinterpret_cast<uint16_t*>(out));
      case Type::BF16:
        return V::to_bf16(x, n, reinterpret_cast<uint16_t*>(out));
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

  static void prepare_q8_0(const BlockQ8_0& in, PreparedQ8* out) {
    const int sum = V::template copy<32>(in.values, out->values);
    out->scale = f16_to_f32(in.scale);
    out->minus_8 = -8 * sum;
    out->minus_128 = -128 * sum;
    out->scaled_sum = out->scale * static_cast<float>(sum);
  }

  // The sums are made anew: a message's may not be those of its values.
  static void prepare_q8_k(const BlockQ8_K& in, PreparedQ8K* out) {
    for (int run = 0; run < 16; run += 2) {
      const int first = V::template copy<16>(in.values + 16 * run, out->values + 16 * run);
      const int second = V::template copy<16>(in.values + 16 * run + 16, out->values + 16 * run + 16);
      out->minus_32[run] = -32 * first;
      out->minus_32[run + 1] = -32 * second;
      out->sums[run / 2] = static_cast<int16_t>(first + second);
    }
    out->scale = in.scale;
    for (uint32_t& u : out->unused) u = 0;
  }

  static void prepare(Type format, const uint8_t* in, int n, uint8_t* out) {
    switch (format) {
      case Type::F32:
        std::memcpy(out, in, static_cast<size_t>(n) * 4);
        return;
      case Type::F16:
        return V::from_f16(in, n, reinterpret_cast<float*>(out));
      case Type::BF16:
        return V::from_bf16(in, n, reinterpret_cast<float*>(out));
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
        return;
    }
  }
};

}  // namespace
}  // namespace halo
