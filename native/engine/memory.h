// Memory for packed weights: zeroed pages, huge ones where the system gives them (fewer misses of the page table).
#pragma once

#include <cstddef>
#include <cstdint>

namespace halo {

class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t bytes);  // throws std::bad_alloc
  ~Memory();
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }

  static constexpr size_t kAlignment = 64;
  static constexpr size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  // The next aligned(bytes) of it; the caller keeps within what was asked for.
  uint8_t* take(size_t bytes);

 private:
  void swap(Memory& other) noexcept;

  void* mapping_ = nullptr;
  size_t mapped_ = 0, taken_ = 0;
};

// Gives back the whole pages inside a read-only mapping of a file; reading them later brings them back.
void release_pages(const uint8_t* data, size_t bytes);

}  // namespace halo
