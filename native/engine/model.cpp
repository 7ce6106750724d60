// Checks of a model at the boundary: after `finish` the engine trusts every shape and every group.
#include "engine/model.h"

#include <algorithm>
#include <stdexcept>

#include "engine/residency.h"

namespace halo {

namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw std::invalid_argument(what);
}

void check_shape(const Tensor& t, const std::string& name, int64_t rows, int64_t cols) {
  require(t.data != nullptr || t.converter != nullptr, "tensor " + name + " is missing");
  require(info(t.type).weights, "tensor " + name + " is of a type that weights do not have");
  require(t.rows == rows && t.cols == cols, "tensor " + name + " has shape (" + std::to_string(t.rows) + ", " +
                                                std::to_string(t.cols) + "), expected (" + std::to_string(rows) + ", " +
                                                std::to_string(cols) + ")");
  require(cols % info(t.type).block == 0, "tensor " + name + ": a row of " + std::to_string(cols) +
                                              " values is not a whole number of " + info(t.type).name + " blocks");
}

void check_vector(const Tensor& t, const std::string& name, int64_t n) {
  check_shape(t, name, 1, n);
  require(t.type == Type::F32, "tensor " + name + " must be F32, it is " + info(t.type).name);
}

void check_optional(const Tensor& t, const std::string& name, int64_t n) {
  if (t.data != nullptr) check_vector(t, name, n);
}

// What angles are divided by: within a range in which they stay numbers that have a sine.
bool divides(float value) { return value >= 1e-3f && value <= 1e6f; }

// `per_unit`: columns of `w` for each unit of the bounds.
void check_bounds(const Bounds& bounds, int total, const Tensor& w, int per_unit, const std::string& what) {
  const int groups = static_cast<int>(bounds.size()) - 1;
  require(groups >= 1 && groups <= kMaxGroups && bounds.front() == 0 && bounds.back() == total,
          what + ": the grid does not cover the layer");
  for (int g = 0; g < groups; ++g) {
    require(bounds[g] < bounds[g + 1], what + ": the grid is not in order");
    require(bounds[g] * per_unit % info(w.type).block == 0, what + ": a group cuts a block of weights");
  }
}

// The format that all of these weights consume, or f16 where they differ.
Type common_input(std::initializer_list<const Tensor*> weights) {
  const Type first = info((*weights.begin())->type).activation;
  for (const Tensor* w : weights) {
    if (info(w->type).activation != first) return Type::F16;
  }
  return first;
}

void check_spec(const Spec& s) {
  require(s.layers > 0 && s.d > 0 && s.heads > 0 && s.kv_heads > 0 && s.head_dim > 0 && s.ff > 0 && s.vocab > 0,
          "the model's dimensions must be positive");
  require(s.heads % s.kv_heads == 0, "the number of heads is not a multiple of the number of KV heads");
  require(s.rope_dims % 2 == 0 && s.rope_dims >= 0 && s.rope_dims <= s.head_dim,
          "the rotary dimensions do not fit the head");
  require(s.norm_eps > 0.0f && s.norm_eps <= 1.0f, "the norm epsilon must be above 0, and at most 1");
  require(s.rope_base >= 1.0f && s.rope_base <= 1e12f, "the rope base must be from 1 to 1e12");
  require(divides(s.rope_scaling), "the rope scaling factor must be from 0.001 to 1000000");
}

}  // namespace

void Model::finish() {
  check_spec(spec);
  const Spec& s = spec;
  check_shape(embedding, "token_embd.weight", s.vocab, s.d);
  check_shape(output, "output.weight", s.vocab, s.d);
  check_vector(output_norm, "output_norm.weight", s.d);
  check_optional(rope_freqs, "rope_freqs.weight", s.rope_dims / 2);
  if (rope_freqs.data != nullptr) {
    require(std::all_of(rope_freqs.f32(), rope_freqs.f32() + s.rope_dims / 2, divides),
            "rope_freqs.weight has values beyond 0.001 to 1000000");
  }
  require(static_cast<int>(layers.size()) == s.layers, "the number of layers does not match");
  for (int l = 0; l < s.layers; ++l) {
    Layer& layer = layers[l];
    const std::string p = "blk." + std::to_string(l) + ".";
    const int64_t q_dim = int64_t{s.heads} * s.head_dim;
    check_vector(layer.attn_norm, p + "attn_norm.weight", s.d);
    check_vector(layer.ffn_norm, p + "ffn_norm.weight", s.d);
    check_shape(layer.wq, p + "attn_q.weight", q_dim, s.d);
    check_shape(layer.wk, p + "attn_k.weight", s.kv_dim(), s.d);
    check_shape(layer.wv, p + "attn_v.weight", s.kv_dim(), s.d);
    check_shape(layer.wo, p + "attn_output.weight", s.d, q_dim);
    check_shape(layer.gate, p + "ffn_gate.weight", s.ff, s.d);
    check_shape(layer.up, p + "ffn_up.weight", s.ff, s.d);
    check_shape(layer.down, p + "ffn_down.weight", s.d, s.ff);
    check_optional(layer.q_bias, p + "attn_q.bias", q_dim);
    check_optional(layer.k_bias, p + "attn_k.bias", s.kv_dim());
    check_optional(layer.v_bias, p + "attn_v.bias", s.kv_dim());
    check_optional(layer.o_bias, p + "attn_output.bias", s.d);
    check_optional(layer.gate_bias, p + "ffn_gate.bias", s.ff);
    check_optional(layer.up_bias, p + "ffn_up.bias", s.ff);
    check_optional(layer.down_bias, p + "ffn_down.bias", s.d);
    check_bounds(layer.head_groups, s.kv_heads, layer.wo, s.heads_per_kv() * s.head_dim, p + "attention");
    check_bounds(layer.neuron_groups, s.ff, layer.down, 1, p + "mlp");
    layer.attention_input = common_input({&layer.wq, &layer.wk, &layer.wv});
    layer.mlp_input = common_input({&layer.gate, &layer.up});
    require(s.d % info(layer.attention_input).block == 0 && s.d % info(layer.mlp_input).block == 0,
            p + "the layer input is not a whole number of blocks");
  }
}

void Model::lay_out(const Kernels& kernels, bool release) {
  residency = std::make_shared<Residency>(*this, kernels, release);
}

}  // namespace halo
