// Relaxed syncs: which groups may be late, what is added in their place, and what follows in the next sync.
//
// A late group's mean goes into its own sync, its output less that mean into the next one. Late is what a worker has
// not answered in time, or, for measurements, what `Lateness` drew of the hub's own groups: both are filled, kept and
// corrected by the same code.
#include <chrono>
#include <stdexcept>
#include <utility>

#include "engine/engine.h"
#include "engine/error.h"
#include "engine/groups.h"
#include "schedule/placing.h"

namespace halo {

namespace {

uint64_t count_of(uint64_t mask) { return static_cast<uint64_t>(__builtin_popcountll(mask)); }

}  // namespace

void Engine::set_tolerance(std::optional<SidecarTables> tables) {
  tolerance_ = tables ? std::make_unique<Tolerance>(device_.model(), std::move(*tables)) : nullptr;
}

void Engine::set_quality(double share, bool planned) {
  if (tolerance_) return tolerance_->set_quality(share, planned);
  if (share != 0) throw std::invalid_argument("a quality below exact needs a sidecar's tables");
}

bool Engine::relaxes(const SyncInput& in) const {
  return single_ && in.part == Part::Mlp && tolerance_ && tolerance_->relaxes(in.layer);
}

// Sets tolerant_, masks_ and what the scatter says of them. Where nobody can be late nothing is chosen.
void Engine::assign_relaxed(Scatter& s) {
  const int layer = s.input->layer;
  const bool planned = tolerance_->planned(), unreliable = any_unreliable(candidates_);
  const bool needed = planned || unreliable || lateness_.is_on();
  tolerant_ = needed ? choose(layer) : 0;
  forced_ = held_unreliably(candidates_, s.groups) & ~tolerant_;
  tolerant_ |= forced_;
  if (planned) {
    place_planned(layer, s.groups, tolerant_, candidates_, masks_);
  } else {
    assign_groups(s);
    if (unreliable) place(tolerance_->scores(), s.groups, candidates_, masks_);
  }
  s.planned = planned;
  s.tolerant = may_be_late(tolerant_, planned, candidates_, masks_);
}

uint64_t Engine::choose(int layer) {
  const auto start = std::chrono::steady_clock::now();
  const uint64_t chosen = tolerance_->choose(layer, normed_.data());
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  count([&](EngineCounters& c) { c.choose_us += took.count(); });
  return chosen;
}

// Of the hub's own groups, those that are late in this sync.
uint64_t Engine::draw_late(const Scatter& s) {
  const uint64_t empty = tolerance_->empty(s.input->layer);
  const uint64_t may = lateness_.options().any_group ? first_bits(s.groups) : tolerant_;
  return lateness_.is_on() ? lateness_.draw(may & ~empty) & masks_[0] : 0;
}

// After the sync's sum: adds what comes of the sync before, then the means of what is late in this one.
void Engine::settle(const Scatter& s, uint64_t filled, uint64_t drawn) {
  if (exchange_) {
    for (const Correction& c : exchange_->corrections()) correct(c.mask, c.values.data());
  }
  if (kept_.late != 0) {
    Partial result;
    compute_kept(kept_.late, result);
    correct(kept_.late, result.f32.data());
    count([&](EngineCounters& c) { c.group_results += count_of(kept_.late); });
  }
  kept_ = Kept();
  count_settled(s, filled | drawn);
  if ((filled | drawn) == 0) return;
  const Lateness::Drop drop = lateness_.options().drop;
  const float* means = tolerance_->means(s.input->layer, filled | (drop != Lateness::Drop::Zero ? drawn : 0));
  for (int i = 0; i < spec().d; ++i) x_[i] += means[i];
  keep(*s.input, drop == Lateness::Drop::Correct ? drawn : 0);
}

// The residual gets what these groups of the kept sync gave, for the means that it got then.
void Engine::correct(uint64_t mask, const float* values) {
  if (kept_.h.empty()) throw Error("a correction without a relaxed sync before it; this is a bug in HALO");
  const float* means = tolerance_->means(kept_.in.layer, mask);
  for (int i = 0; i < spec().d; ++i) x_[i] += values[i] - means[i];
  const uint64_t empty = tolerance_->empty(kept_.in.layer);
  count([&](EngineCounters& c) { c.tolerance.corrected += count_of(mask & ~empty); });
}

void Engine::keep(const SyncInput& in, uint64_t late) {
  kept_.in = in;
  kept_.in.format = PartialFormat::F32;
  kept_.position = in.positions[0];
  kept_.h.assign(in.h, in.h + in.h_stride);
  kept_.late = late;
}

// (d) floats for these groups of the kept sync.
void Engine::compute_kept(uint64_t mask, Partial& out) {
  if (kept_.h.empty()) throw Error("nothing is kept to stand in with; this is a bug in HALO");
  SyncInput in = kept_.in;
  in.h = kept_.h.data();
  in.positions = &kept_.position;
  in.exponents = nullptr;
  compute_own(in, mask, out);
  if (!out.finite()) throw not_finite(in.layer);
}

void Engine::count_settled(const Scatter& s, uint64_t late) {
  const SyncInput& in = *s.input;
  if (!single_ || in.part != Part::Mlp) return;
  const uint64_t empty = tolerance_ ? tolerance_->empty(in.layer) : 0;
  const double late_weight = late != 0 && tolerance_ ? tolerance_->weight(in.layer, late) : 0;
  // Where nobody can be late nothing was chosen, only how many it would have been is known.
  uint64_t tolerant = count_of(tolerant_ & ~empty);
  if (s.relaxed && tolerant == 0) tolerant = static_cast<uint64_t>(tolerance_->quota(in.layer));
  count([&](EngineCounters& c) {
    c.tolerance.groups += count_of(first_bits(s.groups) & ~empty);
    c.tolerance.tolerant += s.relaxed ? tolerant : 0;
    c.tolerance.late += count_of(late & ~empty);
    c.tolerance.forced += s.relaxed ? count_of(forced_ & ~empty) : 0;
    c.tolerance.late_weight += late_weight;
    ++c.tolerance.syncs;
  });
}

}  // namespace halo
