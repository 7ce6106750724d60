#include "schedule/assigner.h"

#include <algorithm>

#include "engine/groups.h"

namespace halo {

namespace {

bool holds(const Candidate& c, int group) { return c.resident >> group & 1; }

}  // namespace

// ---- even

int EvenAssigner::of_hub(int layer, int groups, int workers) const {
  const double share = hub_share_.value_or(1.0 / (workers + 1));
  return static_cast<int>(share * groups * layer + 1e-6);  // 1/3 of 30 is 10, not 9.999...
}

void EvenAssigner::choose_workers(const std::vector<Candidate>& candidates) {
  workers_.clear();
  for (const bool with_slow : {false, true}) {
    if (!workers_.empty()) return;
    for (size_t i = 1; i < candidates.size(); ++i) {
      if (candidates[i].takes && (with_slow || !candidates[i].slow)) workers_.push_back(static_cast<int>(i));
    }
  }
}

void EvenAssigner::assign(const Question& q, const std::vector<Candidate>& candidates, std::vector<uint64_t>& masks) {
  masks.assign(candidates.size(), 0);
  choose_workers(candidates);
  const int workers = static_cast<int>(workers_.size());
  const int own = workers == 0 ? q.groups : of_hub(q.layer + 1, q.groups, workers) - of_hub(q.layer, q.groups, workers);
  uint64_t everywhere = candidates[0].resident;
  for (int w : workers_) everywhere &= candidates[w].resident;
  if (workers > 0 && (first_bits(q.groups) & ~everywhere) != 0) return deal(q, candidates, own, masks);
  masks[0] = first_bits(own);
  const int rest = q.groups - own;
  for (int g = 0; g < rest; ++g) {
    masks[workers_[(g * workers / rest + q.layer) % workers]] |= uint64_t{1} << (own + g);
  }
}

// Where not everybody holds everything: the groups with the fewest holders first, each to the holder that is furthest
// from its share. The hub is asked beyond its share only for what no worker holds that takes part; a slow worker only
// for what neither the others nor the hub hold.
void EvenAssigner::deal(const Question& q, const std::vector<Candidate>& candidates, int own,
                        std::vector<uint64_t>& masks) {
  const int workers = static_cast<int>(workers_.size());
  counts_.assign(candidates.size(), 0);
  for (int holders = 0; holders <= workers; ++holders) {
    for (int g = 0; g < q.groups; ++g) {
      int found = 0, to = -1;
      for (int k = 0; k < workers; ++k) {  // ties are spread over the layers
        const int w = workers_[(k + q.layer) % workers];
        if (!holds(candidates[w], g)) continue;
        ++found;
        if (to < 0 || counts_[w] < counts_[to]) to = w;
      }
      if (found != holders) continue;
      const bool hub_holds = holds(candidates[0], g);
      // The hub's share is spread over what the workers hold, lest those that share with it have less than others.
      const bool hub_next = to < 0 || counts_[0] * (q.groups - own) <= counts_[to] * workers * own;
      if (hub_holds && hub_next && (to < 0 || counts_[0] < own)) to = 0;
      if (to < 0) to = slow_holder(candidates, g);
      masks[to] |= uint64_t{1} << g;
      ++counts_[to];
    }
  }
}

// The slow worker with the fewest groups of those that hold this one, or the hub, which reads it from its file.
int EvenAssigner::slow_holder(const std::vector<Candidate>& candidates, int group) const {
  int to = 0;
  for (size_t i = 1; i < candidates.size(); ++i) {
    if (!candidates[i].takes || !holds(candidates[i], group)) continue;
    if (to == 0 || counts_[i] < counts_[to]) to = static_cast<int>(i);
  }
  return to;
}

// ---- at random

void RandomAssigner::assign(const Question& q, const std::vector<Candidate>& candidates, std::vector<uint64_t>& masks) {
  masks.assign(candidates.size(), 0);
  std::vector<int> holders;
  for (int g = 0; g < q.groups; ++g) {
    holders.clear();
    for (size_t i = 0; i < candidates.size(); ++i) {
      if ((i == 0 || candidates[i].takes) && holds(candidates[i], g)) holders.push_back(static_cast<int>(i));
    }
    masks[holders.empty() ? 0 : holders[random_() % holders.size()]] |= uint64_t{1} << g;
  }
}

}  // namespace halo
