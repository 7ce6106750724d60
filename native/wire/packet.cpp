// Cutting messages into fragments of equal size, and the check of what others claim to have cut.
#include "wire/packet.h"

#include <algorithm>

#include "wire/parity.h"

namespace halo {

Cut cut(size_t length, int least) {
  const size_t whole = length == 0 ? 1 : length;
  const size_t pieces = std::max<size_t>((whole + kMaxFragment - 1) / kMaxFragment, least);
  const size_t bytes = ((whole + pieces - 1) / pieces + kGrain - 1) / kGrain * kGrain;
  return {static_cast<int>((whole + bytes - 1) / bytes), bytes};
}

bool plausible(const FragmentHeader& h) {
  if (h.message == 0 || h.data == 0 || h.data > kMaxData || h.index >= h.data + kMaxParity) return false;
  if (h.bytes == 0 || h.bytes > kMaxFragment || h.bytes % kGrain != 0) return false;
  const size_t whole = h.length == 0 ? 1 : h.length;
  return (whole + h.bytes - 1) / h.bytes == h.data;
}

}  // namespace halo
