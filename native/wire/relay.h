// The hub's exchange: it makes messages, chooses what carries them to each worker, takes the answers, and keeps
// account.
//
// Datagrams carry messages to the workers that answer them; `post` hands the others out (to Python's MQTT thread), and
// `deliver` takes what comes back, from any thread. Waiting is strict: a request that is not answered is asked again,
// and a worker that stays silent is lost. A worker whose datagrams stop is asked over MQTT, and the other way round.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/exchange.h"
#include "wire/endpoint.h"
#include "wire/message.h"
#include "wire/patience.h"

namespace halo {

struct RelayOptions {
  size_t max_message = 65536;  // bytes; a request is cut into rows so that it and its answer stay below
  std::optional<double>
      re_request_s;         // ask again after this long without an answer; unset: as each worker's answers tell
  double patience_s = 4.0;  // a worker that says nothing for this long is lost
};

// What may carry the messages.
enum class Transport : uint8_t { Auto, Udp, Mqtt };

class Relay : public Exchange {
 public:
  struct Letter {
    int worker;
    int attempt;  // 0: for the first time
    Bytes message;
  };
  using Outgoing = std::vector<Letter>;
  using Post = std::function<void(Outgoing)>;

  Relay(uint64_t session, int workers, Post post, RelayOptions options);

  int workers() const override { return static_cast<int>(counters_.workers.size()); }
  void scatter(const Scatter& scatter) override;
  void gather(Partial& sum, const std::function<void()>& poll) override;
  void expel(int worker, const std::string& reason) override;
  ExchangeCounters counters() const override;
  void reset_counters() override;

  // Returns whether this answer shows that its request was sent again needlessly: it was late, not lost. `sealed`: only
  // that worker can have sent it.
  bool deliver(int worker, const uint8_t* data, size_t size, bool sealed = false);
  void lost(int worker, const std::string& reason);

  // Opens the datagram links: setups[w] is worker w's, or none where it has no datagrams. Once, before anything is
  // sent.
  void open_datagrams(const std::vector<std::optional<PeerSetup>>& setups, Transport transport);
  // Where a worker that has datagrams may be, from now on; from any thread.
  void update_candidates(int worker, std::vector<Address> candidates);
  struct LinkState {
    bool offered = false, alive = false;  // it speaks datagrams; they arrive
    std::string where;                    // its address
    LinkReport link;
    ChannelCounters packets;
  };
  std::vector<LinkState> links() const;
  EndpointCounters endpoint_counters() const;

  // Seconds that each of `syncs` syncs without arithmetic takes: `payload` bytes to every worker, `reply_bytes` from
  // each.
  std::vector<double> probe(size_t payload, uint32_t reply_bytes, int syncs, const std::function<void()>& poll);

 private:
  using Clock = std::chrono::steady_clock;

  double probe_once(size_t payload, uint32_t reply_bytes, const std::function<void()>& poll);

  struct Outstanding {
    uint64_t id;
    int worker;
    int first, rows;
    uint64_t mask;
    Bytes message;  // to ask again
    Bytes answer;   // empty until it is there
    int kind;       // of the worker's Patience
    Clock::time_point first_asked, asked;
    bool datagrams = false;  // what it was sent over last
    bool mqtt = false;       // it was sent over MQTT, too: then an answer may come that way
    int times = 1;           // asked
    bool computing = false;  // the worker has said so
    bool needless = false;   // to have asked it more than once
  };

  void send(const std::vector<const Outstanding*>& requests);
  uint64_t over_datagrams() const;
  bool may_answer_over_mqtt(int worker) const;
  Clock::time_point due(const Outstanding& request) const;
  Clock::time_point next_due() const;
  void wait(std::unique_lock<std::mutex>& lock, const std::function<void()>& poll);
  void ask_again(std::unique_lock<std::mutex>& lock);
  void fail_if_lost();
  void fail_if_silent();
  bool misses_earlier(const Outstanding& request) const;
  void answered(Outstanding& request, const uint8_t* data, size_t size);
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
  std::vector<Patience> patience_;  // by worker
  std::vector<std::string> lost_;   // reason by worker; empty: not lost
  std::vector<bool> expelled_;      // whether that is its answers' fault
  ExchangeCounters counters_;

  Transport transport_ = Transport::Mqtt;
  std::vector<int> peer_of_;             // worker -> peer of the endpoint; -1: none
  std::vector<int> worker_of_;           // the other way round
  std::unique_ptr<Endpoint> datagrams_;  // last: its thread delivers to all of the above
};

}  // namespace halo
