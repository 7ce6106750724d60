// The thread sleeps until a datagram comes or something is due. Who sends does it in his own thread, and sets the
// timer, so that a sync wakes the endpoint's thread only for what arrives.
#include "wire/endpoint.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "engine/error.h"

namespace halo {

namespace {

constexpr int kUdpSegment = 103;  // linux/udp.h: UDP_SEGMENT, since Linux 4.18
constexpr int kSegments = 16;     // packets of one message to the system
constexpr size_t kManyPackets = 24;
constexpr int kBatch = 64;                 // datagrams of one system call
constexpr int kBuffer = 4 << 20;           // bytes wanted for the socket; the system gives what it allows
constexpr Micros kDead = 700'000;          // an answer is owed for so long: the peer is not there
constexpr Micros kStuck = 2'000'000;       // a message makes no progress for so long: its packets do not pass
constexpr Micros kSearchEvery = 100'000;   // pings to all addresses of a peer that was never heard, at first
constexpr Micros kSearchLong = 2'000'000;  // and when that becomes slower
constexpr Micros kBeatWaiting = 100'000;   // silence after which someone who waits asks for a sign of life
constexpr Micros kBeat = 1'000'000;        // the same when nobody waits
constexpr Micros kHello = 1'500'000;       // silence after which who was called says where it is
constexpr Micros kSettled = 200'000;       // silence at a peer's address after which another one is believed
constexpr Micros kAfterFailure = 10'000;
constexpr int kSendPatienceMs = 5;

[[noreturn]] void fail(const std::string& what) {
  throw Error("no UDP socket for partials: " + what + ": " + std::strerror(errno));
}

bool same(const Address& a, const Address& b) {
  return a.sin6_port == b.sin6_port && std::memcmp(&a.sin6_addr, &b.sin6_addr, sizeof a.sin6_addr) == 0;
}

}  // namespace

Address parse_address(const std::string& host, int port) {
  Address a{};
  a.sin6_family = AF_INET6;
  a.sin6_port = htons(static_cast<uint16_t>(port));
  const std::string mapped = host.find(':') == std::string::npos ? "::ffff:" + host : host;
  if (port < 1 || port > 65535 || inet_pton(AF_INET6, mapped.c_str(), &a.sin6_addr) != 1) {
    throw std::invalid_argument("not an address and port: " + host + " " + std::to_string(port));
  }
  return a;
}

std::string to_text(const Address& a) {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text);
  const std::string host = text, port = std::to_string(ntohs(a.sin6_port));
  if (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr)) return host.substr(7) + ":" + port;
  return "[" + host + "]:" + port;
}

Micros Endpoint::now() {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

Endpoint::Endpoint(Deliver deliver, int port) : deliver_(std::move(deliver)) {
  socket_ = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket_ < 0) fail("IPv6 sockets (which also carry IPv4) are needed");
  const int off = 0, size = kBuffer, fragment = IP_PMTUDISC_DONT;
  ::setsockopt(socket_, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::setsockopt(socket_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0) {  // for root
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  }
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  // A path with a smaller MTU than ours is slow then, instead of dead.
  ::setsockopt(socket_, IPPROTO_IP, IP_MTU_DISCOVER, &fragment, sizeof fragment);
  Address any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(static_cast<uint16_t>(port));
  socklen_t length = sizeof any;
  if (::bind(socket_, reinterpret_cast<sockaddr*>(&any), length) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr*>(&any), &length) != 0) {
    const int error = errno;
    ::close(socket_);
    errno = error;
    fail("port " + std::to_string(port));
  }
  port_ = ntohs(any.sin6_port);
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  if (timer_ < 0 || stop_ < 0) {
    for (const int fd : {socket_, timer_, stop_}) ::close(fd);
    fail("timer");
  }
  thread_ = std::thread(&Endpoint::run, this);
}

Endpoint::~Endpoint() {
  const uint64_t one = 1;
  if (::write(stop_, &one, sizeof one) != sizeof one) std::terminate();  // an eventfd takes a one
  thread_.join();
  ::close(socket_);
  ::close(timer_);
  ::close(stop_);
}

std::unique_ptr<Endpoint::Peer> Endpoint::make(int number, const PeerSetup& p, Micros now) {
  return std::make_unique<Peer>(Peer{Channel(number, p.channel, p.cipher, p.out_key, p.out_iv, p.in_key, p.in_iv),
                                     p.candidates, Address{}, false, now, 0, 0});
}

void Endpoint::open(const std::vector<PeerSetup>& peers) {
  const Micros t = now();
  std::lock_guard<std::mutex> lock(mutex_);
  peers_.clear();
  for (size_t i = 0; i < peers.size(); ++i) peers_.push_back(make(static_cast<int>(i), peers[i], t));
  arm(t);
}

int Endpoint::add(const PeerSetup& peer) {
  const Micros t = now();
  std::lock_guard<std::mutex> lock(mutex_);
  const auto free = std::find(peers_.begin(), peers_.end(), nullptr);
  const int number = static_cast<int>(free - peers_.begin());
  auto made = make(number, peer, t);
  if (free == peers_.end()) {
    peers_.push_back(std::move(made));
  } else {
    *free = std::move(made);
  }
  arm(t);
  return number;
}

void Endpoint::remove(int peer) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (find(peer) != nullptr) peers_[peer].reset();
}

// With the lock held; null: there is none any more.
Endpoint::Peer* Endpoint::find(int peer) const {
  return peer >= 0 && peer < static_cast<int>(peers_.size()) ? peers_[peer].get() : nullptr;
}

void Endpoint::set_candidates(int peer, std::vector<Address> candidates) {
  const Micros t = now();
  std::lock_guard<std::mutex> lock(mutex_);
  Peer* p = find(peer);
  if (p == nullptr) return;
  p->candidates = std::move(candidates);
  p->opened = t;  // the search is in a hurry again
  arm(ping_at(*p, t));
}

// Calls f(peer, first, last) for the packets of each peer, which lie together; called with the lock held.
template <typename F>
void Endpoint::for_each_peer(const Outbox& out, F f) {
  for (size_t begin = 0, end = 0; begin < out.size(); begin = end) {
    while (end < out.size() && out[end].peer == out[begin].peer) ++end;
    const int peer = out[begin].peer;
    if (Peer* p = find(peer)) f(p->channel, out[begin].number, out[end - 1].number);
  }
}

void Endpoint::send(const Messages& messages) {
  std::lock_guard<std::mutex> sending(sending_);
  outbox_.clear();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const Micros t = now();
    for (const auto& [peer, message] : messages) {
      Peer* p = find(peer);
      if (p == nullptr) continue;  // closed meanwhile
      Channel& channel = p->channel;
      channel.send(message->data(), message->size(), t, outbox_);
      arm(channel.next_work());
    }
    targets_.clear();
    address(outbox_, targets_);
    for_each_peer(outbox_, [](Channel& channel, uint64_t first, uint64_t last) { channel.hold(first, last); });
  }
  hand_over(outbox_, targets_);
}

// ---- the thread

struct Endpoint::Received {
  uint8_t bytes[kBatch][kMaxDatagram + 1];  // one more: a longer one is none of ours
  Address from[kBatch];
  iovec parts[kBatch];
  mmsghdr headers[kBatch];
  int count = 0;

  void fill(int socket) {
    for (int i = 0; i < kBatch; ++i) {
      parts[i] = {bytes[i], sizeof bytes[i]};
      headers[i].msg_hdr = {};
      headers[i].msg_hdr.msg_name = &from[i];
      headers[i].msg_hdr.msg_namelen = sizeof from[i];
      headers[i].msg_hdr.msg_iov = &parts[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    count = std::max(0, ::recvmmsg(socket, headers, kBatch, MSG_DONTWAIT, nullptr));
  }
};

struct Endpoint::Turn {
  Received received;
  std::vector<std::pair<int, Bytes>> complete;
  std::vector<Address> targets;
  Outbox out;
};

void Endpoint::run() {
  const auto turn = std::make_unique<Turn>();
  pollfd events[3] = {{socket_, POLLIN, 0}, {timer_, POLLIN, 0}, {stop_, POLLIN, 0}};
  while (events[2].revents == 0) {
    if (::poll(events, 3, -1) < 0) continue;  // a signal
    uint64_t expirations;
    if (events[1].revents != 0 && ::read(timer_, &expirations, sizeof expirations) < 0) expirations = 0;  // set anew
    try {
      serve(*turn);
    } catch (const std::exception&) {  // no memory, or libcrypto failed: as if what it was about had been lost
      ++failures_;
      turn->complete.clear();
      std::lock_guard<std::mutex> lock(mutex_);
      armed_ = Channel::kNever;
      arm(now() + kAfterFailure);
    }
  }
}

// Takes what has come, and sends and delivers what that leads to and what is due.
void Endpoint::serve(Turn& turn) {
  turn.received.fill(socket_);
  turn.out.clear();
  turn.targets.clear();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    take(turn.received, turn.complete);
    const Micros t = now();
    for (const auto& peer : peers_) {
      if (peer && peer->channel.next_work() <= t) peer->channel.work(t, turn.out);
    }
    address(turn.out, turn.targets);
    for (const auto& peer : peers_) {
      if (peer && ping_at(*peer, t) <= t) ping(*peer, t, turn.out, turn.targets);
    }
    for_each_peer(turn.out, [](Channel& channel, uint64_t first, uint64_t last) { channel.hold(first, last); });
    armed_ = Channel::kNever;
    for (const auto& peer : peers_) {
      if (peer) arm(std::min(peer->channel.next_work(), ping_at(*peer, t)));
    }
  }
  hand_over(turn.out, turn.targets);
  for (auto& [peer, message] : turn.complete) deliver_(peer, std::move(message));
  turn.complete.clear();
}

void Endpoint::take(Received& received, std::vector<std::pair<int, Bytes>>& complete) {
  const Micros t = now();
  std::vector<Bytes> messages;
  for (int i = 0; i < received.count; ++i) {
    const size_t size = received.headers[i].msg_len;
    uint32_t id = 0;
    if (size >= kClearBytes) std::memcpy(&id, received.bytes[i], sizeof id);
    const auto found =
        std::find_if(peers_.begin(), peers_.end(), [&](const auto& p) { return p && p->channel.id() == id; });
    if (size < kClearBytes || found == peers_.end()) {
      ++foreign_;
      continue;
    }
    Peer& peer = **found;
    const auto verdict = peer.channel.receive(received.bytes[i], size, t, messages);
    if (verdict == Channel::Verdict::Newest) settle(peer, received.from[i], t);
    for (Bytes& m : messages) complete.emplace_back(static_cast<int>(found - peers_.begin()), std::move(m));
    messages.clear();
  }
}

// A sealed packet, newer than all before, has come from there: that is where the peer is, unless it also answers at the
// address that we know.
void Endpoint::settle(Peer& p, const Address& from, Micros t) {
  if (p.known && !same(p.address, from) && t - p.heard_there < kSettled) return;
  p.address = from;
  p.known = true;
  p.heard_there = t;
}

bool Endpoint::alive(const Peer& p, Micros t) const {
  return p.channel.last_heard() >= 0 && p.channel.unanswered(t) < kDead && p.channel.stuck(t) < kStuck;
}

// When a peer is to be asked for a sign of life.
Micros Endpoint::ping_at(const Peer& p, Micros t) const {
  if (p.candidates.empty() && !p.known) return Channel::kNever;  // it will call
  if (!alive(p, t)) {
    const bool hurry = waiting_ || t - p.opened < kSearchLong;
    return p.pinged + (hurry ? kSearchEvery : kBeat);
  }
  const Micros silence = p.candidates.empty() ? kHello : waiting_ ? kBeatWaiting : kBeat;
  return std::max(p.pinged, p.channel.last_heard()) + silence;
}

// To where it was last, and, while it does not answer, to wherever it may be.
void Endpoint::ping(Peer& p, Micros t, Outbox& out, std::vector<Address>& targets) {
  const bool search = !alive(p, t);
  p.pinged = t;
  if (p.known) {
    p.channel.ping(search, t, out);
    targets.push_back(p.address);
  }
  for (const Address& candidate : p.candidates) {
    if (!search || (p.known && same(candidate, p.address))) continue;
    p.channel.ping(search, t, out);
    targets.push_back(candidate);
  }
}

// Sets the timer to `at`, where nothing is due before; called with the lock held.
void Endpoint::arm(Micros at) {
  if (at >= armed_) return;
  armed_ = at;
  const Micros t = std::max<Micros>(at, 1);
  const itimerspec when{{0, 0}, {t / 1'000'000, t % 1'000'000 * 1000}};
  ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

// Where the packets go that have no target yet.
void Endpoint::address(const Outbox& out, std::vector<Address>& targets) const {
  for (size_t i = targets.size(); i < out.size(); ++i) targets.push_back(peers_[out[i].peer]->address);
}

namespace {

// Packets of one size to one place, which one message to the system may carry (UDP_SEGMENT).
struct Group {
  int rank;  // how many groups of its peer go before
  int first, count;
};

// The first packets of each peer, then the next of each, and so on: the parity of one does not delay the data of
// another. Where there are many, as of a prompt, they go in groups, which cost the system little more than a packet.
std::vector<Group> grouped(const Outbox& out, bool segments) {
  const int most = segments && out.size() >= kManyPackets ? kSegments : 1;
  std::vector<Group> groups;
  groups.reserve(out.size());
  for (int i = 0; i < static_cast<int>(out.size()); ++i) {
    const bool same_peer = i > 0 && out[i].peer == out[i - 1].peer;
    if (same_peer && groups.back().count < most && out[i].packet.size == out[i - 1].packet.size) {
      ++groups.back().count;
    } else {
      groups.push_back({same_peer ? groups.back().rank + 1 : 0, i, 1});
    }
  }
  std::stable_sort(groups.begin(), groups.end(), [](const Group& x, const Group& y) { return x.rank < y.rank; });
  return groups;
}

// One call's messages.
struct Calls {
  mmsghdr headers[kBatch];
  iovec parts[kBatch * kSegments];
  alignas(cmsghdr) char control[kBatch][CMSG_SPACE(sizeof(uint16_t))];

  void add(int i, int& used, const Group& group, const Outbox& out, const std::vector<Address>& targets) {
    msghdr& h = headers[i].msg_hdr;
    h = {};
    h.msg_name = const_cast<Address*>(&targets[group.first]);
    h.msg_namelen = sizeof(Address);
    h.msg_iov = parts + used;
    h.msg_iovlen = group.count;
    for (int p = 0; p < group.count; ++p) {
      const Packet& packet = out[group.first + p].packet;
      parts[used++] = {const_cast<uint8_t*>(packet.bytes), packet.size};
    }
    if (group.count == 1) return;
    h.msg_control = control[i];
    h.msg_controllen = sizeof control[i];
    cmsghdr* c = CMSG_FIRSTHDR(&h);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = kUdpSegment;
    c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const auto size = static_cast<uint16_t>(out[group.first].packet.size);
    std::memcpy(CMSG_DATA(c), &size, sizeof size);
  }
};

}  // namespace

// A thread that is put aside in the middle of this keeps packets back, while the other one may send later ones.
void Endpoint::hand_over(const Outbox& out, const std::vector<Address>& targets) {
  if (out.size() == 0) return;
  transmit(out, targets);
  std::lock_guard<std::mutex> lock(mutex_);
  const Micros t = now();
  for_each_peer(out, [&](Channel& channel, uint64_t first, uint64_t last) { channel.release(first, last, t); });
}

void Endpoint::transmit(const Outbox& out, const std::vector<Address>& targets) {
  std::vector<Group> groups = grouped(out, segments_);
  const Micros until = now() + 1000 * kSendPatienceMs;
  Calls calls;
  for (size_t done = 0; done < groups.size();) {
    int count = 0, used = 0;
    for (size_t i = done; i < groups.size() && count < kBatch; ++i) calls.add(count++, used, groups[i], out, targets);
    const int sent = ::sendmmsg(socket_, calls.headers, static_cast<unsigned>(count), 0);
    if (sent > 0) {
      done += static_cast<size_t>(sent);
      continue;
    }
    const bool full = errno == EAGAIN || errno == EWOULDBLOCK;
    pollfd room{socket_, POLLOUT, 0};
    if (full && now() < until && ::poll(&room, 1, kSendPatienceMs) > 0) continue;
    if (!full && groups[done].count > 1) {  // a system, or a way, that has no segments
      segments_ = false;
      const Group whole = groups[done];
      groups[done].count = 1;
      for (int p = whole.count - 1; p > 0; --p) {
        groups.insert(groups.begin() + static_cast<std::ptrdiff_t>(done) + 1, {whole.rank, whole.first + p, 1});
      }
      continue;
    }
    unsent_ += static_cast<uint64_t>(groups[done].count);  // no room, no route, no interface: as if lost on the way
    ++done;
  }
}

// ---- questions

uint64_t Endpoint::alive() const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Micros t = now();
  uint64_t peers = 0;
  for (size_t i = 0; i < peers_.size() && i < 64; ++i) peers |= uint64_t{peers_[i] && alive(*peers_[i], t)} << i;
  return peers;
}

bool Endpoint::alive(int peer) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Peer* p = find(peer);
  return p != nullptr && alive(*p, now());
}

std::string Endpoint::where(int peer) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Peer* p = find(peer);
  return p != nullptr && p->known ? to_text(p->address) : "";
}

LinkReport Endpoint::report(int peer) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Peer* p = find(peer);
  return p != nullptr ? p->channel.report() : LinkReport();
}

ChannelCounters Endpoint::counters(int peer) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Peer* p = find(peer);
  return p != nullptr ? p->channel.counters() : ChannelCounters();
}

EndpointCounters Endpoint::counters() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {foreign_, unsent_, failures_};
}

void Endpoint::reset_counters() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& p : peers_) {
    if (p) p->channel.reset_counters();
  }
  foreign_ = unsent_ = failures_ = 0;
}

}  // namespace halo
