// Turns tensors of a file into what a kernel variant multiplies with.
#pragma once

#include "engine/memory.h"
#include "engine/model.h"

namespace halo {

// Columns begin .. end - 1 of a tensor of the file; both are at a block's start.
Tensor columns_of(const Tensor& plain, int begin, int end);

// What `pack` takes from memory; 0 where rows stay as they are in the file.
size_t packed_bytes(const Tensor& plain, const Kernels& kernels);

// The tensor for products by `kernels`: in `memory`, or where it lies if it needs no packing.
Tensor pack(const Tensor& plain, const Kernels& kernels, Memory& memory);

}  // namespace halo
