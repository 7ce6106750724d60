// Floats to layer-input formats, and those to what products read; the same bits as the portable kernels.
#pragma once

#include "kernels/avx2/plain.h"
#include "kernels/kernels.h"

namespace halo {
namespace {
namespace avx2 {

// max|x| / 127 of 8 * N floats, or NaN if there is one among them: a damaged weight must not look like a zero.
template <int N>
inline float scale_of(const float* x) {
  __m256 largest = _mm256_setzero_ps(), nan = largest;
  for (int i = 0; i < N; ++i) {
    const __m256 v = load(x + 8 * i);
    largest = _mm256_max_ps(abs(v), largest);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  }
  return _mm256_movemask_ps(nan) != 0 ? __builtin_nanf("") : largest_lane(largest) / 127.0f;
}

// Rounded half away from zero: adding the float just below a half rounds as std::round does.
inline __m256i round_to_int(const float* x, __m256 inverse) {
  const __m256 value = _mm256_mul_ps(load(x), inverse);
  const __m256 sign = _mm256_and_ps(value, _mm256_set1_ps(-0.0f));
  const __m256 moved = _mm256_add_ps(value, _mm256_or_ps(sign, _mm256_set1_ps(0.49999997f)));
  const __m256 ok = _mm256_cmp_ps(abs(moved), _mm256_set1_ps(128.0f), _CMP_LT_OQ);
  return _mm256_and_si256(_mm256_cvttps_epi32(moved), _mm256_castps_si256(ok));
}

inline __m128i round_to_int8(const float* x, __m256 inverse) {  // 16 of them
  const __m256i a = round_to_int(x, inverse), b = round_to_int(x + 8, inverse);
  const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  return _mm_packs_epi16(low, high);
}

inline void quantize_q8_0(const float* x, BlockQ8_0* out) {
  const float scale = scale_of<4>(x);
  const __m256 inverse = _mm256_set1_ps(scale != 0.0f ? 1.0f / scale : 0.0f);
  out->scale = f32_to_f16(scale);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values), round_to_int8(x, inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values + 16), round_to_int8(x + 16, inverse));
}

inline void quantize_q8_k(const float* x, BlockQ8_K* out) {
  out->scale = scale_of<32>(x);
  const __m256 inverse = _mm256_set1_ps(out->scale != 0.0f ? 1.0f / out->scale : 0.0f);
  for (int run = 0; run < 16; ++run) {
    const __m128i v = round_to_int8(x + 16 * run, inverse);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values + 16 * run), v);
    out->sums[run] = static_cast<int16_t>(add_bytes(v));
  }
}

inline void to_f16(const float* x, int n, uint16_t* out) {
  for (int i = 0; i < n; i += 8) {
    store_first16(out + i, n - i, _mm256_cvtps_ph(load_first(x + i, n - i), _MM_FROUND_TO_NEAREST_INT));
  }
}

inline void to_bf16(const float* x, int n, uint16_t* out) {
  for (int i = 0; i < n; ++i) out[i] = f32_to_bf16(x[i]);
}

void quantize(Type format, const float* x, int n, uint8_t* out) {
  switch (format) {
    case Type::F32:
      std::memcpy(out, x, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      return to_f16(x, n, reinterpret_cast<uint16_t*>(out));
    case Type::BF16:
      return to_bf16(x, n, reinterpret_cast<uint16_t*>(out));
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

// 16 values to `out`, none below -127; returns their sum.
inline int put_values(const int8_t* in, int8_t* out) {
  const __m128i v = _mm_max_epi8(load16(in), _mm_set1_epi8(-127));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
  return add_bytes(v);
}

inline void prepare_q8_0(const BlockQ8_0& in, PreparedQ8* out) {
  const int sum = put_values(in.values, out->values) + put_values(in.values + 16, out->values + 16);
  out->scale = f16_to_f32(in.scale);
  out->minus_8 = -8 * sum;
  out->minus_128 = -128 * sum;
  out->unused = 0;
}

// The sums are made anew: a message's may not be those of its values.
inline void prepare_q8_k(const BlockQ8_K& in, PreparedQ8K* out) {
  for (int run = 0; run < 16; run += 2) {
    const int first = put_values(in.values + 16 * run, out->values + 16 * run);
    const int second = put_values(in.values + 16 * run + 16, out->values + 16 * run + 16);
    out->minus_32[run] = -32 * first;
    out->minus_32[run + 1] = -32 * second;
    out->sums[run / 2] = static_cast<int16_t>(first + second);
  }
  out->scale = in.scale;
  for (uint32_t& u : out->unused) u = 0;
}

template <typename W>
void widen(const uint8_t* in, int n, float* out) {
  for (int i = 0; i < n; i += 8) store_first(out + i, n - i, W::load(in + i * W::kBytes, n - i));
}

void prepare(Type format, const uint8_t* in, int n, uint8_t* out) {
  switch (format) {
    case Type::F32:
      std::memcpy(out, in, static_cast<size_t>(n) * 4);
      return;
    case Type::F16:
      return widen<F16>(in, n, reinterpret_cast<float*>(out));
    case Type::BF16:
      return widen<BF16>(in, n, reinterpret_cast<float*>(out));
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

}  // namespace avx2
}  // namespace
}  // namespace halo
