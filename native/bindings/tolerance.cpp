// What may be late and what is: a sidecar's tables as arrays; the rest is bound for tests and benchmarks, the engine
// uses it natively.
#include <memory>
#include <string>
#include <utility>

#include "bindings/bindings.h"
#include "engine/lateness.h"
#include "predictor/significance.h"

namespace halo {

namespace {

// Its values, if it is f32 of this shape.
std::vector<float> values_of(const py::array& array, const std::vector<py::ssize_t>& shape, const char* name) {
  const bool fits = py::isinstance<py::array_t<float>>(array) &&
                    array.ndim() == static_cast<py::ssize_t>(shape.size()) &&
                    std::equal(shape.begin(), shape.end(), array.shape());
  if (!fits) throw std::invalid_argument(std::string("the tables have a ") + name + " of a wrong type or shape");
  const auto rows = py::array_t < float, py::array::c_style | py::array::forcecast > ::ensure(array);
  return {rows.data(), rows.data() + rows.size()};
}

// A predictor and its tables.
class BoundSignificance {
 public:
  explicit BoundSignificance(const TableArrays& arrays) : tables_(sidecar_tables(arrays)), linear_(tables_) {}
  BoundSignificance(const BoundSignificance&) = delete;

  py::array_t<float> predict(int layer, const py::array& normed) const {
    if (layer < 0 || layer >= static_cast<int>(tables_.layers.size())) throw std::invalid_argument("no such layer");
    const std::vector<float> in = values_of(normed, {tables_.d}, "layer input");
    py::array_t<float> scores(tables_.layers[layer].groups);
    linear_.predict(layer, in.data(), scores.mutable_data());
    return scores;
  }

 private:
  SidecarTables tables_;
  LinearSignificance linear_;
};

}  // namespace

SidecarTables sidecar_tables(const TableArrays& arrays) {
  SidecarTables tables;
  if (arrays.empty()) throw std::invalid_argument("there are no tables");
  for (const auto& [mean, predictor, bias, significance] : arrays) {
    if (mean.ndim() != 2 || mean.shape(0) > 64 || mean.shape(1) > (1 << 24)) {
      throw std::invalid_argument("the tables have a mean of a wrong shape");
    }
    const py::ssize_t groups = mean.shape(0), d = mean.shape(1);
    if (tables.layers.empty()) tables.d = static_cast<int>(d);
    SidecarTables::Layer& layer = tables.layers.emplace_back();
    layer.groups = static_cast<int>(groups);
    layer.mean = values_of(mean, {groups, tables.d}, "mean");
    layer.predictor = values_of(predictor, {groups, tables.d}, "predictor");
    layer.bias = values_of(bias, {groups}, "bias");
    layer.significance = values_of(significance, {groups}, "significance");
  }
  tables.finish();
  return tables;
}

Lateness lateness(double probability, uint64_t seed, double fade_syncs, int devices, const std::string& drop,
                  bool any_group) {
  Lateness::Options options{probability, seed, fade_syncs, devices, Lateness::Drop::Correct, any_group};
  if (drop == "mean") {
    options.drop = Lateness::Drop::Mean;
  } else if (drop == "zero") {
    options.drop = Lateness::Drop::Zero;
  } else if (drop != "correct") {
    throw std::invalid_argument("unknown drop '" + drop + "'; known: correct, mean, zero");
  }
  return Lateness(options);
}

void bind_tolerance(py::module_& m) {
  py::class_<BoundSignificance>(m, "LinearSignificance", "The predictor of a sidecar's tables.")
      .def(py::init<const TableArrays&>(), py::arg("tables"))
      .def("predict", &BoundSignificance::predict, py::arg("layer"), py::arg("normed"),
           "The scores (groups) for a normed layer input (d).");
  py::class_<Lateness>(m, "Lateness", "Draws which groups are late; for `drop` see Engine.inject_lateness.")
      .def(py::init([](double probability, uint64_t seed, double fade_syncs, int devices) {
             return lateness(probability, seed, fade_syncs, devices, "correct", false);
           }),
           py::arg("probability"), py::arg("seed") = 0, py::arg("fade_syncs") = 0.0, py::arg("devices") = 4)
      .def("tick", &Lateness::tick, "A sync passes.")
      .def("draw", &Lateness::draw, py::arg("groups"), "Which groups of this mask are late now.");
}

}  // namespace halo
