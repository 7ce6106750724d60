// A tiny model with weights of any type, made in memory.
#pragma once

#include <memory>
#include <vector>

#include "engine/model.h"
#include "predictor/significance.h"

namespace halo {
namespace sanitized {

// The types of a model's matrices.
struct Types {
  Type qkv, o, gate_up, down, head;
};

// Four query heads on two KV heads, random weights of about unit scale, packed for `kernels()`. A group is one block of
// weights wide.
std::shared_ptr<Model> tiny_model(const Types& types, int layers = 2);

// A sidecar of such a model that knows nothing.
SidecarTables random_tables(const Model& model);

// Relaxed syncs of such a model.
void run_relaxed(const Types& types);

}  // namespace sanitized
}  // namespace halo
