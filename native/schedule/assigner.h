// Who computes which groups in a sync.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "schedule/kind.h"

namespace halo {

// A device as an assigner sees it at one sync. Index 0 is the hub, which always takes part.
struct Candidate {
  bool takes = false;                // may be asked for groups now
  bool slow = false;                 // is now much slower than it usually is
  uint64_t resident = ~uint64_t{0};  // groups it holds in memory; the hub can compute others, from its file
  double start_us = 0;               // until its answer would be here if it had no groups
  double group_us = 0;               // what each group adds
  double cost_us = 0;                // of the hub's own time, for having it take part; of the hub: 0
  double lateness = 0;    // share of its requests that missed their deadlines lately, smoothed; of the hub: 0
  bool unstable = false;  // is on probation: takes only what may be late
};

struct Question {
  int layer = 0;
  Part part = Part::Attention;
  int groups = 0;  // in the grid, 1 to kMaxGroups
  int rows = 0;
};

class Assigner {
 public:
  virtual ~Assigner() = default;
  // Sets masks[i] for candidate i so that every group is in exactly one of them: of a device that takes part and holds
  // it, or, where there is none, of the hub. There is at least one candidate, the hub.
  virtual void assign(const Question& question, const std::vector<Candidate>& candidates,
                      std::vector<uint64_t>& masks) = 0;
  // Whether it leaves out devices for what was measured of them: then they have to be tried now and then.
  virtual bool leaves_out() const { return false; }
};

// The hub computes its share of the groups of every layer and part, and the workers equal shares of the rest; the same
// at every token, so that a device needs the same weights again. What does not divide is spread over the layers.
// Workers that are slow now are left out while others take part. Where not everybody holds everything, each group goes
// to one of its holders, so that the workers have about as many each.
class EvenAssigner : public Assigner {
 public:
  // `hub_share` from 0 to 1; none: as much as a worker.
  explicit EvenAssigner(std::optional<double> hub_share = {}) : hub_share_(hub_share) {}

  void assign(const Question& question, const std::vector<Candidate>& candidates,
              std::vector<uint64_t>& masks) override;

 private:
  // The hub's groups in all layers before this one, if each has so many.
  int of_hub(int layer, int groups, int workers) const;
  void choose_workers(const std::vector<Candidate>& candidates);
  void deal(const Question& question, const std::vector<Candidate>& candidates, int own, std::vector<uint64_t>& masks);
  int slow_holder(const std::vector<Candidate>& candidates, int group) const;

  std::optional<double> hub_share_;
  std::vector<int> workers_;  // that take part in this sync
  std::vector<int> counts_;   // groups of each candidate so far
};

// All finish together: the time at which the last of the devices, and the hub with what each of them costs it, is done
// is as short as can be. Devices that do not pay for themselves have no groups. The groups of a device are consecutive
// where residency allows. Who has how many is kept from token to token, so that a device needs the same weights again,
// until another assignment is clearly better, or a device comes or goes.
class BalancedAssigner : public Assigner {
 public:
  void assign(const Question& question, const std::vector<Candidate>& candidates,
              std::vector<uint64_t>& masks) override;
  bool leaves_out() const override { return true; }

 private:
  static constexpr int kMaxDevices = 64;  // a set of devices has 64 bits; the hub and the first workers that take part

  // The last assignment of a layer, part and size of a request.
  struct Memory {
    std::vector<uint64_t> masks, may;  // by candidate; `may` as in Device, 0 where it took no part
    double urge = 0;                   // sum of what others would have gained in the last syncs, in shares of the time
  };
  struct Device {
    double start, group, per_us, cost;  // per_us: groups a microsecond
    uint64_t may;                       // groups that may be given to it
    int index;                          // among the candidates
  };
  // Of devices_[i]: how many groups, and, where it matters who has which, their mask.
  struct Load {
    int count = 0;
    uint64_t mask = 0;
  };
  using Loads = std::vector<Load>;

  void look(const Question& question, const std::vector<Candidate>& candidates);
  Memory& memory_of(const Question& question);
  bool unchanged(const Memory& memory, size_t candidates) const;
  void recall(const Memory& memory);
  double find_best(int groups);
  void toggle(int groups);
  template <class Score>
  void order_devices(Score score);
  bool consider(uint64_t used, int groups);
  double attempt(uint64_t used, int groups);
  void begin(uint64_t used);
  void fill(uint64_t used, int groups);
  double water_level(uint64_t used, int groups) const;
  int earliest(uint64_t of) const;
  bool deal(uint64_t used, int groups);
  bool relieve(uint64_t used);
  void into_runs(uint64_t all);
  uint64_t with_groups() const;
  double makespan() const;
  double lower_bound(int groups);
  // When device i would be done with `more` groups beyond what it has.
  double done(int i, int more) const {
    return (i == 0 ? hub_start_ : devices_[i].start) + (loads_[i].count + more) * devices_[i].group;
  }

  std::vector<Memory> memory_;
  // Of one sync; members only to keep their memory. Bit i of a set of devices is devices_[i]; the hub is devices_[0].
  std::vector<Device> devices_;
  std::vector<uint64_t> holders_;  // by group: the set of devices that may have it
  bool alike_ = true;              // every device may have every group
  Loads loads_, best_;
  uint64_t best_used_ = 0;
  double best_time_ = 0;
  std::vector<int> order_;
  double hub_start_ = 0;  // with what the devices that are used cost the hub
};

// Every group to a device drawn at random of those that may have it, at every sync: what tests hold the results'
// sameness against.
class RandomAssigner : public Assigner {
 public:
  explicit RandomAssigner(uint64_t seed) : random_(seed) {}
  void assign(const Question& question, const std::vector<Candidate>& candidates,
              std::vector<uint64_t>& masks) override;

 private:
  std::mt19937_64 random_;
};

}  // namespace halo
