// A UDP socket, the links that go over it, and the thread that serves them.
#pragma once

#include <netinet/in.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "wire/channel.h"

namespace halo {

// Everything is an IPv6 address here; those of IPv4 are mapped, as the socket wants them.
using Address = sockaddr_in6;

// Throws std::invalid_argument for a text that is no numeric address.
Address parse_address(const std::string& host, int port);
std::string to_text(const Address& address);

struct EndpointCounters {
  uint64_t foreign = 0;   // datagrams of no link that is open here
  uint64_t unsent = 0;    // datagrams that the system did not take
  uint64_t failures = 0;  // turns of the thread that ended for want of memory
};

struct PeerSetup {
  uint32_t channel;
  Cipher cipher;
  uint8_t out_key[32], out_iv[12], in_key[32], in_iv[12];
  std::vector<Address> candidates;  // where it may be; none: it calls first
};

class Endpoint {
 public:
  // Called in the thread of the endpoint.
  using Deliver = std::function<void(int peer, Bytes message)>;

  // Opens a socket on all addresses, at this port (0: at a free one); throws Error where the system does not give one.
  explicit Endpoint(Deliver deliver, int port = 0);
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  int port() const { return port_; }

  // Closes all links and opens these; peer i is peers[i].
  void open(const std::vector<PeerSetup>& peers);
  // Opens one more link, and says which peer it is: the first number that is free.
  int add(const PeerSetup& peer);
  // Closes one: its number may be given to another.
  void remove(int peer);

  // Where a peer that we call may be, from now on; it is asked there once it does not answer where it is.
  void set_candidates(int peer, std::vector<Address> candidates);

  using Messages = std::vector<std::pair<int, const Bytes*>>;  // (peer, message)
  void send(const Messages& messages);

  // While someone waits for answers, a silent peer is asked for a sign of life often.
  void set_waiting(bool waiting) { waiting_ = waiting; }

  uint64_t alive() const;  // bit i: peer i answers; of the first 64
  bool alive(int peer) const;
  std::string where(int peer) const;
  LinkReport report(int peer) const;
  ChannelCounters counters(int peer) const;
  EndpointCounters counters() const;
  void reset_counters();

  static Micros now();

 private:
  struct Peer {
    Channel channel;
    std::vector<Address> candidates;
    Address address;
    bool known = false;  // the address
    Micros opened = 0, pinged = 0;
    Micros heard_there = 0;  // when its last packet came from that address
  };
  struct Received;
  struct Turn;

  static std::unique_ptr<Peer> make(int number, const PeerSetup& setup, Micros now);
  Peer* find(int peer) const;
  void run();
  void serve(Turn& turn);
  void take(Received& received, std::vector<std::pair<int, Bytes>>& complete);
  void settle(Peer& peer, const Address& from, Micros now);
  bool alive(const Peer& peer, Micros now) const;
  Micros ping_at(const Peer& peer, Micros now) const;
  void ping(Peer& peer, Micros now, Outbox& out, std::vector<Address>& targets);
  void arm(Micros at);
  void address(const Outbox& out, std::vector<Address>& targets) const;
  template <typename F>
  void for_each_peer(const Outbox& out, F f);
  void hand_over(const Outbox& out, const std::vector<Address>& targets);
  void transmit(const Outbox& out, const std::vector<Address>& to);

  const Deliver deliver_;
  int socket_ = -1, timer_ = -1, stop_ = -1;
  int port_ = 0;
  std::atomic<bool> waiting_{false};
  std::atomic<bool> segments_{true};  // the system takes several packets in one message
  std::atomic<uint64_t> unsent_{0}, failures_{0};

  mutable std::mutex mutex_;                  // guards what is below
  std::vector<std::unique_ptr<Peer>> peers_;  // none where a link was closed
  Micros armed_ = Channel::kNever;
  uint64_t foreign_ = 0;

  std::mutex sending_;  // guards what `send` works with; taken before mutex_
  Outbox outbox_;
  std::vector<Address> targets_;

  std::thread thread_;
};

}  // namespace halo
