// Memory for packed weights and caches: zeroed pages, huge ones where the system gives them (fewer misses of the page
// table). It may be more than the machine has: what is never touched is no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace halo {

class Memory {
 public:
  // Small ones bring in no neighbours when they are touched first.
  enum class Pages { Huge, Small };

  Memory() = default;
  explicit Memory(size_t bytes, Pages pages = Pages::Huge);  // throws std::bad_alloc
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
  uint8_t* begin() const { return static_cast<uint8_t*>(mapping_) + skipped_; }
  uint8_t* taken() const { return begin() + taken_; }  // the end of what was taken

  // Huge pages for those that lie wholly in here, from when they are touched first on.
  static void use_huge_pages(uint8_t* begin, uint8_t* end);

  // Everything is zero again, on small pages, and no memory.
  void give_back();

 private:
  void swap(Memory& other) noexcept;
  void use_small_pages();

  void* mapping_ = nullptr;
  size_t mapped_ = 0, skipped_ = 0, taken_ = 0;
};

// For scratch that vectors read: a load that crosses cache lines counts twice.
template <typename T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <typename U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{Memory::kAlignment})); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t{Memory::kAlignment}); }
  bool operator==(const AlignedAllocator&) const { return true; }
  bool operator!=(const AlignedAllocator&) const { return false; }
};

template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

// Gives back the whole pages inside a read-only mapping of a file; reading them later brings them back.
void release_pages(const uint8_t* data, size_t bytes);

}  // namespace halo
