// Opening a model: from its mapped file, a table of tensors and a grid.
#include <memory>
#include <vector>

#include "bindings/bindings.h"
#include "kernels/kernels.h"

namespace halo {

Tensor TensorFinder::operator()(const std::string& name) const {
  const auto found = table_.find(name);
  if (found == table_.end()) throw std::invalid_argument("tensor " + name + " is missing");
  const auto& [type, rows, columns, offset] = found->second;
  const TypeInfo* t = type_info(type);
  if (t == nullptr) throw std::invalid_argument("tensor " + name + " is of an unknown type");
  if (rows <= 0 || columns <= 0 || columns > (1 << 28) || rows > (int64_t{1} << 31) || columns % t->block != 0) {
    throw std::invalid_argument("tensor " + name + " has an impossible shape");
  }
  const size_t stride = row_bytes(static_cast<Type>(type), columns);
  if (offset > size_ || stride * rows > size_ - offset) {
    throw std::invalid_argument("tensor " + name + " ends beyond the file: it is truncated");
  }
  if (reinterpret_cast<uintptr_t>(data_ + offset) % 4 != 0) {
    throw std::invalid_argument("tensor " + name + " is not aligned");
  }
  return {static_cast<Type>(type), rows, columns, data_ + offset, stride, nullptr};
}

namespace {

std::shared_ptr<Model> make_model(const py::buffer& py_file, const py::dict& spec, const TensorTable& table,
                                  const std::vector<Bounds>& head_groups, const std::vector<Bounds>& neuron_groups) {
  auto* view = new py::buffer_info(py_file.request());
  auto model = std::make_shared<Model>();
  model->file = std::shared_ptr<void>(view, [](void* p) {
    py::gil_scoped_acquire gil;
    delete static_cast<py::buffer_info*>(p);
  });
  Spec& s = model->spec;
  s.layers = spec["n_layers"].cast<int>();
  s.d = spec["d"].cast<int>();
  s.heads = spec["n_heads"].cast<int>();
  s.kv_heads = spec["n_kv_heads"].cast<int>();
  s.head_dim = spec["head_dim"].cast<int>();
  s.ff = spec["ff"].cast<int>();
  s.vocab = spec["vocab"].cast<int>();
  s.rope_dims = spec["rope_dims"].cast<int>();
  s.rope_base = spec["rope_base"].cast<float>();
  s.norm_eps = spec["norm_eps"].cast<float>();
  const TensorFinder find(static_cast<const uint8_t*>(view->ptr), view->size * view->itemsize, table);
  model->embedding = find("token_embd.weight");
  model->output_norm = find("output_norm.weight");
  model->output = table.count("output.weight") != 0 ? find("output.weight") : model->embedding;
  if (head_groups.size() != static_cast<size_t>(s.layers) || neuron_groups.size() != head_groups.size()) {
    throw std::invalid_argument("the grid does not have one entry per layer");
  }
  for (int l = 0; l < s.layers; ++l) {
    const std::string p = "blk." + std::to_string(l) + ".";
    Layer layer;
    layer.attn_norm = find(p + "attn_norm.weight");
    layer.wq = find(p + "attn_q.weight");
    layer.wk = find(p + "attn_k.weight");
    layer.wv = find(p + "attn_v.weight");
    layer.wo = find(p + "attn_output.weight");
    layer.ffn_norm = find(p + "ffn_norm.weight");
    layer.gate = find(p + "ffn_gate.weight");
    layer.up = find(p + "ffn_up.weight");
    layer.down = find(p + "ffn_down.weight");
    layer.head_groups = head_groups[l];
    layer.neuron_groups = neuron_groups[l];
    model->layers.push_back(std::move(layer));
  }
  model->finish();
  // A map of the file that was opened for reading: pages that were packed can be given back.
  const bool mapped = view->readonly && py::isinstance(py_file, py::module_::import("mmap").attr("mmap"));
  py::gil_scoped_release release;
  model->pack(kernels(), mapped);
  return model;
}

}  // namespace

void bind_model(py::module_& m) {
  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A model's weights in its mapped file.")
      .def(py::init(&make_model), py::arg("file"), py::arg("spec"), py::arg("tensors"), py::arg("head_groups"),
           py::arg("neuron_groups"));
}

}  // namespace halo
