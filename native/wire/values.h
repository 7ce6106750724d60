// Rows of values in partials: how they are written as f16, and added to a sum with a look at whether they are finite.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halo {

// The exponents e that a row of f16 values may carry; each value is the f16 number times 2^e.
inline constexpr int kMinF16Exponent = -126, kMaxF16Exponent = 113;

// Writes n values as f16 (2 n bytes) and returns the exponent: the one that brings the largest |value| to 2^14 up to
// 2^15, so that what is 2^28 times smaller still has all of f16's bits, and massive activations do not overflow.
// A row of zeros, and one that holds a NaN or an infinity (which stay what they are), has exponent 0.
// `scratch` has room for n floats.
int16_t encode_f16(const float* values, int n, float* scratch, uint8_t* out);

// sum[i] += value[i] * 2^exponent; false where an f16 value is no finite number. `scratch` has room for n floats.
bool add_f16(const uint8_t* values, int16_t exponent, int n, float* scratch, float* sum);

// sum[i] += value[i] for n f32 values at any address; false where one is no finite number.
bool add_f32(const uint8_t* values, size_t n, float* sum);

// Whether n f32 values at any address are finite numbers; the same of f16.
bool all_finite(const uint8_t* values, size_t n);
bool all_f16_finite(const uint8_t* values, size_t n);

}  // namespace halo
