// What happens to products value by value, on a variant's vectors `V`: the same operations in the same order as the
// portable kernels, so that exp and silu have the same bits. Everything is in an anonymous namespace: each variant
// compiles its own.
#pragma once

#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {

template <typename V>
struct Elementwise {
  using Vector = typename V::Vector;
  using Part = typename V::Part;
  static constexpr int kLanes = V::kLanes;

  // As exp_f32 of scalar.h, bit for bit.
  static Vector exp(Vector x) {
    const Vector low = V::set(-87.3f), high = V::set(88.7f), magic = V::set(12582912.0f);
    const Vector clamped = V::min(high, V::max(low, x));  // NaN stays NaN
    const Vector n = V::sub(V::add(V::mul(clamped, V::set(1.44269504088896341f)), magic), magic);
    const Vector r = V::sub(V::sub(clamped, V::mul(n, V::set(0.693359375f))), V::mul(n, V::set(-2.12194440e-4f)));
    constexpr float kTerms[] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
    Vector p = V::set(1.0f / 5040.0f);
    for (float term : kTerms) p = V::add(V::mul(p, r), V::set(term));
    const Vector y = V::times_power_of_2(p, n);
    return V::where_less(high, x, V::set(__builtin_inff()), V::where_less(x, low, V::set(0.0f), y));
  }

  static void silu_mul(const float* gate, const float* up, int n, float* out) {
    for (int i = 0; i < n; i += kLanes) {
      const Part part = V::first(n - i);
      const Vector g = V::load(gate + i, part), u = V::load(up + i, part);
      const Vector silu = V::div(g, V::add(V::set(1.0f), exp(V::negative(g))));
      V::store(out + i, V::mul(silu, u), part);
    }
  }

  static bool add_fixed(const float* y, int n, float scale, float limit, int32_t* sum, float* squares) {
    const Vector scales = V::set(scale), limits = V::set(limit);
    Vector total = V::set(0.0f);
    bool fits = true;
    for (int i = 0; i < n; i += kLanes) {
      const Part part = V::first(n - i);
      const Vector v = V::load(y + i, part);
      total = V::fma(v, v, total);
      fits &= V::add_rounded(V::mul(v, scales), limits, sum + i, part);
    }
    *squares = V::add_lanes(total);
    return fits;
  }
};

}  // namespace
}  // namespace halo
