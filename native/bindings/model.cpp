// Opening a model: from its mapped files, a table of tensors and a grid.
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/bindings.h"
#include "engine/shards.h"
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
  if (const auto how = converters_.find(name); how != converters_.end()) {
    return {static_cast<Type>(type), rows, columns, nullptr, stride, nullptr, how->second};
  }
  auto file = files_.begin();
  uint64_t at = offset;  // in that file
  for (; file != files_.end() && at >= file->size; ++file) at -= file->size;
  if (file == files_.end() || stride * rows > file->size - at) {
    throw std::invalid_argument("tensor " + name + " ends beyond the file: it is truncated");
  }
  if (reinterpret_cast<uintptr_t>(file->data + at) % 4 != 0) {
    throw std::invalid_argument("tensor " + name + " is not aligned");
  }
  return {static_cast<Type>(type), rows, columns, file->data + at, stride, nullptr};
}

Tensor TensorFinder::optional(const std::string& name) const {
  return table_.count(name) != 0 ? (*this)(name) : Tensor();
}

void TensorFinder::convert(const std::map<std::string, py::function>& how) {
  for (const auto& [name, function] : how) {
    // Let go of with the GIL held, whoever does.
    const std::shared_ptr<py::function> kept(new py::function(function), [](py::function* f) {
      py::gil_scoped_acquire gil;
      delete f;
    });
    const auto found = table_.find(name);
    if (found == table_.end() || type_info(std::get<0>(found->second)) == nullptr) {
      throw std::invalid_argument("tensor " + name + " is to be converted to an unknown type");
    }
    const auto type = static_cast<Type>(std::get<0>(found->second));
    const auto call = [kept, type](int64_t row, int64_t rows, int64_t column, int64_t columns, uint8_t* out) {
      const size_t size = row_bytes(type, columns) * rows;
      py::gil_scoped_acquire gil;
      const py::bytes made = (*kept)(row, rows, column, columns);
      const auto [data, got] = view_of(made);
      if (got != size) throw std::invalid_argument("a conversion made too few or too many bytes");
      std::memcpy(out, data, size);
    };
    converters_[name] = std::make_shared<const Converter>(call);
  }
}

namespace {

// Buffers that are kept open; let go of with the GIL held.
using Views = std::vector<py::buffer_info>;

std::shared_ptr<Model> make_model(const std::vector<py::buffer>& files, const py::dict& spec, const TensorTable& table,
                                  const std::vector<Bounds>& head_groups, const std::vector<Bounds>& neuron_groups,
                                  const std::map<std::string, py::function>& converted) {
  auto* views = new Views();
  auto model = std::make_shared<Model>();
  model->file = std::shared_ptr<void>(views, [](void* p) {
    py::gil_scoped_acquire gil;
    delete static_cast<Views*>(p);
  });
  std::vector<TensorFinder::File> places;
  bool mapped = true;  // maps of files that were opened for reading: pages that were packed can be given back
  for (const py::buffer& file : files) {
    const py::buffer_info& view = views->emplace_back(file.request());
    places.push_back({static_cast<const uint8_t*>(view.ptr), static_cast<size_t>(view.size * view.itemsize)});
    mapped &= view.readonly && py::isinstance(file, py::module_::import("mmap").attr("mmap"));
  }
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
  s.rope_scaling = spec["rope_scaling"].cast<float>();
  TensorFinder find(std::move(places), table);
  find.convert(converted);
  model->embedding = find("token_embd.weight");
  model->output_norm = find("output_norm.weight");
  model->output = table.count("output.weight") != 0 ? find("output.weight") : model->embedding;
  model->rope_freqs = find.optional("rope_freqs.weight");
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
    layer.q_bias = find.optional(p + "attn_q.bias");
    layer.k_bias = find.optional(p + "attn_k.bias");
    layer.v_bias = find.optional(p + "attn_v.bias");
    layer.o_bias = find.optional(p + "attn_output.bias");
    layer.gate_bias = find.optional(p + "ffn_gate.bias");
    layer.up_bias = find.optional(p + "ffn_up.bias");
    layer.down_bias = find.optional(p + "ffn_down.bias");
    layer.head_groups = head_groups[l];
    layer.neuron_groups = neuron_groups[l];
    model->layers.push_back(std::move(layer));
  }
  model->finish();
  model->lay_out(kernels(), mapped);
  return model;
}

Masks to_python(const std::vector<LayerMasks>& masks) {
  Masks out;
  for (const LayerMasks& m : masks) out.emplace_back(m.attention, m.mlp);
  return out;
}

std::vector<LayerMasks> from_python(const Model& model, const Masks& masks) {
  const std::vector<LayerMasks> all = all_masks(model);
  if (masks.size() != all.size()) throw std::invalid_argument("the masks do not have one entry per layer");
  std::vector<LayerMasks> out = layer_masks(masks);
  for (size_t l = 0; l < out.size(); ++l) {
    if ((out[l].attention & ~all[l].attention) != 0 || (out[l].mlp & ~all[l].mlp) != 0) {
      throw std::invalid_argument("layer " + std::to_string(l) + " does not have all of these groups");
    }
  }
  return out;
}

// Without the GIL, which a call of `progress` takes: not more often than it can be seen.
void load(const Model& model, const std::optional<Masks>& masks, const std::optional<py::function>& progress,
          bool output) {
  using Clock = std::chrono::steady_clock;
  const std::vector<LayerMasks> wanted = masks ? from_python(model, *masks) : all_masks(model);
  auto next = Clock::now();
  const auto tell = [&](size_t done, size_t total) {
    if (Clock::now() < next && done < total) return;
    check_signals();
    if (progress) {
      const py::gil_scoped_acquire gil;
      (*progress)(done, total);
    }
    next = Clock::now() + std::chrono::milliseconds(100);
  };
  const py::gil_scoped_release release;
  model.residency->load(wanted, output, tell);
}

Masks resident(const Model& model) {
  Masks masks;
  for (int l = 0; l < model.spec.layers; ++l) {
    masks.emplace_back(model.residency->resident(l, Part::Attention), model.residency->resident(l, Part::Mlp));
  }
  return masks;
}

size_t weight_bytes(const Model& model, const Masks& masks, bool output) {
  return model.residency->bytes(from_python(model, masks), output);
}

size_t cache_bytes(const Model& model, int64_t positions) {
  const Spec& s = model.spec;
  return static_cast<size_t>(positions) * s.layers * s.kv_heads * s.head_dim * 2 * sizeof(uint16_t);
}

Masks checked_shard_masks(const Model& model, int index, int of) {
  if (of < 1 || index < 0 || index >= of) throw std::invalid_argument("there is no such shard");
  return to_python(shard_masks(model, index, of));
}

Masks checked_share_masks(const Model& model, double share) {
  if (!(share >= 0 && share <= 1)) throw std::invalid_argument("a share must be from 0 to 1");
  return to_python(share_masks(model, share));
}

}  // namespace

void bind_model(py::module_& m) {
  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A model's weights in its mapped files.")
      .def(py::init(&make_model), py::arg("files"), py::arg("spec"), py::arg("tensors"), py::arg("head_groups"),
           py::arg("neuron_groups"), py::arg("converted") = std::map<std::string, py::function>())
      .def("load", &load, py::arg("masks") = py::none(), py::arg("progress") = py::none(), py::kw_only(),
           py::arg("output") = true, "Packs groups, all by default; what is not loaded is packed when it is needed.")
      .def(
          "forget", [](const Model& model) { model.residency->forget(); }, py::call_guard<py::gil_scoped_release>(),
          "Gives all packed weights back; nobody may compute meanwhile.")
      .def("weight_bytes", &weight_bytes, py::arg("masks"), py::kw_only(), py::arg("output") = true,
           "What these groups take in memory, in bytes.")
      .def(
          "held_bytes", [](const Model& model) { return model.residency->held_bytes(); },
          "What is packed in memory now, in bytes.")
      .def("cache_bytes", &cache_bytes, py::arg("positions"), "What so many positions take in a cache, in bytes.")
      .def("resident", &resident, "The groups in memory: (attention mask, MLP mask) of each layer.");
  m.def("shard_masks", &checked_shard_masks, py::arg("model"), py::arg("index"), py::arg("of"),
        "The groups of an even shard of a model: (attention mask, MLP mask) of each layer.");
  m.def("share_masks", &checked_share_masks, py::arg("model"), py::arg("share"),
        "The first groups of each layer, so many of all.");
}

}  // namespace halo
