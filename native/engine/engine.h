// The hub's engine: one call takes tokens through all layers, sharing every sync with the workers of the exchange.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/exchange.h"
#include "engine/lateness.h"
#include "engine/pace.h"
#include "engine/tolerance.h"
#include "schedule/assigner.h"
#include "schedule/speed.h"

namespace halo {

// MLP group results of calls with a single token, without those of empty groups.
struct ToleranceCounters {
  uint64_t groups = 0, tolerant = 0;  // of all layers; of them, those that might have been late
  uint64_t late = 0, corrected = 0;   // not in their own sync; of them, those that came in the next one
  uint64_t forced = 0;                // tolerant only because nobody reliable holds them
  double late_weight = 0;             // of the late ones, each layer's groups weighing 1 together (Tolerance::weight)
  uint64_t syncs = 0;                 // of MLPs: what all groups weigh
};

struct EngineCounters {
  uint64_t tokens = 0, syncs = 0, range_repeats = 0;
  ToleranceCounters tolerance;
  double choose_us = 0;                      // spent on predicting, and choosing what may be late
  uint64_t group_results = 0, requests = 0;  // the hub's own, what it stood in for included
  uint64_t stand_ins = 0;                    // requests of others that it computed
};

class Engine {
 public:
  using Poll = std::function<void()>;  // called often while forward runs; may throw to stop it

  Engine(std::shared_ptr<const Model> model, int n_ctx, int n_slots, int threads, PartialFormat partials);

  // Appends `tokens` to the slot and writes logits: (vocab) of the last one, or (n, vocab) with all_logits.
  // If it throws, the slot holds what it held before the batch (of at most kMaxRows tokens) that failed.
  void forward(int slot, const int32_t* tokens, int n, bool all_logits, float* logits, const Poll& poll);

  void truncate(int slot, int n);
  int n_past(int slot) const;
  void cancel() { cancelled_ = true; }

  // Shares the work with the workers of this exchange from now on; null: with none. All slots must be empty.
  void attach(std::shared_ptr<Exchange> exchange);
  void set_assigner(std::unique_ptr<Assigner> assigner) { assigner_ = std::move(assigner); }

  // Shows what the hub's own MLP groups give to this observer; null: to nobody. Not while forward runs.
  void observe(std::shared_ptr<Observer> observer) { device_.observe(std::move(observer)); }

  // Quality below exact, and injected lateness: from the next token on. Not while forward runs.
  //
  // What is known of the model's groups (none: nothing), checked against it; the quality is exact until `set_quality`.
  void set_tolerance(std::optional<SidecarTables> tables);
  // Lets this share of the MLP groups be late, in the calls with a single token. Throws std::invalid_argument beyond 0
  // to 1, and above 0 without tables.
  void set_quality(double share, bool planned);
  void inject(Lateness lateness) { lateness_ = std::move(lateness); }

  // Of the hub's own part of a sync, for measurements; at any time, from any thread.
  Pace& pace() { return pace_; }

  int n_ctx() const { return device_.n_ctx(); }
  const Spec& spec() const { return device_.model().spec; }
  EngineCounters counters() const;  // from any thread
  const std::shared_ptr<Exchange>& exchange() const { return exchange_; }
  void reset_counters();

 private:
  struct SlotState {
    int n_past = 0;
    uint32_t epoch = 0;
    uint32_t base = 0;       // the position from which the epoch is new
    bool confirmed = false;  // every device has entered the epoch
  };
  // The input of a relaxed sync from which something is late, until the next sync.
  struct Kept {
    SyncInput in;
    uint32_t position = 0;
    std::vector<uint8_t> h;
    uint64_t late = 0;  // groups that are to be computed then
  };

  static Error not_finite(int layer);
  void check_forward(int slot, const int32_t* tokens, int n) const;
  void batch(int slot, const int32_t* tokens, int rows, float* logits, int logit_rows, const Poll& poll);
  void embed(const int32_t* tokens, int rows);
  void normalise(const float* x, const float* weight, float* out) const;
  void encode(const float* weight, Type format, int rows);
  void sync(SyncInput in, const Poll& poll);
  void assign(const SyncInput& in, Scatter& scatter);
  void assign_groups(const Scatter& scatter);
  void try_one(const Scatter& scatter);
  void compute_own(const SyncInput& in, uint64_t mask, Partial& out);
  uint64_t gather(const SyncInput& in, const Poll& poll);
  void stand_in(const SyncInput& in, const Overdue& late);
  void choose_exponents(const SyncInput& in);
  void add_to_residual(int rows, const Tensor& bias);
  void head(int rows, float* logits, int logit_rows);
  void roll_back(int slot);

  // Relaxed syncs: relaxed.cpp.
  bool relaxes(const SyncInput& in) const;
  void assign_relaxed(Scatter& scatter);
  uint64_t choose(int layer);
  uint64_t draw_late(const Scatter& scatter);
  void settle(const Scatter& scatter, uint64_t filled, uint64_t drawn);
  void keep(const SyncInput& in, uint64_t late);
  void compute_kept(uint64_t mask, Partial& out);
  void correct(uint64_t mask, const float* values);
  void count_settled(const Scatter& scatter, uint64_t late);
  template <typename F>
  void count(F add) {
    const std::lock_guard<std::mutex> lock(counting_);
    add(counters_);
  }

  Device device_;
  Pace pace_;
  PartialFormat partials_;
  std::unique_ptr<Assigner> assigner_ = std::make_unique<BalancedAssigner>();
  std::vector<Candidate> candidates_;
  std::vector<uint64_t> masks_;  // by candidate
  Speed speed_;                  // the hub's own
  std::shared_ptr<Exchange> exchange_;
  std::vector<SlotState> slots_;
  std::atomic<bool> cancelled_{false};
  mutable std::mutex counting_;
  EngineCounters counters_;
  uint32_t sync_ = 0;  // running number

  std::unique_ptr<Tolerance> tolerance_;  // null without tables
  Lateness lateness_;
  bool single_ = false;    // this call has one token
  uint64_t tolerant_ = 0;  // groups of the present sync that may be late
  uint64_t forced_ = 0;    // of them, those that only unreliable devices hold, and that were not chosen
  Kept kept_;

  std::vector<float> x_;             // (rows, d) the residual stream
  std::vector<float> normed_;        // (d)
  std::vector<uint8_t> input_;       // (rows, d) the layer input in the format that travels
  std::vector<uint32_t> positions_;  // (rows)
  std::vector<int16_t> exponents_;   // (rows)
  Partial sum_;
};

}  // namespace halo
