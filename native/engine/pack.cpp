// Packing goes panel by panel, so that no more than a panel is in the making at a time.
#include "engine/pack.h"

#include <algorithm>

namespace halo {

namespace {

size_t panel_bytes(const Tensor& plain, const Product& product) {
  return static_cast<size_t>(plain.cols / info(plain.type).block) * product.block_bytes;
}

size_t panels(const Tensor& plain, const Product& product) {
  return static_cast<size_t>((plain.rows + product.panel - 1) / product.panel);
}

}  // namespace

Tensor columns_of(const Tensor& plain, int begin, int end) {
  Tensor some = plain;
  some.data += row_bytes(plain.type, begin);
  some.cols = end - begin;
  return some;
}

size_t packed_bytes(const Tensor& plain, const Kernels& kernels) {
  const Product& product = *kernels.product(plain.type);
  if (product.pack == nullptr) return 0;
  return Memory::aligned(panel_bytes(plain, product) * panels(plain, product));
}

Tensor pack(const Tensor& plain, const Kernels& kernels, Memory& memory) {
  Tensor packed = plain;
  const Product& product = *kernels.product(plain.type);
  packed.product = &product;
  if (product.pack == nullptr) return packed;
  packed.panel_bytes = panel_bytes(plain, product);
  uint8_t* out = memory.take(packed.panel_bytes * panels(plain, product));
  packed.data = out;
  const int blocks = static_cast<int>(plain.cols / info(plain.type).block);
  for (int64_t r = 0; r < plain.rows; r += product.panel, out += packed.panel_bytes) {
    const int rows = static_cast<int>(std::min<int64_t>(product.panel, plain.rows - r));
    product.pack(plain.row(r), plain.panel_bytes, rows, blocks, out);
  }
  return packed;
}

}  // namespace halo
