// A token's way, as in DESIGN: embed; per layer two syncs, each of them normed input -> groups here and elsewhere
// -> residual; then the head. What relaxed syncs do besides is in relaxed.cpp.
#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>

#include "engine/error.h"
#include "engine/residency.h"

namespace halo {

namespace {

constexpr int kRangeStep = 6;  // how far a row's exponent rises when a group left its range
constexpr int kMaxRangeRepeats = 24;

void require(bool ok, const std::string& what) {
  if (!ok) throw std::invalid_argument(what);
}

bool all_finite(const float* values, size_t n) {
  int others = 0;  // counted, so that compilers use vectors
  for (size_t i = 0; i < n; ++i) others += !std::isfinite(values[i]);
  return others == 0;
}

Error values_not_finite(const std::string& whose) {
  return Error(whose + " gives values that are not finite: the model file may be damaged");
}

// Limits how often a poll that is dear (it may take Python's lock) is made.
class Throttle {
 public:
  explicit Throttle(const Engine::Poll& poll) : poll_(poll) {}
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + kEvery;
    poll_();
  }

 private:
  // While another thread of Python's computes, its lock costs 5 ms.
  static constexpr auto kEvery = std::chrono::milliseconds(200);

  const Engine::Poll& poll_;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kEvery;
};

}  // namespace

Engine::Engine(std::shared_ptr<const Model> model, int n_ctx, int n_slots, int threads, PartialFormat partials)
    : device_(std::move(model), n_ctx, n_slots, threads), partials_(partials), slots_(n_slots) {}

Error Engine::not_finite(int layer) { return values_not_finite("layer " + std::to_string(layer)); }

void Engine::check_forward(int slot, const int32_t* tokens, int n) const {
  require(slot >= 0 && slot < static_cast<int>(slots_.size()), "no such slot");
  require(n > 0, "forward needs at least one token");
  require(slots_[slot].n_past + n <= n_ctx(), "the context of " + std::to_string(n_ctx()) +
                                                  " positions is full: " + std::to_string(slots_[slot].n_past) +
                                                  " used, " + std::to_string(n) + " asked for");
  for (int i = 0; i < n; ++i) {
    require(tokens[i] >= 0 && tokens[i] < spec().vocab,
            "token " + std::to_string(tokens[i]) + " is not in the vocabulary");
  }
}

void Engine::forward(int slot, const int32_t* tokens, int n, bool all_logits, float* logits, const Poll& poll) {
  check_forward(slot, tokens, n);
  cancelled_ = false;
  single_ = n == 1;
  Throttle throttled(poll);
  const Poll check = [&] {
    if (cancelled_) throw Interrupted();
    throttled();
  };
  for (int done = 0; done < n; done += kMaxRows) {
    const int rows = std::min(kMaxRows, n - done);
    const bool last = done + rows == n;
    try {
      if (all_logits) {
        batch(slot, tokens + done, rows, logits + size_t(done) * spec().vocab, rows, check);
      } else {
        batch(slot, tokens + done, rows, logits, last ? 1 : 0, check);
      }
    } catch (...) {
      roll_back(slot);
      throw;
    }
    slots_[slot].n_past += rows;
    slots_[slot].confirmed = true;
    count([&](EngineCounters& c) { c.tokens += rows; });
  }
}

void Engine::batch(int slot, const int32_t* tokens, int rows, float* logits, int logit_rows, const Poll& poll) {
  const SlotState& state = slots_[slot];
  positions_.resize(rows);
  exponents_.resize(rows);
  for (int t = 0; t < rows; ++t) positions_[t] = static_cast<uint32_t>(state.n_past + t);
  embed(tokens, rows);
  SyncInput in;
  in.slot = slot;
  in.epoch = state.epoch;
  in.base = state.base;
  in.rows = rows;
  in.format = partials_;
  for (in.layer = 0; in.layer < spec().layers; ++in.layer) {
    const Layer& layer = device_.model().layers[in.layer];
    in.part = Part::Attention;
    encode(layer.attn_norm.f32(), layer.attention_input, rows);
    sync(in, poll);
    in.part = Part::Mlp;
    encode(layer.ffn_norm.f32(), layer.mlp_input, rows);
    sync(in, poll);
  }
  head(rows, logits, logit_rows);
}

void Engine::embed(const int32_t* tokens, int rows) {
  const Tensor& e = device_.model().embedding;
  if (e.converter != nullptr) device_.model().residency->ensure_output();
  x_.resize(size_t(rows) * spec().d);
  for (int t = 0; t < rows; ++t) dequantize(e.type, e.row(tokens[t]), spec().d, x_.data() + t * spec().d);
}

// RMS norm (Zhang and Sennrich 2019); squares are summed in f64, as in llama.cpp.
void Engine::normalise(const float* x, const float* weight, float* out) const {
  double sum = 0.0;
  for (int i = 0; i < spec().d; ++i) sum += static_cast<double>(x[i] * x[i]);
  const float mean = static_cast<float>(sum / spec().d);
  const float scale = 1.0f / std::sqrt(mean + spec().norm_eps);
  for (int i = 0; i < spec().d; ++i) out[i] = x[i] * scale * weight[i];
}

void Engine::encode(const float* weight, Type format, int rows) {
  const size_t stride = row_bytes(format, spec().d);
  normed_.resize(spec().d);
  input_.resize(stride * rows);
  for (int t = 0; t < rows; ++t) {
    normalise(x_.data() + size_t(t) * spec().d, weight, normed_.data());
    kernels().quantize(format, normed_.data(), spec().d, input_.data() + t * stride);
  }
}

// Per row: the exponent of max|x|, which sets the resolution of `fixed`.
void Engine::choose_exponents(const SyncInput& in) {
  for (int t = 0; t < in.rows; ++t) {
    float largest = 0.0f;
    bool finite = true;
    for (int i = 0; i < spec().d; ++i) {
      const float a = std::fabs(x_[size_t(t) * spec().d + i]);
      finite &= std::isfinite(a);
      if (a > largest) largest = a;
    }
    if (!finite) {
      throw Error("the model's activations are not finite at layer " + std::to_string(in.layer) +
                  ": the file may be damaged, or its weights overflow");
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    exponents_[t] = clamp_exponent(exponent);
  }
}

void Engine::sync(SyncInput in, const Poll& poll) {
  const Layer& layer = device_.model().layers[in.layer];
  choose_exponents(in);
  in.positions = positions_.data();
  in.exponents = exponents_.data();
  in.h = input_.data();
  in.h_stride = row_bytes(layer.input(in.part), spec().d);
  Scatter scatter{&in,      layer.input(in.part),
                  spec().d, layer.groups(in.part),
                  0,        {},
                  &speed_,  device_.model().residency->resident(in.layer, in.part)};
  scatter.relaxed = relaxes(in);
  assign(in, scatter);
  lateness_.tick();
  const uint64_t drawn = scatter.relaxed ? draw_late(scatter) : 0, own = masks_[0] & ~drawn;
  uint64_t filled = 0;  // groups whose means are to be added
  for (int repeat = 0;; ++repeat) {
    poll();
    scatter.sync = sync_++;
    if (exchange_) exchange_->scatter(scatter);
    compute_own(in, own, sum_);
    if (!sum_.finite()) throw not_finite(in.layer);
    if (own == 0) {  // nothing of its own: the sum still starts here
      sum_.fixed.assign(in.format == PartialFormat::Fixed ? size_t(in.rows) * spec().d : 0, 0);
      sum_.f32.assign(in.format == PartialFormat::Fixed ? 0 : size_t(in.rows) * spec().d, 0.0f);
    }
    if (exchange_) filled = gather(in, poll);
    if (sum_.in_range()) break;
    if (repeat == kMaxRangeRepeats) throw not_finite(in.layer);
    count([](EngineCounters& c) { ++c.range_repeats; });
    for (int t = 0; t < in.rows; ++t) {
      if (sum_.range[t]) exponents_[t] = clamp_exponent(exponents_[t] + kRangeStep);
    }
  }
  count([&](EngineCounters& c) {
    ++c.syncs;
    ++c.requests;
    c.group_results += uint64_t(in.rows) * __builtin_popcountll(own);
  });
  add_to_residual(in.rows, layer.bias(in.part));
  settle(scatter, filled, drawn);
}

// Sets masks_ and the scatter's masks.
void Engine::assign(const SyncInput& in, Scatter& scatter) {
  const int kind = kind_of(in.part, in.rows);
  candidates_.assign(1, Candidate());
  candidates_[0].takes = true;
  candidates_[0].start_us = speed_.start_us(kind);
  candidates_[0].group_us = speed_.group_us(kind);
  candidates_[0].resident = device_.model().residency->planned(in.layer, in.part);
  if (exchange_) exchange_->survey(scatter, candidates_);
  if (scatter.relaxed) {
    assign_relaxed(scatter);
  } else {
    assign_groups(scatter);
  }
  scatter.masks.assign(masks_.begin() + 1, masks_.end());
}

void Engine::assign_groups(const Scatter& scatter) {
  const SyncInput& in = *scatter.input;
  masks_.resize(candidates_.size());
  assigner_->assign({in.layer, in.part, scatter.groups, in.rows}, candidates_, masks_);
  if (exchange_ && assigner_->leaves_out()) try_one(scatter);
}

// A device that has been left out for long gets one of the hub's groups, for it may have become faster.
void Engine::try_one(const Scatter& scatter) {
  const int worker = exchange_->whom_to_try(scatter);
  if (worker < 0 || masks_[1 + worker] != 0) return;
  const uint64_t may = masks_[0] & candidates_[1 + worker].resident;
  const uint64_t group = may & ~(may - 1);
  masks_[0] ^= group;
  masks_[1 + worker] = group;
}

void Engine::compute_own(const SyncInput& in, uint64_t mask, Partial& out) {
  const auto start = Pace::Clock::now();
  if (device_.compute(in, mask, out) != Refusal::None) {
    throw Error("the hub's own cache is not in step; this is a bug in HALO");
  }
  if (mask != 0) pace_.until(start, __builtin_popcountll(mask));
  if (!exchange_ || (mask == 0 && in.part == Part::Mlp)) return;
  const std::chrono::duration<double, std::micro> took = Pace::Clock::now() - start;
  speed_.sample(kind_of(in.part, in.rows), __builtin_popcountll(mask), took.count());
}

// Computes what is overdue, and adds up; returns the groups whose means are missing in the sum. Whoever answers with
// values that are not finite has either failed, or computed what a damaged model gives: then the hub, which has every
// weight, gets the same.
uint64_t Engine::gather(const SyncInput& in, const Poll& poll) {
  exchange_->back_fill(in.slot, static_cast<int>(in.positions[0]),
                       [&](const CacheRows& at, uint8_t* out) { device_.copy_rows(at, out); });
  while (const auto late = exchange_->await(poll)) stand_in(in, *late);
  return exchange_->collect(sum_);
}

void Engine::stand_in(const SyncInput& in, const Overdue& late) {
  Partial result;
  if (late.carried) {
    compute_kept(late.mask, result);
  } else {
    SyncInput part = in;
    part.rows = late.rows;
    part.positions += late.first;
    part.exponents += late.first;
    part.h += late.first * in.h_stride;
    compute_own(part, late.mask, result);
    if (!result.finite()) throw not_finite(in.layer);
  }
  const bool counts = exchange_->stand_in(late, std::move(result));
  count([&](EngineCounters& c) {
    ++c.stand_ins;
    if (counts) c.group_results += uint64_t(late.rows) * __builtin_popcountll(late.mask);
  });
}

void Engine::add_to_residual(int rows, const Tensor& bias) {
  const int d = spec().d;
  for (int t = 0; t < rows; ++t) {
    float* x = x_.data() + size_t(t) * d;
    if (partials_ == PartialFormat::Fixed) {
      const float unit = std::ldexp(1.0f, exponents_[t] - kFixedBits);
      for (int i = 0; i < d; ++i) x[i] += static_cast<float>(sum_.fixed[size_t(t) * d + i]) * unit;
    } else {
      for (int i = 0; i < d; ++i) x[i] += sum_.f32[size_t(t) * d + i];
    }
    if (bias.data == nullptr) continue;
    for (int i = 0; i < d; ++i) x[i] += bias.f32()[i];
  }
}

void Engine::head(int rows, float* logits, int logit_rows) {
  if (logit_rows == 0) return;
  const Model& m = device_.model();
  m.residency->ensure_output();
  const Type format = info(m.output.type).activation;
  const size_t stride = row_bytes(format, spec().d);
  input_.resize(stride * logit_rows);
  for (int t = 0; t < logit_rows; ++t) {
    normalise(x_.data() + size_t(rows - logit_rows + t) * spec().d, m.output_norm.f32(), normed_.data());
    kernels().quantize(format, normed_.data(), spec().d, input_.data() + t * stride);
  }
  device_.product(m.output, input_.data(), stride, logit_rows, logits);
  if (!all_finite(logits, size_t(logit_rows) * spec().vocab)) throw values_not_finite("the output head");
}

// A new epoch at the slot's end: whatever devices cached beyond it is void at the next scatter. A device may have
// missed an epoch in which no batch was completed, so the base covers those as well.
void Engine::roll_back(int slot) {
  SlotState& s = slots_[slot];
  const auto end = static_cast<uint32_t>(s.n_past);
  s.base = s.confirmed ? end : std::min(s.base, end);
  s.confirmed = false;
  ++s.epoch;
  kept_ = Kept();
  if (exchange_) exchange_->roll_back(slot, s.epoch, end);
}

void Engine::truncate(int slot, int n) {
  require(slot >= 0 && slot < static_cast<int>(slots_.size()), "no such slot");
  require(n >= 0, "cannot keep a negative number of positions");
  if (n >= slots_[slot].n_past) return;
  slots_[slot].n_past = n;
  roll_back(slot);
}

int Engine::n_past(int slot) const {
  require(slot >= 0 && slot < static_cast<int>(slots_.size()), "no such slot");
  return slots_[slot].n_past;
}

void Engine::attach(std::shared_ptr<Exchange> exchange) {
  for (const SlotState& s : slots_) {
    require(s.n_past == 0, "workers can only be attached while all slots are empty");
  }
  exchange_ = std::move(exchange);
  if (!exchange_) return;
  exchange_->begin({spec().layers, spec().kv_dim(), n_ctx(), static_cast<int>(slots_.size())});
  for (size_t i = 0; i < slots_.size(); ++i) exchange_->roll_back(static_cast<int>(i), slots_[i].epoch, 0);
}

EngineCounters Engine::counters() const {
  const std::lock_guard<std::mutex> lock(counting_);
  return counters_;
}

void Engine::reset_counters() {
  count([](EngineCounters& c) { c = EngineCounters(); });
  if (exchange_) exchange_->reset_counters();
}

}  // namespace halo
