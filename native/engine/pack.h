// Turns tensors of a file into what a kernel variant multiplies with.
#pragma once

#include <utility>

#include "engine/memory.h"
#include "engine/model.h"

namespace halo {

// Rows begin .. end - 1 of a tensor of the file.
Tensor rows_of(const Tensor& plain, int begin, int end);

// Columns begin .. end - 1 of a tensor of the file; both are at a block's start.
Tensor columns_of(const Tensor& plain, int begin, int end);

// What `pack` takes from memory; 0 where rows stay as they are in the file.
size_t packed_bytes(const Tensor& plain, const Kernels& kernels);

// The tensor as products by `kernels` will see it, and its place in `memory`, where no panel is packed yet; without a
// place where rows stay as they are.
std::pair<Tensor, uint8_t*> lay_out(const Tensor& plain, const Kernels& kernels, Memory& memory);

// Panels of rows of a tensor that was laid out.
size_t panels(const Tensor& packed);

// Packs one of them; `out` is the place of the whole tensor.
void pack_panel(const Tensor& plain, const Tensor& packed, size_t panel, uint8_t* out);

// The tensor for products by `kernels`: in `memory`, or where it lies if it needs no packing.
Tensor pack(const Tensor& plain, const Kernels& kernels, Memory& memory);

}  // namespace halo
