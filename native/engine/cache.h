// The f16 cache of keys and values of one slot, for all KV heads of all layers.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/memory.h"
#include "engine/model.h"
#include "engine/row_set.h"

namespace halo {

// A head's positions lie one after the other, so that attention reads memory in order.
//
// Rows may come in any order; 0 .. filled(layer) - 1 are complete for the slot's present epoch. A request of a newer
// epoch invalidates everything from that epoch's base on; one of an older epoch is refused by the caller.
class Cache {
 public:
  Cache(const Spec& spec, int n_ctx)
      : n_ctx_(n_ctx),
        kv_heads_(spec.kv_heads),
        head_dim_(spec.head_dim),
        rows_(spec.layers, RowSet(n_ctx)),
        // Untouched pages cost nothing: a context that is never filled is never resident.
        memory_(2 * bytes(spec, n_ctx), Memory::Pages::Small),
        keys_(reinterpret_cast<uint16_t*>(memory_.take(bytes(spec, n_ctx)))),
        values_(reinterpret_cast<uint16_t*>(memory_.take(bytes(spec, n_ctx)))) {}

  // (positions, head_dim) from `position` on
  uint16_t* key(int layer, int head, int position) { return keys_ + at(layer, head, position); }
  uint16_t* value(int layer, int head, int position) { return values_ + at(layer, head, position); }

  uint32_t epoch() const { return epoch_; }
  int filled(int layer) const { return rows_[layer].prefix(); }
  void fill(int layer, int first, int rows) { rows_[layer].add(first, rows); }
  void enter(uint32_t epoch, int position) {
    epoch_ = epoch;
    for (RowSet& rows : rows_) rows.remove_from(position);
  }

 private:
  static size_t bytes(const Spec& spec, int n_ctx) {
    return Memory::aligned(size_t(spec.layers) * n_ctx * spec.kv_dim() * sizeof(uint16_t));
  }
  size_t at(int layer, int head, int position) const {
    return ((size_t(layer) * kv_heads_ + head) * n_ctx_ + position) * head_dim_;
  }

  int n_ctx_, kv_heads_, head_dim_;
  uint32_t epoch_ = 0;
  std::vector<RowSet> rows_;  // by layer
  Memory memory_;
  uint16_t *keys_, *values_;
};

}  // namespace halo
