// Who takes part, what is told of them, what fills their caches, and syncs without arithmetic, which only measure.
#include <algorithm>
#include <stdexcept>

#include "wire/relay.h"

namespace halo {

namespace {

constexpr size_t kFillBytes = 32768;

}  // namespace

Relay::Relay(uint64_t session, Post post, RelayOptions options)
    : session_(session), options_(options), carriers_(std::move(post)) {}

void Relay::open_datagrams(bool only) {
  carriers_.open_datagrams(
      [this](int peer, Bytes message) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (const MemberPtr member = member_of_peer(peer)) deliver_to(member, std::move(message), true);
      },
      only);
}

int Relay::join(const std::optional<PeerSetup>& link, std::vector<LayerMasks> resident) {
  const Micros now = Endpoint::now();
  std::lock_guard<std::mutex> lock(mutex_);
  const auto free = std::find(members_.begin(), members_.end(), nullptr);
  const int number = static_cast<int>(free - members_.begin());
  if (number == kMaxGroups) throw std::invalid_argument("a cell has at most 64 workers");
  auto member = std::make_shared<Member>(number, shape_, now);
  member->resident = std::move(resident);
  if (last_scatter_ != 0) member->conduct.on_trial(static_cast<double>(now));
  if (link) member->peer = carriers_.add(*link);
  if (free == members_.end()) {
    members_.push_back(std::move(member));
  } else {
    *free = std::move(member);
  }
  return number;
}

Relay::MemberPtr Relay::find(int worker) const {
  return worker >= 0 && worker < static_cast<int>(members_.size()) ? members_[worker] : nullptr;
}

Relay::MemberPtr Relay::member_of_peer(int peer) const {
  const auto found =
      std::find_if(members_.begin(), members_.end(), [&](const auto& m) { return m && m->peer == peer; });
  return found == members_.end() ? nullptr : *found;
}

void Relay::leave(int worker, const std::string& reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  const MemberPtr member = find(worker);
  if (!member) return;
  member->conduct.left(static_cast<double>(Endpoint::now()));
  if (member->conduct.standing() == Standing::Gone) member->reason = reason;
  arrived_.notify_all();
}

void Relay::rejoin(int worker) {
  std::lock_guard<std::mutex> lock(mutex_);
  const MemberPtr member = find(worker);
  if (!member || member->conduct.standing() != Standing::Gone) return;
  member->conduct.came_back(static_cast<double>(Endpoint::now()));
  member->hear(Endpoint::now());
  member->reason.clear();
}

DeviceCounters Relay::forget(int worker) {
  std::lock_guard<std::mutex> lock(mutex_);
  const MemberPtr member = find(worker);
  if (!member) return {};
  member->conduct.left(static_cast<double>(Endpoint::now()));  // requests of the present round keep it until their end
  members_[worker] = nullptr;
  carriers_.remove(member->peer);
  member->peer = -1;
  arrived_.notify_all();
  DeviceCounters counters = member->counters;
  counters.never += static_cast<uint64_t>(std::count_if(
      member->owed.begin(), member->owed.end(), [](const Request& r) { return r.state == Request::State::StoodIn; }));
  counters.probations = member->conduct.probations();
  return counters;
}

void Relay::set_resident(int worker, std::vector<LayerMasks> masks) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (const MemberPtr member = find(worker)) member->resident = std::move(masks);
}

void Relay::update_candidates(int worker, std::vector<Address> candidates) {
  std::lock_guard<std::mutex> lock(mutex_);
  const MemberPtr member = find(worker);
  if (member && member->peer >= 0) carriers_.datagrams()->set_candidates(member->peer, std::move(candidates));
}

std::vector<std::optional<Relay::MemberState>> Relay::members() const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto now = static_cast<double>(Endpoint::now());
  std::vector<std::optional<MemberState>> states;
  for (const MemberPtr& m : members_) {
    states.emplace_back();
    if (!m) continue;
    const double cache = m->caches.empty() ? 1.0 : m->caches.front().share(end_);
    states.back() = {m->conduct.standing(), m->reason, (now - m->conduct.since_us()) * 1e-6, cache, m->owed.size()};
  }
  return states;
}

std::vector<std::optional<Relay::LinkState>> Relay::links() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::optional<LinkState>> states;
  const Endpoint* endpoint = carriers_.datagrams();
  for (const MemberPtr& m : members_) {
    states.emplace_back();
    if (!m) continue;
    states.back().emplace();
    if (m->peer < 0) continue;
    states.back() = {true, endpoint->alive(m->peer), endpoint->where(m->peer), endpoint->report(m->peer),
                     endpoint->counters(m->peer)};
  }
  return states;
}

EndpointCounters Relay::endpoint_counters() const {
  return carriers_.datagrams() != nullptr ? carriers_.datagrams()->counters() : EndpointCounters();
}

void Relay::back_fill(int slot, int end, const CopyRows& copy) {
  if (end == 0) return;
  Bytes message;
  Carriers::Parcel parcel{};
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const int most = static_cast<int>(std::max<size_t>(1, kFillBytes / (4 * static_cast<size_t>(shape_.kv_dim))));
    for (size_t i = 0; i < members_.size() && message.empty(); ++i) {
      const MemberPtr& m = members_[turn_++ % members_.size()];
      if (!m || !m->conduct.is_here() || m->fill || m->rests()) continue;
      const auto gap = m->caches[slot].gap(end, most);
      if (!gap) continue;
      Header header;
      header.session = session_;
      header.request = next_id_++;
      header.epoch = epochs_[slot];
      header.base = m->epochs[slot].base;
      header.slot = static_cast<uint16_t>(slot);
      header.layer = static_cast<uint16_t>(gap->layer);
      header.rows = static_cast<uint16_t>(gap->rows);
      header.kind = Kind::Fill;
      uint8_t* rows = nullptr;
      const size_t bytes = 4 * static_cast<size_t>(shape_.kv_dim) * gap->rows;
      message = encode_fill(header, static_cast<uint32_t>(gap->first), gap->rows, shape_.kv_dim, bytes, &rows);
      copy({slot, gap->layer, gap->first, gap->rows}, rows);
      m->fill = make(m, header, m->goes_over(carriers_.over_datagrams()));
      m->fill->member.reset();
      m->fill->position = static_cast<uint32_t>(gap->first);
      m->caches[slot].asked(gap->layer, gap->first, gap->rows);
      ++m->counters.messages_sent;
      m->counters.bytes_sent += message.size();
      parcel = {m->number, m->peer, 0, m->fill->datagrams, &message};
    }
  }
  if (!message.empty()) carriers_.send({parcel});
}

// ---- syncs without arithmetic

std::vector<double> Relay::probe(size_t payload, uint32_t reply_bytes, int syncs, const std::function<void()>& poll) {
  std::vector<double> seconds;
  for (int i = 0; i < syncs; ++i) seconds.push_back(probe_once(payload, reply_bytes, poll));
  return seconds;
}

double Relay::probe_once(size_t payload, uint32_t reply_bytes, const std::function<void()>& poll) {
  const Micros start = Endpoint::now();
  const uint64_t over = carriers_.over_datagrams();
  std::vector<Carriers::Parcel> parcels;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    round_.clear();
    for (const MemberPtr& m : members_) {
      if (!m || m->conduct.standing() == Standing::Gone || m->conduct.standing() == Standing::Expelled) continue;
      Header header;
      header.session = session_;
      header.request = next_id_++;
      header.kind = Kind::Probe;
      round_.push_back(make(m, header, m->goes_over(over)));
      round_.back().message = encode_probe(header, payload, reply_bytes);
      ++m->counters.messages_sent;
      m->counters.bytes_sent += round_.back().message.size();
    }
    for (const Request& r : round_) parcels.push_back(parcel_of(r));
  }
  carriers_.set_waiting(true);
  carriers_.send(parcels);
  const auto check = [&] {
    poll();
    std::lock_guard<std::mutex> lock(mutex_);
    fail_if_lost(Endpoint::now());
  };
  if (const auto gone = await(check)) {
    std::lock_guard<std::mutex> lock(mutex_);
    const int worker = round_[gone->number].member->number;
    const std::string reason = round_[gone->number].member->reason;
    round_.clear();
    throw WorkerLost(worker, reason.empty() ? "it is gone" : reason);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  round_.clear();
  return static_cast<double>(Endpoint::now() - start) * 1e-6;
}

void Relay::fail_if_lost(Micros now) const {
  const auto patience = static_cast<Micros>(options_.patience_s * 1e6);
  for (const Request& r : round_) {
    if (r.state != Request::State::Waiting || now - std::max(r.asked, r.member->heard) < patience) continue;
    throw WorkerLost(r.member->number, "it did not answer for " + std::to_string(options_.patience_s).substr(0, 4) +
                                           " s, asked again and again");
  }
}

}  // namespace halo
