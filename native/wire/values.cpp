// Powers of two and additions only, so every device decodes the same bits: a product with 2^e is exact.
#include "wire/values.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/kernels.h"

namespace halo {

namespace {

constexpr int32_t kMagnitude = 0x7fffffff;
constexpr int32_t kInfinity = 0x7f800000;  // of an f32's bits; from here on they are no finite number

int32_t magnitude(const uint8_t* value) {
  int32_t bits;
  std::memcpy(&bits, value, 4);
  return bits & kMagnitude;
}

// The bits of the largest |value|, which are ordered as the values are, NaN above all.
int32_t largest_magnitude(const uint8_t* values, size_t n) {
  int32_t largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, magnitude(values + 4 * i));
  return largest;
}

float power_of_two(int e) { return std::ldexp(1.0f, e); }

}  // namespace

int16_t encode_f16(const float* values, int n, float* scratch, uint8_t* out) {
  const int32_t bits = largest_magnitude(reinterpret_cast<const uint8_t*>(values), n);
  int e = 0;
  if (bits != 0 && bits < kInfinity) {
    float largest;
    std::memcpy(&largest, &bits, 4);
    std::frexp(largest, &e);
    e = std::clamp(e - 15, kMinF16Exponent, kMaxF16Exponent);
  }
  const float scale = power_of_two(-e);
  for (int i = 0; i < n; ++i) scratch[i] = values[i] * scale;
  kernels().quantize(Type::F16, scratch, n, out);
  return static_cast<int16_t>(e);
}

bool add_f16(const uint8_t* values, int16_t exponent, int n, float* scratch, float* sum) {
  kernels().prepare(Type::F16, values, n, reinterpret_cast<uint8_t*>(scratch));
  const float scale = power_of_two(exponent);
  int32_t largest = 0;
  for (int i = 0; i < n; ++i) {
    largest = std::max(largest, magnitude(reinterpret_cast<const uint8_t*>(scratch + i)));
    sum[i] += scratch[i] * scale;
  }
  return largest < kInfinity;
}

bool add_f32(const uint8_t* values, size_t n, float* sum) {
  int32_t largest = 0;
  for (size_t i = 0; i < n; ++i, values += 4) {
    largest = std::max(largest, magnitude(values));
    float value;
    std::memcpy(&value, values, 4);
    sum[i] += value;
  }
  return largest < kInfinity;
}

bool all_finite(const uint8_t* values, size_t n) { return largest_magnitude(values, n) < kInfinity; }

bool all_f16_finite(const uint8_t* values, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if ((values[2 * i + 1] & 0x7c) == 0x7c) return false;  // the exponent of infinities and NaNs
  }
  return true;
}

}  // namespace halo
