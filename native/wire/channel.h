// One link of the datagram exchange, seen from one end: messages in, packets out, and back again. It has no socket
// and no clock: the caller hands it what arrives and the time, and sends what it puts into the outbox.
//
// A message is cut into fragments of equal size and sent with as much parity as the measured loss calls for. Whoever
// lacks some says which (Nack) as soon as the last of a run has come; whoever hears nothing sends again. Every packet
// tells which messages have arrived, so that an acknowledgement of its own is sent only where nothing else is.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "wire/link.h"
#include "wire/message.h"
#include "wire/packet.h"
#include "wire/seal.h"

namespace halo {

// Packets to be sent, made in place.
class Outbox {
 public:
  struct Entry {
    int peer;
    uint64_t number;
    bool apart;  // parity that is not to delay the data of another peer
    Packet packet;
  };
  Packet& next(int peer, uint64_t number, bool apart) {
    if (used_ == entries_.size()) entries_.emplace_back();
    entries_[used_].peer = peer;
    entries_[used_].number = number;
    entries_[used_].apart = apart;
    return entries_[used_++].packet;
  }
  void clear() { used_ = 0; }
  size_t size() const { return used_; }
  const Entry& operator[](size_t i) const { return entries_[i]; }

 private:
  std::deque<Entry> entries_;  // a packet stays where it is while others are added
  size_t used_ = 0;
};

struct ChannelCounters {
  uint64_t packets_sent = 0, bytes_sent = 0, packets_received = 0, bytes_received = 0;
  uint64_t messages_sent = 0, messages_received = 0;
  uint64_t message_bytes_sent = 0, message_bytes_received = 0;
  uint64_t repairs = 0;     // fragments sent again because they were asked for
  uint64_t timeouts = 0;    // messages of which nothing was heard in time
  uint64_t restored = 0;    // messages that parity completed
  uint64_t duplicates = 0;  // fragments that were not needed any more
  uint64_t forged = 0;      // packets that do not open
  uint64_t replayed = 0;    // packets whose number has been used
  uint64_t malformed = 0;   // packets that open, but make no sense
  uint64_t dropped = 0;     // messages given up for newer ones
};

struct LinkReport {
  bool known = false;
  double round_trip_ms = 0, jitter_ms = 0;
  double loss_out = 0, loss_in = 0;    // shares
  double burst_out = 1, burst_in = 1;  // mean packets lost in a row
  double goodput = 0;                  // bytes per second of messages, while any was under way
};

class Channel {
 public:
  // `peer` is handed through to the outbox.
  Channel(int peer, uint32_t channel, Cipher cipher, const uint8_t out_key[32], const uint8_t out_iv[12],
          const uint8_t in_key[32], const uint8_t in_iv[12]);

  // Sends a message; one of more than kMaxMessage bytes is dropped. What is not acknowledged when the 32nd message
  // after it is sent is given up.
  void send(const uint8_t* message, size_t size, Micros now, Outbox& out);
  // With `padded`, as large as a fragment, and so will the answer be: shows that those pass.
  void ping(bool padded, Micros now, Outbox& out);

  enum class Verdict { Bad, Old, Newest };  // not ours or used up; fine; fine and newer than all before
  // Takes a datagram; messages that are complete now are appended to `complete`.
  Verdict receive(const uint8_t* datagram, size_t size, Micros now, std::vector<Bytes>& complete);

  // For who does not send at once what is in the outbox: packets first .. last wait, and are sent at last. Nobody can
  // miss them before.
  void hold(uint64_t first, uint64_t last) { held_.push_back({first, last}); }
  void release(uint64_t first, uint64_t last, Micros now);

  // Whatever is due: repairs, acknowledgements, requests for what is missing, the rest of long messages.
  void work(Micros now, Outbox& out);
  Micros next_work() const;  // when `work` is to be called next; kNever

  static constexpr Micros kNever = INT64_MAX;
  static constexpr size_t kMaxMessage = 240 * kMaxFragment;

  uint32_t id() const { return channel_; }
  Micros last_heard() const { return last_heard_; }  // -1: never
  // For how long the other end has owed a sign that it hears us. That it speaks is none.
  Micros unanswered(Micros now) const { return waiting_since_ < 0 ? 0 : now - waiting_since_; }
  // For how long the oldest message has made no progress: packets as large as its fragments may not pass.
  Micros stuck(Micros now) const { return outgoing_.empty() ? 0 : now - outgoing_.front().progress; }
  const ChannelCounters& counters() const { return counters_; }
  void reset_counters() { counters_ = ChannelCounters(); }
  LinkReport report() const;

 private:
  struct Outgoing {
    uint32_t id;
    size_t length;
    Cut cut;
    std::vector<uint8_t> data;  // (cut.data, cut.bytes), padded with zeros
    int first_run;              // fragments of the first run, parity included
    int sent = 0;               // of the first run
    struct Sent {
      uint64_t number = 0;  // of the packet that carried it last; 0: none yet
      Micros at = 0;
    };
    std::vector<Sent> fragments;  // (cut.data + kMaxParity)
    Micros due = 0;
    Micros repaired = -1;
    Micros progress = 0;  // when more of it was known to have arrived, or it was sent
    int have = 0;         // fragments that were known to have arrived
    int tries = 0;
  };
  struct Incoming {
    FragmentHeader shape;
    std::vector<uint8_t> bytes;  // (data + kMaxParity, shape.bytes)
    std::array<bool, 256> present{};
    int count = 0;
    Micros ask_at;       // when to say what is missing
    Micros arrived = 0;  // its newest fragment
    int asked = 0;
  };

  Packet& begin(PacketKind kind, uint8_t flags, Micros now, Outbox& out, bool apart = false);
  void append(Packet& packet, const void* data, size_t size);
  void seal(Packet& packet);
  void send_fragment(Outgoing& m, int index, uint8_t flags, Micros now, Outbox& out);
  void send_run(Outgoing& m, Micros now, Outbox& out);
  void send_again(Outgoing& m, Micros now, Outbox& out);
  void acknowledge(Micros now, Outbox& out);
  void ask(uint32_t id, Incoming& m, Micros now, Outbox& out);

  bool open(const uint8_t* datagram, size_t size, uint64_t* number, uint8_t* plain);
  void pad(Packet& packet);
  void take_header(const PacketHeader& header, bool newest, Micros now);
  void take_complete(uint32_t complete, uint32_t too, Micros now);
  bool take_fragment(const uint8_t* body, size_t size, uint8_t flags, Micros now, std::vector<Bytes>& complete);
  void finish(std::map<uint32_t, Incoming>::iterator m, std::vector<Bytes>& complete);
  bool take_nack(const uint8_t* body, size_t size);
  void repair(const NackHeader& nack, Micros now, Outbox& out);
  void give_up_before(uint32_t message);
  bool is_given_up(uint32_t id) const;
  bool is_complete(uint32_t id) const;
  void note_complete(uint32_t id);
  Sending sending_for(size_t length);
  bool under_way(const Outgoing& m, int index, uint64_t newest, Micros now) const;
  Micros ack_delay() const;
  Micros run_gap(const FragmentHeader& shape) const;
  Micros patience() const;
  void expect_answer(Micros now) {
    if (waiting_since_ < 0) waiting_since_ = now;
  }

  const int peer_;
  const uint32_t channel_;
  Sealer sealer_, opener_;
  uint64_t number_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> held_;  // packets that wait to be sent
  ReplayWindow window_;

  std::list<Outgoing> outgoing_;  // not acknowledged yet, oldest first
  uint32_t next_id_ = 1;
  std::vector<NackHeader> nacks_;  // received, to be answered by `work`

  std::map<uint32_t, Incoming> incoming_;  // incomplete ones
  uint32_t newest_in_ = 0;                 // newest message of which anything has come
  uint32_t complete_ = 0;                  // newest complete message
  uint64_t complete_mask_ = 0;             // bit i: complete_ - 1 - i
  Micros ack_at_ = kNever;
  bool pad_ack_ = false;  // the answer is to be as large as the question

  RoundTrip round_trip_;
  Micros spacing_ = 0;                  // smoothed time between the fragments of a message
  LossMeter meter_;                     // of what comes in
  Loss told_;                           // of what goes out
  std::map<size_t, Sending> sendings_;  // by the length of a message, for `told_`
  uint32_t echo_ = 0;                   // `sent` of the newest packet
  Micros echo_at_ = 0;                  // when that arrived
  uint32_t sampled_ = 0;                // the echo that the last sample came from
  Micros last_heard_ = -1, waiting_since_ = -1;
  Micros busy_since_ = -1;  // messages are under way since
  double busy_bytes_ = 0, goodput_ = 0;
  ChannelCounters counters_;
};

}  // namespace halo
