// What takes about the same time: requests of one part with about as many rows. Measurements are kept by kind.
#pragma once

#include "engine/model.h"

namespace halo {

inline constexpr int kSizeClasses = 6;  // up to 1, 3, 7, 15, 31 rows, and more
inline constexpr int kKinds = 1 + 2 * kSizeClasses;

// Powers of two of the number of rows: 0 for one row.
constexpr int size_class(int rows) {
  int size = 0;
  while (rows >> size > 1 && size < kSizeClasses - 1) ++size;
  return size;
}

// From 0 to kKinds - 1; a probe has no rows and is of kind 0.
constexpr int kind_of(Part part, int rows) {
  return rows == 0 ? 0 : 1 + (part == Part::Mlp ? kSizeClasses : 0) + size_class(rows);
}

}  // namespace halo
