// halo._native: the only file that knows Python. It converts arguments, releases the GIL and maps exceptions.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "engine/engine.h"
#include "engine/error.h"
#include "engine/model.h"
#include "kernels/kernels.h"
#include "wire/relay.h"
#include "wire/worker.h"

namespace py = pybind11;
using namespace halo;

namespace {

// ---- model

// name -> (ggml type, rows, columns, byte offset in the file)
using TensorTable = std::map<std::string, std::tuple<int, int64_t, int64_t, uint64_t>>;

class TensorFinder {
 public:
  TensorFinder(const uint8_t* data, size_t size, const TensorTable& table) : data_(data), size_(size), table_(table) {}

  Tensor operator()(const std::string& name) const {
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
    return {static_cast<Type>(type), rows, columns, data_ + offset, stride};
  }

 private:
  const uint8_t* data_;
  size_t size_;
  const TensorTable& table_;
};

std::shared_ptr<Model> make_model(const py::buffer& file, const py::dict& spec, const TensorTable& table,
                                  const std::vector<Bounds>& head_groups, const std::vector<Bounds>& neuron_groups) {
  auto* view = new py::buffer_info(file.request());
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
  return model;
}

PartialFormat partial_format(const std::string& name) {
  if (name == "fixed") return PartialFormat::Fixed;
  if (name == "f32") return PartialFormat::F32;
  throw std::invalid_argument("unknown format of partials '" + name + "'; known: fixed, f32");
}

void check_sizes(int n_ctx, int n_slots, int threads) {
  if (n_ctx < 1 || n_ctx > (1 << 20)) throw std::invalid_argument("n_ctx must be 1 to 1048576");
  if (n_slots < 1 || n_slots > 256) throw std::invalid_argument("n_slots must be 1 to 256");
  if (threads < 1 || threads > 256) throw std::invalid_argument("threads must be 1 to 256");
}

// ---- running

// Lets Python's signal handlers run; a KeyboardInterrupt leaves native code through here.
void check_signals() {
  py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

std::pair<const uint8_t*, size_t> view_of(const py::bytes& message) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(message.ptr(), &data, &size) != 0) throw py::error_already_set();
  return {reinterpret_cast<const uint8_t*>(data), static_cast<size_t>(size)};
}

py::bytes to_bytes(const Bytes& b) { return py::bytes(reinterpret_cast<const char*>(b.data()), b.size()); }

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

py::dict device_stats(uint64_t group_results, uint64_t requests, const DeviceCounters& c) {
  py::dict d;
  d["group_results"] = group_results;
  d["requests"] = requests;
  d["messages_sent"] = c.messages_sent;
  d["bytes_sent"] = c.bytes_sent;
  d["messages_received"] = c.messages_received;
  d["bytes_received"] = c.bytes_received;
  return d;
}

py::dict engine_stats(const Engine& engine) {
  const EngineCounters own = engine.counters();
  const ExchangeCounters shared = engine.exchange() ? engine.exchange()->counters() : ExchangeCounters();
  py::list devices;
  devices.append(device_stats(own.group_results, own.requests, {}));
  for (const DeviceCounters& c : shared.workers) devices.append(device_stats(c.group_results, c.requests, c));
  py::dict d;
  d["tokens"] = own.tokens;
  d["syncs"] = own.syncs;
  d["range_repeats"] = own.range_repeats;
  d["re_requests"] = shared.re_requests;
  d["late_duplicates"] = shared.late_duplicates;
  d["bad_messages"] = shared.bad_messages;
  d["devices"] = devices;
  return d;
}

// A relay's post is called without the GIL, with messages that Python takes as bytes.
Relay::Post python_post(py::function post) {
  auto shared = std::shared_ptr<py::function>(new py::function(std::move(post)), [](py::function* f) {
    py::gil_scoped_acquire gil;
    delete f;
  });
  return [shared](Relay::Outgoing outgoing) {
    py::gil_scoped_acquire gil;
    py::list messages;
    for (const auto& [worker, message] : outgoing) messages.append(py::make_tuple(worker, to_bytes(message)));
    (*shared)(messages);
  };
}

void bind_errors(py::module_& m) {
  static py::exception<Error> error(m, "NativeError", PyExc_RuntimeError);
  static py::exception<WorkerLost> lost(m, "WorkerLost", error.ptr());
  static py::exception<Interrupted> interrupted(m, "Interrupted", error.ptr());
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const WorkerLost& e) {
      py::object value = py::reinterpret_borrow<py::object>(lost)(e.what());
      value.attr("worker") = e.worker;
      PyErr_SetObject(lost.ptr(), value.ptr());
    } catch (const Interrupted& e) {
      PyErr_SetString(interrupted.ptr(), e.what());
    } catch (const Error& e) {
      PyErr_SetString(error.ptr(), e.what());
    }
  });
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
      .def("assign_evenly", [](Engine& e) { e.set_assigner(std::make_unique<EvenAssigner>()); })
      .def(
          "assign_at_random", [](Engine& e, uint64_t seed) { e.set_assigner(std::make_unique<RandomAssigner>(seed)); },
          py::arg("seed"), "Draws who computes what anew at every sync (for tests).")
      .def("stats", &engine_stats)
      .def("reset_stats", &Engine::reset_counters);
}

void bind_relay(py::module_& m) {
  py::class_<Relay, std::shared_ptr<Relay>>(m, "Relay", "The exchange whose messages Python carries.")
      .def(py::init([](uint64_t session, int workers, py::function post, size_t max_message, double re_request_s,
                       double patience_s) {
             if (workers < 0 || workers > 255) throw std::invalid_argument("workers must be 0 to 255");
             if (max_message < 1024) throw std::invalid_argument("max_message must be at least 1024");
             return std::make_shared<Relay>(session, workers, python_post(std::move(post)),
                                            RelayOptions{max_message, re_request_s, patience_s});
           }),
           py::arg("session"), py::arg("workers"), py::arg("post"), py::kw_only(), py::arg("max_message") = 65536,
           py::arg("re_request_s") = 0.5, py::arg("patience_s") = 4.0)
      .def(
          "deliver",
          [](Relay& r, int worker, const py::bytes& message) {
            const auto [data, size] = view_of(message);
            py::gil_scoped_release release;
            r.deliver(worker, data, size);
          },
          py::arg("worker"), py::arg("message"))
      .def(
          "lost",
          [](Relay& r, int worker, const std::string& reason) {
            py::gil_scoped_release release;
            r.lost(worker, reason);
          },
          py::arg("worker"), py::arg("reason"))
      .def(
          "probe",
          [](Relay& r, size_t payload, uint32_t reply_bytes) {
            py::gil_scoped_release release;
            return r.probe(payload, reply_bytes, check_signals);
          },
          py::arg("payload"), py::arg("reply_bytes"));
}

void bind_worker(py::module_& m) {
  py::class_<Worker>(m, "Worker", "A worker's side: answers the requests of one hub session.")
      .def(py::init([](std::shared_ptr<Model> model, int threads) {
             check_sizes(1, 1, threads);
             return std::make_unique<Worker>(std::move(model), threads);
           }),
           py::arg("model"), py::arg("threads") = 1)
      .def(
          "open",
          [](Worker& w, uint64_t session, int n_ctx, int n_slots) {
            check_sizes(n_ctx, n_slots, 1);
            py::gil_scoped_release release;
            w.open(session, n_ctx, n_slots);
          },
          py::arg("session"), py::arg("n_ctx"), py::arg("n_slots"))
      .def("close", &Worker::close, py::call_guard<py::gil_scoped_release>())
      .def(
          "accept",
          [](Worker& w, const py::bytes& message) -> py::tuple {
            const auto [data, size] = view_of(message);
            Bytes answer;
            switch (w.accept(data, size, &answer)) {
              case Worker::Verdict::Compute:
                return py::make_tuple("compute", py::bytes());
              case Worker::Verdict::Answer:
                return py::make_tuple("answer", to_bytes(answer));
              default:
                return py::make_tuple("drop", py::bytes());
            }
          },
          py::arg("message"))
      .def(
          "compute",
          [](Worker& w, const py::bytes& message) {
            const auto [data, size] = view_of(message);
            Bytes answer;
            {
              py::gil_scoped_release release;
              answer = w.compute(data, size);
            }
            return to_bytes(answer);
          },
          py::arg("message"))
      .def("stats", [](const Worker& w) {
        const WorkerCounters c = w.counters();
        py::dict d;
        d["requests"] = c.requests;
        d["group_results"] = c.group_results;
        d["duplicates"] = c.duplicates;
        d["bad_messages"] = c.bad_messages;
        return d;
      });
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "HALO's native module: kernels, engine and the messages between devices.";
  bind_errors(m);
  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A model's weights in its mapped file.")
      .def(py::init(&make_model), py::arg("file"), py::arg("spec"), py::arg("tensors"), py::arg("head_groups"),
           py::arg("neuron_groups"));
  bind_engine(m);
  bind_relay(m);
  bind_worker(m);
  m.def("isa", [] { return kernels().isa; }, "The kernel variant in use on this machine.");
  m.attr("PROTOCOL") = static_cast<int>(kProtocol);
}
