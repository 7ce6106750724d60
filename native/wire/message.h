// The messages between hub and workers, the same over every exchange: docs/protocol.md describes the bytes.
// Everything here checks what it reads: a message may come from anyone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/device.h"

namespace halo {

inline constexpr uint8_t kProtocol = 3;

enum class Kind : uint8_t { Request = 1, Partial = 2, Probe = 3, Echo = 4, Fill = 5, Filled = 6 };
// Passed: the hub has gone on to later syncs; an attention input has been kept, nothing else was computed.
enum class Status : uint8_t { Ok = 0, Range = 1, Computing = 2, Refused = 3, Passed = 4 };
enum Flags : uint8_t { kResend = 1, kTolerant = 2 };  // sent again; the answer may be late

// Little endian, 64 bytes, first in every message.
struct Header {
  char magic[4] = {'H', 'A', 'L', 'O'};
  uint8_t protocol = kProtocol;
  Kind kind = Kind::Request;
  uint8_t flags = 0;
  Status status = Status::Ok;
  uint64_t session = 0;
  uint64_t request = 0;  // unique in the session
  uint32_t epoch = 0;
  uint32_t sync = 0;
  uint16_t slot = 0;
  uint16_t layer = 0;
  Part part = Part::Attention;
  uint8_t input_format = 0;  // of the layer input: ggml's type number
  PartialFormat partial_format = PartialFormat::Fixed;
  uint8_t groups = 0;  // in the grid of this layer and part
  uint64_t mask = 0;   // bit g: group g is asked
  uint32_t d = 0;
  uint16_t rows = 0;
  uint16_t reason = 0;   // why a request was refused
  uint32_t payload = 0;  // bytes after the row table (and the norms of a partial)
  union {
    uint32_t base = 0;  // to a worker: what a cache of an older epoch holds from this position on is void
    uint32_t took_us;   // in an answer: for how long the worker has had the request
  };
};
static_assert(sizeof(Header) == 64);

struct RequestRow {
  uint32_t position;
  int16_t exponent;
  uint16_t reserved;
};
static_assert(sizeof(RequestRow) == 8);

struct PartialRow {
  int16_t exponent;  // of `fixed`: the request's; of f16: the row's own
  uint16_t range;    // 1: a group left the range of `fixed`
};
static_assert(sizeof(PartialRow) == 4);

using Bytes = std::vector<uint8_t>;

bool is_known(PartialFormat format);  // a byte that came may be none of them
size_t bytes_per_value(PartialFormat format);

// Reads the header of any message; false where it is not one of this protocol's version.
bool read_header(const uint8_t* data, size_t size, Header* header);
// True where `data` holds a message of this protocol, and of that session, with another version; `version` tells which.
bool other_version(const uint8_t* data, size_t size, uint64_t session, int* version);

// A request for rows first .. first + rows - 1 of `input`.
Bytes encode_request(Header header, const SyncInput& input, Type input_format, int first, int rows, int d);

// A request as received: copies of the row table, the layer input left where it lies.
struct RequestView {
  Header header;
  std::vector<uint32_t> positions;
  std::vector<int16_t> exponents;
  const uint8_t* h = nullptr;
  size_t h_stride = 0;
};
// Checks sizes, formats and the order of positions; what depends on the model is the worker's to check.
bool decode_request(const uint8_t* data, size_t size, RequestView* out);

// The answer to `request`; `partial` may be null where the status is neither Ok nor Range. `exponents` are those of the
// request, (rows); f16 values get exponents of their own.
Bytes encode_partial(const Header& request, Status status, Refusal reason, uint32_t took_us, const Partial* partial,
                     std::vector<int16_t> exponents);

// A partial as received; pointers into the message, which may be unaligned.
struct PartialView {
  Header header;
  std::vector<int16_t> exponents;   // (rows)
  std::vector<uint8_t> range;       // (rows)
  const uint8_t* norms = nullptr;   // (rows, groups of the mask) f32
  const uint8_t* values = nullptr;  // (rows, d), or null where there are none
};
bool decode_partial(const uint8_t* data, size_t size, PartialView* out);

// Room for a message that brings rows of a layer's cache, (bytes) long in all, and where they go in it.
Bytes encode_fill(Header header, uint32_t first, int rows, int kv_dim, size_t bytes, uint8_t** out);

// Such a message as received.
struct FillView {
  Header header;
  uint32_t first = 0;
  const uint8_t* rows = nullptr;  // as Device::copy_rows has them
};
// Checks that size and rows fit each other; what depends on the model is the worker's to check.
bool decode_fill(const uint8_t* data, size_t size, FillView* out);
Bytes encode_filled(const Header& fill, Refusal reason, uint32_t took_us);

// A sync without arithmetic: the answer carries `reply_bytes` bytes.
Bytes encode_probe(Header header, size_t payload, uint32_t reply_bytes);
Bytes encode_echo(const Header& probe);

}  // namespace halo
