// Calibration's passes, on arrays that Python owns.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "predictor/calibration.h"

namespace halo {

namespace {

// The arrays of all layers; checks each against its shape, and keeps them alive.
class Arrays {
 public:
  using PerLayer = std::vector<std::vector<py::array>>;

  Arrays(const Model& model, PerLayer arrays) : model_(model), arrays_(std::move(arrays)) {
    if (arrays_.size() != model.layers.size()) throw std::invalid_argument("expected the arrays of each layer");
  }

  void select(size_t layer, size_t count) {
    layer_ = layer;
    next_ = 0;
    if (arrays_[layer].size() != count) throw std::invalid_argument("a layer has another number of arrays");
  }
  size_t layers() const { return arrays_.size(); }
  py::ssize_t d() const { return model_.spec.d; }
  py::ssize_t groups() const { return model_.layers[layer_].groups(Part::Mlp); }

  // The next array of the layer.
  template <typename T>
  T* next(const std::vector<py::ssize_t>& shape) {
    py::array& a = arrays_[layer_][next_++];
    const bool fits = a.ndim() == static_cast<py::ssize_t>(shape.size()) &&
                      std::equal(shape.begin(), shape.end(), a.shape()) && py::isinstance<py::array_t<T>>(a) &&
                      (a.flags() & py::array::c_style) != 0;
    if (!fits) throw std::invalid_argument("array " + std::to_string(next_) + " has a wrong type or shape");
    return static_cast<T*>(a.mutable_data());
  }

  std::shared_ptr<void> owner() {
    return std::shared_ptr<void>(new PerLayer(std::move(arrays_)), [](void* p) {
      const py::gil_scoped_acquire gil;
      delete static_cast<PerLayer*>(p);
    });
  }

 private:
  const Model& model_;
  PerLayer arrays_;
  size_t layer_ = 0, next_ = 0;
};

std::shared_ptr<MeanPass> mean_pass(std::shared_ptr<Model> model, Arrays::PerLayer given) {
  Arrays arrays(*model, std::move(given));
  std::vector<MeanPass::Layer> layers;
  for (size_t l = 0; l < arrays.layers(); ++l) {
    arrays.select(l, 3);
    MeanPass::Layer layer{};
    layer.outputs = arrays.next<double>({arrays.groups(), arrays.d()});
    layer.squares = arrays.next<double>({arrays.groups()});
    layer.inputs = arrays.next<double>({arrays.d()});
    layers.push_back(layer);
  }
  return std::make_shared<MeanPass>(std::move(model), std::move(layers), arrays.owner());
}

std::shared_ptr<DistancePass> distance_pass(std::shared_ptr<Model> model, Arrays::PerLayer given, py::ssize_t tokens) {
  Arrays arrays(*model, std::move(given));
  std::vector<DistancePass::Layer> layers;
  for (size_t l = 0; l < arrays.layers(); ++l) {
    arrays.select(l, 3);
    DistancePass::Layer layer{};
    layer.means = arrays.next<float>({arrays.groups(), arrays.d()});
    layer.inputs = arrays.next<float>({tokens, arrays.d()});
    layer.distances = arrays.next<float>({tokens, arrays.groups()});
    layers.push_back(layer);
  }
  return std::make_shared<DistancePass>(std::move(model), std::move(layers), tokens, arrays.owner());
}

}  // namespace

void bind_predictor(py::module_& m) {
  py::class_<Observer, std::shared_ptr<Observer>>(m, "Observer", "Who looks at the outputs of MLP groups.");
  py::class_<MeanPass, Observer, std::shared_ptr<MeanPass>>(m, "MeanPass", "Sums of outputs and inputs.")
      .def(py::init(&mean_pass), py::arg("model"), py::arg("layers"));
  py::class_<DistancePass, Observer, std::shared_ptr<DistancePass>>(m, "DistancePass", "Inputs and distances by token.")
      .def(py::init(&distance_pass), py::arg("model"), py::arg("layers"), py::arg("tokens"))
      .def("rewind", &DistancePass::rewind, "Tokens written; begins again with the first.");
}

}  // namespace halo
