// The same product by llama.cpp's kernels: llama plain|repacked TYPE ROWS COLUMNS T. As llama.cpp calls them: plain is
// one dot product for each row and row of activations; repacked takes one row of activations, or four and more at once.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "markers.h"

#define DOT(name) extern "C" void name(int, float*, size_t, const void*, size_t, const void*, size_t, int)
#define MATRIX(name) extern "C" void name(int, float*, size_t, const void*, const void*, int, int)
DOT(ggml_vec_dot_q4_0_q8_0);
DOT(ggml_vec_dot_q4_1_q8_1);
DOT(ggml_vec_dot_q5_0_q8_0);
DOT(ggml_vec_dot_q5_1_q8_1);
DOT(ggml_vec_dot_iq4_nl_q8_0);
DOT(ggml_vec_dot_q8_0_q8_0);
DOT(ggml_vec_dot_q3_K_q8_K);
DOT(ggml_vec_dot_q4_K_q8_K);
DOT(ggml_vec_dot_q6_K_q8_K);
MATRIX(ggml_gemv_q4_0_4x4_q8_0);
MATRIX(ggml_gemv_iq4_nl_4x4_q8_0);
MATRIX(ggml_gemv_q8_0_4x4_q8_0);
MATRIX(ggml_gemv_q4_K_8x4_q8_K);
MATRIX(ggml_gemv_q6_K_8x4_q8_K);
MATRIX(ggml_gemm_q4_0_4x4_q8_0);
MATRIX(ggml_gemm_iq4_nl_4x4_q8_0);
MATRIX(ggml_gemm_q8_0_4x4_q8_0);
MATRIX(ggml_gemm_q4_K_8x4_q8_K);
MATRIX(ggml_gemm_q6_K_8x4_q8_K);

namespace {

struct Type {
  const char* name;
  size_t block, bytes, x_bytes;  // of a block of weights, and of as many activations
  decltype(&ggml_vec_dot_q4_0_q8_0) dot;
  decltype(&ggml_gemv_q4_0_4x4_q8_0) one, many;  // null where there are none
};

const Type kTypes[] = {
    {"Q4_0", 32, 18, 34, ggml_vec_dot_q4_0_q8_0, ggml_gemv_q4_0_4x4_q8_0, ggml_gemm_q4_0_4x4_q8_0},
    {"Q4_1", 32, 20, 36, ggml_vec_dot_q4_1_q8_1, nullptr, nullptr},
    {"Q5_0", 32, 22, 34, ggml_vec_dot_q5_0_q8_0, nullptr, nullptr},
    {"Q5_1", 32, 24, 36, ggml_vec_dot_q5_1_q8_1, nullptr, nullptr},
    {"IQ4_NL", 32, 18, 34, ggml_vec_dot_iq4_nl_q8_0, ggml_gemv_iq4_nl_4x4_q8_0, ggml_gemm_iq4_nl_4x4_q8_0},
    {"Q3_K", 256, 110, 292, ggml_vec_dot_q3_K_q8_K, nullptr, nullptr},
    {"Q8_0", 32, 34, 34, ggml_vec_dot_q8_0_q8_0, ggml_gemv_q8_0_4x4_q8_0, ggml_gemm_q8_0_4x4_q8_0},
    {"Q4_K", 256, 144, 292, ggml_vec_dot_q4_K_q8_K, ggml_gemv_q4_K_8x4_q8_K, ggml_gemm_q4_K_8x4_q8_K},
    {"Q6_K", 256, 210, 292, ggml_vec_dot_q6_K_q8_K, ggml_gemv_q6_K_8x4_q8_K, ggml_gemm_q6_K_8x4_q8_K},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const int rows = std::atoi(argv[3]), columns = std::atoi(argv[4]), T = std::atoi(argv[5]);
  for (const Type& type : kTypes) {
    if (std::strcmp(type.name, argv[2]) != 0) continue;
    const size_t row = columns / type.block * type.bytes, x_row = columns / type.block * type.x_bytes;
    const std::vector<unsigned char> w(row * rows), x(x_row * T);
    std::vector<float> y(static_cast<size_t>(rows) * T);
    begin_trace();
    if (std::strcmp(argv[1], "plain") == 0) {
      for (int r = 0; r < rows; ++r) {
        for (int t = 0; t < T; ++t) {
          type.dot(columns, &y[static_cast<size_t>(t) * rows + r], 0, &w[r * row], 0, &x[t * x_row], 0, 1);
        }
      }
    } else if (type.one == nullptr) {
      return 2;
    } else {
      (T == 1 ? type.one : type.many)(columns, y.data(), rows, w.data(), x.data(), T, rows);
    }
    end_trace();
    return 0;
  }
  return 2;
}
