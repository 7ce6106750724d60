// The messages between devices: the hub's relay and the worker's side.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <chrono>
#include <memory>
#include <optional>

#include "bindings/bindings.h"
#include "wire/relay.h"
#include "wire/worker.h"

namespace halo {

namespace {

// A relay's post is called without the GIL, with messages that Python takes as bytes.
Relay::Post python_post(py::function post) {
  auto shared = std::shared_ptr<py::function>(new py::function(std::move(post)), [](py::function* f) {
    py::gil_scoped_acquire gil;
    delete f;
  });
  return [shared](Relay::Outgoing outgoing) {
    py::gil_scoped_acquire gil;
    py::list messages;
    for (const Relay::Letter& l : outgoing) messages.append(py::make_tuple(l.worker, l.attempt, to_bytes(l.message)));
    (*shared)(messages);
  };
}

void bind_relay(py::module_& m) {
  py::class_<Relay, std::shared_ptr<Relay>>(m, "Relay", "The exchange whose messages Python carries.")
      .def(py::init([](uint64_t session, int workers, py::function post, size_t max_message,
                       std::optional<double> re_request_s, double patience_s) {
             if (workers < 0 || workers > 255) throw std::invalid_argument("workers must be 0 to 255");
             if (max_message < 1024) throw std::invalid_argument("max_message must be at least 1024");
             return std::make_shared<Relay>(session, workers, python_post(std::move(post)),
                                            RelayOptions{max_message, re_request_s, patience_s});
           }),
           py::arg("session"), py::arg("workers"), py::arg("post"), py::kw_only(), py::arg("max_message") = 65536,
           py::arg("re_request_s") = std::nullopt, py::arg("patience_s") = 4.0)
      .def(
          "deliver",
          [](Relay& r, int worker, const py::bytes& message) {
            const auto [data, size] = view_of(message);
            py::gil_scoped_release release;
            return r.deliver(worker, data, size);
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

}  // namespace

void bind_wire(py::module_& m) {
  bind_relay(m);
  bind_worker(m);
  m.attr("PROTOCOL") = static_cast<int>(kProtocol);
}

}  // namespace halo
