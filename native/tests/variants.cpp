// Values of every kernel of every variant that runs here: against exact arithmetic, against the portable kernels where
// bits must be equal, and against themselves with other rows around. Prints the variants' names, then "ok".
//
// tests/native/test_kernels.py checks the same where Python runs; this is for a processor that is only emulated. Built
// with -DHALO_VARIANTS=ON, by tests/native/test_arm.py for ARM.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include "tests/scales.h"

namespace {

using namespace halo;

using Bytes = std::vector<uint8_t>;
using Floats = std::vector<float>;

std::mt19937 drawn(1);
std::string at;  // what is being checked

void expect(bool right, const char* what) {
  if (right) return;
  std::printf("%s: %s\n", at.c_str(), what);
  std::exit(1);
}

bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

Floats normal(size_t n, float scale = 1.0f) {
  std::normal_distribution<float> d(0.0f, scale);
  Floats out(n);
  for (float& f : out) f = d(drawn);
  return out;
}

// Random blocks: every bit pattern of the quants, scales of both signs.
Bytes weights(Type type, int64_t n) {
  Bytes out(row_bytes(type, n));
  if (info(type).block == 1) {
    const Floats values = normal(static_cast<size_t>(n));
    kPortable.quantize(type, values.data(), static_cast<int>(n), out.data());
    return out;
  }
  for (uint8_t& b : out) b = static_cast<uint8_t>(drawn());
  for (size_t block = 0; block < out.size(); block += info(type).bytes) {
    for (const int at : scales_at(type)) {
      const uint16_t scale = f32_to_f16(normal(1, 0.1f)[0]);
      std::memcpy(out.data() + block + at, &scale, 2);
    }
  }
  return out;
}

// A matrix as a variant keeps it.
struct Matrix {
  Matrix(const Kernels& k, Type type, int rows, int columns, const Bytes& file)
      : product(*k.product(type)), columns(columns) {
    const int blocks = columns / info(type).block, panels = (rows + product.panel - 1) / product.panel;
    const size_t row = row_bytes(type, columns);
    panel_bytes = static_cast<size_t>(blocks) * product.block_bytes;
    data = file;
    if (product.pack == nullptr) return;
    data.assign(panel_bytes * panels, 0xee);
    for (int p = 0; p < panels; ++p) {
      const int first = p * product.panel, some = std::min(product.panel, rows - first);
      product.pack(file.data() + first * row, row, some, blocks, data.data() + p * panel_bytes);
    }
  }

  // Rows begin .. end - 1 by T rows from `x` on.
  Floats times(const Bytes& x, size_t stride, int first, int T, int begin, int end) const {
    Floats y(static_cast<size_t>(T) * (end - begin), NAN);
    product.matmul({data.data(), panel_bytes, begin, end, columns}, x.data() + first * stride, stride, T, y.data(),
                   end - begin);
    return y;
  }

  const Product& product;
  int columns;
  size_t panel_bytes;
  Bytes data;
};

// T rows of activations: as they travel, and prepared.
struct Inputs {
  Inputs(const Kernels& k, Type format, int T, int n, Bytes bytes) : travels(std::move(bytes)) {
    stride = prepared_bytes(format, n);
    prepared.resize(stride * T);
    for (int t = 0; t < T; ++t) {
      k.prepare(format, travels.data() + t * row_bytes(format, n), n, prepared.data() + t * stride);
    }
  }
  Bytes travels, prepared;
  size_t stride;
};

Bytes quantized(const Kernels& k, Type format, const Floats& x, int T, int n) {
  Bytes out(row_bytes(format, n) * T);
  for (int t = 0; t < T; ++t) k.quantize(format, x.data() + t * n, n, out.data() + t * row_bytes(format, n));
  return out;
}

// The result of exact arithmetic, to 2e-6 of what was added up.
void expect_exact(Type type, int rows, int columns, const Bytes& file, const Floats& x, int T, const Floats& y) {
  Floats w(columns);
  for (int r = 0; r < rows; ++r) {
    dequantize(type, file.data() + r * row_bytes(type, columns), columns, w.data());
    for (int t = 0; t < T; ++t) {
      double truth = 0.0, size = 0.0;
      for (int i = 0; i < columns; ++i) {
        const double term = static_cast<double>(w[i]) * x[static_cast<size_t>(t) * columns + i];
        truth += term;
        size += std::fabs(term);
      }
      expect(std::fabs(y[static_cast<size_t>(t) * rows + r] - truth) <= 2e-6 * size + 1e-30, "a product is wrong");
    }
  }
}

Floats values_of(Type format, const Bytes& travels, size_t n) {
  Floats out(n);
  dequantize(format, travels.data(), static_cast<int>(n), out.data());
  return out;
}

void products(const Kernels& k, Type type) {
  const Type format = info(type).activation;
  const int grain = info(type).block > 1 ? info(type).block : 5;
  const int shapes[][3] = {{1, grain, 1}, {37, 512, 1}, {48, 1280, 3}, {16, 768, 33}, {13, 3 * grain, 9}};
  for (const auto& [rows, columns, T] : shapes) {
    const Bytes file = weights(type, static_cast<int64_t>(rows) * columns);
    Floats raw = normal(static_cast<size_t>(T) * columns);
    for (size_t i = 0; i < raw.size() / 4; ++i) raw[i] *= 30.0f;
    const Inputs x(k, format, T, columns, quantized(k, format, raw, T, columns));
    const Matrix matrix(k, type, rows, columns, file);
    const Floats all = matrix.times(x.prepared, x.stride, 0, T, 0, rows);
    expect_exact(type, rows, columns, file, values_of(format, x.travels, raw.size()), T, all);
    for (int t = 0; t < T; ++t) {
      const Floats alone = matrix.times(x.prepared, x.stride, t, 1, 0, rows);
      expect(std::memcmp(alone.data(), all.data() + static_cast<size_t>(t) * rows, 4 * static_cast<size_t>(rows)) == 0,
             "a row depends on the rows it is computed with");
    }
    for (int begin = 0; begin < rows; begin += 3) {
      const int end = begin + 1 + static_cast<int>(drawn() % (rows - begin));
      const Floats some = matrix.times(x.prepared, x.stride, 0, T, begin, end);
      for (int t = 0; t < T; ++t) {
        expect(
            std::memcmp(some.data() + static_cast<size_t>(t) * (end - begin),
                        all.data() + static_cast<size_t>(t) * rows + begin, 4 * static_cast<size_t>(end - begin)) == 0,
            "a slice is not what the whole has there");
      }
    }
  }
}

// Weights and activations at the ends of their ranges; an activation of -128 counts as -127.
void extremes(const Kernels& k, Type type) {
  const Type format = info(type).activation;
  const int rows = 20, columns = 512, T = 9, block = info(format).block;
  const size_t header = info(format).bytes == 34 ? 2 : 4;
  Bytes travels(row_bytes(format, columns) * T);
  const int8_t pattern[] = {-128, 127, -128, -127, -128};
  const float one = 1.0f;
  const uint16_t half_one = f32_to_f16(one);
  Floats x;
  for (size_t b = 0; b < travels.size(); b += info(format).bytes) {
    std::memcpy(travels.data() + b, header == 2 ? static_cast<const void*>(&half_one) : &one, header);
    for (int i = 0; i < block; ++i) {
      const int8_t value = x.size() % columns < columns / 2 ? int8_t{-128} : pattern[i % 5];
      travels[b + header + i] = static_cast<uint8_t>(value);
      x.push_back(value < -127 ? -127.0f : value);
    }
  }
  Bytes file(row_bytes(type, columns) * rows);
  const uint8_t fills[] = {0xff, 0x00, 0x80, 0x7f};
  const uint16_t quarter = f32_to_f16(0.25f);
  for (int r = 0; r < rows; ++r) {
    uint8_t* row = file.data() + r * row_bytes(type, columns);
    std::memset(row, fills[r % 4], row_bytes(type, columns));
    for (int b = 0; b < columns / info(type).block; ++b) {
      uint8_t* place = row + b * info(type).bytes;
      for (const int at : scales_at(type)) std::memcpy(place + at, &quarter, 2);
    }
  }
  const Inputs inputs(k, format, T, columns, travels);
  expect(inputs.prepared == Inputs(kPortable, format, T, columns, travels).prepared, "-128 is not prepared as -127");
  const Matrix matrix(k, type, rows, columns, file);
  for (const int some : {1, T}) {
    const Floats y = matrix.times(inputs.prepared, inputs.stride, 0, some, 0, rows);
    expect_exact(type, rows, columns, file, x, some, y);
  }
}

void activations(const Kernels& k) {
  const int T = 4, n = 1024;
  Floats x = normal(static_cast<size_t>(T) * n, 3.0f);
  for (int i = 0; i < 256; ++i) x[i] = 0.0f;
  for (int i = 0; i < 255; ++i) x[n + 256 + i] = static_cast<float>(i) - 127.0f + (i % 2 == 0 ? 0.5f : 0.0f);
  x[n + 256] = 127.0f;  // the block's scale is 1: halves stay halves
  x[2 * n + 5] = NAN, x[2 * n + 300] = INFINITY, x[3 * n + 7] = 1e-42f, x[3 * n + 600] = 7e4f;
  for (const Type format : {Type::F32, Type::F16, Type::BF16, Type::Q8_0, Type::Q8_K}) {
    const Bytes ours = quantized(k, format, x, T, n);
    expect(ours == quantized(kPortable, format, x, T, n), "quantised to other bytes than the portable kernels'");
    expect(Inputs(k, format, T, n, ours).prepared == Inputs(kPortable, format, T, n, ours).prepared,
           "prepared as other bytes than the portable kernels'");
  }
  for (const Type format : {Type::F16, Type::BF16}) {
    for (int odd = 1; odd < 9; ++odd) {
      expect(quantized(k, format, x, T, odd) == quantized(kPortable, format, x, T, odd), "the end of a row is wrong");
    }
  }
}

void silu(const Kernels& k) {
  Floats gate{0.0f, -0.0f, INFINITY, -INFINITY};
  for (float g = -100.0f; g < 100.0f; g += 0.0913f) gate.push_back(g);
  const Floats up = normal(gate.size());
  Floats ours(gate.size()), portable(gate.size());
  k.silu_mul(gate.data(), up.data(), static_cast<int>(gate.size()), ours.data());
  kPortable.silu_mul(gate.data(), up.data(), static_cast<int>(gate.size()), portable.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    expect(std::isnan(portable[i]) ? std::isnan(ours[i]) : float_to_bits(ours[i]) == float_to_bits(portable[i]),
           "exp has other bits than the portable kernels'");
    const double truth = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    expect(!std::isfinite(gate[i]) || std::fabs(ours[i] - truth) <= 1e-6 * std::fabs(truth) + 1e-36, "silu is wrong");
  }
  const float nan = NAN, one = 1.0f;
  k.silu_mul(&nan, &one, 1, ours.data());
  expect(std::isnan(ours[0]), "NaN is lost");
}

void fixed(const Kernels& k) {
  Floats y{0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 8388607.5f, 3e7f, 7.49f, -1e9f, 1e10f, NAN};
  const int32_t rounded[] = {0, 2, 2, 0, -2, 8388608, 30000000, 7, -1000000000, 0, 0};
  y.resize(31, 1.0f);
  for (const bool fits : {false, true}) {
    const int n = fits ? 9 : 31;
    std::vector<int32_t> sum(n, 1);
    float squares;
    expect(k.add_fixed(y.data(), n, 1.0f, 0x1p30f, sum.data(), &squares) == fits, "what does not fit is not told");
    for (int i = 0; i < n && i < 11; ++i) expect(sum[i] == rounded[i] + 1, "a fixed sum is rounded wrongly");
    double truth = 0.0;
    for (int i = 0; i < n; ++i) truth += static_cast<double>(y[i]) * y[i];
    expect(fits ? std::fabs(squares - truth) <= 1e-6 * truth : std::isnan(squares), "the sum of squares is wrong");
  }
}

Floats attend(const Kernels& k, const Floats& q, const std::vector<uint16_t>& keys, const std::vector<uint16_t>& values,
              int heads, int rows, int head_dim, int first) {
  Floats out(q.size(), NAN), scratch(2 * static_cast<size_t>(rows) * heads);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  k.attention({q.data(), out.data(), static_cast<size_t>(heads) * head_dim, heads, rows, keys.data(), values.data(),
               head_dim, first, scale, scratch.data()});
  return out;
}

// Query `q` over `seen` positions, in doubles.
void expect_attention(const float* q, const Floats& k, const Floats& v, int seen, int head_dim, const float* out) {
  std::vector<double> w(seen), truth(head_dim);
  double largest = -INFINITY, total = 0.0;
  for (int p = 0; p < seen; ++p) {
    for (int i = 0; i < head_dim; ++i) w[p] += static_cast<double>(q[i]) * k[static_cast<size_t>(p) * head_dim + i];
    w[p] /= std::sqrt(static_cast<double>(head_dim));
    largest = std::max(largest, w[p]);
  }
  for (int p = 0; p < seen; ++p) {
    total += w[p] = std::exp(w[p] - largest);
    for (int i = 0; i < head_dim; ++i) truth[i] += w[p] * v[static_cast<size_t>(p) * head_dim + i];
  }
  for (int i = 0; i < head_dim; ++i) {
    expect(std::fabs(out[i] - truth[i] / total) <= 1e-4 * std::fabs(truth[i] / total) + 2e-5, "attention is wrong");
  }
}

void attention(const Kernels& k) {
  const int shapes[][2] = {{1, 64}, {8, 64}, {4, 128}, {3, 40}, {2, 8}, {7, 80}, {3, 4}, {1, 102}};
  const int spans[][2] = {{0, 1}, {63, 1}, {64, 2}, {0, 70}, {200, 32}};
  for (const auto& [heads, head_dim] : shapes) {
    for (const auto& [first, rows] : spans) {
      const size_t cached = static_cast<size_t>(first + rows) * head_dim, row = static_cast<size_t>(heads) * head_dim;
      const Floats q = normal(rows * row, 3.0f), keys = normal(cached), values = normal(cached);
      std::vector<uint16_t> k16(cached), v16(cached);
      Floats seen_k(cached), seen_v(cached);
      for (size_t i = 0; i < cached; ++i) {
        k16[i] = f32_to_f16(keys[i]), v16[i] = f32_to_f16(values[i]);
        seen_k[i] = f16_to_f32(k16[i]), seen_v[i] = f16_to_f32(v16[i]);
      }
      const Floats out = attend(k, q, k16, v16, heads, rows, head_dim, first);
      for (int t = 0; t < rows; t += 1 + rows / 5) {
        for (int h = 0; h < heads; ++h) {
          const size_t place = t * row + static_cast<size_t>(h) * head_dim;
          expect_attention(q.data() + place, seen_k, seen_v, first + t + 1, head_dim, out.data() + place);
          const Floats one(q.begin() + place, q.begin() + place + head_dim);
          const Floats alone = attend(k, one, k16, v16, 1, 1, head_dim, first + t);
          expect(same_bits(alone, Floats(out.begin() + place, out.begin() + place + head_dim)),
                 "a query depends on those it is computed with");
        }
      }
    }
  }
}

void check(const Kernels& k) {
  for (int type = 0; type < 40; ++type) {
    if (type_info(type) == nullptr || !type_info(type)->weights) continue;
    at = std::string(k.isa) + ", " + type_info(type)->name;
    products(k, static_cast<Type>(type));
    if (type_info(type)->block > 1) extremes(k, static_cast<Type>(type));
  }
  at = k.isa;
  activations(k);
  silu(k);
  fixed(k);
  attention(k);
}

}  // namespace

int main() {
  try {
    kernels();  // what HALO_ISA names must run here
  } catch (const std::exception& e) {
    std::puts(e.what());
    return 2;
  }
  std::string names;
  for (const Kernels* const* k = variants(); *k != nullptr; ++k) {
    names += std::string(names.empty() ? "" : " ") + (*k)->isa;
    check(**k);
  }
  std::printf("%s\nok\n", names.c_str());
}
