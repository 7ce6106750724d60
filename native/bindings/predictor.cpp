// Calibration's passes, on arrays that Python owns.
#include <memory>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "predictor/calibration.h"
#include "predictor/gram.h"

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
  py::ssize_t next_rows() const { return arrays_[layer_][next_].ndim() > 0 ? arrays_[layer_][next_].shape(0) : 0; }

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

std::shared_ptr<FitPass> fit_pass(std::shared_ptr<Model> model, Arrays::PerLayer given) {
  Arrays arrays(*model, std::move(given));
  std::vector<FitPass::Layer> layers;
  for (size_t l = 0; l < arrays.layers(); ++l) {
    arrays.select(l, 9);
    FitPass::Layer layer{};
    layer.means = arrays.next<float>({arrays.groups(), arrays.d()});
    layer.centre = arrays.next<float>({arrays.d()});
    layer.floor = arrays.next<float>({1});
    layer.distances = arrays.next<double>({arrays.groups()});
    layer.targets = arrays.next<double>({arrays.groups()});
    layer.squares = arrays.next<double>({arrays.groups()});
    layer.inputs = arrays.next<double>({arrays.d()});
    layer.products = arrays.next<double>({arrays.groups(), arrays.d()});
    layer.gram = arrays.next<float>({static_cast<py::ssize_t>(triangle_size(model->spec.d))});
    layers.push_back(layer);
  }
  return std::make_shared<FitPass>(std::move(model), std::move(layers), arrays.owner());
}

std::shared_ptr<MeasurePass> measure_pass(std::shared_ptr<Model> model, Arrays::PerLayer given) {
  Arrays arrays(*model, std::move(given));
  std::vector<MeasurePass::Layer> layers;
  for (size_t l = 0; l < arrays.layers(); ++l) {
    arrays.select(l, 5);
    MeasurePass::Layer layer{};
    layer.means = arrays.next<float>({arrays.groups(), arrays.d()});
    layer.weights = arrays.next<float>({arrays.groups(), arrays.d()});
    layer.bias = arrays.next<float>({arrays.groups()});
    const py::ssize_t tokens = arrays.next_rows();
    layer.distances = arrays.next<float>({tokens, arrays.groups()});
    layer.scores = arrays.next<float>({tokens, arrays.groups()});
    layer.tokens = tokens;
    layers.push_back(layer);
  }
  return std::make_shared<MeasurePass>(std::move(model), std::move(layers), arrays.owner());
}

}  // namespace

void bind_predictor(py::module_& m) {
  py::class_<Observer, std::shared_ptr<Observer>>(m, "Observer", "Who looks at the outputs of MLP groups.");
  py::class_<MeanPass, Observer, std::shared_ptr<MeanPass>>(m, "MeanPass", "Sums of outputs and inputs.")
      .def(py::init(&mean_pass), py::arg("model"), py::arg("layers"));
  py::class_<FitPass, Observer, std::shared_ptr<FitPass>>(m, "FitPass", "The sums of a least-squares fit.")
      .def(py::init(&fit_pass), py::arg("model"), py::arg("layers"));
  py::class_<MeasurePass, Observer, std::shared_ptr<MeasurePass>>(m, "MeasurePass", "True and predicted distances.")
      .def(py::init(&measure_pass), py::arg("model"), py::arg("layers"));
}

}  // namespace halo
