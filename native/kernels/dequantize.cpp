// Rows of any type to floats: for looking up embeddings, and for the few inputs that change their format.
// Not part of a variant: its bits are the same everywhere.
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {

namespace {

// `high`: the fifth bits, or null.
void q45(uint16_t scale, float min, int zero, const uint8_t* high, const uint8_t* nibbles, float* out) {
  uint8_t q[32];
  unpack_q45(nibbles, high, q);
  for (int i = 0; i < 32; ++i) out[i] = f16_to_f32(scale) * static_cast<float>(q[i] - zero) + min;
}

void iq4_nl(const BlockIQ4_NL& b, float* out) {
  uint8_t q[32];
  unpack_q45(b.nibbles, nullptr, q);
  for (int i = 0; i < 32; ++i) out[i] = f16_to_f32(b.scale) * static_cast<float>(kIQ4Values[q[i]]);
}

void q3_k(const BlockQ3_K& b, float* out) {
  int8_t scales[16];
  uint8_t q[256];
  unpack_scales(b, scales);
  unpack_q3(b, q);
  for (int i = 0; i < 256; ++i) {
    out[i] = f16_to_f32(b.scale) * static_cast<float>(scales[i / 16]) * static_cast<float>(q[i] - 4);
  }
}

void q8_0(const BlockQ8_0& b, float* out) {
  const float scale = f16_to_f32(b.scale);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(b.values[i]);
}

// `high`: the fifth bits, or null.
void q45_k(uint16_t scale, uint16_t min, const uint8_t* packed, const uint8_t* high, const uint8_t* nibbles,
           float* out) {
  uint8_t scales[8], mins[8];
  unpack_scales(packed, scales, mins);
  for (int run = 0; run < 8; ++run) {
    const float s = f16_to_f32(scale) * static_cast<float>(scales[run]);
    const float m = f16_to_f32(min) * static_cast<float>(mins[run]);
    for (int i = 0; i < 32; ++i) {
      int q = nibbles[32 * (run / 2) + i] >> (run % 2 * 4) & 15;
      if (high != nullptr) q |= (high[i] >> run & 1) << 4;
      out[32 * run + i] = s * static_cast<float>(q) - m;
    }
  }
}

void q6_k(const BlockQ6_K& b, float* out) {
  uint8_t q[256];
  unpack_q6(b, q);
  const float scale = f16_to_f32(b.scale);
  for (int i = 0; i < 256; ++i) {
    out[i] = scale * static_cast<float>(b.scales[i / 16]) * static_cast<float>(q[i] - 32);
  }
}

}  // namespace

void dequantize(Type type, const uint8_t* in, int n, float* out) {
  switch (type) {
    case Type::F32:
      std::memcpy(out, in, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      for (int i = 0; i < n; ++i) out[i] = f16_to_f32(reinterpret_cast<const uint16_t*>(in)[i]);
      return;
    case Type::BF16:
      for (int i = 0; i < n; ++i) out[i] = bf16_to_f32(reinterpret_cast<const uint16_t*>(in)[i]);
      return;
    case Type::Q4_0:
      for (int k = 0; k < n / 32; ++k) {
        const auto& b = reinterpret_cast<const BlockQ4_0*>(in)[k];
        q45(b.scale, 0.0f, 8, nullptr, b.nibbles, out + 32 * k);
      }
      return;
    case Type::Q4_1:
      for (int k = 0; k < n / 32; ++k) {
        const auto& b = reinterpret_cast<const BlockQ4_1*>(in)[k];
        q45(b.scale, f16_to_f32(b.min), 0, nullptr, b.nibbles, out + 32 * k);
      }
      return;
    case Type::Q5_0:
      for (int k = 0; k < n / 32; ++k) {
        const auto& b = reinterpret_cast<const BlockQ5_0*>(in)[k];
        q45(b.scale, 0.0f, 16, b.high, b.nibbles, out + 32 * k);
      }
      return;
    case Type::Q5_1:
      for (int k = 0; k < n / 32; ++k) {
        const auto& b = reinterpret_cast<const BlockQ5_1*>(in)[k];
        q45(b.scale, f16_to_f32(b.min), 0, b.high, b.nibbles, out + 32 * k);
      }
      return;
    case Type::IQ4_NL:
      for (int k = 0; k < n / 32; ++k) iq4_nl(reinterpret_cast<const BlockIQ4_NL*>(in)[k], out + 32 * k);
      return;
    case Type::Q8_0:
      for (int k = 0; k < n / 32; ++k) q8_0(reinterpret_cast<const BlockQ8_0*>(in)[k], out + 32 * k);
      return;
    case Type::Q3_K:
      for (int k = 0; k < n / 256; ++k) q3_k(reinterpret_cast<const BlockQ3_K*>(in)[k], out + 256 * k);
      return;
    case Type::Q4_K:
      for (int k = 0; k < n / 256; ++k) {
        const auto& b = reinterpret_cast<const BlockQ4_K*>(in)[k];
        q45_k(b.scale, b.min, b.scales, nullptr, b.nibbles, out + 256 * k);
      }
      return;
    case Type::Q5_K:
      for (int k = 0; k < n / 256; ++k) {
        const auto& b = reinterpret_cast<const BlockQ5_K*>(in)[k];
        q45_k(b.scale, b.min, b.scales, b.high, b.nibbles, out + 256 * k);
      }
      return;
    case Type::Q6_K:
      for (int k = 0; k < n / 256; ++k) q6_k(reinterpret_cast<const BlockQ6_K*>(in)[k], out + 256 * k);
      return;
    case Type::Q8_K:
      for (int k = 0; k < n / 256; ++k) {
        const auto& b = reinterpret_cast<const BlockQ8_K*>(in)[k];
        for (int i = 0; i < 256; ++i) out[256 * k + i] = b.scale * static_cast<float>(b.values[i]);
      }
      return;
  }
}

}  // namespace halo
