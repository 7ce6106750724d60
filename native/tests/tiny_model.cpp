// The file-less model of the sanitized tests: every tensor in a buffer of exactly its size.
#include "tests/tiny_model.h"

#include <algorithm>
#include <cstring>

#include "kernels/scalar.h"
#include "tests/guarded.h"
#include "tests/scales.h"

namespace halo {
namespace sanitized {

namespace {

// Owns what a model's tensors point to.
using Buffers = std::vector<std::unique_ptr<uint8_t[]>>;

void fill_plain(Type type, uint8_t* data, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float value = static_cast<float>(drawn() % 201) / 1000.0f - 0.1f;
    if (type == Type::F32) std::memcpy(data + 4 * i, &value, 4);
    const uint16_t half = type == Type::F16 ? f32_to_f16(value) : f32_to_bf16(value);
    if (type != Type::F32) std::memcpy(data + 2 * i, &half, 2);
  }
}

Tensor matrix(Type type, int64_t rows, int64_t columns, Buffers& buffers) {
  const TypeInfo& t = info(type);
  const size_t stride = row_bytes(type, columns);
  buffers.push_back(noise(stride * rows));
  uint8_t* data = buffers.back().get();
  const uint16_t scale = f32_to_f16(t.block == 32 ? 0.01f : 0.0005f);
  for (size_t block = 0; t.block > 1 && block < stride * rows; block += t.bytes) {
    for (int at : scales_at(type)) std::memcpy(data + block + at, &scale, 2);
  }
  if (t.block == 1) fill_plain(type, data, rows * columns);
  return {type, rows, columns, data, stride, nullptr};
}

Tensor ones(int64_t n, Buffers& buffers) {
  const Tensor t = matrix(Type::F32, 1, n, buffers);
  for (int64_t i = 0; i < n; ++i) reinterpret_cast<float*>(buffers.back().get())[i] = 1.0f;
  return t;
}

// Groups of `step` out of `total`; the last may be smaller.
Bounds groups_of(int step, int total) {
  Bounds bounds{0};
  while (bounds.back() < total) bounds.push_back(std::min(total, bounds.back() + step));
  return bounds;
}

}  // namespace

std::shared_ptr<Model> tiny_model(const Types& types, int layers) {
  auto model = std::make_shared<Model>();
  auto buffers = std::make_shared<Buffers>();
  const bool wide = std::max({info(types.qkv).block, info(types.o).block, info(types.gate_up).block,
                              info(types.down).block, info(types.head).block}) == 256;
  Spec& s = model->spec;
  s.layers = layers;
  s.heads = 4;
  s.kv_heads = 2;
  s.head_dim = wide ? 128 : 16;
  s.d = s.heads * s.head_dim;
  s.ff = wide ? 768 : 96;
  s.vocab = 40;
  s.rope_dims = s.head_dim;
  const int q_dim = s.heads * s.head_dim;
  model->embedding = matrix(types.head, s.vocab, s.d, *buffers);
  model->output = matrix(types.head, s.vocab, s.d, *buffers);
  model->output_norm = ones(s.d, *buffers);
  for (int l = 0; l < s.layers; ++l) {
    Layer layer;
    layer.attn_norm = ones(s.d, *buffers);
    layer.ffn_norm = ones(s.d, *buffers);
    layer.wq = matrix(types.qkv, q_dim, s.d, *buffers);
    layer.wk = matrix(types.qkv, s.kv_dim(), s.d, *buffers);
    layer.wv = matrix(types.qkv, s.kv_dim(), s.d, *buffers);
    layer.wo = matrix(types.o, s.d, q_dim, *buffers);
    layer.gate = matrix(types.gate_up, s.ff, s.d, *buffers);
    layer.up = matrix(types.gate_up, s.ff, s.d, *buffers);
    layer.down = matrix(types.down, s.d, s.ff, *buffers);
    layer.head_groups = groups_of(1, s.kv_heads);
    layer.neuron_groups = groups_of(std::max(info(types.down).block, 4) * (wide ? 1 : 2), s.ff);
    model->layers.push_back(std::move(layer));
  }
  model->file = buffers;
  model->finish();
  model->lay_out(kernels(), false);
  return model;
}

SidecarTables random_tables(const Model& model) {
  SidecarTables tables;
  tables.d = model.spec.d;
  const auto drawn_values = [](size_t n) {
    const auto values = floats(n);
    return std::vector<float>(values.get(), values.get() + n);
  };
  for (const Layer& l : model.layers) {
    SidecarTables::Layer& layer = tables.layers.emplace_back();
    layer.groups = l.groups(Part::Mlp);
    const size_t n = layer.groups;
    layer.mean = drawn_values(n * tables.d);
    layer.predictor = drawn_values(n * tables.d);
    layer.bias = drawn_values(n);
    layer.significance.assign(n, 1.0f);
  }
  return tables;
}

}  // namespace sanitized
}  // namespace halo
