// What the engine asks of an exchange: who is there, send a sync's input to them, add up what they answer, and tell
// which answers are overdue.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "schedule/assigner.h"
#include "schedule/speed.h"

namespace halo {

// Lateness of answers, counted up to these many milliseconds each, and beyond.
inline constexpr std::array<int, 9> kLateMs = {1, 2, 5, 10, 20, 50, 100, 200, 500};

struct DeviceCounters {
  uint64_t group_results = 0, requests = 0;
  uint64_t messages_sent = 0, bytes_sent = 0, messages_received = 0, bytes_received = 0;
  std::array<uint64_t, kLateMs.size() + 1> late{};  // answers after their deadline, by how much
  uint64_t stand_ins = 0;                           // its requests that somebody else had to compute
  uint64_t never = 0;                               // and those of them that it never answered
  uint64_t tolerant = 0, filled = 0;                // its requests that could be late; and for which means were added
  uint64_t probations = 0;
  uint64_t filled_rows = 0;         // cache rows that were copied to it
  double took_us = 0, link_us = 0;  // smoothed: a request's time there, and on the way there and back
};

struct ExchangeCounters {
  uint64_t re_requests = 0, fall_backs = 0, late_duplicates = 0, bad_messages = 0;
  std::vector<DeviceCounters> workers;
};

// What an exchange must know of a model and its hub.
struct CellShape {
  int layers = 0, kv_dim = 0, n_ctx = 0, slots = 0;
};

// One sync as the exchange sees it. Borrowed: valid until `collect` returns.
struct Scatter {
  const SyncInput* input = nullptr;
  Type input_format = Type::F32;
  int d = 0;
  int groups = 0;               // in the grid of this layer and part
  uint32_t sync = 0;            // running number in the session
  std::vector<uint64_t> masks;  // one per worker; an attention input goes to a worker with an empty mask too
  const Speed* hub = nullptr;   // the hub's own: what a stand-in takes, and what a device does that was never measured
  uint64_t hub_resident = ~uint64_t{0};  // groups that the hub need not read from its file
  bool relaxed = false;                  // answers may be late in this sync; only in MLP syncs of a single row
  uint64_t tolerant = 0;                 // workers, by number, whose requests of this sync may be late
  bool planned = false;                  // and are not waited for at all in this sync
};

// A request that somebody has to stand in for.
struct Overdue {
  size_t number;    // in the round
  int first, rows;  // of the sync's rows
  uint64_t mask;
  bool carried = false;  // it is a tolerant one of the sync before, which has its mean in the residual already
};

// What a tolerant request gave that came after its sync: to be added to the residual, less the mean that was added
// then.
struct Correction {
  uint64_t mask = 0;          // of the sync before's groups
  std::vector<float> values;  // (d) the sum of their outputs
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  // Once, before all other calls.
  virtual void begin(const CellShape& shape) = 0;

  // What an assigner needs to know of each worker for a sync like this (without `masks`); appends to `candidates`, one
  // for each worker that the scatter after it may name.
  virtual void survey(const Scatter& scatter, std::vector<Candidate>& candidates) = 0;
  // A worker that has had no groups for long and is to be measured again, by a group or so of this sync; -1: none now.
  virtual int whom_to_try(const Scatter& scatter) = 0;
  virtual void scatter(const Scatter& scatter) = 0;
  // Sends some rows of the caches of `slot` below `end` to a worker that misses them; `copy` reads them.
  using CopyRows = std::function<void(const CacheRows&, uint8_t*)>;
  virtual void back_fill(int slot, int end, const CopyRows& copy) = 0;

  // Waits until every request of the last scatter is answered, or one is overdue: then somebody has to compute it, and
  // give it to `stand_in`. A tolerant request is overdue only in the round after its own, as `carried`; a stand-in for
  // it is computed from that sync's input, in F32. Calls `poll` now and then, which may throw.
  virtual std::optional<Overdue> await(const std::function<void()>& poll) = 0;
  // The finite result for an overdue request: a worker whose own was not is asked nothing any more. If the worker's own
  // has come meanwhile, that one counts. Returns whether this one does.
  virtual bool stand_in(const Overdue& request, Partial result) = 0;
  // Adds all results to `sum`, in request order. Returns the groups whose tolerant requests are late: they are carried
  // into the next round, and their means belong into this sync's sum.
  virtual uint64_t collect(Partial& sum) = 0;
  // What was carried into this round and has been answered, or stood in for. Once a sync, after its last `collect`;
  // nothing is carried any further.
  virtual std::vector<Correction> corrections() = 0;

  // A new epoch of the slot: what any cache holds from `base` on is void. What is outstanding is given up.
  virtual void roll_back(int slot, uint32_t epoch, uint32_t base) = 0;

  virtual ExchangeCounters counters() const = 0;
  virtual void reset_counters() = 0;
};

}  // namespace halo
