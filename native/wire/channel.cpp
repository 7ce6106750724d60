// Timers: a message that nothing is heard of is sent again after a round trip and four variations; one of which some
// fragments have come is completed by what the receiver asks for. Both back off.
#include "wire/channel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "wire/parity.h"

namespace halo {

namespace {

constexpr Micros kFloor = 1000;    // of every wait, beyond the round trip: what a busy device may take to answer
constexpr Micros kAckDelay = 300;  // an acknowledgement waits at least so long for a packet that carries it
constexpr Micros kMaxAckDelay = 2000;
constexpr Micros kShortTripAckDelay = 1000;
constexpr Micros kRunGap = 300;        // at least, between fragments of a run; then its end was lost
constexpr Micros kLongRunGap = 1000;   // the same for long messages
constexpr Micros kLongestGap = 50000;  // of them all
constexpr Micros kPaceEvery = 250;     // long messages: so much at a time, so that no socket buffer overflows
constexpr int kPaceFirst = 64, kPaceNext = 32;
constexpr Micros kShortTrip =
    2000;  // below: what a packet costs the processors counts more than what it takes on the way
constexpr uint32_t kUnderWay = 32;  // newest messages that may be: as many as a header can acknowledge
constexpr size_t kMaxLengths = 64;  // of messages, that are remembered
constexpr int kSendWhole = 8;       // longer messages are asked about before they are sent again
constexpr Micros kMaxBackOff = 100000, kHopeless = 1000000;
constexpr int kHopeful = 40;  // tries, before the long wait

uint32_t clock_of(Micros now) {
  const auto t = static_cast<uint32_t>(now);
  return t == 0 ? 1 : t;  // 0 says "none"
}

// How much longer to wait at each further try: a quarter more than the time before.
Micros backed_off(Micros patience, int tries) {
  if (tries > kHopeful) return std::max(kHopeless, patience);
  const double longer = static_cast<double>(patience) * std::pow(1.25, tries);
  return std::min(static_cast<Micros>(longer), std::max(kMaxBackOff, patience));
}

uint8_t to_byte(double x, double unit) { return static_cast<uint8_t>(std::clamp(x / unit + 0.5, 0.0, 255.0)); }

bool bit_of(const uint8_t* bits, int i) { return bits[i / 8] >> (i % 8) & 1; }

}  // namespace

Channel::Channel(int peer, uint32_t channel, Cipher cipher, const uint8_t out_key[32], const uint8_t out_iv[12],
                 const uint8_t in_key[32], const uint8_t in_iv[12])
    : peer_(peer), channel_(channel), sealer_(cipher, out_key, out_iv), opener_(cipher, in_key, in_iv) {}

// ---- packets out

Packet& Channel::begin(PacketKind kind, uint8_t flags, Micros now, Outbox& out, bool apart) {
  Packet& p = out.next(peer_, ++number_, apart);
  std::memcpy(p.bytes, &channel_, 4);
  std::memcpy(p.bytes + 4, &number_, 8);
  p.size = kClearBytes;
  PacketHeader h;
  h.kind = kind;
  h.flags = flags;
  h.loss = to_byte(meter_.loss(), 1.0 / 256);
  h.burst = to_byte(meter_.burst(), 1.0 / 8);
  h.sent = clock_of(now);
  h.echo = echo_;
  h.held = echo_ == 0 ? 0 : static_cast<uint32_t>(now - echo_at_);
  h.complete = complete_;
  h.complete_too = static_cast<uint32_t>(complete_mask_);
  append(p, &h, sizeof h);
  ack_at_ = kNever;
  return p;
}

void Channel::append(Packet& p, const void* data, size_t size) {
  std::memcpy(p.bytes + p.size, data, size);
  p.size += size;
}

void Channel::seal(Packet& p) {
  sealer_.seal(number_, p.bytes, kClearBytes, p.bytes + kClearBytes, p.size - kClearBytes, p.bytes + kClearBytes);
  p.size += kTag;
  ++counters_.packets_sent;
  counters_.bytes_sent += p.size;
}

void Channel::send_fragment(Outgoing& m, int index, uint8_t flags, Micros now, Outbox& out) {
  const bool apart = index >= m.cut.data && round_trip_.smoothed() >= kShortTrip;
  Packet& p = begin(PacketKind::Fragment, flags, now, out, apart);
  FragmentHeader h;
  h.message = m.id;
  h.length = static_cast<uint32_t>(m.length);
  h.index = static_cast<uint8_t>(index);
  h.data = static_cast<uint8_t>(m.cut.data);
  h.bytes = static_cast<uint16_t>(m.cut.bytes);
  append(p, &h, sizeof h);
  if (index < m.cut.data) {
    append(p, m.data.data() + index * m.cut.bytes, m.cut.bytes);
  } else {
    const uint8_t* data[kMaxData];
    for (int i = 0; i < m.cut.data; ++i) data[i] = m.data.data() + i * m.cut.bytes;
    make_parity(data, m.cut.data, index - m.cut.data, m.cut.bytes, p.bytes + p.size);
    p.size += m.cut.bytes;
  }
  seal(p);
  m.fragments[index] = {number_, now};
  expect_answer(now);
}

void Channel::send(const uint8_t* message, size_t size, Micros now, Outbox& out) {
  if (size > kMaxMessage) {
    ++counters_.dropped;
    return;
  }
  // What is older than a header can acknowledge is given up; the other end does the same.
  while (!outgoing_.empty() && next_id_ - outgoing_.front().id >= kUnderWay) {
    outgoing_.pop_front();
    ++counters_.dropped;
  }
  if (outgoing_.empty()) busy_since_ = now;
  Outgoing& m = outgoing_.emplace_back();
  m.id = next_id_++;
  m.length = size;
  const Sending sending = sending_for(size);
  m.cut = sending.cut;
  m.data.reserve(m.cut.data * m.cut.bytes);
  m.data.assign(message, message + size);
  m.data.resize(m.cut.data * m.cut.bytes, 0);
  m.progress = now;
  m.fragments.resize(m.cut.data + kMaxParity);
  m.first_run = m.cut.data + sending.parity;
  ++counters_.messages_sent;
  counters_.message_bytes_sent += size;
  send_run(m, now, out);
}

// The first run, or as much of it as may go at once.
void Channel::send_run(Outgoing& m, Micros now, Outbox& out) {
  const int end = std::min(m.first_run, m.sent + (m.sent == 0 ? kPaceFirst : kPaceNext));
  for (; m.sent < end; ++m.sent) send_fragment(m, m.sent, m.sent + 1 == m.first_run ? kLastOfRun : 0, now, out);
  m.due = m.sent < m.first_run ? now + kPaceEvery : now + patience();
}

// Nothing was heard: all of a short message, or one fragment of a long one, which makes the receiver say what it has.
void Channel::send_again(Outgoing& m, Micros now, Outbox& out) {
  ++counters_.timeouts;
  ++m.tries;
  const int n = m.cut.data > kSendWhole || m.tries > 12 ? 1 : m.first_run;
  for (int i = m.first_run - n; i < m.first_run; ++i) {
    send_fragment(m, i, i + 1 == m.first_run ? kAgain | kLastOfRun : kAgain, now, out);
  }
  m.due = now + backed_off(patience(), m.tries);
}

void Channel::ping(bool padded, Micros now, Outbox& out) {
  Packet& p = begin(PacketKind::Ping, kAnswer, now, out);
  if (padded) pad(p);
  seal(p);
  expect_answer(now);
}

void Channel::acknowledge(Micros now, Outbox& out) {
  Packet& p = begin(PacketKind::Ack, 0, now, out);
  if (pad_ack_) pad(p);
  pad_ack_ = false;
  seal(p);
}

void Channel::pad(Packet& p) {
  const size_t full = kMaxDatagram - kTag;
  std::memset(p.bytes + p.size, 0, full - p.size);
  p.size = full;
}

void Channel::ask(uint32_t id, Incoming& m, Micros now, Outbox& out) {
  NackHeader h;
  h.newest = window_.highest();
  h.message = id;
  for (int i = 0; i < m.shape.data + kMaxParity; ++i) {
    if (m.present[i]) h.have[i / 8] = static_cast<uint8_t>(h.have[i / 8] | 1 << i % 8);
  }
  Packet& p = begin(PacketKind::Nack, 0, now, out);
  append(p, &h, sizeof h);
  seal(p);
  m.ask_at = now + backed_off(patience(), m.asked++);
}

void Channel::release(uint64_t first, uint64_t last, Micros now) {
  held_.erase(std::remove(held_.begin(), held_.end(), std::pair(first, last)), held_.end());
  for (Outgoing& m : outgoing_) {
    for (Outgoing::Sent& f : m.fragments) {
      if (f.number >= first && f.number <= last) f.at = now;
    }
  }
}

// Whether the other end could not have it yet when it asked. What it asks for, it asks for half a round trip after that
// should have come; what was sent after the newest packet that it had may be slow.
bool Channel::under_way(const Outgoing& m, int index, uint64_t newest, Micros now) const {
  const Outgoing::Sent& f = m.fragments[index];
  if (f.number == 0) return false;
  for (const auto& [first, last] : held_) {
    if (f.number >= first && f.number <= last) return true;
  }
  const Micros ago = now - f.at, trip = round_trip_.smoothed();
  if (ago < trip * 3 / 4) return true;
  const Micros least = m.cut.data > kSendWhole ? 2 * kLongRunGap : kRunGap - 50;
  return f.number > newest && ago < trip + std::max(2 * round_trip_.variation(), least);
}

// What was asked for: missing parts of the message first, then parity that has not come.
void Channel::repair(const NackHeader& nack, Micros now, Outbox& out) {
  const auto found =
      std::find_if(outgoing_.begin(), outgoing_.end(), [&](const Outgoing& m) { return m.id == nack.message; });
  if (found == outgoing_.end()) return;
  Outgoing& m = *found;
  int have = 0;
  for (int i = 0; i < m.cut.data + kMaxParity; ++i) have += bit_of(nack.have, i);
  if (have > m.have) m.progress = now;
  m.have = std::max(m.have, have);
  if (m.sent < m.first_run) return;                                              // it is still being sent
  if (m.repaired >= 0 && now - m.repaired < round_trip_.smoothed() / 2) return;  // asked twice
  std::vector<int> wanted;
  int missing = m.cut.data;
  for (int i = 0; i < m.cut.data + kMaxParity; ++i) {
    if (bit_of(nack.have, i) || under_way(m, i, nack.newest, now)) {
      --missing;
    } else {
      wanted.push_back(i);
    }
  }
  if (missing <= 0) return;  // what it lacks, or the acknowledgement, is on its way
  const int n = std::min({repairs_for(missing, told_), static_cast<int>(wanted.size()), kPaceFirst});
  for (int i = 0; i < n; ++i) send_fragment(m, wanted[i], i + 1 == n ? kAgain | kLastOfRun : kAgain, now, out);
  counters_.repairs += n;
  m.repaired = now;
  m.due = now + patience();
}

// ---- packets in

bool Channel::open(const uint8_t* datagram, size_t size, uint64_t* number, uint8_t* plain) {
  if (size < kClearBytes + sizeof(PacketHeader) + kTag || size > kMaxDatagram) {
    ++counters_.malformed;
    return false;
  }
  std::memcpy(number, datagram + 4, 8);
  if (!window_.is_new(*number)) {
    ++counters_.replayed;
    return false;
  }
  if (!opener_.open(*number, datagram, kClearBytes, datagram + kClearBytes, size - kClearBytes, plain)) {
    ++counters_.forged;
    return false;
  }
  return true;
}

Channel::Verdict Channel::receive(const uint8_t* datagram, size_t size, Micros now, std::vector<Bytes>& complete) {
  uint64_t number;
  uint8_t plain[kMaxDatagram];
  if (!open(datagram, size, &number, plain)) return Verdict::Bad;
  const bool newest = number > window_.highest();
  window_.mark(number);
  meter_.received(number);
  ++counters_.packets_received;
  counters_.bytes_received += size;
  last_heard_ = now;

  PacketHeader header;
  std::memcpy(&header, plain, sizeof header);
  take_header(header, newest, now);
  const uint8_t* body = plain + sizeof header;
  const size_t rest = size - kClearBytes - kTag - sizeof header;
  bool sensible = false;
  switch (header.kind) {
    case PacketKind::Fragment:
      sensible = take_fragment(body, rest, header.flags, now, complete);
      break;
    case PacketKind::Nack:
      sensible = take_nack(body, rest);
      break;
    case PacketKind::Ack:
    case PacketKind::Ping:
      sensible = rest == 0 || size == kMaxDatagram;  // padded
      break;
  }
  if (!sensible) ++counters_.malformed;
  if (header.flags & kAnswer) {
    ack_at_ = now;
    pad_ack_ = rest != 0;
  }
  return newest ? Verdict::Newest : Verdict::Old;
}

void Channel::take_header(const PacketHeader& h, bool newest, Micros now) {
  take_complete(h.complete, h.complete_too, now);
  if (!newest) return;
  if (h.echo != 0 && h.echo != sampled_) {
    const auto since = static_cast<uint32_t>(clock_of(now) - h.echo);
    if (since >= h.held && since - h.held < 10'000'000) round_trip_.sample(since - h.held);
    sampled_ = h.echo;
    // It has heard something that was sent since it owes an answer.
    if (waiting_since_ >= 0 && static_cast<int32_t>(h.echo - clock_of(waiting_since_)) >= 0) waiting_since_ = -1;
  }
  echo_ = h.sent;
  echo_at_ = now;
  const Loss told{h.loss / 256.0, std::max(1.0, h.burst / 8.0)};
  if (told.share != told_.share || told.burst != told_.burst) {
    told_ = told;
    sendings_.clear();
  }
}

void Channel::take_complete(uint32_t complete, uint32_t too, Micros now) {
  if (complete == 0 || outgoing_.empty()) return;
  const auto has = [&](uint32_t id) {
    if (id >= complete) return id == complete;
    return complete - id > 32 || (too >> (complete - id - 1) & 1) != 0;
  };
  for (auto m = outgoing_.begin(); m != outgoing_.end();) {
    if (!has(m->id)) {
      ++m;
      continue;
    }
    busy_bytes_ += static_cast<double>(m->length);
    m = outgoing_.erase(m);
  }
  if (outgoing_.empty() && busy_since_ >= 0) {
    const double seconds = static_cast<double>(std::max<Micros>(now - busy_since_, 1)) * 1e-6;
    goodput_ = goodput_ == 0 ? busy_bytes_ / seconds : goodput_ + (busy_bytes_ / seconds - goodput_) / 32;
    busy_since_ = -1;
    busy_bytes_ = 0;
  }
}

bool Channel::take_fragment(const uint8_t* body, size_t size, uint8_t flags, Micros now, std::vector<Bytes>& complete) {
  FragmentHeader h;
  if (size < sizeof h) return false;
  std::memcpy(&h, body, sizeof h);
  if (!plausible(h) || size != sizeof h + h.bytes) return false;
  give_up_before(h.message);
  if (is_complete(h.message) || is_given_up(h.message)) {
    ++counters_.duplicates;
    if (flags & kAgain) ack_at_ = now;  // the acknowledgement was lost
    return true;
  }
  auto m = incoming_.find(h.message);
  if (m == incoming_.end()) {
    m = incoming_.emplace(h.message, Incoming()).first;
    m->second.shape = h;
    m->second.bytes.resize(size_t(h.data + kMaxParity) * h.bytes);
  }
  Incoming& in = m->second;
  // The same number for another message, or for another cut, which would not fit the buffer.
  if (in.shape.length != h.length || in.shape.bytes != h.bytes) return false;
  if (in.present[h.index]) {
    ++counters_.duplicates;
  } else {
    std::memcpy(in.bytes.data() + size_t(h.index) * h.bytes, body + sizeof h, h.bytes);
    in.present[h.index] = true;
    ++in.count;
  }
  if (in.arrived != 0) spacing_ += (std::min(now - in.arrived, kLongestGap) - spacing_) / 8;
  in.arrived = now;
  if (in.count >= h.data) {
    finish(m, complete);
    ack_at_ = std::min(ack_at_, now + ack_delay());
  } else {
    in.ask_at = flags & kLastOfRun ? now : now + run_gap(h);
  }
  return true;
}

void Channel::finish(std::map<uint32_t, Incoming>::iterator m, std::vector<Bytes>& complete) {
  Incoming& in = m->second;
  const FragmentHeader& h = in.shape;
  const bool whole = std::all_of(in.present.begin(), in.present.begin() + h.data, [](bool there) { return there; });
  if (!whole) {
    uint8_t* fragments[kMaxData + kMaxParity];
    for (int i = 0; i < h.data + kMaxParity; ++i) fragments[i] = in.bytes.data() + size_t(i) * h.bytes;
    restore(fragments, in.present.data(), h.data, kMaxParity, h.bytes);
    ++counters_.restored;
  }
  in.bytes.resize(h.length);
  complete.push_back(std::move(in.bytes));
  note_complete(m->first);
  ++counters_.messages_received;
  counters_.message_bytes_received += h.length;
  incoming_.erase(m);
}

bool Channel::take_nack(const uint8_t* body, size_t size) {
  NackHeader h;
  if (size != sizeof h) return false;
  std::memcpy(&h, body, sizeof h);
  if (nacks_.size() < kUnderWay) nacks_.push_back(h);
  return true;
}

// The sender has given up what is so much older than its newest message: nobody would answer a request for it.
void Channel::give_up_before(uint32_t message) {
  if (message <= newest_in_) return;
  newest_in_ = message;
  while (!incoming_.empty() && is_given_up(incoming_.begin()->first)) {
    incoming_.erase(incoming_.begin());
    ++counters_.dropped;
  }
}

bool Channel::is_given_up(uint32_t id) const { return newest_in_ >= kUnderWay && id <= newest_in_ - kUnderWay; }

bool Channel::is_complete(uint32_t id) const {
  if (id >= complete_) return id == complete_;
  return complete_ - id > 64 || (complete_mask_ >> (complete_ - id - 1) & 1) != 0;
}

void Channel::note_complete(uint32_t id) {
  if (id < complete_) {
    complete_mask_ |= uint64_t{1} << (complete_ - id - 1);
    return;
  }
  const uint32_t step = id - complete_;
  complete_mask_ = step >= 64 ? 0 : complete_mask_ << step;
  if (complete_ != 0 && step <= 64) complete_mask_ |= uint64_t{1} << (step - 1);
  complete_ = id;
}

// ---- time

// An acknowledgement waits a little for a packet that carries it, longer where round trips are long anyway. Where they
// are very short it waits for what is being computed, which takes longer than they do.
Micros Channel::ack_delay() const {
  if (!round_trip_.known()) return kAckDelay;
  const Micros trip = round_trip_.smoothed();
  return trip < kShortTrip ? kShortTripAckDelay : std::clamp(trip / 8, kAckDelay, kMaxAckDelay);
}

// Silence after which the rest of a run is taken for lost: a medium that several share brings fragments slowly.
Micros Channel::run_gap(const FragmentHeader& shape) const {
  const Micros least =
      shape.data > kSendWhole ? kLongRunGap : std::clamp(round_trip_.variation(), kRunGap, kLongRunGap);
  return std::clamp(4 * spacing_, least, kLongestGap);
}

Micros Channel::patience() const { return round_trip_.patience(kFloor) + ack_delay(); }

// Worked out once for each length, until the loss changes.
Sending Channel::sending_for(size_t length) {
  const auto found = sendings_.find(length);
  if (found != sendings_.end()) return found->second;
  if (sendings_.size() >= kMaxLengths) sendings_.clear();
  return sendings_.emplace(length, sending_of(length, told_)).first->second;
}

void Channel::work(Micros now, Outbox& out) {
  for (const NackHeader& nack : nacks_) repair(nack, now, out);
  nacks_.clear();
  for (Outgoing& m : outgoing_) {
    if (m.due > now) continue;
    if (m.sent < m.first_run) {
      send_run(m, now, out);
    } else {
      send_again(m, now, out);
    }
  }
  for (auto& [id, m] : incoming_) {
    if (m.ask_at <= now) ask(id, m, now, out);
  }
  if (ack_at_ <= now) acknowledge(now, out);
}

Micros Channel::next_work() const {
  if (!nacks_.empty()) return 0;
  Micros next = ack_at_;
  for (const Outgoing& m : outgoing_) next = std::min(next, m.due);
  for (const auto& [id, m] : incoming_) next = std::min(next, m.ask_at);
  return next;
}

LinkReport Channel::report() const {
  LinkReport r;
  r.known = round_trip_.known();
  r.round_trip_ms = static_cast<double>(round_trip_.smoothed()) * 1e-3;
  r.jitter_ms = static_cast<double>(round_trip_.variation()) * 1e-3;
  r.loss_out = told_.share;
  r.burst_out = told_.burst;
  r.loss_in = meter_.loss();
  r.burst_in = meter_.burst();
  r.goodput = goodput_;
  return r;
}

}  // namespace halo
