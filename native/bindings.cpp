// halo._native: the only file that knows Python. It converts arguments, releases the GIL and maps exceptions.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>

#include "engine/engine.h"
#include "engine/error.h"
#include "engine/model.h"
#include "engine/pack.h"
#include "kernels/kernels.h"
#include "wire/relay.h"
#include "wire/values.h"
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
    return {static_cast<Type>(type), rows, columns, data_ + offset, stride, nullptr};
  }

 private:
  const uint8_t* data_;
  size_t size_;
  const TensorTable& table_;
};

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

PartialFormat partial_format(const std::string& name) {
  if (name == "fixed") return PartialFormat::Fixed;
  if (name == "f32") return PartialFormat::F32;
  if (name == "f16") return PartialFormat::F16;
  throw std::invalid_argument("unknown format of partials '" + name + "'; known: fixed, f32, f16");
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
      value.attr("expelled") = e.expelled;
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
      .def(
          "assign_evenly",
          [](Engine& e, std::optional<double> hub_share) {
            if (hub_share && !(*hub_share >= 0 && *hub_share <= 1)) {
              throw std::invalid_argument("the hub's share must be from 0 to 1");
            }
            e.set_assigner(std::make_unique<EvenAssigner>(hub_share));
          },
          py::arg("hub_share") = py::none(), "The hub computes this share of every layer's groups; None: as a worker.")
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
      .def(py::init([](std::shared_ptr<Model> model, int threads, int pace_us) {
             check_sizes(1, 1, threads);
             if (pace_us < 0) throw std::invalid_argument("pace_us must be 0 or more");
             return std::make_unique<Worker>(std::move(model), threads, std::chrono::microseconds(pace_us));
           }),
           py::arg("model"), py::arg("threads") = 1, py::arg("pace_us") = 0)
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

// ---- kernels, one variant at a time: for tests and benchmarks

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

Type weight_type(int type) {
  const TypeInfo* t = type_info(type);
  if (t == nullptr || !t->weights) throw std::invalid_argument("not a type of weights: " + std::to_string(type));
  return static_cast<Type>(type);
}

Type input_type(int type) {
  for (Type t : {Type::F32, Type::F16, Type::BF16, Type::Q8_0, Type::Q8_K}) {
    if (static_cast<int>(t) == type) return t;
  }
  throw std::invalid_argument("not a format of layer inputs: " + std::to_string(type));
}

// Values of a (T, n) array's row, after a check that they are whole blocks.
int row_length(const py::array& x, Type format) {
  const auto n = x.ndim() == 2 ? x.shape(1) : 0;
  if (n < 1 || n > (1 << 28) || n % info(format).block != 0 || x.shape(0) < 1 || x.shape(0) > (1 << 20)) {
    throw std::invalid_argument(std::string("expected rows of whole ") + info(format).name + " blocks");
  }
  return static_cast<int>(n);
}

// A weight matrix packed for one variant.
struct Matrix {
  Matrix(const Kernels& kernels, int type, int64_t rows, int64_t columns, const py::buffer& data) : kernels(kernels) {
    const py::buffer_info view = data.request();
    const TensorTable table{{"matrix", {type, rows, columns, 0}}};
    weight_type(type);
    Tensor plain = TensorFinder(static_cast<const uint8_t*>(view.ptr), view.size * view.itemsize, table)("matrix");
    const size_t bytes = packed_bytes(plain, kernels);
    memory = Memory(bytes != 0 ? bytes : plain.bytes());
    if (bytes == 0) {
      uint8_t* copy = memory.take(plain.bytes());
      std::memcpy(copy, plain.data, plain.bytes());
      plain.data = copy;
    }
    tensor = pack(plain, kernels, memory);
  }

  // (T, columns) floats -> the bytes that products read, (T, bytes a row)
  py::array_t<uint8_t> prepare(const Floats& x) const {
    const Type format = info(tensor.type).activation;
    const int n = row_length(x, format), T = static_cast<int>(x.shape(0));
    const size_t stride = prepared_bytes(format, n);
    std::vector<uint8_t> travels(row_bytes(format, n));
    py::array_t<uint8_t> out({static_cast<size_t>(T), stride});
    for (int t = 0; t < T; ++t) {
      kernels.quantize(format, x.data(t, 0), n, travels.data());
      kernels.prepare(format, travels.data(), n, out.mutable_data(t, 0));
    }
    return out;
  }

  // y[t, r - row_begin] for prepared rows.
  void multiply(const py::array_t<uint8_t, py::array::c_style>& x, int row_begin,
                py::array_t<float, py::array::c_style>& y) const {
    const auto stride = static_cast<py::ssize_t>(prepared_bytes(info(tensor.type).activation, tensor.cols));
    if (x.ndim() != 2 || y.ndim() != 2 || x.shape(0) != y.shape(0) || x.shape(1) != stride) {
      throw std::invalid_argument("expected prepared rows of the matrix's columns, and as many rows of results");
    }
    const int64_t rows = y.shape(1);
    if (row_begin < 0 || row_begin + rows > tensor.rows) {
      throw std::invalid_argument("the slice does not lie in the matrix");
    }
    const Slice slice = tensor.slice(row_begin, static_cast<int>(row_begin + rows));
    tensor.product->matmul(slice, x.data(), x.shape(1), static_cast<int>(x.shape(0)), y.mutable_data(), rows);
  }

  const Kernels& kernels;
  Memory memory;
  Tensor tensor;
};

py::bytes quantize_rows(const Kernels& k, int format, const Floats& x) {
  const Type type = input_type(format);
  const int n = row_length(x, type);
  const size_t stride = row_bytes(type, n);
  std::string out(stride * x.shape(0), '\0');
  for (py::ssize_t t = 0; t < x.shape(0); ++t) {
    k.quantize(type, x.data(t, 0), n, reinterpret_cast<uint8_t*>(out.data()) + t * stride);
  }
  return py::bytes(out);
}

py::array_t<float> silu_mul(const Kernels& k, const Floats& gate, const Floats& up) {
  if (gate.size() != up.size()) throw std::invalid_argument("gate and up differ in size");
  py::array_t<float> out(gate.size());
  k.silu_mul(gate.data(), up.data(), static_cast<int>(gate.size()), out.mutable_data());
  return out;
}

// q: (T, heads, head_dim); k, v: (positions, head_dim) f16 as uint16; row t is position `first` + t.
py::array_t<float> attend(const Kernels& kernels, const Floats& q, const py::array_t<uint16_t, py::array::c_style>& k,
                          const py::array_t<uint16_t, py::array::c_style>& v, int first) {
  if (q.ndim() != 3 || k.ndim() != 2 || v.ndim() != 2 || q.size() == 0 || k.shape(1) != q.shape(2) ||
      v.shape(1) != q.shape(2) || k.shape(0) != v.shape(0) || first < 0 || first + q.shape(0) > k.shape(0)) {
    throw std::invalid_argument("q, k and v do not fit each other");
  }
  const int rows = static_cast<int>(q.shape(0)), heads = static_cast<int>(q.shape(1)),
            head_dim = static_cast<int>(q.shape(2));
  py::array_t<float> out({rows, heads, head_dim});
  std::vector<float> state(2 * size_t(rows) * heads);
  kernels.attention({q.data(), out.mutable_data(), size_t(heads) * head_dim, heads, rows, k.data(), v.data(), head_dim,
                     first, 1.0f / std::sqrt(static_cast<float>(head_dim)), state.data()});
  return out;
}

// A row of values -> (exponent, f16 values)
py::tuple encode_row(const Floats& values) {
  const int n = static_cast<int>(values.size());
  std::vector<float> scratch(n);
  Bytes out(2 * size_t(n));
  const int exponent = encode_f16(values.data(), n, scratch.data(), out.data());
  return py::make_tuple(exponent, to_bytes(out));
}

// -> (finite, sum + values)
py::tuple add_row(const py::bytes& values, int16_t exponent, const Floats& sum) {
  const auto [data, size] = view_of(values);
  const int n = static_cast<int>(sum.size());
  if (size != 2 * size_t(n)) throw std::invalid_argument("values and sum differ in length");
  py::array_t<float> out(n);
  std::copy(sum.data(), sum.data() + n, out.mutable_data());
  std::vector<float> scratch(n);
  const bool finite = add_f16(data, exponent, n, scratch.data(), out.mutable_data());
  return py::make_tuple(finite, out);
}

// -> (fits, squares, sums)
py::tuple add_fixed(const Kernels& k, const Floats& y, float scale, float limit) {
  py::array_t<int32_t> sum(y.size());
  std::fill(sum.mutable_data(), sum.mutable_data() + sum.size(), 0);
  float squares;
  const bool fits = k.add_fixed(y.data(), static_cast<int>(y.size()), scale, limit, sum.mutable_data(), &squares);
  return py::make_tuple(fits, squares, sum);
}

py::array_t<float> dequantize_row(int type, const py::bytes& row) {
  const auto [data, size] = view_of(row);
  const TypeInfo* t = type_info(type);
  if (t == nullptr || size % t->bytes != 0) throw std::invalid_argument("not whole blocks of a known type");
  py::array_t<float> out(static_cast<py::ssize_t>(size / t->bytes * t->block));
  dequantize(static_cast<Type>(type), data, static_cast<int>(out.size()), out.mutable_data());
  return out;
}

void bind_kernels(py::module_& m) {
  py::class_<Matrix>(m, "Matrix", "A weight matrix packed for one kernel variant.")
      .def("prepare", &Matrix::prepare, py::arg("x"))
      .def("multiply", &Matrix::multiply, py::arg("x"), py::arg("row_begin"), py::arg("y").noconvert());
  py::class_<Kernels>(m, "Kernels", "The kernels of one variant, for tests and benchmarks.")
      .def(py::init([](const std::string& isa) { return kernels(isa.c_str()); }), py::arg("isa"))
      .def(
          "pack",
          [](const Kernels& k, int type, int64_t rows, int64_t columns, const py::buffer& data) {
            return std::make_unique<Matrix>(kernels(k.isa), type, rows, columns, data);
          },
          py::arg("type"), py::arg("rows"), py::arg("columns"), py::arg("data"))
      .def("quantize", &quantize_rows, py::arg("format"), py::arg("x"))
      .def("silu_mul", &silu_mul, py::arg("gate"), py::arg("up"))
      .def("attention", &attend, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("first"))
      .def("add_fixed", &add_fixed, py::arg("y"), py::arg("scale"), py::arg("limit"));
  m.def("encode_f16", &encode_row, py::arg("values"));
  m.def("add_f16", &add_row, py::arg("values"), py::arg("exponent"), py::arg("sum"));
  m.def("dequantize", &dequantize_row, py::arg("type"), py::arg("row"));
  m.def(
      "read_memory",
      [](const py::buffer& data) {
        const py::buffer_info view = data.request();
        const auto* p = static_cast<const uint64_t*>(view.ptr);
        const size_t n = static_cast<size_t>(view.size) * view.itemsize / 64 * 8;
        uint64_t lanes[8] = {};
        for (size_t i = 0; i < n; i += 8) {
          for (int j = 0; j < 8; ++j) lanes[j] ^= p[i + j];
        }
        uint64_t all = 0;
        for (uint64_t lane : lanes) all ^= lane;
        return all;
      },
      py::arg("data"), "Reads all of it once, in order: the fastest that one thread can.");
  m.def("isa", [] { return kernels().isa; }, "The kernel variant in use on this machine.");
  m.def("variants", [] {
    std::vector<std::string> names;
    for (const Kernels* const* v = variants(); *v != nullptr; ++v) names.emplace_back((*v)->isa);
    return names;
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
  bind_kernels(m);
  m.attr("PROTOCOL") = static_cast<int>(kProtocol);
}
