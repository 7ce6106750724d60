// The messages between devices: the hub's relay and the worker's side.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "wire/datagram_worker.h"
#include "wire/relay.h"
#include "wire/seal.h"
#include "wire/worker.h"

namespace halo {

namespace {

// A relay's post is called without the GIL, with messages that Python takes as bytes.
Post python_post(py::function post) {
  auto shared = std::shared_ptr<py::function>(new py::function(std::move(post)), [](py::function* f) {
    py::gil_scoped_acquire gil;
    delete f;
  });
  return [shared](Outgoing outgoing) {
    py::gil_scoped_acquire gil;
    py::list messages;
    for (const Letter& l : outgoing) messages.append(py::make_tuple(l.worker, l.attempt, to_bytes(l.message)));
    (*shared)(messages);
  };
}

// ---- datagrams

Cipher cipher_of(const std::string& name) {
  if (name == "chacha20-poly1305") return Cipher::ChaCha20Poly1305;
  if (name == "aes-256-gcm") return Cipher::Aes256Gcm;
  throw std::invalid_argument("unknown cipher '" + name + "'");
}

// The hub's or a worker's end of their link.
PeerSetup link_setup(const KeyPair& own, const std::string& peer, uint64_t session, const std::string& incarnation,
                     const std::string& cipher, bool hub) {
  if (peer.size() != kKeyBytes) throw std::invalid_argument("a public key has 32 bytes");
  const Keys k = derive_keys(own, reinterpret_cast<const uint8_t*>(peer.data()), session, incarnation);
  PeerSetup setup;
  setup.channel = k.channel;
  setup.cipher = cipher_of(cipher);
  std::memcpy(setup.out_key, hub ? k.to_worker : k.to_hub, sizeof setup.out_key);
  std::memcpy(setup.out_iv, hub ? k.iv_to_worker : k.iv_to_hub, sizeof setup.out_iv);
  std::memcpy(setup.in_key, hub ? k.to_hub : k.to_worker, sizeof setup.in_key);
  std::memcpy(setup.in_iv, hub ? k.iv_to_hub : k.iv_to_worker, sizeof setup.in_iv);
  return setup;
}

// (public key, incarnation, cipher, [(address, port)])
using Places = std::vector<std::pair<std::string, int>>;
using Offer = std::tuple<py::bytes, std::string, std::string, Places>;

std::vector<Address> addresses_of(const Places& places) {
  std::vector<Address> addresses;
  for (const auto& [host, port] : places) addresses.push_back(parse_address(host, port));
  return addresses;
}

// A relay, and the keys with which its hub opens links: every one that Python has is of this kind.
struct PyRelay : Relay {
  using Relay::Relay;
  std::optional<KeyPair> own;
  uint64_t session_number = 0;
};

int join(Relay& r, const std::optional<Offer>& offer, const std::optional<Masks>& resident) {
  const auto& relay = static_cast<const PyRelay&>(r);
  std::optional<PeerSetup> setup;
  if (offer) {
    if (!relay.own) throw std::invalid_argument("datagrams are not open");
    const auto& [key, incarnation, cipher, candidates] = *offer;
    setup = link_setup(*relay.own, key, relay.session_number, incarnation, cipher, true);
    setup->candidates = addresses_of(candidates);
  }
  py::gil_scoped_release release;
  return r.join(setup, layer_masks(resident.value_or(Masks())));
}

py::list links_of(const Relay& relay) {
  py::list links;
  for (const auto& s : relay.links()) {
    if (!s) {
      links.append(py::none());
      continue;
    }
    py::dict d = link_dict(s->link);
    d["offered"] = s->offered;
    d["alive"] = s->alive;
    d["address"] = s->where;
    d["packets"] = packet_counts(s->packets);
    links.append(d);
  }
  return links;
}

const char* name_of(Standing standing) {
  switch (standing) {
    case Standing::Stable:
      return "stable";
    case Standing::Probation:
      return "probation";
    case Standing::Away:
      return "away";
    case Standing::Gone:
      return "gone";
    default:
      return "expelled";
  }
}

py::list members_of(const Relay& relay) {
  py::list members;
  for (const auto& m : relay.members()) {
    if (!m) {
      members.append(py::none());
      continue;
    }
    py::dict d;
    d["state"] = name_of(m->standing);
    d["reason"] = m->reason;
    d["for_s"] = m->for_s;
    d["cache"] = m->cache;
    d["owed"] = m->owed;
    members.append(d);
  }
  return members;
}

void bind_datagrams(py::module_& m) {
  m.def(
      "ciphers",
      [] {
        std::vector<std::string> names{"chacha20-poly1305"};
        if (has_aes()) names.emplace_back("aes-256-gcm");
        return names;
      },
      "What this machine seals with at full speed.");
  py::class_<KeyPair>(m, "KeyPair", "An X25519 key pair; the secret part stays inside.")
      .def(py::init(&make_key_pair))
      .def_property_readonly(
          "public", [](const KeyPair& k) { return py::bytes(reinterpret_cast<const char*>(k.open), sizeof k.open); })
      .def(
          "check",
          [](const KeyPair& k, const py::bytes& peer) { link_setup(k, peer, 0, "", "chacha20-poly1305", true); },
          py::arg("peer"), "Raises where no keys can be agreed on with the owner of this public key.");
  // Its end waits for a thread that may be waiting for the GIL: to convert weights.
  py::class_<DatagramWorker>(m, "DatagramWorker", "A worker's datagrams: a socket and two threads.",
                             py::release_gil_before_calling_cpp_dtor())
      .def(py::init([](std::shared_ptr<Worker> worker, int port) {
             if (port < 0 || port > 65535) throw std::invalid_argument("port must be 0 to 65535");
             return std::make_unique<DatagramWorker>(std::move(worker), port);
           }),
           py::arg("worker"), py::arg("port") = 0)
      .def_property_readonly("port", [](const DatagramWorker& w) { return w.endpoint().port(); })
      .def(
          "serve",
          [](DatagramWorker& w, const KeyPair& own, const py::bytes& hub, uint64_t session,
             const std::string& incarnation,
             const std::string& cipher) { w.serve(link_setup(own, hub, session, incarnation, cipher, false)); },
          py::arg("own"), py::arg("hub"), py::arg("session"), py::arg("incarnation"), py::arg("cipher"))
      .def("close", &DatagramWorker::close)
      .def("link", [](const DatagramWorker& w) {
        py::dict d = link_dict(w.endpoint().report(0));
        d["alive"] = w.endpoint().alive(0);
        d["address"] = w.endpoint().where(0);
        d["packets"] = packet_counts(w.endpoint().counters(0));
        d["foreign"] = w.endpoint().counters().foreign;
        return d;
      });
}

void bind_relay(py::module_& m) {
  py::class_<Relay, std::shared_ptr<Relay>>(
      m, "Relay", "The exchange with workers that come and go, whose MQTT messages Python carries.")
      .def(py::init([](uint64_t session, py::function post, size_t max_message, std::optional<double> re_request_s,
                       double patience_s, bool stand_ins, bool correct) {
             if (max_message < 1024) throw std::invalid_argument("max_message must be at least 1024");
             auto relay =
                 std::make_shared<PyRelay>(session, python_post(std::move(post)),
                                           RelayOptions{max_message, re_request_s, patience_s, stand_ins, correct});
             relay->session_number = session;
             return std::shared_ptr<Relay>(std::move(relay));
           }),
           py::arg("session"), py::arg("post"), py::kw_only(), py::arg("max_message") = 65536,
           py::arg("re_request_s") = std::nullopt, py::arg("patience_s") = 4.0, py::arg("stand_ins") = true,
           py::arg("correct") = true)
      .def(
          "open_datagrams",
          [](Relay& r, const KeyPair& own, bool only) {
            static_cast<PyRelay&>(r).own = own;
            r.open_datagrams(only);
          },
          py::arg("own"), py::arg("only"))
      .def("join", &join, py::arg("offer").none(true), py::kw_only(), py::arg("resident") = std::nullopt)
      .def("leave", &Relay::leave, py::arg("worker"), py::arg("reason"), py::call_guard<py::gil_scoped_release>())
      .def("rejoin", &Relay::rejoin, py::arg("worker"), py::call_guard<py::gil_scoped_release>())
      .def(
          "forget",
          [](Relay& r, int worker) {
            DeviceCounters c;
            {
              py::gil_scoped_release release;
              c = r.forget(worker);
            }
            return device_dict(c);
          },
          py::arg("worker"))
      .def(
          "set_resident", [](Relay& r, int worker, const Masks& masks) { r.set_resident(worker, layer_masks(masks)); },
          py::arg("worker"), py::arg("masks"), py::call_guard<py::gil_scoped_release>())
      .def("members", &members_of)
      .def("links", &links_of)
      .def(
          "deliver",
          [](Relay& r, int worker, const py::bytes& message) {
            const auto [data, size] = view_of(message);
            py::gil_scoped_release release;
            return r.deliver(worker, Bytes(data, data + size));
          },
          py::arg("worker"), py::arg("message"))
      .def(
          "probe",
          [](Relay& r, size_t payload, uint32_t reply_bytes, int syncs) {
            if (payload > Channel::kMaxMessage - sizeof(Header)) throw std::invalid_argument("payload is too long");
            py::gil_scoped_release release;
            return r.probe(payload, reply_bytes, syncs, check_signals);
          },
          py::arg("payload"), py::arg("reply_bytes"), py::arg("syncs") = 1)
      .def(
          "update_candidates",
          [](Relay& r, int worker, const Places& candidates) {
            std::vector<Address> addresses = addresses_of(candidates);
            py::gil_scoped_release release;
            r.update_candidates(worker, std::move(addresses));
          },
          py::arg("worker"), py::arg("candidates"))
      .def("strays", [](const Relay& r) {
        const EndpointCounters c = r.endpoint_counters();
        py::dict d;
        d["foreign"] = c.foreign;
        d["unsent"] = c.unsent;
        return d;
      });
}

void bind_worker(py::module_& m) {
  py::class_<Worker, std::shared_ptr<Worker>>(m, "Worker", "A worker's side: answers the requests of one hub session.")
      .def(py::init([](std::shared_ptr<Model> model, int threads) {
             check_sizes(1, 1, threads);
             return std::make_shared<Worker>(std::move(model), threads);
           }),
           py::arg("model"), py::arg("threads") = 1)
      .def(
          "set_pace",
          [](Worker& w, int per_request_us, int per_group_us) { set_pace(w.pace(), per_request_us, per_group_us); },
          py::arg("per_request_us"), py::arg("per_group_us") = 0)
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
  bind_datagrams(m);
  m.attr("PROTOCOL") = static_cast<int>(kProtocol);
}

}  // namespace halo
