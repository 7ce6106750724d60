// What only benchmarks use: reading memory as fast as one thread can, llama.cpp's bare dot products in a native loop,
// and what an assignment costs.
#include <chrono>
#include <cstring>
#include <vector>

#include "bindings/bindings.h"
#include "engine/memory.h"
#include "schedule/assigner.h"
#include "schedule/placing.h"

namespace halo {

namespace {

using Floats = py::array_t<float, py::array::c_style>;

// One word of each cache line, which brings the whole line: what is left is the memory's speed. `Streams` equal parts
// of the data are read side by side, each in order; `ahead` lines are asked for beforehand (0: none).
template <int Streams>
uint64_t read_streams(const uint8_t* data, size_t bytes, size_t ahead) {
  constexpr size_t kLine = 64;
  const size_t lines = bytes / kLine / Streams;
  uint64_t sums[Streams] = {};
  for (size_t i = 0; i < lines; ++i) {
#pragma GCC unroll 8
    for (int s = 0; s < Streams; ++s) {
      const uint8_t* p = data + (s * lines + i) * kLine;
      if (ahead != 0) __builtin_prefetch(p + ahead * kLine, 0, 0);
      uint64_t word;
      std::memcpy(&word, p, sizeof word);
      sums[s] ^= word;
    }
  }
  uint64_t all = 0;
  for (uint64_t sum : sums) all ^= sum;
  return all;
}

// Memory like that of packed weights (huge pages where the system gives them), to be read in several ways.
class Readable {
 public:
  explicit Readable(size_t bytes) : memory_(bytes), bytes_(bytes) {
    data_ = memory_.take(bytes);
    std::memset(data_, 1, bytes);  // a page that was never written is no memory
  }

  uint64_t read(int streams, size_t ahead) const {
    py::gil_scoped_release release;
    switch (streams) {
      case 1:
        return read_streams<1>(data_, bytes_, ahead);
      case 2:
        return read_streams<2>(data_, bytes_, ahead);
      case 4:
        return read_streams<4>(data_, bytes_, ahead);
      case 8:
        return read_streams<8>(data_, bytes_, ahead);
      default:
        throw std::invalid_argument("streams must be 1, 2, 4 or 8");
    }
  }

 private:
  Memory memory_;
  size_t bytes_;
  uint8_t* data_;
};

// ggml_vec_dot_t: s = the dot product of n values of x and y; the strides bs, bx and by are for nrc > 1.
using VecDot = void (*)(int n, float* s, size_t bs, const void* x, size_t bx, const void* y, size_t by, int nrc);

// y[t, r] = function(row r of w, row t of x): called from Python row by row, it would be the calls that are measured.
// `function` is the address of a ggml_vec_dot_t, which the caller vouches for.
void vec_dots(uintptr_t function, int n, const py::buffer& w, const py::buffer& x, Floats& y) {
  const py::buffer_info weights = w.request(), activations = x.request();
  if (y.ndim() != 2 || y.size() == 0 || n < 1) throw std::invalid_argument("expected (T, rows) results");
  const size_t T = y.shape(0), rows = y.shape(1);
  const size_t w_bytes = weights.size * weights.itemsize, x_bytes = activations.size * activations.itemsize;
  if (function == 0 || w_bytes % rows != 0 || x_bytes % T != 0) {
    throw std::invalid_argument("expected a function and whole rows");
  }
  const auto dot = reinterpret_cast<VecDot>(function);
  const auto* from = static_cast<const uint8_t*>(weights.ptr);
  const auto* with = static_cast<const uint8_t*>(activations.ptr);
  float* out = y.mutable_data();
  py::gil_scoped_release release;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t t = 0; t < T; ++t) {
      dot(n, out + t * rows + r, 0, from + r * (w_bytes / rows), 0, with + t * (x_bytes / T), 0, 1);
    }
  }
}

// Microseconds that one assignment takes on average: one sync after the other, over two layers' worth of parts, each
// with the next of the situations. With `scores` groups are placed by them.
double time_assign(Assigner& assigner, int groups, const std::vector<std::vector<Candidate>>& situations, int times,
                   const std::vector<float>& scores) {
  if (situations.empty() || times < 1 || groups < 1 || groups > kMaxGroups) {
    throw std::invalid_argument("expected situations, times and 1 to 64 groups");
  }
  if (!scores.empty() && scores.size() != static_cast<size_t>(groups)) {
    throw std::invalid_argument("expected a score for each group");
  }
  for (const auto& s : situations) {
    if (s.empty()) throw std::invalid_argument("there is no hub");
  }
  std::vector<uint64_t> masks;
  py::gil_scoped_release release;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) {
    const Part part = i % 2 == 0 ? Part::Attention : Part::Mlp;
    const std::vector<Candidate>& candidates = situations[i % situations.size()];
    assigner.assign({i / 2 % 2, part, groups, 1}, candidates, masks);
    if (!scores.empty() && any_unreliable(candidates)) place(scores.data(), groups, candidates, masks);
  }
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / times;
}

}  // namespace

void bind_bench(py::module_& m) {
  py::class_<Readable>(m, "Readable", "Memory to be read as fast as one thread can.")
      .def(py::init<size_t>(), py::arg("bytes"))
      .def("read", &Readable::read, py::arg("streams"), py::arg("ahead"));
  m.def("vec_dots", &vec_dots, py::arg("function"), py::arg("n"), py::arg("w"), py::arg("x"), py::arg("y").noconvert(),
        "Calls a ggml_vec_dot_t at this address for every row of w and of x.");
  m.def("time_assign", &time_assign, py::arg("assigner"), py::arg("groups"), py::arg("situations"), py::arg("times"),
        py::arg("scores") = std::vector<float>(),
        "Microseconds of one assignment, with one list of candidates after the other; with scores, groups are placed.");
}

}  // namespace halo
