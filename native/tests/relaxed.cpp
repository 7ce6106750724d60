// Relaxed syncs: with lateness drawn, and with a worker that always lets its answer be carried and stood in for. Both
// have to give the same logits.
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/residency.h"
#include "engine/shards.h"
#include "tests/guarded.h"
#include "tests/tiny_model.h"

namespace halo {
namespace sanitized {

namespace {

constexpr int kTokens = 9;

// One worker that holds everything, has no attention, and never answers.
class Silent : public Exchange {
 public:
  void begin(const CellShape&) override {}
  void survey(const Scatter& scatter, std::vector<Candidate>& candidates) override {
    Candidate& c = candidates.emplace_back();
    c.takes = c.unstable = scatter.relaxed;
  }
  int whom_to_try(const Scatter&) override { return -1; }
  void scatter(const Scatter& s) override {
    asked_ = s.masks[0];
    tolerant_ = (s.tolerant & 1) != 0;
    stood_in_ = carried_ == 0;
    if (asked_ != 0 && !tolerant_) std::abort();
  }
  void back_fill(int, int, const CopyRows&) override {}
  std::optional<Overdue> await(const std::function<void()>&) override {
    if (stood_in_) return {};
    return Overdue{0, 0, 1, carried_, true};
  }
  bool stand_in(const Overdue&, Partial result) override {
    correction_ = {carried_, std::move(result.f32)};
    return stood_in_ = true;
  }
  uint64_t collect(Partial&) override { return asked_; }
  std::vector<Correction> corrections() override {
    std::vector<Correction> all;
    if (carried_ != 0) all.push_back(std::move(correction_));
    carried_ = asked_;
    return all;
  }
  void roll_back(int, uint32_t, uint32_t) override { carried_ = 0; }
  ExchangeCounters counters() const override { return {}; }
  void reset_counters() override {}

 private:
  uint64_t asked_ = 0, carried_ = 0;
  bool tolerant_ = false, stood_in_ = false;
  Correction correction_;
};

std::vector<float> logits(Engine& engine) {
  std::vector<float> all;
  for (int i = 0; i < kTokens; ++i) {
    const int32_t token = i * 7 % engine.spec().vocab;
    auto out = exactly<float>(engine.spec().vocab);
    engine.forward(0, &token, 1, false, out.get(), [] {});
    all.insert(all.end(), out.get(), out.get() + engine.spec().vocab);
  }
  return all;
}

}  // namespace

void run_relaxed(const Types& types) {
  const std::shared_ptr<Model> model = tiny_model(types, 4);
  model->residency->load(all_masks(*model), true, [](size_t, size_t) {});
  const SidecarTables tables = random_tables(*model);
  for (const PartialFormat format : {PartialFormat::Fixed, PartialFormat::F32}) {
    Lateness::Options options;
    options.probability = 1;
    options.any_group = true;
    Engine drawn(model, 64, 1, 2, format), shared(model, 64, 1, 2, format);
    for (Engine* engine : {&drawn, &shared}) {
      engine->set_tolerance(tables);
      engine->set_quality(1, false);
    }
    drawn.inject(Lateness(options));
    shared.attach(std::make_shared<Silent>());
    shared.set_assigner(std::make_unique<EvenAssigner>(0.0));
    const std::vector<float> expected = logits(drawn);
    if (logits(shared) != expected) std::abort();
    shared.truncate(0, 0);
    if (logits(shared) != expected) std::abort();
    if (shared.counters().tolerance.late != drawn.counters().tolerance.late * 2) std::abort();
    options.probability = 0.3;
    options.fade_syncs = 5;
    drawn.inject(Lateness(options));
    logits(drawn);
    drawn.set_quality(0.5, true);
    logits(drawn);
  }
}

}  // namespace sanitized
}  // namespace halo
