// Anonymous mappings: their pages are zero, and aligned for any vector.
#include "engine/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace halo {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugeFrom = 2 * kHugePage;  // less is not worth the address space

}  // namespace

Memory::Memory(size_t bytes) {
  if (bytes == 0) return;
  const bool huge = bytes >= kHugeFrom;
  mapped_ = bytes + (huge ? kHugePage : 0);  // room to begin at a huge page; what is never touched is no memory
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw std::bad_alloc();
  }
  if (!huge) return;
  taken_ = (kHugePage - reinterpret_cast<uintptr_t>(mapping_) % kHugePage) % kHugePage;
#ifdef MADV_HUGEPAGE
  // Advice: without it things are only slower. The end, less than a huge page, keeps small ones.
  madvise(static_cast<uint8_t*>(mapping_) + taken_, bytes, MADV_HUGEPAGE);
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
