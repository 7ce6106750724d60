// One product of HALO's kernels between the markers: halo VARIANT TYPE ROWS COLUMNS T. What is multiplied is zeros: the
// kernels do not look.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "markers.h"

int main(int argc, char** argv) {
  using namespace halo;
  if (argc != 6) return 2;
  const Kernels& k = kernels(argv[1]);
  int type = 0;
  while (type < 256 && (type_info(type) == nullptr || std::strcmp(type_info(type)->name, argv[2]) != 0)) ++type;
  if (type == 256) return 2;
  const int rows = std::atoi(argv[3]), columns = std::atoi(argv[4]), T = std::atoi(argv[5]);
  const TypeInfo& info = *type_info(type);
  const Product& product = *k.product(static_cast<Type>(type));
  const size_t panel_bytes = columns / info.block * product.block_bytes;
  const size_t x_stride = prepared_bytes(info.activation, columns);
  const std::vector<uint8_t> w(panel_bytes * (rows / product.panel)), x(x_stride * T);
  std::vector<float> y(static_cast<size_t>(rows) * T);
  begin_trace();
  product.matmul({w.data(), panel_bytes, 0, rows, columns}, x.data(), x_stride, T, y.data(), rows);
  end_trace();
}
