// Every kernel of every variant on buffers of exactly their size.
#include "kernels/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/pack.h"
#include "tests/guarded.h"

namespace halo {
namespace sanitized {

namespace {

std::unique_ptr<uint8_t[]> prepared(const Kernels& k, Type format, int rows, int n) {
  const size_t stride = prepared_bytes(format, n);
  auto x = floats(n);
  auto travels = exactly<uint8_t>(row_bytes(format, n));
  auto out = exactly<uint8_t>(stride * rows);
  for (int t = 0; t < rows; ++t) {
    k.quantize(format, x.get(), n, travels.get());
    k.prepare(format, travels.get(), n, out.get() + t * stride);
  }
  return out;
}

void products(const Kernels& k, Type type) {
  const int block = info(type).block, grain = block > 1 ? block : 4;
  for (const int rows : {1, 15, 33}) {
    for (const int columns : {grain, 3 * grain, 1280}) {
      auto file = noise(row_bytes(type, columns) * rows);
      const Tensor plain{type, rows, columns, file.get(), row_bytes(type, columns), nullptr};
      // Not from Memory, whose pages have no guards.
      const Product& product = *k.product(type);
      const size_t panel_bytes = columns / block * product.block_bytes;
      const int panels = (rows + product.panel - 1) / product.panel;
      auto packed = exactly<uint8_t>(panel_bytes * panels);
      for (int p = 0; product.pack != nullptr && p < panels; ++p) {
        const int first = p * product.panel, some = std::min(product.panel, rows - first);
        product.pack(plain.row(first), plain.panel_bytes, some, columns / block, packed.get() + p * panel_bytes);
      }
      const uint8_t* data = product.pack != nullptr ? packed.get() : file.get();
      for (const int T : {1, 2, 9}) {
        const int begin = static_cast<int>(drawn() % rows),
                  end = begin + 1 + static_cast<int>(drawn() % (rows - begin));
        auto x = prepared(k, info(type).activation, T, columns);
        auto y = exactly<float>(static_cast<size_t>(T) * (end - begin));
        product.matmul({data, panel_bytes, begin, end, columns}, x.get(),
                       prepared_bytes(info(type).activation, columns), T, y.get(), end - begin);
      }
    }
  }
}

void elementwise(const Kernels& k) {
  for (const int n : {1, 7, 8, 17, 64, 173}) {
    auto a = floats(n), b = floats(n), out = exactly<float>(n);
    auto sum = exactly<int32_t>(n);
    float squares;
    k.silu_mul(a.get(), b.get(), n, out.get());
    a[n / 2] = NAN;
    k.add_fixed(a.get(), n, 1e9f, 1e6f, sum.get(), &squares);
    for (const Type type : {Type::F32, Type::F16, Type::BF16}) prepared(k, type, 2, n);
  }
}

void attention(const Kernels& k) {
  for (const int head_dim : {4, 8, 40, 64, 100}) {
    for (const int first : {0, 63, 130}) {
      const int rows = 5, heads = 3, positions = first + rows;
      const size_t all = static_cast<size_t>(rows) * heads * head_dim;
      auto q = floats(all), out = exactly<float>(all), scratch = exactly<float>(2 * rows * heads);
      auto keys = exactly<uint16_t>(static_cast<size_t>(positions) * head_dim);
      auto values = exactly<uint16_t>(static_cast<size_t>(positions) * head_dim);
      k.attention({q.get(), out.get(), static_cast<size_t>(heads) * head_dim, heads, rows, keys.get(), values.get(),
                   head_dim, first, 0.1f, scratch.get()});
    }
  }
}

void memory() {
  auto file = noise(row_bytes(Type::Q4_K, 512) * 20);
  const Tensor plain{Type::Q4_K, 20, 512, file.get(), row_bytes(Type::Q4_K, 512), nullptr};
  Memory taken(packed_bytes(plain, kernels()));
  const Tensor packed = pack(plain, kernels(), taken);
  auto values = exactly<float>(512);
  dequantize(Type::Q4_K, plain.row(19), 512, values.get());
  if (packed.product == nullptr) std::abort();
}

// What is converted when it is packed is what is packed from the file, for any part of a matrix.
void converted(const Kernels& k) {
  const int rows = 3000, columns = 1024;  // more than one run of rows
  const size_t stride = row_bytes(Type::Q8_0, columns);
  auto file = noise(stride * rows);
  const Tensor plain{Type::Q8_0, rows, columns, file.get(), stride, nullptr};
  Tensor other = plain;
  other.data = nullptr;
  other.converter =
      std::make_shared<const Converter>([&](int64_t row, int64_t n, int64_t column, int64_t width, uint8_t* out) {
        auto made = exactly<uint8_t>(row_bytes(Type::Q8_0, width) * n);
        for (int64_t r = 0; r < n; ++r) {
          std::memcpy(made.get() + r * row_bytes(Type::Q8_0, width),
                      file.get() + (row + r) * stride + row_bytes(Type::Q8_0, column), row_bytes(Type::Q8_0, width));
        }
        std::memcpy(out, made.get(), row_bytes(Type::Q8_0, width) * n);
      });
  const auto part = [](const Tensor& t) { return columns_of(rows_of(t, 5, 2990), 32, 992); };
  Memory one(packed_bytes(part(plain), k)), two(packed_bytes(part(other), k));
  const Tensor expected = pack(part(plain), k, one), made = pack(part(other), k, two);
  const size_t n = made.panel_bytes;  // of a panel; of a row, where `expected` stays in the file
  for (int64_t p = 0; p < (made.rows + made.product->panel - 1) / made.product->panel; ++p) {
    if (std::memcmp(expected.data + p * expected.panel_bytes, made.data + p * n, n) != 0) std::abort();
  }
}

}  // namespace

void run_kernels() {
  for (const Kernels* const* k = variants(); *k != nullptr; ++k) {
    for (int type = 0; type < 40; ++type) {
      if (type_info(type) != nullptr && type_info(type)->weights) products(**k, static_cast<Type>(type));
    }
    for (const Type type : {Type::Q8_0, Type::Q8_K}) prepared(**k, type, 2, 512);
    elementwise(**k);
    attention(**k);
    converted(**k);
  }
  memory();
}

}  // namespace sanitized
}  // namespace halo
