// One worker as the hub keeps account of it: what it was asked, what it has answered, how fast it is, and how far it
// can be relied on. Pure bookkeeping: times come from the caller, in microseconds.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/exchange.h"
#include "engine/groups.h"
#include "schedule/completeness.h"
#include "schedule/deadline.h"
#include "schedule/kind.h"
#include "schedule/speed.h"
#include "schedule/standing.h"
#include "wire/message.h"
#include "wire/packet.h"
#include "wire/patience.h"

namespace halo {

struct Member;

// What one worker is asked in one sync.
struct Request {
  enum class State : uint8_t { Waiting, Overdue, Answered, StoodIn };  // a tolerant one that is overdue gets its mean

  Header header;
  std::shared_ptr<Member> member;
  int first = 0;          // of the sync's rows; header.rows of them
  uint32_t position = 0;  // of the first one
  int kind = 0;           // of the member's estimates
  Micros asked = 0;       // for the first time
  Micros asked_last = 0;
  int times = 1;            // asked
  double predicted_us = 0;  // from asking to the answer
  double stand_in_us = 0;   // what the hub would take for the same
  Micros soft = INT64_MAX;  // who answers later has missed it
  Micros deadline = 0;      // then somebody stands in: later than that, where only a disk has the groups
  bool alone = false;       // the worker had nothing else to do
  bool datagrams = false;   // what it was sent over last
  bool mqtt = false;        // it was sent over MQTT, too: then an answer may come that way
  bool computing = false;   // the worker has said so
  bool needless = false;    // to have asked it more than once
  bool given_up = false;    // its input may be lost
  bool settled = false;     // no answer is to come any more, although none could be used
  bool tolerant = false;    // the answer may come in the next round
  bool unwaited = false;    // and is not waited for in its own
  bool missed = false;      // its soft deadline has passed, and that was held against the worker
  bool carried = false;     // its own round is over
  State state = State::Waiting;
  Bytes message;  // to ask again
  Bytes answer;
  Partial own;            // of whoever stood in
  std::string suspicion;  // why the answer cannot be used
};

struct Member {
  Member(int number, const CellShape& shape, Micros now)
      : number(number),
        conduct(static_cast<double>(now)),
        caches(shape.slots, Completeness(shape.layers, shape.n_ctx)),
        epochs(shape.slots),
        heard(now) {}

  // Whether datagrams carry messages to it, which they do to these peers.
  bool goes_over(uint64_t peers) const { return peer >= 0 && (peers >> peer & 1) != 0; }
  // What the worker has had to do for longer than it takes when nothing is in the way, in microseconds from now.
  double owed_us(Micros now) const;
  // Something has come from it.
  void hear(Micros now) {
    heard = now;
    unheard = -1;
  }
  // Puts a request away that nobody waits for any more: its answer may still come.
  void owe(Request request);
  // Its rows, if it brought any that were not acknowledged, have to be sent again.
  void give_up(const Request& request);
  // Looks after what is owed: inputs that must be lost, answers that will never come, silence. Who answers datagrams is
  // not silent: it computes, however long.
  void tend(Micros now, bool answers_datagrams);
  // An answer to `request` has come: what it teaches. The counters of late answers are `late`'s.
  void learn(const Request& request, const Header& answer, Micros now);
  void late(const Request& request, Micros now);
  // The soft deadline of a request has passed without an answer.
  void miss(Request& request, Micros now);
  // A usable answer has come, at `now`.
  void credit(Request& request, Micros now);
  // The rows that a request brings are in its cache.
  void acknowledge(const Request& request, uint32_t epoch);
  void roll_back(int slot, uint32_t base);
  bool may_answer_over_mqtt() const;
  // Whether it has had nothing to do for so long that it is not worth telling the inputs.
  bool rests() const;

  const int number;
  int peer = -1;  // of the endpoint; none: MQTT only
  Conduct conduct;
  std::string reason;                // why it is gone or expelled
  std::vector<LayerMasks> resident;  // by layer: groups of attention and of the MLP; empty: all

  Speed speed;
  std::array<double, 2> link_us{-1, -1};  // over MQTT, over datagrams; smoothed, -1: not known
  std::array<std::array<Deadline, kKinds>, 2> deadlines;
  Patience patience;

  struct Epoch {
    uint32_t base = 0;       // from here on, what it cached before is void
    bool confirmed = false;  // it has answered in the present epoch
  };
  std::vector<Completeness> caches;  // by slot
  std::vector<Epoch> epochs;         // by slot

  std::deque<Request> owed;           // not waited for: late ones, and attention inputs alone
  std::optional<Request> fill;        // cache rows on their way
  Micros heard;                       // when anything came last
  Micros unheard = -1;                // when it was first asked something after that; -1: it was not
  Micros probed = 0;                  // when it was sent something although it is away
  int unused = 0;                     // syncs in a row for which it could have had groups and had none
  bool tried = false;                 // its next groups are there to measure it
  double lateness = 0;                // grows with each missed deadline, and is forgotten slowly; not a share
  int broken_promises = 0;            // it missed rows that it had acknowledged, so often in a row
  double start_us = 0, group_us = 0;  // as surveyed for the next scatter
  bool known = false, takes = false;
  DeviceCounters counters;
};

}  // namespace halo
