// The hub's engine.
#include "engine/engine.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "bindings/bindings.h"
#include "wire/relay.h"

namespace halo {

namespace {

PartialFormat partial_format(const std::string& name) {
  if (name == "fixed") return PartialFormat::Fixed;
  if (name == "f32") return PartialFormat::F32;
  if (name == "f16") return PartialFormat::F16;
  throw std::invalid_argument("unknown format of partials '" + name + "'; known: fixed, f32, f16");
}

py::array_t<float> forward(Engine& engine, int slot,
                           const py::array_t<int32_t, py::array::c_style | py::array::forcecast>& tokens,
                           bool all_logits) {
  if (tokens.ndim() != 1) throw std::invalid_argument("tokens must be a one-dimensional array");
  const int n = static_cast<int>(tokens.size());
  py::array_t<float> logits({all_logits ? std::max(n, 1) : 1, engine.spec().vocab});
  float* out = logits.mutable_data();
  const int32_t* in = tokens.data();
  {
    py::gil_scoped_release release;
    engine.forward(slot, in, n, all_logits, out, check_signals);
  }
  return logits;
}

py::dict engine_stats(const Engine& engine) {
  const EngineCounters own = engine.counters();
  const ExchangeCounters shared = engine.exchange() ? engine.exchange()->counters() : ExchangeCounters();
  DeviceCounters hub;
  hub.group_results = own.group_results;
  hub.requests = own.requests;
  py::list devices;
  devices.append(device_dict(hub));
  for (const DeviceCounters& c : shared.workers) devices.append(device_dict(c));
  py::dict d;
  d["tokens"] = own.tokens;
  d["syncs"] = own.syncs;
  d["range_repeats"] = own.range_repeats;
  d["stand_ins"] = own.stand_ins;
  d["choose_us"] = own.choose_us;
  d["re_requests"] = shared.re_requests;
  d["fall_backs"] = shared.fall_backs;
  d["late_duplicates"] = shared.late_duplicates;
  d["bad_messages"] = shared.bad_messages;
  d["devices"] = devices;
  py::dict tolerance;
  tolerance["mlp_groups"] = own.tolerance.groups;
  tolerance["tolerant_groups"] = own.tolerance.tolerant;
  tolerance["late_groups"] = own.tolerance.late;
  tolerance["corrected_groups"] = own.tolerance.corrected;
  tolerance["forced_groups"] = own.tolerance.forced;
  tolerance["late_weight"] = own.tolerance.late_weight;
  tolerance["mlp_syncs"] = own.tolerance.syncs;
  d["tolerance"] = tolerance;
  return d;
}

std::unique_ptr<Assigner> assigner_of(const std::string& plan, std::optional<double> hub_share, uint64_t seed) {
  if (hub_share && !(*hub_share >= 0 && *hub_share <= 1)) {
    throw std::invalid_argument("the hub's share must be from 0 to 1");
  }
  if (plan == "auto") return std::make_unique<BalancedAssigner>();
  if (plan == "even") return std::make_unique<EvenAssigner>(hub_share);
  if (plan == "random") return std::make_unique<RandomAssigner>(seed);
  throw std::invalid_argument("unknown plan '" + plan + "'; known: auto, even, random");
}

}  // namespace

py::dict device_dict(const DeviceCounters& c) {
  py::dict d;
  d["group_results"] = c.group_results;
  d["requests"] = c.requests;
  d["messages_sent"] = c.messages_sent;
  d["bytes_sent"] = c.bytes_sent;
  d["messages_received"] = c.messages_received;
  d["bytes_received"] = c.bytes_received;
  d["late"] = c.late;
  d["late_requests"] = std::accumulate(c.late.begin(), c.late.end(), uint64_t{0});
  d["stand_ins"] = c.stand_ins;
  d["never"] = c.never;
  d["tolerant"] = c.tolerant;
  d["filled"] = c.filled;
  d["probations"] = c.probations;
  d["filled_rows"] = c.filled_rows;
  d["took_us"] = c.took_us;
  d["link_us"] = c.link_us;
  return d;
}

void bind_engine(py::module_& m) {
  py::class_<Engine>(m, "Engine", "The hub's engine: all layers of a model, shared with the workers of a relay.")
      .def(py::init([](std::shared_ptr<Model> model, int n_ctx, int n_slots, int threads, const std::string& partials) {
             check_sizes(n_ctx, n_slots, threads);
             return std::make_unique<Engine>(std::move(model), n_ctx, n_slots, threads, partial_format(partials));
           }),
           py::arg("model"), py::arg("n_ctx"), py::arg("n_slots") = 1, py::arg("threads") = 1,
           py::arg("partials") = "fixed")
      .def_property_readonly("n_ctx", &Engine::n_ctx)
      .def_property_readonly("n_vocab", [](const Engine& e) { return e.spec().vocab; })
      .def("forward", &forward, py::arg("slot"), py::arg("tokens"), py::arg("all_logits") = false)
      .def("truncate", &Engine::truncate, py::arg("slot"), py::arg("n"))
      .def("n_past", &Engine::n_past, py::arg("slot"))
      .def("cancel", &Engine::cancel)
      .def(
          "attach", [](Engine& e, std::shared_ptr<Relay> relay) { e.attach(std::move(relay)); },
          py::arg("relay").none(true))
      .def(
          "observe", [](Engine& e, std::shared_ptr<Observer> observer) { e.observe(std::move(observer)); },
          py::arg("observer").none(true), "Shows what the hub's own MLP groups give to this observer.")
      .def(
          "set_plan",
          [](Engine& e, const std::string& plan, std::optional<double> hub_share, uint64_t seed) {
            e.set_assigner(assigner_of(plan, hub_share, seed));
          },
          py::arg("plan"), py::arg("hub_share") = py::none(), py::arg("seed") = 0,
          "auto: all devices finish together; even: equal shares, the hub's is as given or a worker's; random: for "
          "tests.")
      .def(
          "set_tolerance",
          [](Engine& e, const std::optional<TableArrays>& tables) {
            e.set_tolerance(tables ? std::optional(sidecar_tables(*tables)) : std::nullopt);
          },
          py::arg("tables").none(true), "A sidecar's tables, by layer; the quality is exact until set_quality.")
      .def("set_quality", &Engine::set_quality, py::arg("share"), py::arg("planned") = false,
           "The share of MLP groups that may be late; planned: they always are.")
      .def(
          "inject_lateness",
          [](Engine& e, double probability, uint64_t seed, double fade_syncs, int devices, const std::string& drop,
             bool any_group) { e.inject(lateness(probability, seed, fade_syncs, devices, drop, any_group)); },
          py::arg("probability"), py::arg("seed") = 0, py::arg("fade_syncs") = 0.0, py::arg("devices") = 4,
          py::arg("drop") = "correct", py::arg("any_group") = false,
          "Lets groups of the hub's own be late in relaxed syncs, as if other devices had them.")
      .def(
          "pace",
          [](Engine& e, int per_request_us, int per_group_us) { set_pace(e.pace(), per_request_us, per_group_us); },
          py::arg("per_request_us"), py::arg("per_group_us") = 0)
      .def("stats", &engine_stats)
      .def("reset_stats", &Engine::reset_counters);
}

}  // namespace halo
