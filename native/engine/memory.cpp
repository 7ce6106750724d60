// Anonymous mappings: their pages are zero, and aligned for any vector.
#include "engine/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <utility>

namespace halo {

namespace {

constexpr size_t kHugeFrom = size_t{8} << 20;  // small models do not round up to huge pages

}  // namespace

Memory::Memory(size_t bytes) {
  if (bytes == 0) return;
  mapping_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw std::bad_alloc();
  }
  mapped_ = bytes;
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugeFrom) madvise(mapping_, bytes, MADV_HUGEPAGE);  // advice: without it things are only slower
#endif
}

Memory::~Memory() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

void Memory::swap(Memory& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(taken_, other.taken_);
}

uint8_t* Memory::take(size_t bytes) {
  uint8_t* p = static_cast<uint8_t*>(mapping_) + taken_;
  taken_ += aligned(bytes);
  return p;
}

void release_pages(const uint8_t* data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace halo
