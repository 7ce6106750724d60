// Packing goes panel by panel, so that no more than a panel is in the making at a time; of what is converted, a run of
// panels.
#include "engine/pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace halo {

namespace {

size_t panel_bytes(const Tensor& plain, const Product& product) {
  return static_cast<size_t>(plain.cols / info(plain.type).block) * product.block_bytes;
}

size_t panels(const Tensor& plain, const Product& product) {
  return static_cast<size_t>((plain.rows + product.panel - 1) / product.panel);
}

bool stays(const Tensor& plain, const Product& product) {
  return product.pack == nullptr && plain.converter == nullptr;
}

// Values that are converted at once: they exist as floats, too, for a moment.
constexpr int64_t kConverted = 1 << 20;

// Rows that have data, panel by panel.
void pack_rows(const Tensor& plain, const Product& product, uint8_t* out) {
  const size_t bytes = panel_bytes(plain, product);
  const int blocks = static_cast<int>(plain.cols / info(plain.type).block);
  for (int64_t first = 0; first < plain.rows; first += product.panel, out += bytes) {
    const int rows = static_cast<int>(std::min<int64_t>(product.panel, plain.rows - first));
    if (product.pack != nullptr) {
      product.pack(plain.row(first), plain.panel_bytes, rows, blocks, out);
    } else {
      std::memcpy(out, plain.row(first), bytes);
    }
  }
}

}  // namespace

Tensor rows_of(const Tensor& plain, int begin, int end) {
  Tensor some = plain;
  if (plain.converter == nullptr) some.data = plain.row(begin);
  some.first_row += begin;
  some.rows = end - begin;
  return some;
}

Tensor columns_of(const Tensor& plain, int begin, int end) {
  Tensor some = plain;
  if (plain.converter == nullptr) some.data += row_bytes(plain.type, begin);
  some.first_column += begin;
  some.cols = end - begin;
  return some;
}

size_t packed_bytes(const Tensor& plain, const Kernels& kernels) {
  const Product& product = *kernels.product(plain.type);
  if (stays(plain, product)) return 0;
  return Memory::aligned(panel_bytes(plain, product) * panels(plain, product));
}

std::pair<Tensor, uint8_t*> lay_out(const Tensor& plain, const Kernels& kernels, Memory& memory) {
  Tensor packed = plain;
  const Product& product = *kernels.product(plain.type);
  packed.product = &product;
  if (stays(plain, product)) return {packed, nullptr};
  packed.panel_bytes = panel_bytes(plain, product);
  uint8_t* out = memory.take(packed.panel_bytes * panels(plain, product));
  packed.data = out;
  return {packed, out};
}

size_t bytes_of(const Tensor& packed) { return panels(packed, *packed.product) * packed.panel_bytes; }

void pack(const Tensor& plain, const Tensor& packed, uint8_t* out) {
  const Product& product = *packed.product;
  if (plain.converter == nullptr) return pack_rows(plain, product, out);
  const int64_t step = std::max<int64_t>(kConverted / plain.cols / product.panel, 1) * product.panel;
  const size_t stride = row_bytes(plain.type, plain.cols);
  std::vector<uint8_t> made(stride * std::min(step, plain.rows));
  for (int64_t first = 0; first < plain.rows; first += step) {
    Tensor some = plain;
    some.rows = std::min(step, plain.rows - first);
    some.data = made.data();
    some.panel_bytes = stride;
    (*plain.converter)(plain.first_row + first, some.rows, plain.first_column, plain.cols, made.data());
    pack_rows(some, product, out + first / product.panel * packed.panel_bytes);
  }
}

Tensor pack(const Tensor& plain, const Kernels& kernels, Memory& memory) {
  const auto [packed, out] = lay_out(plain, kernels, memory);
  if (out != nullptr) pack(plain, packed, out);
  return packed;
}

}  // namespace halo
