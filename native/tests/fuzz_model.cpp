// The tiny model of the fuzz target.
#include <random>
#include <vector>

#include "fuzz_wire.h"
#include "kernels/kernels.h"

namespace halo::fuzz {

std::shared_ptr<const Model> tiny_model() {
  static const std::shared_ptr<const Model> model = [] {
    auto m = std::make_shared<Model>();
    m->spec = {1, 32, 4, 2, 8, 64, 16, 8};
    auto weights = std::make_shared<std::vector<std::unique_ptr<float[]>>>();
    m->file = weights;
    std::mt19937 drawn(1);
    const auto tensor = [&](int rows, int cols) {
      auto& values = weights->emplace_back(new float[static_cast<size_t>(rows) * cols]);
      for (int i = 0; i < rows * cols; ++i) values[i] = static_cast<float>(drawn() % 2001) / 5000.0f - 0.2f;
      return Tensor{Type::F32, rows, cols, reinterpret_cast<const uint8_t*>(values.get()), row_bytes(Type::F32, cols),
                    nullptr};
    };
    m->embedding = tensor(16, 32);
    m->output = tensor(16, 32);
    m->output_norm = tensor(1, 32);
    Layer l;
    l.attn_norm = l.ffn_norm = tensor(1, 32);
    l.wq = tensor(32, 32);
    l.wk = tensor(16, 32);
    l.wv = tensor(16, 32);
    l.wo = tensor(32, 32);
    l.gate = tensor(64, 32);
    l.up = tensor(64, 32);
    l.down = tensor(32, 64);
    l.q_bias = tensor(1, 32);
    l.k_bias = l.v_bias = tensor(1, 16);
    l.o_bias = l.down_bias = tensor(1, 32);
    l.gate_bias = l.up_bias = tensor(1, 64);
    l.head_groups = {0, 1, 2};
    l.neuron_groups = {0, 32, 64};
    m->layers.push_back(l);
    m->finish();
    m->lay_out(kernels(), false);
    return m;
  }();
  return model;
}

}  // namespace halo::fuzz
