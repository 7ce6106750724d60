// What the files of this folder share. They are the only ones that know Python: they convert arguments, release the GIL
// and map exceptions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/exchange.h"
#include "engine/groups.h"
#include "engine/lateness.h"
#include "engine/model.h"
#include "engine/pace.h"
#include "predictor/significance.h"
#include "wire/channel.h"
#include "wire/message.h"

namespace halo {

namespace py = pybind11;

// Each adds its classes and functions to the module.
void bind_model(py::module_& m);
void bind_engine(py::module_& m);
void bind_wire(py::module_& m);
void bind_kernels(py::module_& m);
void bind_crypto(py::module_& m);
void bind_bench(py::module_& m);
void bind_channel(py::module_& m);
void bind_schedule(py::module_& m);
void bind_predictor(py::module_& m);
void bind_tolerance(py::module_& m);
void bind_fault(py::module_& m);

// name -> (ggml type, rows, columns, byte offset in the files, as if they lay one behind the other)
using TensorTable = std::map<std::string, std::tuple<int, int64_t, int64_t, uint64_t>>;

// A tensor of some files by its name; throws std::invalid_argument where the table and the files do not fit each other.
class TensorFinder {
 public:
  struct File {
    const uint8_t* data;
    size_t size;
  };

  TensorFinder(std::vector<File> files, const TensorTable& table) : files_(std::move(files)), table_(table) {}

  Tensor operator()(const std::string& name) const;
  Tensor optional(const std::string& name) const;  // without data where the table does not have it

  // These are not in the file in the type that the table says, but made by calls: see `Converter`.
  void convert(const std::map<std::string, py::function>& how);

 private:
  std::vector<File> files_;
  const TensorTable& table_;
  std::map<std::string, std::shared_ptr<const Converter>> converters_;
};

// By layer: mean (groups, d), predictor (groups, d), bias (groups), significance (groups); f32
using TableArrays = std::vector<std::tuple<py::array, py::array, py::array, py::array>>;

// Copies them; throws std::invalid_argument for types and shapes that do not fit each other.
SidecarTables sidecar_tables(const TableArrays& arrays);

// Throws std::invalid_argument.
Lateness lateness(double probability, uint64_t seed, double fade_syncs, int devices, const std::string& drop,
                  bool any_group);

// (attention mask, MLP mask) of each layer
using Masks = std::vector<std::pair<uint64_t, uint64_t>>;

std::vector<LayerMasks> layer_masks(const Masks& masks);

// Throws std::invalid_argument for sizes that no cell has.
void check_sizes(int n_ctx, int n_slots, int threads);

// Throws std::invalid_argument for a time below 0.
void set_pace(Pace& pace, int per_request_us, int per_group_us);

// Lets Python's signal handlers run; a KeyboardInterrupt leaves native code through here.
void check_signals();

// The bytes of a message, borrowed.
std::pair<const uint8_t*, size_t> view_of(const py::bytes& message);

py::bytes to_bytes(const Bytes& b);

// What is counted of one device.
py::dict device_dict(const DeviceCounters& c);

// What is counted and measured of a link.
py::dict packet_counts(const ChannelCounters& c);
py::dict link_dict(const LinkReport& r);

}  // namespace halo
