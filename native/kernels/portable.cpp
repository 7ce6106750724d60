// The portable kernels: plain C++17, the reference that every other variant is tested against.
#include "kernels/portable/activations.h"
#include "kernels/portable/attention.h"
#include "kernels/portable/elementwise.h"
#include "kernels/portable/products.h"

namespace halo {

const Kernels kPortable{"portable",
                        portable::product,
                        Activations<portable::Rounding>::quantize,
                        Activations<portable::Rounding>::prepare,
                        portable::silu_mul,
                        portable::attention,
                        portable::add_fixed};

}  // namespace halo
