// Accounting is by request: an answer counts once, for the request it names, and only if it repeats that
// request's shape. Results are added in request order, never in order of arrival.
#include "wire/relay.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "wire/values.h"

namespace halo {

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(50);
constexpr auto kStall = std::chrono::seconds(1);
constexpr auto kLongestComputing = std::chrono::minutes(1);
constexpr auto kDatagramPatience = std::chrono::seconds(1);  // until even a living worker is asked again

std::chrono::steady_clock::duration seconds(double s) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(s));
}

std::string refusal_text(uint16_t reason) {
  switch (static_cast<Refusal>(reason)) {
    case Refusal::OldEpoch:
      return "it refused a request: that is of an epoch that has passed";
    case Refusal::CacheIncomplete:
      return "it refused a request: its cache misses earlier positions";
    case Refusal::Failed:
      return "it could not compute a request (out of memory?); its log says more";
    case Refusal::BadRequest:
      return "it refused a request: that does not fit its model (another version of HALO?)";
    default:
      return "it refused a request";
  }
}

NotFinite not_finite(int worker, const Header& answer, const std::string& which) {
  const std::string part = answer.part == Part::Mlp ? "MLP" : "attention";
  return {worker,
          "its answer holds values that are not finite: " + which + " of layer " + std::to_string(answer.layer) + ", " +
              part + " (is its copy of the model damaged?)",
          answer.mask};
}

// Ends what `scatter` began: that somebody waits for answers.
class Waiting {
 public:
  explicit Waiting(Endpoint* endpoint) : endpoint_(endpoint) {
    if (endpoint_ != nullptr) endpoint_->set_waiting(true);
  }
  ~Waiting() {
    if (endpoint_ != nullptr) endpoint_->set_waiting(false);
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  Endpoint* endpoint_;
};

int rows_per_message(const Scatter& s, size_t max_message) {
  const size_t row_out = row_bytes(s.input_format, s.d) + sizeof(RequestRow);
  const size_t row_in = s.d * bytes_per_value(s.input->format) + sizeof(PartialRow) + s.groups * sizeof(float);
  const size_t fit = (max_message - sizeof(Header)) / std::max(row_out, row_in);
  const int most = static_cast<int>(std::clamp<size_t>(fit, 1, kMaxRows)), rows = s.input->rows;
  const int messages = (rows + most - 1) / most;
  return (rows + messages - 1) / messages;  // of equal size
}

}  // namespace

Relay::Relay(uint64_t session, int workers, Post post, RelayOptions options)
    : session_(session),
      post_(std::move(post)),
      options_(options),
      heard_(workers, Clock::now()),
      patience_(workers),
      lost_(workers),
      expelled_(workers) {
  counters_.workers.resize(workers);
}

void Relay::open_datagrams(const std::vector<std::optional<PeerSetup>>& setups, Transport transport) {
  std::vector<int> peer_of(workers(), -1), worker_of;
  std::vector<PeerSetup> peers;
  for (int w = 0; w < workers(); ++w) {
    if (!setups[w]) continue;
    peer_of[w] = static_cast<int>(peers.size());
    worker_of.push_back(w);
    peers.push_back(*setups[w]);
  }
  if (peers.empty()) return;
  datagrams_ = std::make_unique<Endpoint>(
      [this](int peer, const Bytes& m) { deliver(worker_of_[peer], m.data(), m.size(), true); });
  transport_ = transport;
  peer_of_ = std::move(peer_of);
  worker_of_ = std::move(worker_of);
  datagrams_->open(peers);
}

void Relay::update_candidates(int worker, std::vector<Address> candidates) {
  if (datagrams_ && worker >= 0 && worker < workers() && peer_of_[worker] >= 0)
    datagrams_->set_candidates(peer_of_[worker], std::move(candidates));
}

std::vector<Relay::LinkState> Relay::links() const {
  std::vector<LinkState> states(workers());
  for (size_t peer = 0; peer < worker_of_.size(); ++peer) {
    const int p = static_cast<int>(peer);
    states[worker_of_[peer]] = {true, datagrams_->alive(p), datagrams_->where(p), datagrams_->report(p),
                                datagrams_->counters(p)};
  }
  return states;
}

EndpointCounters Relay::endpoint_counters() const { return datagrams_ ? datagrams_->counters() : EndpointCounters(); }

// Over MQTT anybody may speak who may publish at the broker: no answer of a worker is taken that way to what was only
// asked over sealed datagrams.
bool Relay::may_answer_over_mqtt(int worker) const {
  return peer_of_.empty() || peer_of_[worker] < 0 ||
         std::any_of(round_.begin(), round_.end(), [&](const Outstanding& r) { return r.worker == worker && r.mqtt; });
}

// Bit w: datagrams carry messages to worker w now.
uint64_t Relay::over_datagrams() const {
  if (!datagrams_) return 0;
  uint64_t workers = 0;
  const uint64_t alive = datagrams_->alive();
  for (size_t peer = 0; peer < worker_of_.size(); ++peer) {
    if (transport_ == Transport::Udp || (alive >> peer & 1) != 0) workers |= uint64_t{1} << worker_of_[peer];
  }
  return workers;
}

// Without the lock: of an outstanding request only the answer changes meanwhile.
void Relay::send(const std::vector<const Outstanding*>& requests) {
  Endpoint::Messages datagrams;
  Outgoing outgoing;
  for (const Outstanding* r : requests) {
    if (r->datagrams) {
      datagrams.emplace_back(peer_of_[r->worker], &r->message);
    } else {
      outgoing.push_back({r->worker, r->times - 1, r->message});
    }
  }
  if (!datagrams.empty()) datagrams_->send(datagrams);
  if (!outgoing.empty()) post_(std::move(outgoing));
}

void Relay::scatter(const Scatter& s) {
  const SyncInput& in = *s.input;
  const uint64_t datagrams = over_datagrams();
  // Fragments interleave, so long messages block nothing, and more rows at once are computed faster.
  const bool all = __builtin_popcountll(datagrams) == workers() && options_.max_message >= RelayOptions().max_message;
  const int step = rows_per_message(s, all ? Channel::kMaxMessage : options_.max_message);
  std::vector<const Outstanding*> requests;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    fail_if_lost();
    expected_ = Header();
    expected_.session = session_;
    expected_.epoch = in.epoch;
    expected_.base = in.base;
    expected_.sync = s.sync;
    expected_.slot = static_cast<uint16_t>(in.slot);
    expected_.layer = static_cast<uint16_t>(in.layer);
    expected_.part = in.part;
    expected_.input_format = static_cast<uint8_t>(s.input_format);
    expected_.partial_format = in.format;
    expected_.groups = static_cast<uint8_t>(s.groups);
    expected_.d = static_cast<uint32_t>(s.d);
    round_.clear();
    const auto now = Clock::now();
    for (int first = 0; first < in.rows; first += step) {
      const int rows = std::min(step, in.rows - first);
      for (int w = 0; w < workers(); ++w) {
        if (s.masks[w] == 0 && in.part != Part::Attention) continue;
        Header header = expected_;
        header.request = next_id_++;
        header.mask = s.masks[w];
        Bytes message = encode_request(header, in, s.input_format, first, rows, s.d);
        DeviceCounters& c = counters_.workers[w];
        ++c.requests;
        ++c.messages_sent;
        c.bytes_sent += message.size();
        round_.push_back({header.request,
                          w,
                          first,
                          rows,
                          header.mask,
                          std::move(message),
                          {},
                          Patience::kind(in.part, rows),
                          now,
                          now,
                          (datagrams >> w & 1) != 0,
                          (datagrams >> w & 1) == 0});
      }
    }
    missing_ = round_.size();
    for (const Outstanding& r : round_) requests.push_back(&r);
  }
  if (datagrams_) datagrams_->set_waiting(true);
  send(requests);
}

void Relay::fail_if_lost() {
  for (int w = 0; w < workers(); ++w) {
    if (!lost_[w].empty()) throw WorkerLost(w, lost_[w], expelled_[w]);
  }
}

void Relay::fail_if_silent() {
  const auto limit = Clock::now() - seconds(options_.patience_s);
  for (const Outstanding& r : round_) {
    if (r.answer.empty() && Clock::now() - r.first_asked > kLongestComputing) {
      throw WorkerLost(r.worker, "it has been computing one request for a minute");
    }
    if (r.answer.empty() && heard_[r.worker] < limit) {
      throw WorkerLost(r.worker, "it did not answer for " + std::to_string(options_.patience_s).substr(0, 4) +
                                     " s, asked again and again");
    }
  }
}

// When a request that has no answer is asked again.
Relay::Clock::time_point Relay::due(const Outstanding& r) const {
  if (r.datagrams && !options_.re_request_s) return r.asked + kDatagramPatience;
  return r.asked +
         (options_.re_request_s ? seconds(*options_.re_request_s) : patience_[r.worker].wait(r.kind, r.times));
}

Relay::Clock::time_point Relay::next_due() const {
  auto next = Clock::time_point::max();
  for (const Outstanding& r : round_) {
    if (r.answer.empty()) next = std::min(next, due(r));
  }
  return next;
}

// Datagrams see to it that a message arrives: what is asked again there was not computed, or its answer is no more.
void Relay::ask_again(std::unique_lock<std::mutex>& lock) {
  const auto now = Clock::now();
  const uint64_t datagrams = over_datagrams();
  std::vector<const Outstanding*> requests;
  for (Outstanding& r : round_) {
    const bool over = (datagrams >> r.worker & 1) != 0, moved = over != r.datagrams;
    if (!r.answer.empty() || (!moved && now < due(r))) continue;
    counters_.fall_backs += moved && !over;
    r.datagrams = over;
    r.mqtt |= !over;
    ++r.times;
    r.asked = now;
    r.message[offsetof(Header, flags)] |= kResend;
    ++counters_.re_requests;
    ++counters_.workers[r.worker].messages_sent;
    counters_.workers[r.worker].bytes_sent += r.message.size();
    requests.push_back(&r);
  }
  lock.unlock();
  send(requests);
  lock.lock();
}

// Returns once nothing is missing; the lock is held on entry and on return. Silence counts while we wait, not while
// the hub computed its own share, nor while this process was stopped.
void Relay::wait(std::unique_lock<std::mutex>& lock, const std::function<void()>& poll) {
  auto last = Clock::now() - 2 * kStall, polled = Clock::now();
  while (missing_ != 0) {
    fail_if_lost();
    const auto now = Clock::now();
    if (now - last > kStall) std::fill(heard_.begin(), heard_.end(), now);
    last = now;
    const auto until = std::min(next_due(), now + kPollEvery);
    if (arrived_.wait_until(lock, until, [&] { return missing_ == 0; })) break;
    if (Clock::now() - last > kStall) continue;
    ask_again(lock);
    fail_if_silent();
    if (Clock::now() - polled < kPollEvery) continue;
    polled = Clock::now();
    lock.unlock();
    poll();
    lock.lock();
  }
  fail_if_lost();
}

void Relay::gather(Partial& sum, const std::function<void()>& poll) {
  const Waiting until_the_end(datagrams_.get());
  std::unique_lock<std::mutex> lock(mutex_);
  wait(lock, poll);
  for (const Outstanding& r : round_) add(r, sum);
  round_.clear();
}

void Relay::add(const Outstanding& request, Partial& sum) const {
  PartialView partial;
  decode_partial(request.answer.data(), request.answer.size(), &partial);
  const size_t norms = size_t(request.rows) * __builtin_popcountll(request.mask);
  if (!all_finite(partial.norms, norms)) throw not_finite(request.worker, partial.header, "the norm of a group");
  for (int t = 0; t < request.rows; ++t) sum.range[request.first + t] |= partial.range[t];
  if (partial.values == nullptr) return;
  const size_t d = partial.header.d, n = request.rows * d, at = request.first * d;
  const uint8_t* p = partial.values;
  bool finite = true;
  if (partial.header.partial_format == PartialFormat::Fixed) {
    // Unsigned, because the sum of a sync that is out of range, and so repeated, may wrap.
    for (size_t i = 0; i < n; ++i, p += 4) {
      uint32_t value;
      std::memcpy(&value, p, 4);
      sum.fixed[at + i] = static_cast<int32_t>(static_cast<uint32_t>(sum.fixed[at + i]) + value);
    }
  } else if (partial.header.partial_format == PartialFormat::F16) {
    std::vector<float> scratch(d);
    for (int t = 0; t < request.rows; ++t, p += 2 * d) {
      finite &= add_f16(p, partial.exponents[t], static_cast<int>(d), scratch.data(), sum.f32.data() + at + t * d);
    }
  } else {
    finite = add_f32(p, n, sum.f32.data() + at);
  }
  if (!finite) throw not_finite(request.worker, partial.header, "a sum");
}

// Whether an earlier request of this sync is still on its way to the same worker: then its cache cannot be complete
// yet, and both are asked again.
bool Relay::misses_earlier(const Outstanding& request) const {
  return std::any_of(round_.begin(), round_.end(), [&](const Outstanding& r) {
    return r.worker == request.worker && r.id < request.id && r.answer.empty();
  });
}

// Whether the message is a whole answer to the request; called with the lock held.
bool Relay::take(Outstanding& request, const uint8_t* data, size_t size) {
  PartialView partial;
  if (!decode_partial(data, size, &partial)) return false;
  const Header& h = partial.header;
  const Header& e = expected_;
  if (h.base != e.base || h.epoch != e.epoch || h.sync != e.sync || h.slot != e.slot || h.layer != e.layer ||
      h.part != e.part || h.partial_format != e.partial_format || h.groups != e.groups || h.d != e.d ||
      h.mask != request.mask || h.rows != request.rows) {
    return false;
  }
  if (h.status == Status::Computing) {
    request.asked = Clock::now();
    request.computing = true;
    return true;
  }
  if (h.status == Status::Refused) {
    if (h.reason == static_cast<uint16_t>(Refusal::CacheIncomplete) && misses_earlier(request)) return true;
    lost_[request.worker] = refusal_text(h.reason);
    expelled_[request.worker] = h.reason == static_cast<uint16_t>(Refusal::BadRequest);
    return true;
  }
  for (int t = 0; t < request.rows; ++t) {
    const int exponent = partial.exponents[t];
    if (h.partial_format == PartialFormat::F16) {  // the worker's own choice
      if (exponent < kMinF16Exponent || exponent > kMaxF16Exponent) return false;
      continue;
    }
    RequestRow asked;
    std::memcpy(&asked, request.message.data() + sizeof(Header) + t * sizeof asked, sizeof asked);
    if (exponent != asked.exponent) return false;
  }
  answered(request, data, size);
  if (h.status == Status::Ok) {
    counters_.workers[request.worker].group_results += uint64_t(h.rows) * __builtin_popcountll(h.mask);
  }
  return true;
}

void Relay::answered(Outstanding& request, const uint8_t* data, size_t size) {
  const auto now = Clock::now();
  if (!request.datagrams) {
    request.needless = patience_[request.worker].answered(request.kind, now - request.first_asked, now - request.asked,
                                                          request.times, request.computing);
  }
  request.answer.assign(data, data + size);
  --missing_;
}

bool Relay::deliver(int worker, const uint8_t* data, size_t size, bool sealed) {
  std::lock_guard<std::mutex> lock(mutex_);
  Header h;
  int version;
  if (worker < 0 || worker >= workers()) {
    ++counters_.bad_messages;
    return false;
  }
  if (!sealed && !may_answer_over_mqtt(worker)) {
    ++counters_.late_duplicates;
    return false;
  }
  DeviceCounters& c = counters_.workers[worker];
  ++c.messages_received;
  c.bytes_received += size;
  if (other_version(data, size, &version)) {
    ++counters_.bad_messages;
    lost_[worker] = "it speaks protocol version " + std::to_string(version) + ", this hub speaks " +
                    std::to_string(kProtocol) + ": install the same HALO on both";
    expelled_[worker] = true;
    arrived_.notify_all();
    return false;
  }
  if (!read_header(data, size, &h) || h.session != session_) {
    ++counters_.bad_messages;
    if (sealed) {
      lost_[worker] = "it sent something that is no message of this session";
      expelled_[worker] = true;
      arrived_.notify_all();
    }
    return false;
  }
  const auto found = std::find_if(round_.begin(), round_.end(),
                                  [&](const Outstanding& r) { return r.id == h.request && r.worker == worker; });
  if (found == round_.end() || !found->answer.empty()) {
    ++counters_.late_duplicates;
    return false;
  }
  heard_[worker] = Clock::now();
  if (h.kind == Kind::Echo && found->rows == 0) {  // no rows: a probe
    answered(*found, data, size);
  } else if (!take(*found, data, size)) {
    ++counters_.bad_messages;
    lost_[worker] = "it answered a request with a message of the wrong shape";
    expelled_[worker] = true;
  }
  if (missing_ == 0 || !lost_[worker].empty()) arrived_.notify_all();
  return found->needless;
}

void Relay::lost(int worker, const std::string& reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (worker < 0 || worker >= workers()) return;
  lost_[worker] = reason.empty() ? "is gone" : reason;
  arrived_.notify_all();
}

void Relay::expel(int worker, const std::string& reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  lost_[worker] = reason;
  expelled_[worker] = true;
}

std::vector<double> Relay::probe(size_t payload, uint32_t reply_bytes, int syncs, const std::function<void()>& poll) {
  std::vector<double> seconds;
  for (int i = 0; i < syncs; ++i) seconds.push_back(probe_once(payload, reply_bytes, poll));
  return seconds;
}

double Relay::probe_once(size_t payload, uint32_t reply_bytes, const std::function<void()>& poll) {
  const auto start = Clock::now();
  const uint64_t datagrams = over_datagrams();
  std::vector<const Outstanding*> requests;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    fail_if_lost();
    round_.clear();
    for (int w = 0; w < workers(); ++w) {
      Header header;
      header.session = session_;
      header.request = next_id_++;
      Bytes message = encode_probe(header, payload, reply_bytes);
      ++counters_.workers[w].messages_sent;
      counters_.workers[w].bytes_sent += message.size();
      round_.push_back({header.request,
                        w,
                        0,
                        0,
                        0,
                        std::move(message),
                        {},
                        Patience::kind(Part::Mlp, 0),
                        start,
                        start,
                        (datagrams >> w & 1) != 0,
                        (datagrams >> w & 1) == 0});
    }
    missing_ = round_.size();
    for (const Outstanding& r : round_) requests.push_back(&r);
  }
  const Waiting until_the_end(datagrams_.get());
  send(requests);
  std::unique_lock<std::mutex> lock(mutex_);
  wait(lock, poll);
  round_.clear();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

ExchangeCounters Relay::counters() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return counters_;
}

void Relay::reset_counters() {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t n = counters_.workers.size();
  counters_ = ExchangeCounters();
  counters_.workers.resize(n);
}

}  // namespace halo
