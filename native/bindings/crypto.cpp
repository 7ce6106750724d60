// Bindings of the erasure code, for tests: fragments are lists of bytes.
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "wire/field.h"
#include "wire/parity.h"

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

}  // namespace

void bind_crypto(py::module_& m) { bind_parity(m); }

}  // namespace halo
