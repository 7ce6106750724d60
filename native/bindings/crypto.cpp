// Bindings of the erasure code and of sealing, for tests: fragments, keys and packets are bytes.
#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "wire/field.h"
#include "wire/parity.h"
#include "wire/seal.h"

namespace halo {

namespace {

const uint8_t* data_of(const std::string& bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); }
uint8_t* data_of(std::string& bytes) { return reinterpret_cast<uint8_t*>(bytes.data()); }

py::bytes parity_of(const std::vector<std::string>& data, int index) {
  if (data.empty() || data.size() > kMaxData) throw std::invalid_argument("1 to 240 data fragments");
  if (index < 0 || index >= kMaxParity) throw std::invalid_argument("parity 0 to 7");
  std::vector<const uint8_t*> pointers;
  for (const std::string& fragment : data) {
    if (fragment.size() != data[0].size()) throw std::invalid_argument("fragments of different sizes");
    pointers.push_back(data_of(fragment));
  }
  std::string out(data[0].size(), '\0');
  make_parity(pointers.data(), static_cast<int>(data.size()), index, out.size(), data_of(out));
  return out;
}

// The k data fragments, or None where too few of the fragments (None: missing) are there.
py::object restored(const std::vector<std::optional<std::string>>& fragments, int k, size_t bytes) {
  const int all = static_cast<int>(fragments.size());
  if (k < 1 || k > all) throw std::invalid_argument("k of the fragments are data");
  std::vector<std::string> buffers;
  std::vector<uint8_t*> pointers;
  const std::unique_ptr<bool[]> present(new bool[all]);
  buffers.reserve(all);
  for (int i = 0; i < all; ++i) {
    present[i] = fragments[i].has_value();
    if (present[i] && fragments[i]->size() != bytes) throw std::invalid_argument("a fragment of another size");
    buffers.push_back(present[i] ? *fragments[i] : std::string(bytes, '\x55'));
    pointers.push_back(present[i] || i < k ? data_of(buffers[i]) : nullptr);
  }
  if (!restore(pointers.data(), present.get(), k, all - k, bytes)) return py::none();
  py::list data;
  for (int i = 0; i < k; ++i) data.append(py::bytes(buffers[i]));
  return std::move(data);
}

py::bytes multiplied(const std::string& isa, uint8_t factor, const std::string& in, std::string out) {
  if (in.size() != out.size()) throw std::invalid_argument("in and out are of the same size");
  for (const field::Way& way : field::ways()) {
    if (isa == way.isa) {
      way.multiply_add(factor, data_of(in), in.size(), data_of(out));
      return out;
    }
  }
  throw std::invalid_argument("not a way of this machine: " + isa);
}

void bind_parity(py::module_& m) {
  m.def("parity", &parity_of, py::arg("data"), py::arg("index"));
  m.def("restore", &restored, py::arg("fragments"), py::arg("k"), py::arg("bytes"));
  m.def("field_ways", [] {
    std::vector<std::string> names;
    for (const field::Way& way : field::ways()) names.emplace_back(way.isa);
    return names;
  });
  m.def("field_multiply_add", &multiplied, py::arg("isa"), py::arg("factor"), py::arg("in_"), py::arg("out"));
}

// ---- sealing

std::string exactly(const std::string& bytes, size_t size, const char* what) {
  if (bytes.size() != size) throw std::invalid_argument(std::string(what) + " has another size");
  return bytes;
}

template <size_t N>
py::bytes bytes_of(const uint8_t (&array)[N]) {
  return py::bytes(reinterpret_cast<const char*>(array), N);
}

py::dict derived(const std::string& secret, const std::string& peer, uint64_t session, const std::string& incarnation) {
  const KeyPair own = key_pair_of(data_of(exactly(secret, kKeyBytes, "the secret")));
  const Keys keys = derive_keys(own, data_of(exactly(peer, kKeyBytes, "the peer's key")), session, incarnation);
  py::dict all;
  all["to_worker"] = bytes_of(keys.to_worker);
  all["to_hub"] = bytes_of(keys.to_hub);
  all["iv_to_worker"] = bytes_of(keys.iv_to_worker);
  all["iv_to_hub"] = bytes_of(keys.iv_to_hub);
  all["channel"] = keys.channel;
  return all;
}

Sealer make_sealer(int cipher, const std::string& key, const std::string& iv) {
  if (cipher != 1 && cipher != 2) throw std::invalid_argument("ciphers are 1 and 2");
  return Sealer(static_cast<Cipher>(cipher), data_of(exactly(key, kKeyBytes, "the key")),
                data_of(exactly(iv, kIvBytes, "the iv")));
}

py::bytes sealed(Sealer& sealer, uint64_t number, const std::string& aad, const std::string& data, bool in_place) {
  std::string out(data.size() + kTag, '\x55');
  if (in_place) std::copy(data.begin(), data.end(), out.begin());
  const uint8_t* in = in_place ? data_of(std::as_const(out)) : data_of(data);
  sealer.seal(number, data_of(aad), aad.size(), in, data.size(), data_of(out));
  return out;
}

py::object opened(Sealer& sealer, uint64_t number, const std::string& aad, std::string data, bool in_place) {
  std::string out(data.size(), '\x55');
  uint8_t* to = in_place ? data_of(data) : data_of(out);
  if (!sealer.open(number, data_of(aad), aad.size(), data_of(std::as_const(data)), data.size(), to)) return py::none();
  return py::bytes(reinterpret_cast<const char*>(to), data.size() - kTag);
}

void bind_sealing(py::module_& m) {
  m.def(
      "sealing_unavailable",
      []() -> std::optional<std::string> {
        std::string why;
        return sealing_available(&why) ? std::nullopt : std::optional(why);
      },
      "Why nothing can be sealed on this machine; None where it can.");
  m.def("has_aes", &has_aes);
  m.def("make_key_pair", [] {
    const KeyPair pair = make_key_pair();
    return py::make_tuple(bytes_of(pair.secret), bytes_of(pair.open));
  });
  m.def(
      "open_key_of",
      [](const std::string& secret) {
        return bytes_of(key_pair_of(data_of(exactly(secret, kKeyBytes, "the secret"))).open);
      },
      py::arg("secret"));
  m.def("derive_keys", &derived, py::arg("secret"), py::arg("peer"), py::arg("session"), py::arg("incarnation"));
  py::class_<Sealer>(m, "Sealer", "Seals and opens packets of one direction.")
      .def(py::init(&make_sealer), py::arg("cipher"), py::arg("key"), py::arg("iv"))
      .def("seal", &sealed, py::arg("number"), py::arg("aad"), py::arg("data"), py::arg("in_place") = false)
      .def("open", &opened, py::arg("number"), py::arg("aad"), py::arg("data"), py::arg("in_place") = false);
  py::class_<ReplayWindow>(m, "ReplayWindow", "Which packet numbers have been received.")
      .def(py::init<>())
      .def("is_new", &ReplayWindow::is_new, py::arg("number"))
      .def("mark", &ReplayWindow::mark, py::arg("number"))
      .def_property_readonly("highest", &ReplayWindow::highest)
      .def_property_readonly_static("SIZE", [](const py::object&) { return ReplayWindow::kSize; });
}

}  // namespace

void bind_crypto(py::module_& m) {
  bind_parity(m);
  bind_sealing(m);
}

}  // namespace halo
