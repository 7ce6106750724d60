// halo._native: the module, its exceptions, and what all bindings use.
#include <stdexcept>

#include "bindings/bindings.h"
#include "engine/error.h"

namespace halo {

void check_sizes(int n_ctx, int n_slots, int threads) {
  if (n_ctx < 1 || n_ctx > (1 << 20)) throw std::invalid_argument("n_ctx must be 1 to 1048576");
  if (n_slots < 1 || n_slots > 256) throw std::invalid_argument("n_slots must be 1 to 256");
  if (threads < 1 || threads > 256) throw std::invalid_argument("threads must be 1 to 256");
}

void set_pace(Pace& pace, int per_request_us, int per_group_us) {
  if (per_request_us < 0 || per_group_us < 0) throw std::invalid_argument("a pace must be 0 us or more");
  pace.set(per_request_us, per_group_us);
}

std::vector<LayerMasks> layer_masks(const Masks& masks) {
  std::vector<LayerMasks> out;
  for (const auto& [attention, mlp] : masks) out.push_back({attention, mlp});
  return out;
}

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

namespace {

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

}  // namespace

}  // namespace halo

PYBIND11_MODULE(_native, m) {
  m.doc() = "HALO's native module: kernels, engine and the messages between devices.";
  halo::bind_errors(m);
  halo::bind_model(m);
  halo::bind_predictor(m);
  halo::bind_tolerance(m);
  halo::bind_engine(m);
  halo::bind_wire(m);
  halo::bind_kernels(m);
  halo::bind_schedule(m);
  halo::bind_crypto(m);
  halo::bind_bench(m);
  halo::bind_channel(m);
  halo::bind_fault(m);
}
