// How NEON makes activations; the same bits as the portable kernels.
#pragma once

#include "kernels/activations.h"
#include "kernels/neon/plain.h"

namespace halo {
namespace {
namespace neon {

struct Rounding {
  template <int N>
  static float scale_of(const float* x) {
    float32x4_t largest = vdupq_n_f32(0.0f);
    for (int i = 0; i < N; i += 4) largest = vmaxq_f32(largest, vabsq_f32(vld1q_f32(x + i)));  // NaN stays NaN
    const float top = vmaxvq_f32(largest);
    return top != top ? __builtin_nanf("") : top / 127.0f;
  }

  // Half away from zero; what does not fit and NaN to 0.
  static int16x4_t round4(const float* x, float inverse) {
    const int32x4_t nearest = vcvtaq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse));
    const uint32x4_t ok = vcleq_s32(vqabsq_s32(nearest), vdupq_n_s32(127));
    return vmovn_s32(vandq_s32(nearest, vreinterpretq_s32_u32(ok)));
  }
  static int8x8_t round8(const float* x, float inverse) {
    return vmovn_s16(vcombine_s16(round4(x, inverse), round4(x + 4, inverse)));
  }

  template <int N>
  static int round(const float* x, float inverse, int8_t* out) {
    int sum = 0;
    for (int i = 0; i < N; i += 16) {
      sum += put16(vcombine_s8(round8(x + i, inverse), round8(x + i + 8, inverse)), out + i);
    }
    return sum;
  }

  template <int N>
  static int copy(const int8_t* in, int8_t* out) {
    int sum = 0;
    for (int i = 0; i < N; i += 16) sum += put16(vmaxq_s8(vld1q_s8(in + i), vdupq_n_s8(-127)), out + i);
    return sum;
  }

  static int put16(int8x16_t v, int8_t* out) {
    vst1q_s8(out, v);
    return vaddlvq_s8(v);
  }

  static void to_f16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; i += 4) {
      uint16_t all[4];
      vst1_u16(all, vreinterpret_u16_f16(vcvt_f16_f32(load_first(x + i, n - i))));
      std::memcpy(out + i, all, 2 * static_cast<size_t>(n - i < 4 ? n - i : 4));
    }
  }
  static void to_bf16(const float* x, int n, uint16_t* out) {
    for (int i = 0; i < n; ++i) out[i] = f32_to_bf16(x[i]);
  }
  static void from_f16(const uint8_t* in, int n, float* out) { widen<F16>(in, n, out); }
  static void from_bf16(const uint8_t* in, int n, float* out) { widen<BF16>(in, n, out); }

  template <typename W>
  static void widen(const uint8_t* in, int n, float* out) {
    for (int i = 0; i < n; i += 4) store_first(out + i, n - i, W::load(in + i * W::kBytes, n - i));
  }
};

}  // namespace neon
}  // namespace
}  // namespace halo
