// A model's weights, and the grid of its neuron groups.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace halo {

// Makes a part of a matrix in the tensor's type, where the file has it in one that the kernels do not compute:
// `columns` values from `column` on of each of `rows` rows, one row after the other. Called when weights are packed, by
// any thread.
using Converter = std::function<void(int64_t row, int64_t rows, int64_t column, int64_t columns, uint8_t* out)>;

// A weight matrix: y = W x with W (rows, cols); rows as they lie in the file until `lay_out`. A vector is one row of
// F32.
struct Tensor {
  Type type = Type::F32;
  int64_t rows = 0, cols = 0;
  const uint8_t* data = nullptr;
  size_t panel_bytes = 0;                      // from one panel of rows to the next; a row, while there is no product
  const Product* product = nullptr;            // set by `lay_out`: how a kernel variant keeps and multiplies it
  std::shared_ptr<const Converter> converter;  // where `data` is not in the file
  int64_t first_row = 0, first_column = 0;     // of the converter's matrix

  const uint8_t* row(int64_t r) const { return data + r * panel_bytes; }  // not of a packed tensor
  const float* f32() const { return reinterpret_cast<const float*>(data); }
  size_t bytes() const { return row_bytes(type, cols) * static_cast<size_t>(rows); }  // in the file
  Slice slice(int row_begin, int row_end) const {
    return {data, panel_bytes, row_begin, row_end, static_cast<int>(cols)};
  }
};

struct Spec {
  int layers = 0, d = 0, heads = 0, kv_heads = 0, head_dim = 0, ff = 0, vocab = 0, rope_dims = 0;
  float rope_base = 10000.0f, norm_eps = 1e-5f;
  float rope_scaling = 1.0f;  // all angles are divided by it

  int kv_dim() const { return kv_heads * head_dim; }
  int heads_per_kv() const { return heads / kv_heads; }
};

// The two syncs of a layer, by what their groups are; numbers are those of the wire format.
enum class Part : uint8_t { Attention = 0, Mlp = 1 };

// Boundaries of a layer's groups: group g is [bounds[g], bounds[g + 1]), in KV heads or in neurons.
using Bounds = std::vector<int>;

inline constexpr int kMaxGroups = 64;  // a mask of groups has 64 bits

struct Layer {
  Tensor attn_norm;      // (d)
  Tensor wq;             // (heads * head_dim, d)
  Tensor wk, wv;         // (kv_dim, d)
  Tensor wo;             // (d, heads * head_dim)
  Tensor ffn_norm;       // (d)
  Tensor gate, up;       // (ff, d)
  Tensor down;           // (d, ff)
  Bounds head_groups;    // in KV heads
  Bounds neuron_groups;  // in neurons
  // The rows of q, gate and up and the columns of o and down that belong to each group, packed: a group lies together.
  std::vector<Tensor> wq_groups, wo_groups, gate_groups, up_groups, down_groups;
  Type attention_input = Type::F32;  // format of the layer input that q, k and v consume
  Type mlp_input = Type::F32;        // the same for gate and up
  // Without data where the model has none. Those of o and down belong to no group: the hub adds them, once a sync.
  Tensor q_bias, k_bias, v_bias;  // (rows of the matrix)
  Tensor o_bias;                  // (d)
  Tensor gate_bias, up_bias;      // (ff)
  Tensor down_bias;               // (d)

  const Bounds& bounds(Part part) const { return part == Part::Attention ? head_groups : neuron_groups; }
  int groups(Part part) const { return static_cast<int>(bounds(part).size()) - 1; }
  Type input(Part part) const { return part == Part::Attention ? attention_input : mlp_input; }
  const Tensor& bias(Part part) const { return part == Part::Attention ? o_bias : down_bias; }
};

class Residency;

struct Model {
  Spec spec;
  Tensor embedding;    // (vocab, d), never packed: it is looked up by rows
  Tensor output_norm;  // (d)
  Tensor output;       // (vocab, d)
  Tensor rope_freqs;   // (rope_dims / 2) each angle is divided by; without data: none is
  std::vector<Layer> layers;
  std::shared_ptr<void> file;            // keeps the mapping alive
  std::shared_ptr<Residency> residency;  // which of the weights are packed

  // Checks every shape, the blocks and the grid, and fills the derived fields; throws std::invalid_argument.
  void finish();

  // Gives every matrix its place, packed for `kernels`; `residency` packs what is asked for. With `release`, pages of
  // `file` are given back once they are packed: `file` must then be a mapping of a file that nobody writes to.
  void lay_out(const Kernels& kernels, bool release);
};

}  // namespace halo
