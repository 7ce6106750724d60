// Cutting messages into fragments of equal size, and the check of what others claim to have cut.
#include "wire/packet.h"

#include "wire/parity.h"

namespace halo {

Cut cut(size_t length) {
  const size_t data = length == 0 ? 1 : (length + kMaxFragment - 1) / kMaxFragment;
  const size_t bytes = (length + data - 1) / data;
  return {static_cast<int>(data), bytes == 0 ? kGrain : (bytes + kGrain - 1) / kGrain * kGrain};
}

bool plausible(const FragmentHeader& h) {
  if (h.message == 0 || h.data == 0 || h.data > kMaxData || h.index >= h.data + kMaxParity) return false;
  const Cut expected = cut(h.length);
  return expected.data == h.data && expected.bytes == h.bytes;
}

}  // namespace halo
