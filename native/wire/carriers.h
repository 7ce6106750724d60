// What carries the hub's messages to each worker: datagrams while they are answered, else MQTT.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "wire/endpoint.h"
#include "wire/message.h"

namespace halo {

// A message for the MQTT thread.
struct Letter {
  int worker;
  int attempt;  // 0: for the first time
  Bytes message;
};
using Outgoing = std::vector<Letter>;
using Post = std::function<void(Outgoing)>;

class Carriers {
 public:
  explicit Carriers(Post post) : post_(std::move(post)) {}

  // Opens the socket; `only`: nothing else is to carry messages. `deliver` gets what comes, in the endpoint's thread.
  // Throws Error where the system gives no socket.
  void open_datagrams(Endpoint::Deliver deliver, bool only);

  // A link to one more worker; a peer's number, or -1 where there are no datagrams.
  int add(const PeerSetup& setup) { return datagrams_ ? datagrams_->add(setup) : -1; }
  void remove(int peer) {
    if (datagrams_ && peer >= 0) datagrams_->remove(peer);
  }

  // Bit p: peer p answers datagrams.
  uint64_t alive() const { return datagrams_ ? datagrams_->alive() : 0; }
  // Bit p: datagrams carry messages to peer p now, of whom these are `alive`.
  uint64_t over_datagrams(uint64_t alive) const { return only_ ? ~uint64_t{0} : alive; }
  uint64_t over_datagrams() const { return over_datagrams(alive()); }
  // While someone waits for answers, a silent peer is asked for a sign of life often.
  void set_waiting(bool waiting) {
    if (datagrams_) datagrams_->set_waiting(waiting);
  }

  struct Parcel {
    int worker, peer, attempt;
    bool datagrams;
    const Bytes* message;
  };
  void send(const std::vector<Parcel>& parcels);

  const Endpoint* datagrams() const { return datagrams_.get(); }
  Endpoint* datagrams() { return datagrams_.get(); }

 private:
  const Post post_;
  bool only_ = false;
  std::unique_ptr<Endpoint> datagrams_;  // last: its thread delivers
};

}  // namespace halo
