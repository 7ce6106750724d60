// How a sync's groups are spread so that all finish together. A sync is assigned in microseconds, up to a hundred times
// a token.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/groups.h"
#include "schedule/assigner.h"

namespace halo {

namespace {

constexpr double kGain = 0.03;    // of the time: less is noise
constexpr double kEnough = 0.10;  // what is gained in this many syncs in a row together is worth a change
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kLongest = 1e12, kLeastGroup = 1e-2;  // microseconds

uint64_t bit(int i) { return uint64_t{1} << i; }
int count(uint64_t set) { return __builtin_popcountll(set); }
int lowest(uint64_t set) { return __builtin_ctzll(set); }

// What is no time counts as the longest one.
double time_of(double us, double least) { return us <= kLongest ? std::max(us, least) : kLongest; }

}  // namespace

void BalancedAssigner::assign(const Question& q, const std::vector<Candidate>& candidates,
                              std::vector<uint64_t>& masks) {
  look(q, candidates);
  Memory& memory = memory_of(q);
  if (unchanged(memory, candidates.size())) {
    recall(memory);
    const double before = makespan();
    const bool good = lower_bound(q.groups) >= (1 - kGain) * before;
    const double gained = good ? 0 : 1 - find_best(q.groups) / before;
    memory.urge = gained > kGain ? memory.urge + gained : 0;
    if (memory.urge < kEnough) {
      masks = memory.masks;
      return;
    }
  } else {
    find_best(q.groups);
    memory.may.assign(candidates.size(), 0);
    for (const Device& d : devices_) memory.may[d.index] = d.may;
  }
  loads_ = best_;
  into_runs(first_bits(q.groups));
  memory.urge = 0;
  memory.masks.assign(candidates.size(), 0);
  for (size_t i = 0; i < devices_.size(); ++i) memory.masks[devices_[i].index] = loads_[i].mask;
  masks = memory.masks;
}

// Who takes part, and which groups each may have: what it holds, and the hub what nobody else holds, too.
void BalancedAssigner::look(const Question& q, const std::vector<Candidate>& candidates) {
  const uint64_t all = first_bits(q.groups);
  uint64_t held = 0;
  devices_.clear();
  for (size_t i = 0; i < candidates.size() && devices_.size() < kMaxDevices; ++i) {
    const Candidate& c = candidates[i];
    const uint64_t may = c.resident & all;
    if (i > 0 && (!c.takes || may == 0)) continue;
    // Nobody waits for what may be late: it takes no time.
    const double group = c.unstable ? kLeastGroup : time_of(c.group_us, kLeastGroup);
    const double start = c.unstable ? 0 : time_of(c.start_us, 0);
    devices_.push_back({start, group, 1 / group, i == 0 ? 0 : time_of(c.cost_us, 0), may, static_cast<int>(i)});
    if (i > 0) held |= may;
  }
  devices_[0].may |= all & ~held;
  alike_ = true;
  for (const Device& d : devices_) alike_ = alike_ && d.may == all;
  if (alike_) return;
  holders_.assign(q.groups, 0);
  for (size_t i = 0; i < devices_.size(); ++i) {
    for (uint64_t may = devices_[i].may; may != 0; may &= may - 1) holders_[lowest(may)] |= bit(static_cast<int>(i));
  }
}

BalancedAssigner::Memory& BalancedAssigner::memory_of(const Question& q) {
  const size_t place = (size_t(std::max(q.layer, 0)) * 2 + (q.part == Part::Mlp)) * kSizeClasses + size_class(q.rows);
  if (place >= memory_.size()) memory_.resize(place + 1);
  return memory_[place];
}

bool BalancedAssigner::unchanged(const Memory& memory, size_t candidates) const {
  if (memory.may.size() != candidates) return false;
  size_t same = 0, took_part = 0;
  for (const Device& d : devices_) same += memory.may[d.index] == d.may;
  for (uint64_t may : memory.may) took_part += may != 0;
  // The hub takes part even where it may have no group.
  return same == devices_.size() && took_part + (memory.may[0] == 0) == devices_.size();
}

// The last assignment's numbers of groups, into loads_.
void BalancedAssigner::recall(const Memory& memory) {
  uint64_t used = 1;
  for (size_t i = 1; i < devices_.size(); ++i) {
    if (memory.masks[devices_[i].index] != 0) used |= bit(static_cast<int>(i));
  }
  begin(used);
  for (size_t i = 0; i < devices_.size(); ++i) loads_[i].count = count(memory.masks[devices_[i].index]);
}

// What no assignment can undercut: everyone holding everything, and nobody costing the hub anything.
double BalancedAssigner::lower_bound(int groups) {
  begin(1);
  fill(first_bits(static_cast<int>(devices_.size())), groups);
  return makespan();
}

// The best assignment there seems to be, into best_; returns when its last device is done. Which devices pay together
// has too many answers to try: here it is all of them, or those that cost the hub least, and from there on one more or
// one less as long as that helps. In cases drawn at random that is the best but for one in about 250, and then seldom a
// tenth off.
double BalancedAssigner::find_best(int groups) {
  best_time_ = kNever;
  consider(first_bits(static_cast<int>(devices_.size())), groups);
  toggle(groups);
  order_devices([this](int i) { return -devices_[i].cost; });
  uint64_t used = 1;
  bool better = consider(used, groups);
  for (int i : order_) better |= consider(used |= bit(i), groups);
  if (better) toggle(groups);
  return best_time_;
}

// Adds or takes away one device after the other as long as that helps, first those that cost the most for what they do.
void BalancedAssigner::toggle(int groups) {
  for (bool better = true; better;) {
    better = false;
    order_devices([this](int i) { return devices_[i].cost / std::max(best_[i].count, 1); });
    for (int i : order_) better |= consider(best_used_ ^ bit(i), groups);
  }
}

// All but the hub, those with the highest score first.
template <class Score>
void BalancedAssigner::order_devices(Score score) {
  order_.clear();
  for (int i = 1; i < static_cast<int>(devices_.size()); ++i) order_.push_back(i);
  std::sort(order_.begin(), order_.end(), [&](int a, int b) { return score(a) > score(b); });
}

// Whether these devices do better than the best so far; then they are the best.
bool BalancedAssigner::consider(uint64_t used, int groups) {
  if (!alike_ && best_time_ < kNever) {  // what would not help if each of them held everything is not worth the time
    begin(used);
    fill(used, groups);
    if (makespan() >= best_time_) return false;
  }
  const double time = attempt(used, groups);
  if (!(time < best_time_ * (1 - 1e-9))) return false;
  best_time_ = time;
  best_ = loads_;
  best_used_ = with_groups();
  return true;
}

// The best that these devices can do together, into loads_; returns when the last one is done. Whoever is not needed is
// not used, and costs the hub nothing.
double BalancedAssigner::attempt(uint64_t used, int groups) {
  for (;;) {
    begin(used);
    if (alike_) {
      fill(used, groups);
    } else {
      if (!deal(used, groups)) return kNever;
      while (relieve(used)) {
      }
    }
    const uint64_t needed = with_groups();
    if (needed == used) return makespan();
    used = needed;
  }
}

void BalancedAssigner::begin(uint64_t used) {
  loads_.assign(devices_.size(), {});
  hub_start_ = devices_[0].start;
  for (uint64_t rest = used & ~uint64_t{1}; rest != 0; rest &= rest - 1) hub_start_ += devices_[lowest(rest)].cost;
}

// Every device may have every group: only their numbers matter. As many as would be done by the time at which all would
// finish if groups could be cut, then each of the rest to whoever is done with it first; that is the best there is.
void BalancedAssigner::fill(uint64_t used, int groups) {
  const double level = water_level(used, groups);
  int left = groups;
  for (uint64_t rest = used; rest != 0; rest &= rest - 1) {
    const int i = lowest(rest);
    const double n = (level - done(i, 0)) * devices_[i].per_us;
    loads_[i].count = n > 0 ? std::min(static_cast<int>(std::min(n, 64.0)), left) : 0;
    left -= loads_[i].count;
  }
  for (; left > 0; --left) ++loads_[earliest(used)].count;
}

// The time at which these devices would have done so many groups if groups could be cut.
double BalancedAssigner::water_level(uint64_t used, int groups) const {
  for (;;) {
    double sum = groups, rate = 0;
    for (uint64_t rest = used; rest != 0; rest &= rest - 1) {
      const int i = lowest(rest);
      sum += done(i, 0) * devices_[i].per_us;
      rate += devices_[i].per_us;
    }
    const double level = sum / rate;
    uint64_t in_time = 0;
    for (uint64_t rest = used; rest != 0; rest &= rest - 1) {
      if (done(lowest(rest), 0) < level) in_time |= rest & -rest;
    }
    if (in_time == used || in_time == 0) return level;
    used = in_time;
  }
}

// Of these devices the one that would be done first with one group more.
int BalancedAssigner::earliest(uint64_t of) const {
  int best = lowest(of);
  double least = done(best, 1);
  for (of &= of - 1; of != 0; of &= of - 1) {
    const double time = done(lowest(of), 1);
    if (time < least) least = time, best = lowest(of);
  }
  return best;
}

// The groups with the fewest holders first, each to the holder that is done with it first. False where these devices do
// not hold all groups.
bool BalancedAssigner::deal(uint64_t used, int groups) {
  uint64_t by_count[kMaxDevices + 1];  // masks of the groups with so many holders
  std::fill_n(by_count, count(used) + 1, 0);
  for (int g = 0; g < groups; ++g) by_count[count(holders_[g] & used)] |= bit(g);
  if (by_count[0] != 0) return false;
  for (int holders = 1; holders <= count(used); ++holders) {
    for (uint64_t rest = by_count[holders]; rest != 0; rest &= rest - 1) {
      Load& load = loads_[earliest(holders_[lowest(rest)] & used)];
      ++load.count;
      load.mask |= rest & -rest;
    }
  }
  return true;
}

// Takes a group from the device that is done last, so that it goes, over others that pass one on, to one that is then
// done before that. False where nothing can be gained so: then no other assignment to these devices is done earlier.
bool BalancedAssigner::relieve(uint64_t used) {
  int last = 0;  // the hub is never done before the others have cost it their time
  for (uint64_t rest = used & ~uint64_t{1}; rest != 0; rest &= rest - 1) {
    const int i = lowest(rest);
    if (loads_[i].count > 0 && done(i, 0) > done(last, 0)) last = i;
  }
  const double time = done(last, 0);
  int from[kMaxDevices], queue[kMaxDevices], head = 0, tail = 0;
  uint64_t seen = bit(last);
  for (queue[tail++] = last; head < tail; ++head) {
    const int i = queue[head];
    for (uint64_t rest = used & ~seen; rest != 0; rest &= rest - 1) {
      int j = lowest(rest);
      if ((loads_[i].mask & devices_[j].may) == 0) continue;
      from[j] = i;
      seen |= bit(j);
      queue[tail++] = j;
      if (done(j, 1) >= time) continue;
      ++loads_[j].count;
      for (; j != last; j = from[j]) {
        const uint64_t moved = loads_[from[j]].mask & devices_[j].may;
        loads_[j].mask |= moved & -moved;
        loads_[from[j]].mask &= ~(moved & -moved);
      }
      --loads_[last].count;
      return true;
    }
  }
  return false;
}

// Each device's groups one after the other, in the order of the devices, if residency lets them have as many so.
void BalancedAssigner::into_runs(uint64_t all) {
  Loads runs = loads_;
  uint64_t left = all;
  for (size_t i = 0; i < runs.size(); ++i) {
    uint64_t open = left & devices_[i].may;
    runs[i].mask = 0;
    for (int n = 0; n < runs[i].count; ++n, open &= open - 1) {
      if (open == 0) return;
      runs[i].mask |= open & -open;
    }
    left &= ~runs[i].mask;
  }
  loads_ = runs;
}

// The devices that have groups, and the hub.
uint64_t BalancedAssigner::with_groups() const {
  uint64_t set = 1;
  for (size_t i = 1; i < loads_.size(); ++i) {
    if (loads_[i].count > 0) set |= bit(static_cast<int>(i));
  }
  return set;
}

// When the last one is done. Of the hub it counts what the others cost it, even if it has no groups of its own.
double BalancedAssigner::makespan() const {
  double time = done(0, 0);
  for (size_t i = 1; i < loads_.size(); ++i) {
    if (loads_[i].count > 0) time = std::max(time, done(static_cast<int>(i), 0));
  }
  return time;
}

}  // namespace halo
