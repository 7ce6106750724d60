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

Memory::Memory(size_t bytes, Pages pages) {
  if (bytes == 0) return;
  const bool huge = bytes >= kHugeFrom;
  mapped_ = bytes + (huge ? kHugePage : 0);  // room to begin at a huge page; what is never touched is no memory
  // Without NORESERVE Linux refuses what is more than the machine's memory, though a part of it may be all that is
  // used.
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw std::bad_alloc();
  }
  if (huge) skipped_ = (kHugePage - reinterpret_cast<uintptr_t>(mapping_) % kHugePage) % kHugePage;
  if (pages == Pages::Small) {
    use_small_pages();
  } else if (huge) {
    use_huge_pages(begin(), begin() + bytes);
  }
}

// Advice: without it things are only slower. The ends, less than a huge page, keep small ones.
void Memory::use_huge_pages(uint8_t* begin, uint8_t* end) {
#ifdef MADV_HUGEPAGE
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = reinterpret_cast<uintptr_t>(end) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Where the system gives huge pages to whoever does not refuse them.
void Memory::use_small_pages() {
#ifdef MADV_NOHUGEPAGE
  if (mapping_ != nullptr) madvise(mapping_, mapped_, MADV_NOHUGEPAGE);
#endif
}

void Memory::give_back() {
  if (mapping_ == nullptr) return;
  madvise(mapping_, mapped_, MADV_DONTNEED);
  use_small_pages();
}

Memory::~Memory() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

void Memory::swap(Memory& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(skipped_, other.skipped_);
  std::swap(taken_, other.taken_);
}

uint8_t* Memory::take(size_t bytes) {
  uint8_t* p = taken();
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
