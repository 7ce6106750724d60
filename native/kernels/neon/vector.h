// Vectors of 4 floats: what attention and element-wise operations are made of, and ends, conversions and sums over
// lanes. Only armv8.0: the dotprod variant is made of the same.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels/scalar.h"

namespace halo {
namespace {
namespace neon {

// All bits of the first n of 4 lanes.
inline uint32x4_t first_lanes(int n) {
  static constexpr int32_t kLane[4] = {0, 1, 2, 3};
  return vcgtq_s32(vdupq_n_s32(n), vld1q_s32(kLane));
}

// 16 bytes of anything; read as bytes, which alias everything.
inline uint8x16_t load(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
inline int8x16_t load_signed(const void* p) { return vreinterpretq_s8_u8(load(p)); }

// 4 values of 16 bits.
inline float32x4_t load_f16(const void* p) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(p))));
}

// The first n of 4 values, the others zero.
inline float32x4_t load_first(const float* p, int n) {
  if (n >= 4) return vld1q_f32(p);
  float some[4] = {};
  if (n > 0) std::memcpy(some, p, 4 * static_cast<size_t>(n));
  return vld1q_f32(some);
}

inline uint16x4_t load_first16(const void* p, int n) {
  uint16_t some[4] = {};
  if (n > 0) std::memcpy(some, p, 2 * static_cast<size_t>(n < 4 ? n : 4));
  return vld1_u16(some);
}

inline void store_first(float* p, int n, float32x4_t v) {
  if (n >= 4) return vst1q_f32(p, v);
  float all[4];
  vst1q_f32(all, v);
  if (n > 0) std::memcpy(p, all, 4 * static_cast<size_t>(n));
}

// Sums over lanes, in a fixed order, which no compiler chooses.
inline float add_lanes(float32x4_t v) {
  const float32x4_t pairs = vpaddq_f32(v, v);
  return vgetq_lane_f32(vpaddq_f32(pairs, pairs), 0);
}

struct Vectors {
  using Vector = float32x4_t;
  using Part = int;  // how many of the first lanes
  static constexpr int kLanes = 4, kQueries = 4;

  static Part first(int n) { return n; }
  static Vector set(float f) { return vdupq_n_f32(f); }
  static Vector load(const float* p) { return vld1q_f32(p); }
  static Vector load(const float* p, Part n) { return load_first(p, n); }
  static Vector load_f16(const uint16_t* p, Part n) {
    return n >= 4 ? neon::load_f16(p) : vcvt_f32_f16(vreinterpret_f16_u16(load_first16(p, n)));
  }
  static void store(float* p, Vector v) { vst1q_f32(p, v); }
  static void store(float* p, Vector v, Part n) { store_first(p, n, v); }
  static Vector negative(Vector v) { return vnegq_f32(v); }
  static Vector add(Vector a, Vector b) { return vaddq_f32(a, b); }
  static Vector mul(Vector a, Vector b) { return vmulq_f32(a, b); }
  static Vector sub(Vector a, Vector b) { return vsubq_f32(a, b); }
  static Vector div(Vector a, Vector b) { return vdivq_f32(a, b); }
  static Vector min(Vector a, Vector b) { return vminq_f32(a, b); }
  static Vector max(Vector a, Vector b) { return vmaxq_f32(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }
  static Vector add(Vector a, Vector b, Part n) {
    return vaddq_f32(a, vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(b), first_lanes(n))));
  }
  static Vector max(Vector a, Vector b, Part n) { return vbslq_f32(first_lanes(n), vmaxq_f32(a, b), a); }
  static float largest_lane(Vector v) { return vmaxvq_f32(v); }
  static float add_lanes(Vector v) { return neon::add_lanes(v); }

  // The sums over lanes of four vectors.
  static void add_lanes(const Vector* v, float* out) {
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
  }

  // Where a < b: yes, elsewhere (NaN too): no.
  static Vector where_less(Vector a, Vector b, Vector yes, Vector no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }

  // v * 2^n for integers n, in two factors: n = 128 does not leave the exponent's range.
  static Vector times_power_of_2(Vector v, Vector n) {
    const int32x4_t k = vcvtq_s32_f32(n), half = vshrq_n_s32(k, 1), bias = vdupq_n_s32(127);
    const int32x4_t a = vshlq_n_s32(vaddq_s32(half, bias), 23);
    const int32x4_t b = vshlq_n_s32(vaddq_s32(vsubq_s32(k, half), bias), 23);
    return vmulq_f32(vmulq_f32(v, vreinterpretq_f32_s32(a)), vreinterpretq_f32_s32(b));
  }

  // sum += v to the nearest integer, ties to even, where |v| <= limit; whether that is everywhere. Lanes beyond n are
  // 0.
  static bool add_rounded(Vector v, Vector limit, int32_t* sum, Part n) {
    const uint32x4_t ok = vcaleq_f32(v, limit);
    const int32x4_t rounded = vandq_s32(vcvtnq_s32_f32(v), vreinterpretq_s32_u32(ok));
    if (n >= 4) {
      vst1q_s32(sum, vaddq_s32(vld1q_s32(sum), rounded));
    } else {
      int32_t all[4];
      vst1q_s32(all, rounded);
      for (int i = 0; i < n; ++i) sum[i] += all[i];
    }
    return vminvq_u32(ok) != 0;
  }
};

}  // namespace neon
}  // namespace
}  // namespace halo
