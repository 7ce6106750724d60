// One device's arithmetic: the outputs of any set of a layer's groups, from the layer input. The hub and every
// worker run this same code, so who computes a group changes nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/cache.h"
#include "engine/memory.h"
#include "engine/model.h"
#include "engine/observer.h"
#include "engine/threads.h"
#include "kernels/kernels.h"

namespace halo {

// How partials are represented; numbers are those of the wire format. A device computes F16 as F32: it is rounded when
// it is sent.
enum class PartialFormat : uint8_t { F32 = 0, F16 = 1, Fixed = 2 };

// `Fixed` keeps this many bits below the residual's exponent: resolution 2^(exponent - 20).
inline constexpr int kFixedBits = 20;

// Exponents that `Fixed` can carry: floats scale by 2^(20 - exponent) without leaving their range.
inline int16_t clamp_exponent(int e) { return static_cast<int16_t>(e < -60 ? -60 : (e > 120 ? 120 : e)); }

// Rows of one compute, and of one message.
inline constexpr int kMaxRows = 32;

// The largest |value| that one group may contribute in `Fixed`, so that the sum over all `groups` fits 32 bits.
// It depends on the grid alone: whether a row overflows must not depend on who computes what.
inline float fixed_limit(int groups) {
  int bits = 0;
  while ((1 << bits) < groups) ++bits;
  return static_cast<float>(int64_t{1} << (30 - bits));
}

// What a device is asked: rows of one slot at one sync. Pointers are borrowed.
struct SyncInput {
  int layer = 0;
  Part part = Part::Attention;
  int slot = 0;
  uint32_t epoch = 0;
  uint32_t base = 0;  // what a cache of an older epoch holds from this position on is void
  int rows = 0;
  const uint32_t* positions = nullptr;  // (rows), consecutive
  const int16_t* exponents = nullptr;   // (rows), of `Fixed`
  const uint8_t* h = nullptr;           // (rows, d) in the layer's input format
  size_t h_stride = 0;
  PartialFormat format = PartialFormat::Fixed;
};

// The sum over the asked groups; `fixed` is used with `Fixed`, `f32` with the other formats.
struct Partial {
  std::vector<int32_t> fixed;  // (rows, d), in units of 2^(exponent - 20)
  std::vector<float> f32;      // (rows, d)
  std::vector<uint8_t> range;  // (rows): 1 where a group's output left the range of `Fixed`
  std::vector<float> norms;    // (rows, groups of the mask): norm of each group's output
  bool in_range() const;
  bool finite() const;  // whether every group's output is: its norm tells
};

// Why a device does not compute; numbers are those of the wire format.
enum class Refusal : uint16_t { None = 0, OldEpoch = 1, CacheIncomplete = 2, BadRequest = 3, Failed = 4 };

// Rows of one layer of a slot's cache.
struct CacheRows {
  int slot = 0, layer = 0, first = 0, rows = 0;
};

class Device {
 public:
  Device(std::shared_ptr<const Model> model, int n_ctx, int n_slots, int threads);

  // Computes the groups of `mask`; an attention input always goes into the cache, even with no group, and even where
  // earlier rows are missing and the groups are refused. Weights that are not in memory are packed first, and stay.
  // Rows, positions and slot must be in range (the caller checks what comes from outside).
  Refusal compute(const SyncInput& in, uint64_t mask, Partial& out);

  // Copies of cache rows, as one device sends them to another that misses them: for each KV head its keys, then its
  // values, each (rows, head_dim) f16. Ranges must be valid.
  size_t cache_bytes(int rows) const { return 2 * sizeof(uint16_t) * size_t(rows) * model_->spec.kv_dim(); }
  void copy_rows(const CacheRows& at, uint8_t* out) const;
  Refusal fill(const CacheRows& at, uint32_t epoch, uint32_t base, const uint8_t* rows);

  // Shows the outputs of MLP groups to this observer from now on; null: to nobody.
  void observe(std::shared_ptr<Observer> observer) { observer_ = std::move(observer); }

  const Model& model() const { return *model_; }
  int n_ctx() const { return n_ctx_; }

  // Exposed for the engine's head: y (T, rows of w) = x w^T on all threads; x is in w's activation format.
  void product(const Tensor& w, const uint8_t* x, size_t x_stride, int T, float* y);

 private:
  struct Span {  // a run of rows or columns, one group's
    int begin, end;
  };
  struct Share {  // a group's part of the projection back to the residual
    const Tensor* w;
    Span columns;
  };
  struct Rows {  // prepared activations, or a place for them
    uint8_t* data;
    size_t stride;
  };
  struct Task {  // rows of a product: y[t * y_stride + r] for r in `rows`
    const Tensor* w;
    Span rows;
    Rows x;
    float* y;
    size_t y_stride;
  };
  struct Prepared {  // the layer input as some weights read it
    Type format;
    bool ready = false;
    AlignedVector<uint8_t> bytes;
  };

  static bool enter(Cache& cache, uint32_t epoch, uint32_t base);
  Refusal attention(const SyncInput& in, uint64_t asked, Partial& out);
  void attend(const SyncInput& in, Cache& cache, const std::vector<int>& kv_heads);
  void mlp(const SyncInput& in, uint64_t mask, Partial& out);
  Rows input_for(const SyncInput& in, const Tensor& w);
  void convert(const SyncInput& in, Type from, Type to, Rows out);
  void multiply(const std::vector<Task>& tasks, int T);
  Rows activations_for(const Tensor& w, int rows);
  void activate(const Tensor& w, const float* x, const Span& columns, int t, Rows out);
  void prepare_rotations(const SyncInput& in);
  void rotate(float* x, int heads, int t) const;
  void store_keys_and_values(const SyncInput& in, const float* keys, const float* values, Cache& cache);
  void project(const std::vector<Share>& shares, Rows x, int total_groups, const SyncInput& in, Partial& out);
  void project_chunk(const Share& share, size_t number, Rows x, float limit, const SyncInput& in, int chunk,
                     Partial& out);

  std::shared_ptr<const Model> model_;
  const Kernels& k_;
  int n_ctx_;
  std::vector<std::unique_ptr<Cache>> slots_;
  Threads threads_;
  std::shared_ptr<Observer> observer_;
  Observer* watching_ = nullptr;   // of the present projection
  float rope_step_ = 1.0f;         // ratio of the angles of neighbouring pairs
  std::vector<uint32_t> rotated_;  // the positions that `rotations_` is for
  std::vector<float> rotations_;   // (rows, rope_dims): cosine, sine of each pair

  // Scratch of one compute, grown as needed.
  std::vector<Prepared> inputs_;
  AlignedVector<float> q_, keys_, values_, attended_, gate_, up_;
  std::vector<float> states_;          // (threads, 2 * heads * kAttentionRows)
  std::vector<float> squares_;         // (chunks, rows, groups): squared norm of a chunk of a group's output
  std::vector<uint8_t> overflows_;     // (chunks, rows)
  AlignedVector<uint8_t> activation_;  // (rows, columns of the projection), prepared
};

}  // namespace halo
