// The exchange whose messages something else carries: it makes them, takes them, and keeps account.
//
// `post` hands messages out (to Python's MQTT thread); `deliver` takes what comes back, from any thread. Waiting
// is strict: a request that is not answered is asked again, and a worker that stays silent is lost.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "engine/exchange.h"
#include "wire/message.h"

namespace halo {

struct RelayOptions {
  size_t max_message = 65536;  // bytes; a request is cut into rows so that it and its answer stay below
  double re_request_s = 0.5;   // ask again after this long without an answer
  double patience_s = 4.0;     // a worker that says nothing for this long is lost
};

class Relay : public Exchange {
 public:
  using Outgoing = std::vector<std::pair<int, Bytes>>;  // (worker, message)
  using Post = std::function<void(Outgoing)>;

  Relay(uint64_t session, int workers, Post post, RelayOptions options);

  int workers() const override { return static_cast<int>(counters_.workers.size()); }
  void scatter(const Scatter& scatter) override;
  void gather(Partial& sum, const std::function<void()>& poll) override;
  void expel(int worker, const std::string& reason) override;
  ExchangeCounters counters() const override;
  void reset_counters() override;

  void deliver(int worker, const uint8_t* data, size_t size);
  void lost(int worker, const std::string& reason);

  // Seconds that one sync without arithmetic takes: `payload` bytes to every worker, `reply_bytes` from each.
  double probe(size_t payload, uint32_t reply_bytes, const std::function<void()>& poll);

 private:
  using Clock = std::chrono::steady_clock;

  struct Outstanding {
    uint64_t id;
    int worker;
    int first, rows;
    uint64_t mask;
    Bytes message;  // to ask again
    Bytes answer;   // empty until it is there
    Clock::time_point asked;
  };

  void send(Outgoing outgoing);
  void wait(std::unique_lock<std::mutex>& lock, const std::function<void()>& poll);
  void ask_again(std::unique_lock<std::mutex>& lock);
  void fail_if_lost();
  void fail_if_silent();
  bool misses_earlier(const Outstanding& request) const;
  bool take(Outstanding& request, const uint8_t* data, size_t size);
  void add(const Outstanding& request, Partial& sum) const;

  const uint64_t session_;
  const Post post_;
  const RelayOptions options_;

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable arrived_;
  std::vector<Outstanding> round_;
  size_t missing_ = 0;
  uint64_t next_id_ = 1;
  Header expected_;  // what all answers of the round must repeat
  std::vector<Clock::time_point> heard_;
  std::vector<std::string> lost_;  // reason by worker; empty: not lost
  std::vector<bool> expelled_;     // whether that is its answers' fault
  ExchangeCounters counters_;
};

}  // namespace halo
