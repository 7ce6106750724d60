// A worker's side of the exchange: answers requests for one hub session from its own weights.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/device.h"
#include "engine/pace.h"
#include "wire/message.h"

namespace halo {

struct WorkerCounters {
  uint64_t requests = 0, group_results = 0, duplicates = 0, bad_messages = 0;
};

class Worker {
 public:
  enum class Verdict { Compute, Answer, Drop };

  Worker(std::shared_ptr<const Model> model, int threads) : model_(std::move(model)), threads_(threads) {}

  // Forgets everything and serves this session only.
  void open(uint64_t session, int n_ctx, int n_slots);
  void close();

  // Decides quickly what to do with a message, from any thread: compute it (in order of arrival), publish
  // `answer` at once (a duplicate's stored reply, "computing", a refusal, an echo), or drop it.
  Verdict accept(const uint8_t* data, size_t size, Bytes* answer, bool sealed = false);

  // The answer to a message that `accept` gave to compute.
  Bytes compute(const uint8_t* data, size_t size);

  WorkerCounters counters() const;

  // For measurements; at any time, from any thread.
  Pace& pace() { return pace_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Pending {
    Clock::time_point since;
    bool sealed;
  };

  Refusal check(const RequestView& request) const;
  Refusal check(const FillView& fill) const;
  bool has_passed(const Header& h) const;
  Bytes fill(const uint8_t* data, size_t size);
  uint32_t took_us(uint64_t id) const;
  const Bytes* kept(uint64_t id) const;
  void keep(uint64_t id, Bytes reply);
  Verdict again(const Header& h, const Bytes& reply, Bytes* answer);
  Status run(RequestView& request, bool passed, Partial& partial, Refusal& refusal);

  std::shared_ptr<const Model> model_;
  int threads_;
  Pace pace_;

  mutable std::mutex mutex_;  // guards what is below
  bool serving_ = false;
  uint64_t session_ = 0;
  int n_ctx_ = 0, n_slots_ = 0;
  // Of requests that came over MQTT, where anybody may speak, and of sealed ones, which those must not hold up.
  std::optional<uint32_t> newest_sync_[2];
  std::map<uint64_t, Pending> pending_;             // by request
  std::deque<std::pair<uint64_t, Bytes>> replies_;  // the last ones, oldest first
  WorkerCounters counters_;

  std::mutex computing_;  // held while the device computes or is replaced; taken before mutex_
  std::unique_ptr<Device> device_;
};

}  // namespace halo
