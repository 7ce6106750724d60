// What a worker's answers teach.
#include "wire/member.h"

#include <algorithm>

namespace halo {

namespace {

constexpr size_t kMostOwed = 512;
constexpr Micros kInputLost = 300'000;  // at least; then the rows are copied instead
constexpr Micros kNever = 10'000'000;   // then an answer is not expected any more
constexpr Micros kSilence = 1'000'000;  // after which a worker counts as away
constexpr int kResting = 1024;          // syncs in a row without groups after which it is told no more inputs
constexpr double kLinkGain = 1.0 / 16;
constexpr double kRise = 1.0 / 64, kFall = 1.0 / 1024;  // of lateness: seen at once, and forgotten slowly

// Whether it brings rows of a cache: an attention input, or copies of them.
bool holds_rows(const Request& r) {
  return r.header.kind == Kind::Fill || (r.header.kind == Kind::Request && r.header.part == Part::Attention);
}

}  // namespace

double Member::owed_us(Micros now) const {
  double longest = 0;
  for (const Request& r : owed) longest = std::max(longest, static_cast<double>(r.asked - now) + r.predicted_us);
  return longest;
}

void Member::owe(Request r) {
  r.member.reset();  // it is ours now
  r.message = Bytes();
  r.own = Partial();
  owed.push_back(std::move(r));
  if (owed.size() <= kMostOwed) return;
  const Request& oldest = owed.front();
  if (!oldest.given_up) give_up(oldest);
  counters.never += oldest.state == Request::State::StoodIn;
  owed.pop_front();
}

void Member::give_up(const Request& r) {
  if (!holds_rows(r)) return;
  caches[r.header.slot].given_up(r.header.layer, static_cast<int>(r.position), r.header.rows);
}

void Member::tend(Micros now, bool answers_datagrams) {
  for (Request& r : owed) {
    const auto patience = std::max<Micros>(kInputLost, static_cast<Micros>(4 * r.predicted_us));
    if (r.given_up || now - r.asked < patience) continue;
    r.given_up = true;
    give_up(r);
  }
  while (!owed.empty() && now - owed.front().asked > kNever) {
    counters.never += owed.front().state == Request::State::StoodIn;
    owed.pop_front();
  }
  if (fill && now - fill->asked > std::max<Micros>(kInputLost, static_cast<Micros>(4 * link_us[fill->datagrams]))) {
    give_up(*fill);
    fill.reset();
  }
  if (!answers_datagrams && unheard >= 0 && now - std::max(heard, unheard) > kSilence)
    conduct.silent(static_cast<double>(now));
}

void Member::learn(const Request& r, const Header& answer, Micros now) {
  const double total = static_cast<double>(now - r.asked);
  const double took = std::min(static_cast<double>(answer.took_us), total);
  // Asked more than once, nobody knows which sending was answered: this is then the most that it can have been.
  double& link = link_us[r.datagrams];
  const double sample = total - took;
  // What a dead or busy time adds is not the link's own.
  link = link < 0 ? sample : link + kLinkGain * (std::min(sample, 3 * link + 1000) - link);
  counters.link_us = link;
  const bool computed = answer.status == Status::Ok || answer.status == Status::Range;
  if (computed && r.alone && r.header.rows > 0) {
    speed.sample(r.kind, __builtin_popcountll(r.header.mask), took);
    counters.took_us += (counters.took_us == 0 ? 1 : kLinkGain) * (took - counters.took_us);
  }
  if (computed && r.header.mask != 0) deadlines[r.datagrams][r.kind].sample(total - r.predicted_us);
}

void Member::late(const Request& r, Micros now) {
  const auto by = (now - std::min(r.soft, now)) / 1000;
  const auto bucket = std::find_if(kLateMs.begin(), kLateMs.end(), [&](int ms) { return by < ms; });
  ++counters.late[bucket - kLateMs.begin()];
}

void Member::miss(Request& r, Micros now) {
  conduct.missed(static_cast<double>(now));
  if (!r.missed) lateness += kRise * (1 - lateness);
  r.missed = true;
}

void Member::credit(Request& r, Micros now) {
  const bool is_late = r.header.mask != 0 && now > r.soft;
  if (is_late && !r.missed && !r.unwaited) {  // who alone holds the groups has been waited for longer
    miss(r, now);
  } else {
    conduct.answered(static_cast<double>(now));
  }
  if (is_late) {
    late(r, now);
  } else if (r.header.mask != 0) {
    lateness -= kFall * lateness;
  }
}

void Member::acknowledge(const Request& r, uint32_t epoch) {
  if (!holds_rows(r) || r.header.epoch != epoch) return;
  caches[r.header.slot].acknowledged(r.header.layer, static_cast<int>(r.position), r.header.rows);
  epochs[r.header.slot].confirmed = true;
}

void Member::roll_back(int slot, uint32_t base) {
  Epoch& e = epochs[slot];
  e.base = e.confirmed ? base : std::min(e.base, base);
  e.confirmed = false;
  caches[slot].roll_back(static_cast<int>(base));
  if (fill && fill->header.slot == slot) fill.reset();
}

bool Member::may_answer_over_mqtt() const {
  if (peer < 0 || (fill && fill->mqtt)) return true;
  return std::any_of(owed.begin(), owed.end(), [](const Request& r) { return r.mqtt; });
}

bool Member::rests() const { return unused > kResting && conduct.standing() == Standing::Stable; }

}  // namespace halo
