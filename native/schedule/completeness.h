// Which rows of one slot's cache a worker has, as far as it has acknowledged them, and which are still to be sent.
#pragma once

#include <optional>
#include <vector>

#include "engine/row_set.h"

namespace halo {

class Completeness {
 public:
  Completeness(int layers, int n_ctx) : n_ctx_(n_ctx), layers_(layers, {RowSet(n_ctx), RowSet(n_ctx)}) {}

  // Positions from `first` on are void: of what has been rolled back. What was on its way will not be acknowledged.
  void roll_back(int first);
  // An input or a copy of these rows is on its way, has arrived, or will not arrive any more.
  void asked(int layer, int first, int rows) { layers_[layer].asked.add(first, rows); }
  void acknowledged(int layer, int first, int rows);
  void given_up(int layer, int first, int rows) { layers_[layer].asked.remove(first, rows); }
  // The worker itself says that it misses rows of this layer: believe nothing about them.
  void doubt(int layer) { layers_[layer].there.remove_from(0); }

  // Rows 0 .. complete(layer) - 1 are there.
  int complete(int layer) const { return layers_[layer].there.prefix(); }
  // Of the first `end` rows of all layers, the share that is there.
  double share(int end) const;

  struct Gap {
    int layer, first, rows;
  };
  // The first rows below `end`, at most `most` of them, that are neither there nor on their way; lowest layer first.
  std::optional<Gap> gap(int end, int most) const;

 private:
  struct Layer {
    RowSet there, asked;
  };

  int n_ctx_;
  std::vector<Layer> layers_;
};

}  // namespace halo
