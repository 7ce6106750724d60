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

// What a tensor that was laid out takes.
size_t bytes_of(const Tensor& packed);

// Packs all of it; `out` is its place.
void pack(const Tensor& plain, const Tensor& packed, uint8_t* out);

// The tensor for products by `kernels`: in `memory`, or where it lies if it needs no packing.
Tensor pack(const Tensor& plain, const Kernels& kernels, Memory& memory);

}  // namespace halo
