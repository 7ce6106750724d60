// Kernels, one variant at a time: for tests and benchmarks.
#include "kernels/kernels.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "bindings/bindings.h"
#include "engine/pack.h"
#include "wire/values.h"

namespace halo {

namespace {

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

// Prepared rows, aligned as a device keeps them.
py::array_t<uint8_t> prepared_rows(size_t rows, size_t stride) {
  auto* buffer = new AlignedVector<uint8_t>(rows * stride);
  const py::capsule owner(buffer, [](void* p) { delete static_cast<AlignedVector<uint8_t>*>(p); });
  return py::array_t<uint8_t>({rows, stride}, buffer->data(), owner);
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
    Tensor plain = TensorFinder(
        {{static_cast<const uint8_t*>(view.ptr), static_cast<size_t>(view.size * view.itemsize)}}, table)("matrix");
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
    py::array_t<uint8_t> out = prepared_rows(T, stride);
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

// The bytes of rows that travelled, of n values each -> what products read, (rows, bytes a row)
py::array_t<uint8_t> prepare_rows(const Kernels& k, int format, int n, const py::bytes& data) {
  const Type type = input_type(format);
  const auto [in, size] = view_of(data);
  if (n < 1 || n > (1 << 28) || n % info(type).block != 0 || size == 0 || size % row_bytes(type, n) != 0) {
    throw std::invalid_argument(std::string("expected rows of whole ") + info(type).name + " blocks");
  }
  const size_t rows = size / row_bytes(type, n), stride = prepared_bytes(type, n);
  py::array_t<uint8_t> out = prepared_rows(rows, stride);
  for (size_t t = 0; t < rows; ++t) k.prepare(type, in + t * row_bytes(type, n), n, out.mutable_data(t, 0));
  return out;
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

}  // namespace

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
      .def("prepare", &prepare_rows, py::arg("format"), py::arg("n"), py::arg("data"))
      .def("silu_mul", &silu_mul, py::arg("gate"), py::arg("up"))
      .def("attention", &attend, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("first"))
      .def("add_fixed", &add_fixed, py::arg("y"), py::arg("scale"), py::arg("limit"));
  m.def("encode_f16", &encode_row, py::arg("values"));
  m.def("add_f16", &add_row, py::arg("values"), py::arg("exponent"), py::arg("sum"));
  m.def("dequantize", &dequantize_row, py::arg("type"), py::arg("row"));
  m.def(
      "weight_types",
      [] {
        py::dict types;
        for (int type = 0; type < 256; ++type) {
          const TypeInfo* t = type_info(type);
          if (t != nullptr && t->weights) types[t->name] = py::make_tuple(type, t->block, t->bytes);
        }
        return types;
      },
      "The types of weights that are computed: name -> (ggml's number, values a block, bytes a block).");
  m.def("isa", [] { return kernels().isa; }, "The kernel variant in use on this machine.");
  m.def("variants", [] {
    std::vector<std::string> names;
    for (const Kernels* const* v = variants(); *v != nullptr; ++v) names.emplace_back((*v)->isa);
    return names;
  });
}

}  // namespace halo
