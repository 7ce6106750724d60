// Packing of 8 rows of block formats into panels for ARM, in two halves of 4 rows. A vector holds `Chunk` consecutive
// bytes of one row after the other: 4 of each of the 4 rows for the dot product instructions, whose lanes then are
// rows; 16 of one row without them, where a multiplication brings 8 sums of a row and the rows' sums are added
// pairwise at the end.
//
// The parts of a block lie in the order in which products read them.
#pragma once

#include <cstring>

#include "kernels/formats.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace neon {

constexpr int kRows = 8;  // of a panel

// `bytes` bytes of row r, xor `flip`, where those of the 4 rows of its half begin at `out`; the other half's follow.
template <int Chunk>
void spread(const uint8_t* in, int bytes, int r, uint8_t* out, uint8_t flip = 0) {
  out += r / 4 * 4 * bytes + r % 4 * Chunk;
  for (int i = 0; i < bytes; ++i) out[i / Chunk * 4 * Chunk + i % Chunk] = in[i] ^ flip;
}

// Nibbles (16 bytes a row) xor `Flip`: 0x88 makes those of Q4_0 signed.
template <int Chunk, typename B, bool Min, bool Fifth, uint8_t Flip = 0>
struct PanelQ45 : LayoutQ45<kRows, B, Min, Fifth> {
  using Layout = LayoutQ45<kRows, B, Min, Fifth>;
  static void put(const B& b, int r, uint8_t* out) {
    Layout::put_scales(b, r, out);
    if constexpr (Fifth) arrange_fifth(b.high, out + Layout::kHigh + 4 * r);
    spread<Chunk>(b.nibbles, 16, r, out + Layout::kWeights, Flip);
  }
};

// scales (8 f16), values (32 bytes a row)
template <int Chunk>
struct PanelQ8_0 {
  using Block = BlockQ8_0;
  static constexpr int kValues = 32, kScales = 0, kWeights = 16, kBytes = 34 * kRows;
  static void put(const Block& b, int r, uint8_t* out) {
    std::memcpy(out + kScales + 2 * r, &b.scale, 2);
    spread<Chunk>(reinterpret_cast<const uint8_t*>(b.values), 32, r, out + kWeights);
  }
};

// scales (16 runs x 8 bytes); two halves of 128 values, each: upper bits (16 bytes a row; bit `run` of byte i is of
// value i of run `run` of the half), inverted, which makes them signs, then lower bits of two quarters (16 bytes a row
// each; bits 2j, 2j + 1 of byte i are of value i of run j of the quarter); scale (8 f16).
template <int Chunk>
struct PanelQ3_K {
  using Block = BlockQ3_K;
  static constexpr int kValues = 256, kScales = 0, kScale = 896, kBytes = 114 * kRows;
  static constexpr int high(int quarter) { return 128 + 384 * (quarter / 2); }
  static constexpr int low(int quarter) { return high(quarter) + 128 * (1 + quarter % 2); }
  static void put(const Block& b, int r, uint8_t* out) {
    int8_t scales[16];
    unpack_scales(b, scales);
    for (int run = 0; run < 16; ++run) out[kScales + kRows * run + r] = static_cast<uint8_t>(scales[run]);
    const BitsQ3_K bits(b);
    for (int half = 0; half < 2; ++half) spread<Chunk>(bits.high[half], 16, r, out + high(2 * half), 0xff);
    for (int quarter = 0; quarter < 4; ++quarter) spread<Chunk>(bits.low[quarter], 16, r, out + low(quarter));
    std::memcpy(out + kScale + 2 * r, &b.scale, 2);
  }
};

// scales (8 runs x 8 bytes), nibbles of 4 pairs of runs (32 bytes a row), mins (8 runs x 8 bytes), scale, min (8 f16)
template <int Chunk>
struct PanelQ4_K {
  using Block = BlockQ4_K;
  static constexpr int kValues = 256, kScales = 0, kMins = 1088, kScale = 1152, kMin = 1168, kBytes = 148 * kRows;
  static constexpr int nibbles(int pair) { return 64 + 256 * pair; }
  static void put(const Block& b, int r, uint8_t* out) {
    put_scales(b, r, out + kScales, out + kMins);
    for (int pair = 0; pair < 4; ++pair) spread<Chunk>(b.nibbles + 32 * pair, 32, r, out + nibbles(pair));
  }
  // `ends`: mins, scale and min.
  template <typename B>
  static void put_scales(const B& b, int r, uint8_t* out, uint8_t* ends) {
    uint8_t scales[8], mins[8];
    unpack_scales(b.scales, scales, mins);
    for (int run = 0; run < 8; ++run) {
      out[kRows * run + r] = scales[run];
      ends[kRows * run + r] = mins[run];
    }
    std::memcpy(ends + 64 + 2 * r, &b.scale, 2);
    std::memcpy(ends + 80 + 2 * r, &b.min, 2);
  }
};

// As Q4_K, with fifth bits before each two pairs of runs: 16 bytes a row. Byte i holds those of values i and i + 16 of
// each run: bit 4 * (pair % 2) + 2 * (value / 16) + (run % 2).
template <int Chunk>
struct PanelQ5_K {
  using Block = BlockQ5_K;
  static constexpr int kValues = 256, kScales = 0, kMins = 1344, kScale = 1408, kMin = 1424, kBytes = 180 * kRows;
  static constexpr int high(int pair) { return 64 + 640 * (pair / 2); }
  static constexpr int nibbles(int pair) { return high(pair) + 128 + 256 * (pair % 2); }
  static void put(const Block& b, int r, uint8_t* out) {
    PanelQ4_K<Chunk>::put_scales(b, r, out + kScales, out + kMins);
    for (int pair = 0; pair < 4; ++pair) spread<Chunk>(b.nibbles + 32 * pair, 32, r, out + nibbles(pair));
    for (int two = 0; two < 2; ++two) {
      uint8_t fifth[16] = {};
      for (int run = 4 * two; run < 4 * two + 4; ++run) {
        for (int i = 0; i < 32; ++i) {
          const int bit = run % 4 / 2 * 4 + i / 16 * 2 + run % 2;
          fifth[i % 16] |= static_cast<uint8_t>((b.high[i] >> run & 1) << bit);
        }
      }
      spread<Chunk>(fifth, 16, r, out + high(2 * two));
    }
  }
};

// scales (16 runs x 8 bytes); four quarters of 4 runs each; scale (8 f16). A quarter has three bytes for four values,
// which have their 32 taken off: the upper six bits of byte i of part p (0 .. 2) are value i of run p, and the lower
// two, one part after the other, are value i of run 3. Both halves have their three parts of 16 bytes a row.
template <int Chunk>
struct PanelQ6_K {
  using Block = BlockQ6_K;
  static constexpr int kValues = 256, kScales = 0, kValuesAt = 128, kQuarter = 384, kHalf = 192, kScale = 1664,
                       kBytes = 210 * kRows;
  static void put(const Block& b, int r, uint8_t* out) {
    uint8_t q[256];
    unpack_q6(b, q);
    for (int quarter = 0; quarter < 4; ++quarter) {
      uint8_t* place = out + kValuesAt + kQuarter * quarter + kHalf * (r / 4);
      for (int part = 0; part < 3; ++part) {
        uint8_t bytes[16];
        for (int i = 0; i < 16; ++i) {
          const int own = (q[64 * quarter + 16 * part + i] ^ 32) << 2, last = q[64 * quarter + 48 + i] ^ 32;
          bytes[i] = static_cast<uint8_t>(own | (last >> (4 - 2 * part) & 3));
        }
        spread<Chunk>(bytes, 16, r % 4, place + 64 * part);
      }
    }
    for (int run = 0; run < 16; ++run) out[kScales + kRows * run + r] = static_cast<uint8_t>(b.scales[run]);
    std::memcpy(out + kScale + 2 * r, &b.scale, 2);
  }
};

}  // namespace neon
}  // namespace
}  // namespace halo
