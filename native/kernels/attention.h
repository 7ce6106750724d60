// Causal attention with a running maximum (Milakov and Gimelshein 2018), in blocks of positions that start at
// multiples of kPositions: a row's result does not depend on the rows it is computed with.
//
// A block of keys and values is read once for all queries, a few of them at a time, while it lies in the first cache.
// `V` is what a variant's vectors can do; everything is in an anonymous namespace: each variant compiles its own.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/kernels.h"
#include "kernels/scalar.h"

namespace halo {
namespace {

constexpr int kPositions = 64;  // of one block

// Queries are numbered row by row: query i is head i % heads of row i / heads. N of them are computed together.
template <int N>
struct Queries {
  const float* q[N];
  float* out[N];
  float* state[N];  // running maximum, running sum of weights
  int n[N];         // positions of this block that the query sees; 0: none, or no query
};

template <typename V>
struct BlockedAttention {
  using Vector = typename V::Vector;
  using Part = typename V::Part;  // says which lanes hold something
  static constexpr int kQueries = V::kQueries, kLanes = V::kLanes, kColumns = 4 * kLanes;
  using Group = Queries<kQueries>;

  // scores[i][p] = q_i . k_p for the first n positions, p rounded up to a multiple of 4.
  static void scores_of(const Group& g, const uint16_t* k, int head_dim, int n, float (*scores)[kPositions]) {
    for (int p = 0; p < n; p += 4) {
      const uint16_t* ks[4];
      for (int j = 0; j < 4; ++j) ks[j] = k + static_cast<size_t>(p + j < n ? p + j : n - 1) * head_dim;
      Vector sums[kQueries][4];
      for (int i = 0; i < kQueries; ++i) {
        for (int j = 0; j < 4; ++j) sums[i][j] = V::set(0.0f);
      }
      for (int c = 0; c < head_dim; c += kLanes) {
        const Part part = V::first(head_dim - c);
        Vector keys[4];
        for (int j = 0; j < 4; ++j) keys[j] = V::load_f16(ks[j] + c, part);
#pragma GCC unroll 4
        for (int i = 0; i < kQueries; ++i) {
          const Vector q = V::load(g.q[i] + c, part);
          for (int j = 0; j < 4; ++j) sums[i][j] = V::fma(q, keys[j], sums[i][j]);
        }
      }
      for (int i = 0; i < kQueries; ++i) V::add_lanes(sums[i], scores[i] + p);
    }
  }

  // Turns n scores into weights relative to the new maximum; returns what older sums must be multiplied with.
  static float weigh(float* scores, int n, float scale, float* state) {
    Vector v[kPositions / kLanes];
    Vector largest = V::set(state[0]);
    for (int i = 0; i * kLanes < n; ++i) {
      v[i] = V::mul(V::load(scores + kLanes * i), V::set(scale));
      largest = V::max(largest, v[i], V::first(n - kLanes * i));
    }
    const float top = V::largest_lane(largest);
    Vector total = V::set(0.0f);
    for (int i = 0; i * kLanes < n; ++i) {
      const Vector w = Elementwise<V>::exp(V::sub(v[i], V::set(top)));
      total = V::add(total, w, V::first(n - kLanes * i));
      V::store(scores + kLanes * i, w);
    }
    const float fade = exp_f32(state[0] - top);
    state[0] = top;
    state[1] = state[1] * fade + V::add_lanes(total);
    return fade;
  }

  // out_i = fade_i * out_i + sum of weights[i][p] * v_p, for kColumns columns from c on.
  static void add_values(const Group& g, const uint16_t* v, int head_dim, int c, const float* fade,
                         const float (*weights)[kPositions]) {
    Part parts[4];
    for (int j = 0; j < 4; ++j) parts[j] = V::first(head_dim - c - kLanes * j);
    Vector sums[kQueries][4];
    int common = kPositions;
    for (int i = 0; i < kQueries; ++i) {
      common = g.n[i] < common ? g.n[i] : common;
      for (int j = 0; j < 4; ++j) {
        sums[i][j] = V::mul(V::set(fade[i]), V::load(g.out[i] + c + kLanes * j, parts[j]));
      }
    }
    const uint16_t* row = v + c;
    for (int p = 0; p < common; ++p, row += head_dim) {
      Vector values[4];
      for (int j = 0; j < 4; ++j) values[j] = V::load_f16(row + kLanes * j, parts[j]);
#pragma GCC unroll 4
      for (int i = 0; i < kQueries; ++i) {
        const Vector w = V::set(weights[i][p]);
        for (int j = 0; j < 4; ++j) sums[i][j] = V::fma(w, values[j], sums[i][j]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) {  // a later row sees more positions than an earlier one
      for (int p = common; p < g.n[i]; ++p) {
        const uint16_t* own = v + static_cast<size_t>(p) * head_dim + c;
        for (int j = 0; j < 4; ++j) {
          sums[i][j] = V::fma(V::set(weights[i][p]), V::load_f16(own + kLanes * j, parts[j]), sums[i][j]);
        }
      }
    }
    for (int i = 0; i < kQueries; ++i) {
      for (int j = 0; j < 4; ++j) {
        if (g.n[i] > 0) V::store(g.out[i] + c + kLanes * j, sums[i][j], parts[j]);
      }
    }
  }

  static void attend(const Attention& a, const Group& g, int begin) {
    float weights[kQueries][kPositions];
    float fade[kQueries];
    int most = 0;
    for (int n : g.n) most = n > most ? n : most;
    const size_t offset = static_cast<size_t>(begin) * a.head_dim;
    scores_of(g, a.k + offset, a.head_dim, most, weights);
    for (int i = 0; i < kQueries; ++i) fade[i] = g.n[i] > 0 ? weigh(weights[i], g.n[i], a.scale, g.state[i]) : 1.0f;
    for (int c = 0; c < a.head_dim; c += kColumns) add_values(g, a.v + offset, a.head_dim, c, fade, weights);
  }

  // Queries from `first` on, of which those at `count` and beyond repeat the last and see nothing.
  static Group take(const Attention& a, int first, int count, int begin) {
    Group g;
    for (int i = 0; i < kQueries; ++i) {
      const bool real = first + i < count;
      const int query = real ? first + i : count - 1, t = query / a.heads;
      const size_t at = t * a.stride + static_cast<size_t>(query % a.heads) * a.head_dim;
      const int seen = a.first + t + 1 - begin;
      g.q[i] = a.q + at;
      g.out[i] = a.out + at;
      g.state[i] = a.scratch + 2 * static_cast<size_t>(query);
      g.n[i] = !real || seen < 0 ? 0 : (seen > kPositions ? kPositions : seen);
    }
    return g;
  }

  static void run(const Attention& a) {
    const int count = a.rows * a.heads;
    for (int i = 0; i < count; ++i) {
      float* out = a.out + i / a.heads * a.stride + static_cast<size_t>(i % a.heads) * a.head_dim;
      for (int c = 0; c < a.head_dim; ++c) out[c] = 0.0f;
      a.scratch[2 * i] = -__builtin_inff();
      a.scratch[2 * i + 1] = 0.0f;
    }
    for (int begin = 0; begin < a.first + a.rows; begin += kPositions) {
      for (int i = 0; i < count; i += kQueries) {
        const Group g = take(a, i, count, begin);
        int seen = 0;
        for (int n : g.n) seen |= n;
        if (seen > 0) attend(a, g, begin);
      }
    }
    for (int i = 0; i < count; ++i) {
      float* out = a.out + i / a.heads * a.stride + static_cast<size_t>(i % a.heads) * a.head_dim;
      for (int c = 0; c < a.head_dim; ++c) out[c] /= a.scratch[2 * i + 1];
    }
  }
};

}  // namespace
}  // namespace halo
