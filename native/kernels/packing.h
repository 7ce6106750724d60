// Packing of R rows of block formats into panels, shared by the variants that keep panels. Everything is in an
// anonymous namespace: each variant compiles its own.
//
// The principle: one vector load brings 4 consecutive bytes of each of the R rows, so with 4 activations broadcast
// to all lanes every lane sums up a row of its own, and nothing is ever added across lanes.
//
// The parts of a block lie in the order in which products read them. The processor reads memory ahead in order only:
// with a block's scales at its end, Q8_0 came from memory at 6/7 of the speed; with Q5_K's fifth bits there, at a
// third.
#pragma once

#include <cstring>

#include "kernels/formats.h"

namespace halo {
namespace {

// `bytes` bytes of the row's block, 4 at a time: those of row r go to out + 4 r, the next 4 to out + 4 R + 4 r.
template <int R>
void interleave(const uint8_t* in, int bytes, int r, uint8_t* out) {
  for (int j = 0; j < bytes / 4; ++j) std::memcpy(out + j * 4 * R + 4 * r, in + 4 * j, 4);
}

// The fifth bits of a block of 32 so that they are shifted alike for 4 neighbouring values: bit j of byte i is of value
// 4j + i.
inline void arrange_fifth(const uint8_t* high, uint8_t* out) {
  std::memset(out, 0, 4);
  for (int v = 0; v < 32; ++v) out[v % 4] |= static_cast<uint8_t>((high[v / 8] >> (v % 8) & 1) << (v / 4));
}

// The values of a Q3_K block so that byte l has value l of several runs of 16.
struct BitsQ3_K {
  uint8_t high[2][16] = {};  // of a half: bit `run` is the upper bit in run `run` of the half
  uint8_t low[4][16] = {};   // of a quarter: bits 2i, 2i + 1 are the lower bits in run i of the quarter
  explicit BitsQ3_K(const BlockQ3_K& b) {
    uint8_t q[256];
    unpack_q3(b, q);
    for (int v = 0; v < 256; ++v) {
      const int run = v / 16;
      high[run / 8][v % 16] |= static_cast<uint8_t>(q[v] >> 2 << (run % 8));
      low[run / 4][v % 16] |= static_cast<uint8_t>((q[v] & 3) << (run % 4 * 2));
    }
  }
};

// What comes before the nibbles of 4 or 5 bits: scales, mins if there are any (R f16 each), fifth bits if there are any
// (R x 4 bytes, see arrange_fifth). Then nibbles (16 bytes a row).
template <int R, typename B, bool Min, bool Fifth>
struct LayoutQ45 {
  using Block = B;
  static constexpr bool kHasMin = Min, kHasFifth = Fifth;
  static constexpr int kValues = 32, kScales = 0, kMins = 2 * R, kHigh = Min ? 4 * R : 2 * R,
                       kWeights = Fifth ? kHigh + 4 * R : kHigh, kBytes = kWeights + 16 * R;
  static_assert(kBytes == sizeof(Block) * R);
  static void put_scales(const Block& b, int r, uint8_t* out) {
    std::memcpy(out + kScales + 2 * r, &b.scale, 2);
    if constexpr (Min) std::memcpy(out + kMins + 2 * r, &b.min, 2);
  }
};

// Nibbles: 4 groups of R x 4 bytes.
template <int R, typename B, bool Min, bool Fifth>
struct PanelQ45 : LayoutQ45<R, B, Min, Fifth> {
  using Layout = LayoutQ45<R, B, Min, Fifth>;
  static void put(const B& b, int r, uint8_t* out) {
    Layout::put_scales(b, r, out);
    if constexpr (Fifth) arrange_fifth(b.high, out + Layout::kHigh + 4 * r);
    interleave<R>(b.nibbles, 16, r, out + Layout::kWeights);
  }
};

// scales (R f16), values (8 groups of R x 4 bytes) xor `Flip`: 0x80 adds 128, which makes them unsigned.
template <int R, uint8_t Flip>
struct PanelQ8_0 {
  using Block = BlockQ8_0;
  static constexpr int kValues = 32, kScales = 0, kWeights = 2 * R, kBytes = 34 * R;
  static void put(const Block& b, int r, uint8_t* out) {
    uint8_t values[32];
    for (int i = 0; i < 32; ++i) values[i] = static_cast<uint8_t>(b.values[i]) ^ Flip;
    interleave<R>(values, 32, r, out + kWeights);
    std::memcpy(out + kScales + 2 * r, &b.scale, 2);
  }
};

// scales (16 runs x R bytes); two halves of 128 values, each: upper bits (4 groups of R x 4; bit `run` of a byte is of
// run `run` of the half), then lower bits of two quarters (4 groups each; bits 2i, 2i + 1 are of run i of the
// quarter); scale (R f16).
template <int R>
struct PanelQ3_K {
  using Block = BlockQ3_K;
  static constexpr int kValues = 256, kScales = 0, kValuesAt = 16 * R, kHalf = 48 * R, kScale = 112 * R,
                       kBytes = 114 * R;
  static constexpr int high(int run) { return kValuesAt + run / 8 * kHalf; }
  static constexpr int low(int run) { return high(run) + 16 * R * (1 + run / 4 % 2); }
  static void put(const Block& b, int r, uint8_t* out) {
    int8_t scales[16];
    unpack_scales(b, scales);
    for (int run = 0; run < 16; ++run) out[kScales + run * R + r] = static_cast<uint8_t>(scales[run]);
    const BitsQ3_K bits(b);
    for (int half = 0; half < 2; ++half) {
      interleave<R>(bits.high[half], 16, r, out + high(8 * half));
      for (int i = 2 * half; i < 2 * half + 2; ++i) interleave<R>(bits.low[i], 16, r, out + low(4 * i));
    }
    std::memcpy(out + kScale + 2 * r, &b.scale, 2);
  }
};

// scales (8 runs x R bytes), nibbles (32 groups of R x 4), mins (4 pairs of runs x R x 2 bytes), scale, min (R f16)
template <int R>
struct PanelQ4_K {
  using Block = BlockQ4_K;
  static constexpr int kValues = 256, kScales = 0, kNibbles = 8 * R, kMins = 136 * R, kScale = 144 * R, kMin = 146 * R,
                       kBytes = 148 * R;
  static void put(const Block& b, int r, uint8_t* out) {
    put_scales(b, r, out + kScales, out + kMins);
    interleave<R>(b.nibbles, 128, r, out + kNibbles);
  }
  // `ends`: mins, scale and min.
  template <typename B>
  static void put_scales(const B& b, int r, uint8_t* out, uint8_t* ends) {
    uint8_t scales[8], mins[8];
    unpack_scales(b.scales, scales, mins);
    for (int run = 0; run < 8; ++run) {
      out[run * R + r] = scales[run];
      ends[(run / 2 * R + r) * 2 + run % 2] = mins[run];
    }
    std::memcpy(ends + 8 * R + 2 * r, &b.scale, 2);
    std::memcpy(ends + 10 * R + 2 * r, &b.min, 2);
  }
};

// As Q4_K with the fifth bits (8 groups of R x 4 bytes; bit `run` of a byte) before the nibbles.
template <int R>
struct PanelQ5_K {
  using Block = BlockQ5_K;
  static constexpr int kValues = 256, kScales = 0, kHigh = 8 * R, kNibbles = 40 * R, kMins = 168 * R, kScale = 176 * R,
                       kMin = 178 * R, kBytes = 180 * R;
  static void put(const Block& b, int r, uint8_t* out) {
    PanelQ4_K<R>::put_scales(b, r, out + kScales, out + kMins);
    interleave<R>(b.high, 32, r, out + kHigh);
    interleave<R>(b.nibbles, 128, r, out + kNibbles);
  }
};

// scales (16 runs x R bytes); four quarters of 64 values, each: upper bits (4 groups of R x 4; bits 2i, 2i + 1 are of
// run i of the quarter), nibbles (8 groups: runs 0 and 2, then runs 1 and 3, the first in the low halves); scale (R
// f16).
template <int R>
struct PanelQ6_K {
  using Block = BlockQ6_K;
  static constexpr int kValues = 256, kScales = 0, kValuesAt = 16 * R, kQuarter = 48 * R, kScale = 208 * R,
                       kBytes = 210 * R;
  static void put(const Block& b, int r, uint8_t* out) {
    uint8_t q[256];
    unpack_q6(b, q);
    for (int quarter = 0; quarter < 4; ++quarter) {
      const uint8_t* v = q + 64 * quarter;
      uint8_t high[16] = {}, nibbles[32];
      for (int i = 0; i < 16; ++i) {
        for (int run = 0; run < 4; ++run) high[i] |= static_cast<uint8_t>(v[16 * run + i] >> 4 << (2 * run));
        nibbles[i] = static_cast<uint8_t>((v[i] & 15) | (v[i + 32] & 15) << 4);
        nibbles[16 + i] = static_cast<uint8_t>((v[16 + i] & 15) | (v[48 + i] & 15) << 4);
      }
      interleave<R>(high, 16, r, out + kValuesAt + quarter * kQuarter);
      interleave<R>(nibbles, 32, r, out + kValuesAt + quarter * kQuarter + 16 * R);
    }
    for (int run = 0; run < 16; ++run) out[kScales + run * R + r] = static_cast<uint8_t>(b.scales[run]);
    std::memcpy(out + kScale + 2 * r, &b.scale, 2);
  }
};

// One panel: see Product::pack.
template <typename Panel>
void pack_panel(const uint8_t* w, size_t w_stride, int rows, int blocks, uint8_t* out) {
  std::memset(out, 0, static_cast<size_t>(blocks) * Panel::kBytes);
  for (int r = 0; r < rows; ++r) {
    const auto* row = reinterpret_cast<const typename Panel::Block*>(w + r * w_stride);
    for (int k = 0; k < blocks; ++k) Panel::put(row[k], r, out + static_cast<size_t>(k) * Panel::kBytes);
  }
}

// Rows that stay as they are: only their place changes, from the file's small pages to huge ones.
template <size_t Bytes>
void copy_row(const uint8_t* w, size_t, int, int blocks, uint8_t* out) {
  std::memcpy(out, w, blocks * Bytes);
}

}  // namespace
}  // namespace halo
