// Picks the kernel variant: the best that runs here, or the one that HALO_ISA names.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/kernels.h"

namespace halo {

namespace {

const Kernels& pick() {
  const char* wanted = std::getenv("HALO_ISA");
  if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == kPortable.isa) return kPortable;
  throw std::invalid_argument("HALO_ISA=" + std::string(wanted) +
                              ": no such kernel variant on this machine; known here: portable");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = pick();
  return chosen;
}

}  // namespace halo
