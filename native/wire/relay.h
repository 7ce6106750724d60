// The hub's exchange: workers come and go, each sync is a round of requests, and account is kept of every request until
// it is answered or given up.
//
// Nothing that a worker does or fails to do ends a round: what is late, refused, nonsense or lost with its worker is
// overdue, and the engine computes it instead (`await`, `stand_in`). An answer counts once, for the request it names,
// and only if it repeats that request's shape; results are added in request order, never in order of arrival.
//
// `deliver` takes what comes, from any thread. docs/architecture.md, "Trouble", has the rules in words.
#pragma once

#include <algorithm>
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
#include "wire/carriers.h"
#include "wire/member.h"

namespace halo {

struct RelayOptions {
  size_t max_message = 65536;  // bytes; a request is cut into rows so that it and its answer stay below
  std::optional<double>
      re_request_s;         // ask again after this long without an answer; unset: as each worker's answers tell
  double patience_s = 4.0;  // of a probe: a worker that says nothing for this long is lost
  bool stand_ins = true;    // off, for measurements: whoever is late or slow is waited for
  bool correct = true;      // off, for measurements: what is late has its mean, and no correction
};

class Relay : public Exchange {
 public:
  Relay(uint64_t session, Post post, RelayOptions options);

  // Lets datagrams carry messages, to the workers that join with a link. Once, before the first joins; `only`: nothing
  // else may. Throws Error where the system gives no socket.
  void open_datagrams(bool only);

  // A worker takes part from the next sync on, with the groups of `resident` (see set_resident; empty: with all); its
  // number is free again only after `forget`. Throws
  // std::invalid_argument when there are as many as a mask of workers can name.
  int join(const std::optional<PeerSetup>& link, std::vector<LayerMasks> resident = {});
  // It is gone: what it owes the present round is computed by others. It keeps its number and its link.
  void leave(int worker, const std::string& reason);
  // It is back, the same process with the same keys and whatever its caches held.
  void rejoin(int worker);
  // It never comes back under this number.
  DeviceCounters forget(int worker);
  // By layer, the groups of attention and of the MLP that it holds.
  void set_resident(int worker, std::vector<LayerMasks> masks);
  // Where a worker that has datagrams may be, from now on.
  void update_candidates(int worker, std::vector<Address> candidates);

  // Returns whether this answer shows that its request was sent again needlessly: it was late, not lost. `sealed`: only
  // that worker can have sent it.
  bool deliver(int worker, Bytes message, bool sealed = false);

  struct MemberState {
    Standing standing;
    std::string reason;
    double for_s;  // that it has been so
    double cache;  // share of the rows of the present sequence that it has
    size_t owed;   // requests without an answer
  };
  std::vector<std::optional<MemberState>> members() const;  // by number; none: it is free
  struct LinkState {
    bool offered = false, alive = false;  // it speaks datagrams; they arrive
    std::string where;                    // its address
    LinkReport link;
    ChannelCounters packets;
  };
  std::vector<std::optional<LinkState>> links() const;
  EndpointCounters endpoint_counters() const;

  void begin(const CellShape& shape) override;
  void survey(const Scatter& scatter, std::vector<Candidate>& candidates) override;
  int whom_to_try(const Scatter& scatter) override;
  void scatter(const Scatter& scatter) override;
  void back_fill(int slot, int end, const CopyRows& copy) override;
  std::optional<Overdue> await(const std::function<void()>& poll) override;
  bool stand_in(const Overdue& request, Partial result) override;
  uint64_t collect(Partial& sum) override;
  std::vector<Correction> corrections() override;
  void roll_back(int slot, uint32_t epoch, uint32_t base) override;
  ExchangeCounters counters() const override;
  void reset_counters() override;

  // Seconds that each of `syncs` syncs without arithmetic takes: `payload` bytes to every worker, `reply_bytes` from
  // each. Strict: throws WorkerLost where one does not answer.
  std::vector<double> probe(size_t payload, uint32_t reply_bytes, int syncs, const std::function<void()>& poll);

 private:
  using MemberPtr = std::shared_ptr<Member>;

  // Valid as long as the request's message is.
  static Carriers::Parcel parcel_of(const Request& r) {
    return {r.member->number, r.member->peer, r.times - 1, r.datagrams, &r.message};
  }
  MemberPtr find(int worker) const;
  MemberPtr member_of_peer(int peer) const;
  Request make(const MemberPtr& member, const Header& header, bool over) const;
  void ask(const Scatter& s, const MemberPtr& member, uint64_t mask, int first, int rows, bool over, bool tolerant);
  void predict(const Scatter& s, Request& request, Micros now) const;
  Micros due(const Request& request) const;
  std::vector<Carriers::Parcel> ask_again(Micros now, uint64_t over);
  std::optional<Overdue> whom_to_stand_in_for(Micros now);
  Micros next_event(Micros now) const;
  Overdue overdue(size_t number, bool carried, Micros now);
  void postpone(Micros by);
  bool is_over() const;
  void abandon();
  void give_away(std::vector<Request>& requests);

  // Tolerant requests: relay_tolerant.cpp.
  bool is_tolerant(const Scatter& s, size_t worker, uint64_t mask) const;
  void fill_overdue(Micros now);
  uint64_t take_filled_out();
  void set_carried_deadlines(Micros begin);
  Request* outstanding(const Member& member, uint64_t id);
  template <class Which>
  bool any_outstanding(Which which) const {
    return std::any_of(round_.begin(), round_.end(), which) || std::any_of(carried_.begin(), carried_.end(), which) ||
           std::any_of(filled_.begin(), filled_.end(), which);
  }

  void fail_if_lost(Micros now) const;
  double probe_once(size_t payload, uint32_t reply_bytes, const std::function<void()>& poll);

  bool deliver_to(const MemberPtr& member, Bytes message, bool sealed);
  bool take(Request& request, Bytes message, Micros now);
  void teach_patience(Request& request, Micros now) const;
  void take_refusal(Request& request, const Header& answer, Micros now);
  bool take_owed(const MemberPtr& member, const Bytes& message, Micros now, bool sealed);
  bool take_filled(const MemberPtr& member, const Header& answer, bool sealed);
  void expel(Member& member, const std::string& reason);
  bool misses_earlier(const Request& request) const;

  const uint64_t session_;
  const RelayOptions options_;

  mutable std::mutex mutex_;  // guards all below but `carriers_`
  std::condition_variable arrived_;
  CellShape shape_;
  std::vector<uint32_t> epochs_;    // by slot
  std::vector<MemberPtr> members_;  // by number; none: free
  std::vector<MemberPtr> taking_;   // as surveyed: those that the next scatter names
  std::vector<Request> round_;
  std::vector<Request> carried_;  // tolerant ones of the sync before, due in this round
  std::vector<Request> filled_;   // those of this sync that are late: carried into the next one
  uint64_t next_id_ = 1;
  size_t turn_ = 0;    // whose cache is filled next
  size_t tried_ = 0;   // who was measured last although it had nothing to do
  Micros try_at_ = 0;  // when the next one is
  int end_ = 0;        // rows that a complete cache has
  Micros last_scatter_ = 0;
  double cost_us_ = 40;        // of the hub's time, for each request: smoothed
  ExchangeCounters counters_;  // of all workers together

  Carriers carriers_;  // last: its thread delivers to all of the above
};

}  // namespace halo
