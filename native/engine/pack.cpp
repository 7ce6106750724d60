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

Tensor rows_of(const Tensor& plain, int begin, int end) {
  Tensor some = plain;
  some.data = plain.row(begin);
  some.rows = end - begin;
  return some;
}

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

std::pair<Tensor, uint8_t*> lay_out(const Tensor& plain, const Kernels& kernels, Memory& memory) {
  Tensor packed = plain;
  const Product& product = *kernels.product(plain.type);
  packed.product = &product;
  if (product.pack == nullptr) return {packed, nullptr};
  packed.panel_bytes = panel_bytes(plain, product);
  uint8_t* out = memory.take(packed.panel_bytes * panels(plain, product));
  packed.data = out;
  return {packed, out};
}

size_t panels(const Tensor& packed) { return panels(packed, *packed.product); }

void pack_panel(const Tensor& plain, const Tensor& packed, size_t panel, uint8_t* out) {
  const Product& product = *packed.product;
  const int64_t first = static_cast<int64_t>(panel) * product.panel;
  const int rows = static_cast<int>(std::min<int64_t>(product.panel, plain.rows - first));
  const int blocks = static_cast<int>(plain.cols / info(plain.type).block);
  product.pack(plain.row(first), plain.panel_bytes, rows, blocks, out + panel * packed.panel_bytes);
}

Tensor pack(const Tensor& plain, const Kernels& kernels, Memory& memory) {
  const auto [packed, out] = lay_out(plain, kernels, memory);
  for (size_t p = 0; out != nullptr && p < panels(packed); ++p) pack_panel(plain, packed, p, out);
  return packed;
}

}  // namespace halo
