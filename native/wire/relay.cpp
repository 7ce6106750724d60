// The rounds, from survey to collect. Membership is in relay_members.cpp, what becomes of answers in relay_answers.cpp.
#include "wire/relay.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "wire/values.h"

namespace halo {

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(50);
constexpr Micros kStall = 1'000'000;             // so long without a turn: this process was stopped
constexpr Micros kDatagramPatience = 1'000'000;  // until even a living worker is asked again
constexpr Micros kNever = Channel::kNever;
constexpr Micros kHardDeadline = 400'000;  // beyond the soft one, where the hub would have to read its file
constexpr Micros kProbeEvery = 250'000;    // what a worker is sent while it is away, or far behind
constexpr size_t kBacklog = 64;            // unanswered requests with which it is: its cache is filled later
constexpr int kLeftOut = 64;               // syncs in a row without groups after which a worker is tried now and then
constexpr Micros kTryEvery = 250'000;      // at least; a hundred times what it takes, where that is more
constexpr Micros kIdle = 500'000;          // without a sync: then silence means nothing
constexpr double kUnknown = 50'000;        // what a worker is given that has never answered
constexpr double kSlow = 1.8;              // times as slow as usual: even plans leave it out
constexpr double kSlowUs = 500;            // and by at least so much
constexpr double kUseless = 8;             // times what the hub takes, and so much more: even plans leave it out
constexpr double kUselessUs = 50'000;
constexpr double kLongestWait = 1e6;  // for a critical answer that others can give, whatever was predicted

int rows_per_message(const Scatter& s, size_t max_message) {
  const size_t row_out = row_bytes(s.input_format, s.d) + sizeof(RequestRow);
  const size_t row_in = s.d * bytes_per_value(s.input->format) + sizeof(PartialRow) + s.groups * sizeof(float);
  const size_t fit = (max_message - sizeof(Header)) / std::max(row_out, row_in);
  const int most = static_cast<int>(std::clamp<size_t>(fit, 1, kMaxRows)), rows = s.input->rows;
  const int messages = (rows + most - 1) / most;
  return (rows + messages - 1) / messages;  // of equal size
}

uint64_t holds(const Member& m, int layer, Part part) {
  if (m.resident.empty()) return ~uint64_t{0};
  if (layer >= static_cast<int>(m.resident.size())) return 0;
  return m.resident[layer].of(part);
}

// Whether a worker is now much slower than it usually is, by more than what is noise on a short request; or, with its
// link, so much slower than the hub that it is of no use.
bool is_slow(const Member& m, const Speed* hub, int kind, int groups) {
  const double factor = m.speed.factor();
  if (factor > kSlow && m.speed.predict(kind, groups / 4) * (1 - 1 / factor) > kSlowUs) return true;
  const double some = groups / 4;
  return hub != nullptr && m.start_us + some * m.group_us > kUseless * hub->predict(kind, groups / 4) + kUselessUs;
}

void add(const Bytes& answer, const Request& request, Partial& sum) {
  PartialView partial;
  decode_partial(answer.data(), answer.size(), &partial);
  const int rows = request.header.rows;
  for (int t = 0; t < rows; ++t) sum.range[request.first + t] |= partial.range[t];
  if (partial.values == nullptr) return;
  const size_t d = partial.header.d, n = rows * d, at = request.first * d;
  const uint8_t* p = partial.values;
  if (partial.header.partial_format == PartialFormat::Fixed) {
    // Unsigned, because the sum of a sync that is out of range, and so repeated, may wrap.
    for (size_t i = 0; i < n; ++i, p += 4) {
      uint32_t value;
      std::memcpy(&value, p, 4);
      sum.fixed[at + i] = static_cast<int32_t>(static_cast<uint32_t>(sum.fixed[at + i]) + value);
    }
  } else if (partial.header.partial_format == PartialFormat::F16) {
    std::vector<float> scratch(d);
    for (int t = 0; t < rows; ++t, p += 2 * d) {
      add_f16(p, partial.exponents[t], static_cast<int>(d), scratch.data(), sum.f32.data() + at + t * d);
    }
  } else {
    add_f32(p, n, sum.f32.data() + at);
  }
}

void add(const Partial& own, const Request& request, size_t d, Partial& sum) {
  const size_t at = request.first * d;
  for (int t = 0; t < request.header.rows; ++t) sum.range[request.first + t] |= own.range[t];
  for (size_t i = 0; i < own.fixed.size(); ++i) {
    sum.fixed[at + i] =
        static_cast<int32_t>(static_cast<uint32_t>(sum.fixed[at + i]) + static_cast<uint32_t>(own.fixed[i]));
  }
  for (size_t i = 0; i < own.f32.size(); ++i) sum.f32[at + i] += own.f32[i];
}

}  // namespace

void Relay::begin(const CellShape& shape) {
  std::lock_guard<std::mutex> lock(mutex_);
  shape_ = shape;
  epochs_.assign(shape.slots, 0);
  for (MemberPtr& m : members_) {
    if (!m) continue;
    m->caches.assign(shape.slots, Completeness(shape.layers, shape.n_ctx));
    m->epochs.assign(shape.slots, Member::Epoch());
  }
}

void Relay::survey(const Scatter& s, std::vector<Candidate>& candidates) {
  const SyncInput& in = *s.input;
  const uint64_t alive = carriers_.alive(), over = carriers_.over_datagrams(alive);
  const Micros now = Endpoint::now();
  std::lock_guard<std::mutex> lock(mutex_);
  const bool was_idle = now - last_scatter_ > kIdle;
  const int kind = kind_of(in.part, in.rows), first = static_cast<int>(in.positions[0]);
  const size_t begin = candidates.size();
  // By anybody who can be relied on. Where answers may be late, what the hub has read to stand in does not count.
  uint64_t held = s.relaxed ? candidates.front().resident : s.hub_resident;
  taking_ = members_;
  for (const MemberPtr& m : taking_) {
    Candidate& c = candidates.emplace_back();
    if (!m) continue;
    if (was_idle && m->unheard >= 0) m->unheard = now;
    m->tend(now, m->goes_over(alive));
    m->known = m->speed.known(kind);
    const Speed& speed = m->known || s.hub == nullptr ? m->speed : *s.hub;
    const double link = m->link_us[m->goes_over(over)];
    m->start_us = std::max(link, 0.0) + speed.start_us(kind) + m->owed_us(now);
    m->group_us = speed.group_us(kind);
    m->takes = m->conduct.standing() == Standing::Stable &&
               (in.part == Part::Mlp || m->caches[in.slot].complete(in.layer) >= first);
    c.takes = m->takes;
    c.slow = options_.stand_ins && is_slow(*m, s.hub, kind, s.groups);
    c.resident = holds(*m, in.layer, in.part);
    c.start_us = m->start_us;
    c.group_us = m->group_us;
    c.cost_us = cost_us_;
    c.lateness = m->lateness;
    if (c.takes) held |= c.resident;
  }
  // Whoever is on probation and alone holds a group is waited for a while, before the hub reads its file; where answers
  // may be late it is asked, and not waited for.
  for (size_t i = 0; i < taking_.size(); ++i) {
    Candidate& c = candidates[begin + i];
    const MemberPtr& m = taking_[i];
    if (!m || c.takes || m->conduct.standing() != Standing::Probation || (c.resident & ~held) == 0) continue;
    const double for_us = static_cast<double>(now) - m->conduct.since_us();
    if (!s.relaxed && for_us > static_cast<double>(kHardDeadline)) continue;
    if (in.part == Part::Attention && m->caches[in.slot].complete(in.layer) < first) continue;
    c.resident &= ~held;
    c.takes = true;
    c.unstable = s.relaxed;
  }
}

int Relay::whom_to_try(const Scatter& s) {
  const Micros now = Endpoint::now();
  std::lock_guard<std::mutex> lock(mutex_);
  if (now < try_at_ || s.input->part != Part::Mlp || s.input->rows != 1) return -1;
  for (size_t i = 0; i < taking_.size(); ++i) {
    const size_t number = ++tried_ % taking_.size();
    const MemberPtr& m = taking_[number];
    if (!m || !m->takes || m->unused < kLeftOut) continue;
    m->tried = true;
    try_at_ = now + std::max<Micros>(kTryEvery, static_cast<Micros>(100 * (m->start_us + m->group_us)));
    return static_cast<int>(number);
  }
  try_at_ = now + kTryEvery;
  return -1;
}

Request Relay::make(const MemberPtr& member, const Header& header, bool over) const {
  Request r;
  r.header = header;
  r.member = member;
  r.asked = r.asked_last = Endpoint::now();
  r.datagrams = over;
  r.mqtt = !over;
  r.alone = member->owed.empty();
  r.deadline = kNever;
  return r;
}

void Relay::predict(const Scatter& s, Request& r, Micros now) const {
  const Member& m = *r.member;
  const int groups = __builtin_popcountll(r.header.mask);
  r.predicted_us = m.start_us + groups * m.group_us;
  if (!m.known || m.link_us[r.datagrams] < 0) r.predicted_us = std::max(r.predicted_us, kUnknown);
  if (r.header.mask == 0 || !options_.stand_ins) return;
  const double stand_in_us = r.stand_in_us = s.hub == nullptr ? 0 : s.hub->predict(r.kind, groups);
  const double allowance = r.member->deadlines[r.datagrams][r.kind].allowance(r.predicted_us, stand_in_us);
  // A worker that is slow beyond use is waited for as long at most, however well that is known.
  const double longest = std::max<double>(kLongestWait, 4 * stand_in_us);
  r.soft = now + static_cast<Micros>(std::min(r.predicted_us + allowance, longest));
  const bool read = (r.header.mask & ~s.hub_resident) != 0;
  r.deadline = read && !r.tolerant ? r.soft + kHardDeadline : r.soft;
}

// Rows first .. first + rows - 1 of the sync, for one worker. What it is told without being asked for groups is owed at
// once: nobody waits for it.
void Relay::ask(const Scatter& s, const MemberPtr& member, uint64_t mask, int first, int rows, bool over,
                bool tolerant) {
  const SyncInput& in = *s.input;
  Header header;
  header.session = session_;
  header.epoch = in.epoch;
  header.base = member->epochs[in.slot].base;
  header.sync = s.sync;
  header.slot = static_cast<uint16_t>(in.slot);
  header.layer = static_cast<uint16_t>(in.layer);
  header.part = in.part;
  header.input_format = static_cast<uint8_t>(s.input_format);
  header.partial_format = in.format;
  header.groups = static_cast<uint8_t>(s.groups);
  header.d = static_cast<uint32_t>(s.d);
  header.rows = static_cast<uint16_t>(rows);
  header.request = next_id_++;
  header.mask = mask;
  header.flags = tolerant ? kTolerant : 0;
  Request r = make(member, header, over);
  r.tolerant = tolerant;
  r.unwaited = tolerant && (s.planned || member->conduct.standing() != Standing::Stable);
  member->counters.tolerant += tolerant;
  r.message = encode_request(header, in, s.input_format, first, rows, s.d);
  r.first = first;
  r.position = in.positions[first];
  r.kind = kind_of(in.part, rows);
  predict(s, r, r.asked);
  if (member->unheard < 0) member->unheard = r.asked;
  ++member->counters.requests;
  if (in.part == Part::Attention) member->caches[in.slot].asked(in.layer, static_cast<int>(r.position), rows);
  round_.push_back(std::move(r));
}

void Relay::scatter(const Scatter& s) {
  const SyncInput& in = *s.input;
  const uint64_t over = carriers_.over_datagrams();
  const Micros begin = Endpoint::now();
  std::vector<Carriers::Parcel> parcels;
  std::vector<Bytes> notes;  // messages that are not waited for
  bool waits;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    last_scatter_ = begin;
    end_ = static_cast<int>(in.positions[0]);
    round_.clear();
    give_away(filled_);  // of an attempt at this sync that is repeated
    for (size_t i = 0; i < taking_.size(); ++i) {
      const MemberPtr& m = taking_[i];
      const uint64_t mask = s.masks[i];
      if (!m || (mask == 0 && in.part != Part::Attention)) continue;
      // Whoever has gone since it was surveyed, or since the sync's first time, still has its groups: an overdue
      // request stands for them, which is not sent.
      const bool gone = m->conduct.standing() > Standing::Away;
      if (gone && mask == 0) continue;
      if (mask == 0 && m->takes) ++m->unused;
      if (mask != 0 && !std::exchange(m->tried, false)) m->unused = 0;
      if (mask == 0 && m->rests()) continue;
      if (mask == 0 && (!m->conduct.is_here() || m->owed.size() >= kBacklog)) {
        if (begin - m->probed < kProbeEvery) continue;
        m->probed = begin;
      }
      const bool datagrams = m->goes_over(over);
      // Fragments interleave, so long messages block nothing, and more rows at once are computed faster.
      const bool whole = datagrams && options_.max_message >= RelayOptions().max_message;
      const int step = rows_per_message(s, whole ? Channel::kMaxMessage : options_.max_message);
      for (int first = 0; first < in.rows; first += step) {
        const bool tolerant = is_tolerant(s, i, mask);
        ask(s, m, mask, first, std::min(step, in.rows - first), datagrams, tolerant);
        round_.back().settled = gone;
      }
    }
    const auto told =
        std::stable_partition(round_.begin(), round_.end(), [](const Request& r) { return r.header.mask != 0; });
    notes.reserve(static_cast<size_t>(round_.end() - told));
    for (auto r = round_.begin(); r != round_.end(); ++r) {
      if (r->settled) continue;
      DeviceCounters& c = r->member->counters;
      ++c.messages_sent;
      c.bytes_sent += r->message.size();
      const Bytes* message = r < told ? &r->message : &notes.emplace_back(std::move(r->message));
      parcels.push_back({r->member->number, r->member->peer, 0, r->datagrams, message});
    }
    for (auto r = told; r != round_.end(); ++r) r->member->owe(std::move(*r));
    round_.erase(told, round_.end());
    set_carried_deadlines(begin);
    waits = !is_over();
  }
  carriers_.set_waiting(waits);
  carriers_.send(parcels);
  if (!parcels.empty()) {
    const double each = static_cast<double>(Endpoint::now() - begin) / static_cast<double>(parcels.size());
    cost_us_ += (std::min(each, 3 * cost_us_) - cost_us_) / 64;
  }
}

// When a request that has no answer is sent again.
Micros Relay::due(const Request& r) const {
  if (r.state != Request::State::Waiting) return kNever;
  if (r.datagrams && !options_.re_request_s) return r.asked_last + kDatagramPatience;
  if (options_.re_request_s) return r.asked_last + static_cast<Micros>(*options_.re_request_s * 1e6);
  const auto wait = r.member->patience.wait(r.kind, r.times);
  return r.asked_last + std::chrono::duration_cast<std::chrono::microseconds>(wait).count();
}

// Datagrams see to it that a message arrives: what is asked again there was not computed, or its answer is no more.
std::vector<Carriers::Parcel> Relay::ask_again(Micros now, uint64_t over) {
  std::vector<Carriers::Parcel> parcels;
  const auto ask_if_due = [&](Request& r) {
    const bool datagrams = r.member->goes_over(over), moved = datagrams != r.datagrams;
    if (r.state != Request::State::Waiting || (!moved && now < due(r))) return;
    counters_.fall_backs += moved && !datagrams;
    r.datagrams = datagrams;
    r.mqtt |= !datagrams;
    ++r.times;
    r.asked_last = now;
    r.settled = false;
    r.message[offsetof(Header, flags)] |= kResend;
    ++counters_.re_requests;
    ++r.member->counters.messages_sent;
    r.member->counters.bytes_sent += r.message.size();
    parcels.push_back(parcel_of(r));
  };
  for (Request& r : carried_) ask_if_due(r);
  for (Request& r : round_) ask_if_due(r);
  return parcels;
}

bool Relay::is_over() const {
  const auto is_waited_for = [](const Request& r) {
    return r.state == Request::State::Waiting && (!r.unwaited || r.carried);
  };
  return std::none_of(round_.begin(), round_.end(), is_waited_for) &&
         std::none_of(carried_.begin(), carried_.end(), is_waited_for);
}

// The lock is held. A worker that has left, or that is known to be away, is waited for no more.
Overdue Relay::overdue(size_t number, bool carried, Micros now) {
  Request& r = (carried ? carried_ : round_)[number];
  r.state = Request::State::Overdue;
  if (r.suspicion.empty()) r.member->miss(r, now);
  ++r.member->counters.stand_ins;
  return {number, r.first, r.header.rows, r.header.mask, carried};
}

std::optional<Overdue> Relay::whom_to_stand_in_for(Micros now) {
  const auto is_due = [&](const Request& r) {
    return r.state == Request::State::Waiting && (!r.member->conduct.is_here() || now >= r.deadline);
  };
  for (size_t i = 0; i < carried_.size(); ++i) {
    if (is_due(carried_[i])) return overdue(i, true, now);
  }
  for (size_t i = 0; i < round_.size(); ++i) {
    if (!round_[i].tolerant && is_due(round_[i])) return overdue(i, false, now);
  }
  return {};
}

// When there is something to do again, whatever comes.
Micros Relay::next_event(Micros now) const {
  Micros next = now + std::chrono::duration_cast<std::chrono::microseconds>(kPollEvery).count();
  for (const auto* list : {&carried_, &round_}) {
    for (const Request& r : *list) {
      if (r.state != Request::State::Waiting) continue;
      next = std::min(next, due(r));
      if (!r.unwaited || r.carried) next = std::min(next, r.deadline);
    }
  }
  return next;
}

// This process was stopped for so long: nobody is late for that.
void Relay::postpone(Micros by) {
  for (auto* list : {&carried_, &round_}) {
    for (Request& r : *list) {
      if (r.soft != kNever) r.soft += by;
      if (r.deadline != kNever) r.deadline += by;
    }
  }
}

std::optional<Overdue> Relay::await(const std::function<void()>& poll) {
  std::unique_lock<std::mutex> lock(mutex_);
  Micros last = Endpoint::now(), polled = last;
  while (true) {
    const Micros now = Endpoint::now();
    if (now - last > kStall) postpone(now - last);
    last = now;
    if (const auto late = whom_to_stand_in_for(now)) return late;
    fill_overdue(now);
    if (is_over()) break;
    const auto until = std::chrono::steady_clock::time_point(std::chrono::microseconds(next_event(now)));
    arrived_.wait_until(lock, until);
    if (is_over()) break;
    lock.unlock();
    const uint64_t over = carriers_.over_datagrams();
    lock.lock();
    const std::vector<Carriers::Parcel> again = ask_again(Endpoint::now(), over);
    if (again.empty() && Endpoint::now() - polled < kPollEvery / std::chrono::microseconds(1)) continue;
    lock.unlock();
    carriers_.send(again);
    polled = Endpoint::now();
    poll();
    lock.lock();
  }
  lock.unlock();
  carriers_.set_waiting(false);
  return {};
}

bool Relay::stand_in(const Overdue& overdue, Partial result) {
  std::lock_guard<std::mutex> lock(mutex_);
  Request& r = (overdue.carried ? carried_ : round_)[overdue.number];
  if (r.state != Request::State::Overdue) return false;  // answered meanwhile
  r.own = std::move(result);
  r.state = Request::State::StoodIn;
  if (!r.suspicion.empty()) expel(*r.member, r.suspicion);  // its number may be another's by now
  return true;
}

uint64_t Relay::collect(Partial& sum) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t filled = take_filled_out();
  if (!options_.correct) give_away(filled_);
  for (const Request& r : round_) {
    if (r.state == Request::State::Answered) {
      add(r.answer, r, sum);
    } else {
      add(r.own, r, r.header.d, sum);
    }
  }
  give_away(round_);
  return filled;
}

void Relay::abandon() {
  for (auto* list : {&round_, &carried_, &filled_}) give_away(*list);
}

// Nobody waits for these any more: what has no answer yet is owed.
void Relay::give_away(std::vector<Request>& requests) {
  for (Request& r : requests) {
    if (r.state == Request::State::Answered || r.header.rows == 0) continue;
    const MemberPtr member = r.member;  // who is forgotten may live only here
    if (r.settled) {
      member->give_up(r);
    } else {
      member->owe(std::move(r));
    }
  }
  requests.clear();
}

void Relay::roll_back(int slot, uint32_t epoch, uint32_t base) {
  std::lock_guard<std::mutex> lock(mutex_);
  abandon();
  epochs_[slot] = epoch;
  for (const MemberPtr& m : members_) {
    if (m) m->roll_back(slot, base);
  }
  end_ = std::min(end_, static_cast<int>(base));
}

ExchangeCounters Relay::counters() const {
  std::lock_guard<std::mutex> lock(mutex_);
  ExchangeCounters all = counters_;
  for (const MemberPtr& m : members_) {
    all.workers.push_back(m ? m->counters : DeviceCounters());
    if (m) all.workers.back().probations = m->conduct.probations();
  }
  return all;
}

void Relay::reset_counters() {
  std::lock_guard<std::mutex> lock(mutex_);
  counters_ = ExchangeCounters();
  for (const MemberPtr& m : members_) {
    if (m) m->counters = DeviceCounters();
  }
}

}  // namespace halo
