// Tolerant requests: late in their own round, they get their means there, and are due in the next one.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

#include "wire/relay.h"
#include "wire/values.h"

namespace halo {

namespace {

constexpr double kLongestWait = 1e6;  // microseconds, whatever is predicted

// The values (d) of a finite partial of one row.
std::vector<float> values_of(const Bytes& answer) {
  PartialView partial;
  decode_partial(answer.data(), answer.size(), &partial);
  const size_t d = partial.header.d;
  std::vector<float> values(d, 0.0f);
  switch (partial.header.partial_format) {
    case PartialFormat::Fixed: {
      const float unit = std::ldexp(1.0f, partial.exponents[0] - kFixedBits);
      for (size_t i = 0; i < d; ++i) {
        int32_t value;
        std::memcpy(&value, partial.values + 4 * i, 4);
        values[i] = static_cast<float>(value) * unit;
      }
      break;
    }
    case PartialFormat::F16: {
      std::vector<float> scratch(d);
      add_f16(partial.values, partial.exponents[0], static_cast<int>(d), scratch.data(), values.data());
      break;
    }
    case PartialFormat::F32:
      add_f32(partial.values, d, values.data());
      break;
  }
  return values;
}

}  // namespace

bool Relay::is_tolerant(const Scatter& s, size_t worker, uint64_t mask) const {
  return s.relaxed && mask != 0 && worker < 64 && (s.tolerant >> worker & 1) != 0;
}

// Those of this round that are waited for no longer: their means go into the sum.
void Relay::fill_overdue(Micros now) {
  for (Request& r : round_) {
    if (!r.tolerant || r.unwaited || r.state != Request::State::Waiting) continue;
    if (r.member->conduct.is_here() && now < r.deadline) continue;
    r.state = Request::State::Overdue;
    if (r.suspicion.empty() && now >= r.soft) r.member->miss(r, now);
  }
}

// Takes what is late out of the round; returns its groups.
uint64_t Relay::take_filled_out() {
  const auto is_late = [](const Request& r) { return r.tolerant && r.state != Request::State::Answered; };
  const auto late = std::stable_partition(round_.begin(), round_.end(), [&](const Request& r) { return !is_late(r); });
  uint64_t groups = 0;
  for (auto r = late; r != round_.end(); ++r) {
    groups |= r->header.mask;
    ++r->member->counters.filled;
    r->state = Request::State::Waiting;
    r->carried = true;
    r->own = Partial();
  }
  filled_.assign(std::make_move_iterator(late), std::make_move_iterator(round_.end()));
  round_.erase(late, round_.end());
  return groups;
}

// What is carried may come as long as it was worth waiting for in any case. The hub has nothing to do until this
// round's answers are here: what it computes until then costs no time, and so it begins early enough to be done by
// then.
void Relay::set_carried_deadlines(Micros begin) {
  Micros last = begin;
  for (const Request& r : round_) {
    if (!r.tolerant) last = std::max(last, r.asked + static_cast<Micros>(std::min(r.predicted_us, kLongestWait)));
  }
  for (Request& r : carried_) {
    if (r.state != Request::State::Waiting) continue;
    const Micros own = r.soft == Channel::kNever ? begin : r.soft;
    r.deadline = r.settled ? begin : std::max(own, last - static_cast<Micros>(std::min(r.stand_in_us, kLongestWait)));
  }
}

std::vector<Correction> Relay::corrections() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Correction> corrections;
  for (Request& r : carried_) {
    Correction& c = corrections.emplace_back();
    c.mask = r.header.mask;
    if (r.state == Request::State::Answered) {
      c.values = values_of(r.answer);
    } else {
      c.values = std::move(r.own.f32);
    }
  }
  give_away(carried_);
  carried_.swap(filled_);
  return corrections;
}

// The request with this id that an answer may still be used for.
Request* Relay::outstanding(const Member& member, uint64_t id) {
  for (auto* list : {&round_, &carried_, &filled_}) {
    const auto found = std::find_if(list->begin(), list->end(), [&](const Request& r) {
      return r.header.request == id && r.member.get() == &member;
    });
    if (found != list->end()) return &*found;
  }
  return nullptr;
}

}  // namespace halo
