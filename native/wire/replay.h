// Which packet numbers of a channel have been received: a packet is taken once.
#pragma once

#include <cstdint>

namespace halo {

// The last kSize numbers up to the highest are told apart; older ones count as received. Numbers of packets that have
// been opened only: a forged number would move the window. Not thread safe.
class ReplayWindow {
 public:
  static constexpr uint64_t kSize = 31 * 64;

  bool is_new(uint64_t number) const {
    if (number > highest_) return true;
    return highest_ - number < kSize && (word(number) >> (number % 64) & 1) == 0;
  }

  void mark(uint64_t number) {
    if (number > highest_) {
      // A ring of whole words, one more than the window needs, so that only whole words are cleared.
      uint64_t fresh = number / 64 - highest_ / 64;
      if (fresh > kWords) fresh = kWords;
      for (uint64_t i = 0; i < fresh; ++i) words_[(number / 64 - i) % kWords] = 0;
      highest_ = number;
    }
    if (highest_ - number < kSize) words_[number / 64 % kWords] |= uint64_t{1} << (number % 64);
  }

  uint64_t highest() const { return highest_; }  // marked; 0 before the first

 private:
  static constexpr uint64_t kWords = kSize / 64 + 1;

  uint64_t word(uint64_t number) const { return words_[number / 64 % kWords]; }

  uint64_t highest_ = 0;
  uint64_t words_[kWords] = {};
};

}  // namespace halo
