// Picks the kernel variant: the best that runs here, or the one that HALO_ISA names.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace halo {

namespace {

struct Variant {
  const Kernels* kernels;
  bool (*runs_here)();  // asks the CPU, and the system whether it saves the registers
};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(__aarch64__)
bool has_dotprod() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}
#endif

bool always() { return true; }

constexpr Variant kVariants[] = {
// best first
#if defined(__x86_64__)
    {&kAvx512, has_avx512},
    {&kAvx2, has_avx2},
#elif defined(__aarch64__)
    {&kDotprod, has_dotprod},
    {&kNeon, always},  // part of the architecture
#endif
    {&kPortable, always},
};
constexpr int kCount = sizeof(kVariants) / sizeof(kVariants[0]);

struct Usable {
  const Kernels* list[kCount + 1] = {};
  Usable() {
    int n = 0;
    for (const Variant& v : kVariants) {
      if (v.runs_here()) list[n++] = v.kernels;
    }
  }
};

}  // namespace

const Kernels* const* variants() {
  static const Usable usable;
  return usable.list;
}

const Kernels& kernels(const char* isa) {
  std::string known;
  for (const Kernels* const* v = variants(); *v != nullptr; ++v) {
    if (std::string(isa) == (*v)->isa) return **v;
    known += (known.empty() ? "" : ", ") + std::string((*v)->isa);
  }
  throw std::invalid_argument("HALO_ISA=" + std::string(isa) +
                              ": no such kernel variant on this machine; known here: " + known);
}

const Kernels& kernels() {
  static const Kernels& chosen = [&]() -> const Kernels& {
    const char* wanted = std::getenv("HALO_ISA");
    return wanted == nullptr || *wanted == '\0' ? **variants() : kernels(wanted);
  }();
  return chosen;
}

}  // namespace halo
