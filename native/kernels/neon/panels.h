// What the products of all block formats use, with and without dot product instructions: the sums of a panel's 8 rows,
// scales, and the mins of Q4_K and Q5_K.
#pragma once

#include "kernels/neon/packing.h"
#include "kernels/neon/vector.h"
#include "kernels/panels.h"

namespace halo {
namespace {
namespace neon {

struct Sums {
  float32x4_t half[2];
};

struct PanelVectors {
  using Vector = Sums;
  struct Rows {
    int begin, end;
  };
  static constexpr int kLanes = kRows;
  static Vector set(float f) { return {{vdupq_n_f32(f), vdupq_n_f32(f)}}; }
  static Rows between(int begin, int end) { return {begin < 0 ? 0 : begin, end > kRows ? kRows : end}; }
  static void store_rows(float* p, const Vector& v, Rows rows) {
    if (rows.end - rows.begin == kRows) {
      vst1q_f32(p, v.half[0]);
      vst1q_f32(p + 4, v.half[1]);
      return;
    }
    float all[kRows];
    vst1q_f32(all, v.half[0]);
    vst1q_f32(all + 4, v.half[1]);
    for (int r = rows.begin; r < rows.end; ++r) p[r] = all[r];
  }
};

template <typename Kernel>
constexpr Product panel_product() {
  return Panels<PanelVectors>::product<Kernel>();
}

// The rows' scales of one half.
inline float32x4_t scales_of(const uint8_t* scales, int half) { return load_f16(scales + 8 * half); }

// The 8-bit scales of 8 rows for one half: widened.
template <int Half>
int32x4_t half_of(int16x8_t all) {
  return Half == 0 ? vmovl_s16(vget_low_s16(all)) : vmovl_high_s16(all);
}
inline int16x8_t unsigned_scales(const uint8_t* p) { return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))); }
inline int16x8_t signed_scales(const uint8_t* p) { return vmovl_s8(vreinterpret_s8_u8(vld1_u8(p))); }

// sum += the rows' mins of one half times activation sum `Run`.
template <int Half, int Run>
int32x4_t times_sum(int32x4_t sum, int16x8_t mins, int16x8_t sums) {
  return Half == 0 ? vmlal_laneq_s16(sum, vget_low_s16(mins), sums, Run) : vmlal_high_laneq_s16(sum, mins, sums, Run);
}

// Q4_K and Q5_K, one half: adds a block's integer sums `total`, less the mins, to the floats.
template <typename Panel, int T, int Half>
void finish_k(const uint8_t* w, const uint8_t* const* xs, const int32x4_t* total, Sums* sums) {
  int16x8_t mins[8];
#pragma GCC unroll 8
  for (int run = 0; run < 8; ++run) mins[run] = unsigned_scales(w + Panel::kMins + kRows * run);
  const float32x4_t scale = scales_of(w + Panel::kScale, Half), min = scales_of(w + Panel::kMin, Half);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
    const int16x8_t x_sums = vld1q_s16(x->sums);
    int32x4_t below = vdupq_n_s32(0);
    below = times_sum<Half, 0>(below, mins[0], x_sums);
    below = times_sum<Half, 1>(below, mins[1], x_sums);
    below = times_sum<Half, 2>(below, mins[2], x_sums);
    below = times_sum<Half, 3>(below, mins[3], x_sums);
    below = times_sum<Half, 4>(below, mins[4], x_sums);
    below = times_sum<Half, 5>(below, mins[5], x_sums);
    below = times_sum<Half, 6>(below, mins[6], x_sums);
    below = times_sum<Half, 7>(below, mins[7], x_sums);
    float32x4_t& sum = sums[t].half[Half];
    sum = vfmaq_f32(sum, vcvtq_f32_s32(total[t]), vmulq_n_f32(scale, x->scale));
    sum = vfmsq_f32(sum, vcvtq_f32_s32(below), vmulq_n_f32(min, x->scale));
  }
}

}  // namespace neon
}  // namespace
}  // namespace halo
