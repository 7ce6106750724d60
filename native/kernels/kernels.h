// The table of kernels: one entry set per instruction-set variant, picked once at run time.
//
// A kernel has no state, allocates nothing and starts no threads. Every variant keeps the rule that the
// engine's bit-identity rests on: an output value depends only on its weights, its input row and the variant,
// never on how many rows are computed together or by whom.
//
// A variant is one translation unit, <variant>.cpp, made of one header per kernel in the folder <variant>/ and
// compiled with its own instruction-set flags. What is the same on any vectors (attention.h, panels.h, elementwise.h,
// activations.h) is a template over the variant's own, in an anonymous namespace. It must not define anything that the
// linker could share with code for a lesser CPU: no templates or inline functions outside an anonymous namespace, no
// standard library. A new variant is such a file, its folder, a line in CMakeLists.txt and a line in
// dispatch.cpp. (dotprod uses the headers of neon, which are in an anonymous namespace too.)
#pragma once

#include "kernels/formats.h"

namespace halo {

// Some rows of a weight matrix, as a variant keeps it.
struct Slice {
  const uint8_t* data;     // of the whole matrix
  size_t panel_bytes;      // from one panel of rows to the next
  int row_begin, row_end;  // any rows; whole panels are quickest
  int columns;             // of the matrix, whole blocks
};

// How a variant keeps weights of one type, and multiplies with them.
struct Product {
  int panel;           // rows that are interleaved; 1: rows stay as they are in the file
  size_t block_bytes;  // bytes of one block of all rows of a panel
  // Packs one panel from `rows` rows of the file's layout; rows that are missing become zeros. Null where products
  // read the file itself.
  void (*pack)(const uint8_t* w, size_t w_stride, int rows, int blocks, uint8_t* out);
  // y[t * y_stride + r] = dot(row row_begin + r of w, row t of x), for all rows of the slice and t < T.
  // x: prepared activations, x_stride in bytes.
  void (*matmul)(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride);
};

// Causal attention of query heads that share one KV head, over an f16 cache: row t sees positions 0 .. first + t.
struct Attention {
  const float* q;  // row t, head h at q + t * stride + h * head_dim
  float* out;      // the same shape
  size_t stride;   // in values
  int heads, rows;
  const uint16_t *k, *v;  // (positions, head_dim)
  int head_dim, first;
  float scale;
  float* scratch;  // 2 * heads * rows floats
};

struct Kernels {
  const char* isa;

  // Null for a type that has no weights.
  const Product* (*product)(Type type);

  // n floats to a layer-input format (F32, F16, BF16, Q8_0 or Q8_K); n is a whole number of blocks.
  void (*quantize)(Type format, const float* x, int n, uint8_t* out);
  // From a layer-input format to what products read.
  void (*prepare)(Type format, const uint8_t* in, int n, uint8_t* out);

  // out[i] = silu(gate[i]) * up[i]
  void (*silu_mul)(const float* gate, const float* up, int n, float* out);

  void (*attention)(const Attention& a);

  // sum[i] += y[i] * scale rounded to the nearest integer, and the sum of y[i]^2 to `squares`. Values beyond
  // `limit` and NaN are left out; returns false if there are any.
  bool (*add_fixed)(const float* y, int n, float scale, float limit, int32_t* sum, float* squares);
};

// The variant for this machine, or the one that the environment variable HALO_ISA names.
// Throws std::invalid_argument for a name that is unknown or cannot run here.
const Kernels& kernels();

// The same for a given name.
const Kernels& kernels(const char* isa);

// The variants that run here, best first; ends with null.
const Kernels* const* variants();

// Values of a row of any type to floats, the same bits in every variant.
void dequantize(Type type, const uint8_t* in, int n, float* out);

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512;
#elif defined(__aarch64__)
extern const Kernels kNeon, kDotprod;
#endif

}  // namespace halo
