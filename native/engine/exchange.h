// What the engine asks of an exchange: send a sync's input to the workers, add up what they answer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/device.h"

namespace halo {

struct DeviceCounters {
  uint64_t group_results = 0, requests = 0;
  uint64_t messages_sent = 0, bytes_sent = 0, messages_received = 0, bytes_received = 0;
};

struct ExchangeCounters {
  uint64_t re_requests = 0, fall_backs = 0, late_duplicates = 0, bad_messages = 0;
  std::vector<DeviceCounters> workers;
};

// One sync as the exchange sees it. Borrowed: valid until `gather` returns.
struct Scatter {
  const SyncInput* input = nullptr;
  Type input_format = Type::F32;
  int d = 0;
  int groups = 0;               // in the grid of this layer and part
  uint32_t sync = 0;            // running number in the session
  std::vector<uint64_t> masks;  // one per worker; an attention input goes to a worker with an empty mask too
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual int workers() const = 0;
  virtual void scatter(const Scatter& scatter) = 0;
  // Waits for every request of the last scatter and adds the results to `sum`, in request order. Calls `poll`
  // now and then, which may throw. Throws WorkerLost where a worker does not answer or refuses,
  // NotFinite where it answers with values that are not finite.
  virtual void gather(Partial& sum, const std::function<void()>& poll) = 0;
  // The worker's answers cannot be used: every later scatter and gather throws WorkerLost with this reason.
  virtual void expel(int worker, const std::string& reason) = 0;
  virtual ExchangeCounters counters() const = 0;
  virtual void reset_counters() = 0;
};

}  // namespace halo
