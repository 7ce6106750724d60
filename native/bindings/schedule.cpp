// Who computes what, and what is expected of whom: bound for tests and benchmarks; the engine uses them natively.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings/bindings.h"
#include "schedule/assigner.h"
#include "schedule/deadline.h"
#include "schedule/placing.h"
#include "schedule/speed.h"

namespace halo {

namespace {

Part part_of(const std::string& name) {
  if (name == "attention") return Part::Attention;
  if (name == "mlp") return Part::Mlp;
  throw std::invalid_argument("part must be attention or mlp");
}

std::vector<uint64_t> assign(Assigner& assigner, int layer, const std::string& part, int groups, int rows,
                             const std::vector<Candidate>& candidates) {
  if (layer < 0 || layer > 4096 || groups < 1 || groups > kMaxGroups || rows < 1) {
    throw std::invalid_argument("expected a layer, 1 to 64 groups, and rows");
  }
  if (candidates.empty()) throw std::invalid_argument("there is no hub");
  std::vector<uint64_t> masks;
  assigner.assign({layer, part_of(part), groups, rows}, candidates, masks);
  return masks;
}

// Groups or masks that do not fit the candidates are refused: natively they always do.
void check_placing(size_t groups, const std::vector<Candidate>& candidates) {
  if (groups < 1 || groups > kMaxGroups) throw std::invalid_argument("expected 1 to 64 groups");
  if (candidates.empty()) throw std::invalid_argument("there is no hub");
}

std::vector<uint64_t> placed(const std::vector<float>& scores, const std::vector<Candidate>& candidates,
                             std::vector<uint64_t> masks) {
  check_placing(scores.size(), candidates);
  uint64_t all = 0;
  for (uint64_t mask : masks) {
    if ((mask & all) != 0) throw std::invalid_argument("a group is in two masks");
    all |= mask;
  }
  if (masks.size() != candidates.size() || all != ~uint64_t{0} >> (64 - scores.size())) {
    throw std::invalid_argument("the masks do not have every group once");
  }
  place(scores.data(), static_cast<int>(scores.size()), candidates, masks);
  return masks;
}

std::vector<uint64_t> placed_planned(int layer, int groups, uint64_t tolerant,
                                     const std::vector<Candidate>& candidates) {
  check_placing(static_cast<size_t>(std::max(groups, 0)), candidates);
  if (layer < 0) throw std::invalid_argument("no such layer");
  std::vector<uint64_t> masks;
  place_planned(layer, groups, tolerant, candidates, masks);
  return masks;
}

void bind_placing(py::module_& m) {
  m.def("place", &placed, py::arg("scores"), py::arg("candidates"), py::arg("masks"),
        "The masks after exchanges that leave the lowest scores with the least reliable devices.");
  m.def("place_planned", &placed_planned, py::arg("layer"), py::arg("groups"), py::arg("tolerant"),
        py::arg("candidates"), "The masks where the hub waits for nobody.");
  m.def(
      "held_unreliably",
      [](const std::vector<Candidate>& candidates, int groups) {
        check_placing(static_cast<size_t>(std::max(groups, 0)), candidates);
        return held_unreliably(candidates, groups);
      },
      py::arg("candidates"), py::arg("groups"), "The groups that only unreliable devices hold.");
  m.def(
      "may_be_late",
      [](uint64_t tolerant, bool planned, const std::vector<Candidate>& candidates,
         const std::vector<uint64_t>& masks) {
        if (candidates.size() != masks.size()) throw std::invalid_argument("expected a mask for each candidate");
        return may_be_late(tolerant, planned, candidates, masks);
      },
      py::arg("tolerant"), py::arg("planned"), py::arg("candidates"), py::arg("masks"),
      "The workers, as bits, whose requests may be late.");
}

}  // namespace

void bind_schedule(py::module_& m) {
  py::class_<Candidate>(m, "Candidate", "A device as an assigner sees it at one sync; times are microseconds.")
      .def(py::init([](bool takes, bool slow, uint64_t resident, double start_us, double group_us, double cost_us,
                       double lateness, bool unstable) {
             return Candidate{takes, slow, resident, start_us, group_us, cost_us, lateness, unstable};
           }),
           py::kw_only(), py::arg("takes") = true, py::arg("slow") = false, py::arg("resident") = ~uint64_t{0},
           py::arg("start_us") = 0.0, py::arg("group_us") = 1.0, py::arg("cost_us") = 0.0, py::arg("lateness") = 0.0,
           py::arg("unstable") = false);
  py::class_<Assigner>(m, "Assigner", "Spreads the groups of a sync over the devices; the hub is the first.")
      .def("assign", &assign, py::arg("layer"), py::arg("part"), py::arg("groups"), py::arg("rows"),
           py::arg("candidates"), "Returns the mask of groups of each candidate.");
  py::class_<EvenAssigner, Assigner>(m, "EvenAssigner")
      .def(py::init<std::optional<double>>(), py::arg("hub_share") = py::none());
  py::class_<BalancedAssigner, Assigner>(m, "BalancedAssigner").def(py::init());
  py::class_<RandomAssigner, Assigner>(m, "RandomAssigner").def(py::init<uint64_t>(), py::arg("seed"));
  py::class_<Speed>(m, "Speed", "How long a device computes so many groups, learned from what it took.")
      .def(py::init())
      .def("sample", &Speed::sample, py::arg("kind"), py::arg("groups"), py::arg("took_us"))
      .def("predict", &Speed::predict, py::arg("kind"), py::arg("groups"))
      .def("start_us", &Speed::start_us, py::arg("kind"))
      .def("group_us", &Speed::group_us, py::arg("kind"))
      .def("known", &Speed::known, py::arg("kind"))
      .def("factor", &Speed::factor);
  py::class_<Deadline>(m, "Deadline", "How long an overdue answer is waited for before a stand-in computes it.")
      .def(py::init())
      .def("sample", &Deadline::sample, py::arg("error_us"))
      .def("allowance", &Deadline::allowance, py::arg("predicted_us"), py::arg("stand_in_us"));
  bind_placing(m);
  m.def(
      "kind_of", [](const std::string& part, int rows) { return kind_of(part_of(part), rows); }, py::arg("part"),
      py::arg("rows"), "The kind of a request, as Speed knows it.");
}

}  // namespace halo
