// What becomes of an answer: whose it is, whether it can be used, and what it says about its worker.
#include <algorithm>
#include <cstring>
#include <utility>

#include "wire/relay.h"
#include "wire/values.h"

namespace halo {

namespace {

constexpr int kMostBrokenPromises = 8;

std::string part_of(const Header& h) { return h.part == Part::Mlp ? "MLP" : "attention"; }

std::string not_finite(const Header& answer, const std::string& which) {
  return "its answer holds values that are not finite: " + which + " of layer " + std::to_string(answer.layer) + ", " +
         part_of(answer) + " (is its copy of the model damaged?)";
}

// Why the values cannot be used; empty: they can.
std::string suspicion_of(const PartialView& p) {
  const Header& h = p.header;
  const size_t norms = size_t{h.rows} * __builtin_popcountll(h.mask), values = size_t{h.rows} * h.d;
  if (!all_finite(p.norms, norms)) return not_finite(h, "the norm of a group");
  if (p.values == nullptr || h.partial_format == PartialFormat::Fixed) return "";
  const bool finite =
      h.partial_format == PartialFormat::F16 ? all_f16_finite(p.values, values) : all_finite(p.values, values);
  return finite ? "" : not_finite(h, "a sum");
}

// Whether an answer repeats what was asked.
bool answers(const Header& h, const Header& asked) {
  return h.epoch == asked.epoch && h.sync == asked.sync && h.slot == asked.slot && h.layer == asked.layer &&
         h.part == asked.part && h.partial_format == asked.partial_format && h.groups == asked.groups &&
         h.d == asked.d && h.mask == asked.mask && h.rows == asked.rows;
}

// Over MQTT anybody may speak who may publish at the broker: no answer is taken that way to what was only asked over
// sealed datagrams.
bool may_answer(const Member& member, const Request& asked, bool sealed) {
  return sealed || member.peer < 0 || asked.mqtt;
}

}  // namespace

bool Relay::deliver(int worker, Bytes message, bool sealed) {
  std::lock_guard<std::mutex> lock(mutex_);
  const MemberPtr member = find(worker);
  if (!member) {
    ++counters_.bad_messages;
    return false;
  }
  return deliver_to(member, std::move(message), sealed);
}

// Nothing at all is taken over MQTT from a worker that was asked nothing that way: it must not even be expelled for it.
bool Relay::deliver_to(const MemberPtr& member, Bytes message, bool sealed) {
  const Micros now = Endpoint::now();
  const auto over_mqtt = [&](const Request& r) { return r.member == member && r.mqtt; };
  const bool asked_so = sealed || member->may_answer_over_mqtt() || any_outstanding(over_mqtt);
  if (!asked_so || member->conduct.standing() == Standing::Expelled) {
    ++counters_.late_duplicates;
    return false;
  }
  ++member->counters.messages_received;
  member->counters.bytes_received += message.size();
  int version;
  if (other_version(message.data(), message.size(), session_, &version)) {
    ++counters_.bad_messages;
    expel(*member, "it speaks protocol version " + std::to_string(version) + ", this hub speaks " +
                       std::to_string(kProtocol) + ": install the same HALO on both");
    return false;
  }
  Header h;
  if (!read_header(message.data(), message.size(), &h) || h.session != session_) {
    ++counters_.bad_messages;
    if (sealed) expel(*member, "it sent something that is no message of this session");
    return false;
  }
  Request* const found = outstanding(*member, h.request);
  if (found == nullptr) {
    if (take_owed(member, message, now, sealed)) return false;
    ++counters_.late_duplicates;
    member->hear(now);
    if (member->conduct.standing() == Standing::Away) member->conduct.answered(static_cast<double>(now));
    return false;
  }
  if (!may_answer(*member, *found, sealed) || found->state == Request::State::Answered ||
      (found->state == Request::State::StoodIn && found->settled)) {
    ++counters_.late_duplicates;
    return false;
  }
  member->hear(now);
  if (h.kind == Kind::Echo && found->header.rows == 0) {  // a probe
    teach_patience(*found, now);
    found->state = Request::State::Answered;
  } else if (!take(*found, std::move(message), now)) {
    ++counters_.bad_messages;
    expel(*member, "it answered a request with a message of the wrong shape");
  }
  if (is_over() || found->deadline <= now) arrived_.notify_all();
  return found->needless;
}

// Whether an earlier request of this sync is still on its way to the same worker: then its cache cannot be complete
// yet, and both are asked again.
bool Relay::misses_earlier(const Request& request) const {
  return std::any_of(round_.begin(), round_.end(), [&](const Request& r) {
    return r.member == request.member && r.header.request < request.header.request &&
           r.state == Request::State::Waiting;
  });
}

void Relay::take_refusal(Request& r, const Header& answer, Micros now) {
  Member& member = *r.member;
  r.settled = true;
  switch (static_cast<Refusal>(answer.reason)) {
    case Refusal::CacheIncomplete:
      if (misses_earlier(r)) return;
      member.caches[r.header.slot].doubt(r.header.layer);
      member.acknowledge(r, epochs_[r.header.slot]);  // these rows it has kept
      if (++member.broken_promises >= kMostBrokenPromises) {
        expel(member, "it says again and again that its cache misses what it has acknowledged");
      }
      break;
    case Refusal::OldEpoch:
      expel(member, "it refused a request: that is of an epoch that has passed");
      break;
    case Refusal::BadRequest:
      expel(member, "it refused a request: that does not fit its model (another version of HALO?)");
      break;
    default:  // out of memory, perhaps
      break;
  }
  r.deadline = now;
}

// When a request over MQTT is asked again, and whether it was needless.
void Relay::teach_patience(Request& r, Micros now) const {
  if (r.datagrams) return;
  const auto since = [&](Micros t) { return std::chrono::microseconds(now - t); };
  r.needless = r.member->patience.answered(r.kind, since(r.asked), since(r.asked_last), r.times, r.computing);
}

// Whether the message is an answer to the request; called with the lock held.
bool Relay::take(Request& r, Bytes message, Micros now) {
  PartialView partial;
  if (!decode_partial(message.data(), message.size(), &partial)) return false;
  const Header& h = partial.header;
  if (!answers(h, r.header)) return false;
  Member& member = *r.member;
  if (h.status == Status::Computing) {
    r.asked_last = now;
    r.computing = true;
    return true;
  }
  if (h.status == Status::Refused) {
    take_refusal(r, h, now);
    return true;
  }
  if (h.status == Status::Passed) {  // of what we wait for: it takes another sync for the newest
    member.acknowledge(r, epochs_[r.header.slot]);
    r.settled = true;
    r.deadline = now;
    return true;
  }
  for (int t = 0; t < h.rows; ++t) {
    const int exponent = partial.exponents[t];
    if (h.partial_format == PartialFormat::F16) {  // the worker's own choice
      if (exponent < kMinF16Exponent || exponent > kMaxF16Exponent) return false;
      continue;
    }
    RequestRow asked;
    std::memcpy(&asked, r.message.data() + sizeof(Header) + t * sizeof asked, sizeof asked);
    if (exponent != asked.exponent) return false;
  }
  r.suspicion = suspicion_of(partial);
  if (!r.suspicion.empty()) {
    r.settled = true;
    r.deadline = now;
    return true;
  }
  teach_patience(r, now);
  member.learn(r, h, now);
  member.acknowledge(r, epochs_[r.header.slot]);
  member.credit(r, now);
  member.broken_promises = 0;
  if (r.state == Request::State::StoodIn || (r.carried && h.status != Status::Ok)) {
    r.settled = true;
    r.deadline = now;
    return true;
  }
  // Its own result counts after all.
  if (r.state == Request::State::Overdue && (!r.tolerant || r.carried)) {
    member.counters.stand_ins -= member.counters.stand_ins > 0;
  }
  r.state = Request::State::Answered;
  if (h.status == Status::Ok) {
    member.counters.group_results += uint64_t{h.rows} * __builtin_popcountll(h.mask);
  }
  r.answer = std::move(message);
  return true;
}

// An answer that nobody waits for. Its values are of no use any more, but it shows how the worker does.
bool Relay::take_owed(const MemberPtr& member, const Bytes& message, Micros now, bool sealed) {
  Header h;
  read_header(message.data(), message.size(), &h);
  if (h.kind == Kind::Filled) return take_filled(member, h, sealed);
  const auto found = std::find_if(member->owed.begin(), member->owed.end(),
                                  [&](const Request& r) { return r.header.request == h.request; });
  PartialView partial;
  if (found == member->owed.end() || !may_answer(*member, *found, sealed)) return false;
  if (!decode_partial(message.data(), message.size(), &partial) || !answers(h, found->header)) {
    ++counters_.bad_messages;
    expel(*member, "it answered a request with a message of the wrong shape");
    return true;
  }
  member->hear(now);
  if (h.status == Status::Computing) return true;
  member->learn(*found, h, now);
  const bool refused = h.status == Status::Refused;
  if (!refused || h.reason == static_cast<uint16_t>(Refusal::CacheIncomplete)) {
    member->acknowledge(*found, epochs_[h.slot]);
  } else {
    member->give_up(*found);
  }
  if (!refused) member->credit(*found, now);
  member->owed.erase(found);
  return true;
}

bool Relay::take_filled(const MemberPtr& member, const Header& h, bool sealed) {
  if (!member->fill || member->fill->header.request != h.request) return false;
  if (!may_answer(*member, *member->fill, sealed)) return false;
  const Request fill = *std::exchange(member->fill, std::nullopt);
  member->hear(Endpoint::now());
  if (h.status != Status::Ok) {
    member->give_up(fill);
    return true;
  }
  member->acknowledge(fill, epochs_[fill.header.slot]);
  member->counters.filled_rows += fill.header.rows;
  return true;
}

void Relay::expel(Member& member, const std::string& reason) {
  if (member.conduct.standing() == Standing::Expelled) return;
  member.conduct.expelled(static_cast<double>(Endpoint::now()));
  member.reason = reason;
  arrived_.notify_all();
}

}  // namespace halo
