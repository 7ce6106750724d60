// A set of rows of a cache, by position.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace halo {

class RowSet {
 public:
  explicit RowSet(int size) : size_(size), words_(static_cast<size_t>(size + 63) / 64) {}

  bool has(int row) const { return (words_[row / 64] >> (row % 64) & 1) != 0; }
  void add(int first, int rows) {
    for (int i = first; i < std::min(first + rows, size_); ++i) words_[i / 64] |= uint64_t{1} << (i % 64);
    while (prefix_ < size_ && has(prefix_)) ++prefix_;
  }
  void remove(int first, int rows) {
    for (int i = first; i < std::min(first + rows, size_); ++i) words_[i / 64] &= ~(uint64_t{1} << (i % 64));
    prefix_ = std::min(prefix_, first);
  }
  void remove_from(int first) {
    if (first >= size_) return;
    words_[first / 64] &= (uint64_t{1} << (first % 64)) - 1;
    std::fill(words_.begin() + first / 64 + 1, words_.end(), 0);
    prefix_ = std::min(prefix_, first);
  }

  // Rows 0 .. prefix() - 1 are all in it.
  int prefix() const { return prefix_; }
  // Of the first `end` rows.
  int count(int end) const {
    int n = 0;
    for (int i = 0; i < end; i += 64) {
      const uint64_t wanted = end - i >= 64 ? ~uint64_t{0} : (uint64_t{1} << (end - i)) - 1;
      n += __builtin_popcountll(words_[i / 64] & wanted);
    }
    return n;
  }

 private:
  int size_, prefix_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace halo
