// The table of kernels: one entry set per instruction-set variant, picked once at run time.
//
// A kernel has no state, allocates nothing and starts no threads. Every variant keeps the rule that the
// engine's bit-identity rests on: an output value depends only on its weights, its input row and the variant,
// never on how many rows are computed together or by whom.
#pragma once

#include "kernels/formats.h"

namespace halo {

struct Kernels {
  const char* isa;

  // y[t * y_stride + r] = dot(row r of w, row t of x) for r < rows, t < T. Strides of w and x in bytes.
  // w: (rows, n) of `type`; x: (T, n) in the activation format of `type`; n is a whole number of blocks.
  void (*matmul)(Type type, const uint8_t* w, size_t w_stride, int rows, int n, const uint8_t* x, size_t x_stride,
                 int T, float* y, size_t y_stride);

  // n floats to F32, F16 or Q8_0, and back from any type. n is a whole number of blocks.
  void (*quantize)(Type format, const float* x, int n, uint8_t* out);
  void (*dequantize)(Type type, const uint8_t* in, int n, float* out);

  // out[i] = silu(gate[i]) * up[i]
  void (*silu_mul)(const float* gate, const float* up, int n, float* out);

  // Attention of `heads` query heads that share one KV head, over positions 0 .. n - 1 of an f16 cache.
  // q, out: (heads, head_dim); k, v: position p at p * stride (in values); scratch: n floats.
  void (*attention)(const float* q, int heads, const uint16_t* k, const uint16_t* v, size_t stride, int head_dim, int n,
                    float scale, float* scratch, float* out);
};

// The variant for this machine, or the one that the environment variable HALO_ISA names.
// Throws std::invalid_argument for a name that is unknown or cannot run here.
const Kernels& kernels();

extern const Kernels kPortable;

}  // namespace halo
