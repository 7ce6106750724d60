// Scalar conversions shared by the portable kernels and the engine: f16 and the project's own exp and sincos.
// They are written out so that every device rounds alike, whatever its C library. Built without contraction. Internal
// linkage: each translation unit keeps its own copies, compiled for its own instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace halo {

static inline float bits_to_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

static inline uint32_t float_to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

static inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(h & 0x7fffu) << 13;
  const uint32_t finite = float_to_bits(bits_to_float(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  return bits_to_float(sign | ((h & 0x7c00u) == 0x7c00u ? special : finite));
}

// Round to nearest even; overflow gives infinity.
static inline uint16_t f32_to_f16(float f) {
  const uint32_t u = float_to_bits(f);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return sign | 0x7e00u;
  if (a >= 0x477ff000u) return sign | 0x7c00u;
  if (a < 0x38800000u) {  // a subnormal half: adding 0.5 makes the float unit round at the right bit
    return sign | static_cast<uint16_t>(float_to_bits(bits_to_float(a) + 0.5f) - 0x3f000000u);
  }
  const uint32_t odd = (a >> 13) & 1u;
  return sign | static_cast<uint16_t>((a - 0x38000000u + 0xfffu + odd) >> 13);
}

static inline float bf16_to_f32(uint16_t h) { return bits_to_float(static_cast<uint32_t>(h) << 16); }

// Round to nearest even; a NaN stays one.
static inline uint16_t f32_to_bf16(float f) {
  const uint32_t u = float_to_bits(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 64u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// e^x within 2 ulp; 0 below -87.3, infinity above 88.7.
static inline float exp_f32(float x) {
  const float clamped = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  const float shifted = clamped * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // Two factors, so that n = 128 does not leave the exponent's range.
  const int32_t k = static_cast<int32_t>(n);
  const float y = p * bits_to_float(static_cast<uint32_t>((k >> 1) + 127) << 23) *
                  bits_to_float(static_cast<uint32_t>((k - (k >> 1)) + 127) << 23);
  return x < -87.3f ? 0.0f : (x > 88.7f ? INFINITY : y);
}

// base^y to nearly double precision, for base > 0 and results within the range of float.
static inline double pow_f64(double base, double y) {
  int exponent;
  double m = std::frexp(base, &exponent);  // base = m * 2^exponent
  if (m < 0.70710678118654752440) m *= 2.0, --exponent;
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double series = 0.0;  // ln m = 2 (s + s^3 / 3 + s^5 / 5 + ...)
  for (int k = 23; k >= 1; k -= 2) series = series * z + 1.0 / k;
  const double x = y * (2.0 * s * series + exponent * 0.69314718055994530942);
  const double n = std::nearbyint(x * 1.44269504088896340736);
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0;  // e^r = 1 + r (1 + r / 2 (1 + r / 3 (...)))
  for (int k = 14; k >= 1; --k) p = 1.0 + r / k * p;
  return std::ldexp(p, static_cast<int>(n));
}

// sin and cos of x, |x| up to about 1e6, to double precision.
static inline void sincos_f64(double x, double* s, double* c) {
  const double q = std::nearbyint(x * 0.63661977236758134308);
  const double r = ((x - q * 1.5707963267341256142) - q * 6.0771005063039660e-11) - q * 2.0222662487959506e-21;
  const double z = r * r;
  double sr = -1.0 / 1307674368000.0;
  sr = sr * z + 1.0 / 6227020800.0;
  sr = sr * z - 1.0 / 39916800.0;
  sr = sr * z + 1.0 / 362880.0;
  sr = sr * z - 1.0 / 5040.0;
  sr = sr * z + 1.0 / 120.0;
  sr = sr * z - 1.0 / 6.0;
  sr = r + r * z * sr;
  double cr = 1.0 / 20922789888000.0;
  cr = cr * z - 1.0 / 87178291200.0;
  cr = cr * z + 1.0 / 479001600.0;
  cr = cr * z - 1.0 / 3628800.0;
  cr = cr * z + 1.0 / 40320.0;
  cr = cr * z - 1.0 / 720.0;
  cr = cr * z + 1.0 / 24.0;
  cr = cr * z - 0.5;
  cr = 1.0 + z * cr;
  switch (static_cast<int64_t>(q) & 3) {
    case 0:
      *s = sr, *c = cr;
      break;
    case 1:
      *s = cr, *c = -sr;
      break;
    case 2:
      *s = -sr, *c = -cr;
      break;
    default:
      *s = -cr, *c = sr;
      break;
  }
}

}  // namespace halo
