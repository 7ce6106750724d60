// Datagrams of the exchange: one packet is at most 1200 bytes, sealed as a whole. docs/protocol.md describes the bytes.
//
//   channel (4) | number (8, in the clear, authenticated) | sealed: PacketHeader, what its kind adds | tag (16)
#pragma once

#include <cstddef>
#include <cstdint>

#include "wire/seal.h"

namespace halo {

// Microseconds of a clock that never jumps.
using Micros = int64_t;

inline constexpr size_t kMaxDatagram = 1200;  // bytes of a UDP payload: fits IPv6's least MTU of 1280
inline constexpr size_t kClearBytes = 12;     // channel and number
inline constexpr size_t kGrain = 16;          // fragments are whole multiples of this

enum class PacketKind : uint8_t { Fragment = 1, Ack = 2, Nack = 3, Ping = 4 };
enum PacketFlags : uint8_t {
  kAnswer = 1,     // answer at once
  kLastOfRun = 2,  // of the fragments that were sent together: what is missing now was lost
  kAgain = 4,      // a fragment that was sent before: whoever has the message says so once more
};

// Little endian, 24 bytes, first in the sealed part of every packet. "Received" is from the sender's point of view.
struct PacketHeader {
  PacketKind kind = PacketKind::Ping;
  uint8_t flags = 0;
  uint8_t loss = 0;           // share of the packets to this sender that were lost lately, in 1/256
  uint8_t burst = 0;          // mean number of packets lost in a row, in 1/8
  uint32_t sent = 0;          // the sender's clock, microseconds
  uint32_t echo = 0;          // `sent` of the newest packet received; 0: none yet
  uint32_t held = 0;          // microseconds since that arrived
  uint32_t complete = 0;      // newest message received whole; 0: none yet
  uint32_t complete_too = 0;  // bit i: message `complete` - 1 - i is received whole as well
};
static_assert(sizeof(PacketHeader) == 24);

// Follows in a Fragment, before its bytes.
struct FragmentHeader {
  uint32_t message = 0;  // counts from 1 in each direction
  uint32_t length = 0;   // bytes of the message, without the padding of its last fragment
  uint8_t index = 0;     // below `data`: that part of the message; else parity number index - data
  uint8_t data = 0;      // fragments that the message was cut into
  uint16_t bytes = 0;    // of every fragment of this message
};
static_assert(sizeof(FragmentHeader) == 12);

// Follows in a Nack: which fragments of a message have arrived.
struct NackHeader {
  uint32_t message = 0;
  uint8_t have[32] = {};  // bit i: fragment i
};
static_assert(sizeof(NackHeader) == 36);

inline constexpr size_t kMaxFragment =
    (kMaxDatagram - kClearBytes - sizeof(PacketHeader) - sizeof(FragmentHeader) - kTag) / kGrain * kGrain;

// One datagram that is being made or has been received.
struct Packet {
  uint8_t bytes[kMaxDatagram];
  size_t size = 0;
};

inline constexpr size_t kPacketBytes = kClearBytes + sizeof(PacketHeader) + sizeof(FragmentHeader) + kTag;

// How a message is cut: `data` fragments of `bytes` bytes each, the last one padded.
struct Cut {
  int data;
  size_t bytes;
};
// Into at least as many fragments as it takes; the cut may need fewer than `least`.
Cut cut(size_t length, int least = 1);

// True where the header is one that `cut` could have made, and its index one that parity may have.
bool plausible(const FragmentHeader& header);

}  // namespace halo
