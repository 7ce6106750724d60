// Encoding and decoding of messages; nothing is trusted before its size is known to be right.
#include "wire/message.h"

#include <cstddef>
#include <cstring>

#include "wire/values.h"

namespace halo {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are little endian; this machine is not");

namespace {

constexpr uint32_t kMaxEcho = 1u << 18;  // as much as datagrams carry in one message

template <typename T>
void append(Bytes& out, const T* values, size_t n) {
  if (n == 0) return;
  const auto* p = reinterpret_cast<const uint8_t*>(values);
  out.insert(out.end(), p, p + n * sizeof(T));
}

bool is_message(const uint8_t* data, size_t size) {
  return size >= sizeof(Header) && std::memcmp(data, "HALO", 4) == 0;
}

int groups_in(uint64_t mask) { return __builtin_popcountll(mask); }

bool has_values(const Header& h) { return h.status == Status::Ok && h.mask != 0; }

// The rows of `values`, (exponents, d), as f16; their exponents go to `exponents`.
Bytes to_f16(const std::vector<float>& values, size_t d, std::vector<int16_t>& exponents) {
  Bytes out(values.size() * 2);
  std::vector<float> scratch(d);
  for (size_t t = 0; t < exponents.size(); ++t) {
    exponents[t] = encode_f16(values.data() + t * d, static_cast<int>(d), scratch.data(), out.data() + t * d * 2);
  }
  return out;
}

}  // namespace

bool is_known(PartialFormat format) {
  return format == PartialFormat::F32 || format == PartialFormat::F16 || format == PartialFormat::Fixed;
}

size_t bytes_per_value(PartialFormat format) { return format == PartialFormat::F16 ? 2 : 4; }

bool read_header(const uint8_t* data, size_t size, Header* header) {
  if (!is_message(data, size) || data[4] != kProtocol) return false;
  std::memcpy(header, data, sizeof(Header));
  return true;
}

bool other_version(const uint8_t* data, size_t size, uint64_t session, int* version) {
  if (!is_message(data, size) || data[4] == kProtocol) return false;
  // The session has its place in every version: what is of none is rubbish that anybody may have sent.
  if (std::memcmp(data + offsetof(Header, session), &session, sizeof session) != 0) return false;
  *version = data[4];
  return true;
}

Bytes encode_request(Header header, const SyncInput& input, Type input_format, int first, int rows, int d) {
  const size_t stride = row_bytes(input_format, d);
  header.kind = Kind::Request;
  header.rows = static_cast<uint16_t>(rows);
  header.payload = static_cast<uint32_t>(stride * rows);
  Bytes out;
  out.reserve(sizeof(Header) + rows * (sizeof(RequestRow) + stride));
  append(out, &header, 1);
  for (int t = first; t < first + rows; ++t) {
    const int16_t exponent = input.format == PartialFormat::Fixed ? input.exponents[t] : int16_t{0};
    const RequestRow row{input.positions[t], exponent, 0};
    append(out, &row, 1);
  }
  for (int t = first; t < first + rows; ++t) append(out, input.h + t * input.h_stride, stride);
  return out;
}

bool decode_request(const uint8_t* data, size_t size, RequestView* out) {
  Header& h = out->header;
  if (!read_header(data, size, &h) || h.kind != Kind::Request) return false;
  const TypeInfo* input = type_info(h.input_format);
  if (input == nullptr || h.rows == 0 || h.rows > kMaxRows || h.d == 0 || h.d % input->block != 0) return false;
  const size_t stride = h.d / input->block * input->bytes;
  const size_t table = h.rows * sizeof(RequestRow);
  if (h.payload != stride * h.rows || size != sizeof(Header) + table + h.payload) return false;
  out->positions.resize(h.rows);
  out->exponents.resize(h.rows);
  for (int t = 0; t < h.rows; ++t) {
    RequestRow row;
    std::memcpy(&row, data + sizeof(Header) + t * sizeof(RequestRow), sizeof row);
    if (t > 0 && uint64_t{row.position} != uint64_t{out->positions[t - 1]} + 1) return false;
    out->positions[t] = row.position;
    out->exponents[t] = row.exponent;
  }
  out->h = data + sizeof(Header) + table;
  out->h_stride = stride;
  return true;
}

Bytes encode_partial(const Header& request, Status status, Refusal reason, uint32_t took_us, const Partial* partial,
                     std::vector<int16_t> exponents) {
  Header h = request;
  h.kind = Kind::Partial;
  h.took_us = took_us;
  h.flags = 0;
  h.status = status;
  h.reason = static_cast<uint16_t>(reason);
  h.payload = 0;
  Bytes out;
  const bool computed = status == Status::Ok || status == Status::Range;
  const size_t value_bytes = has_values(h) ? size_t(h.rows) * h.d * bytes_per_value(h.partial_format) : 0;
  h.payload = static_cast<uint32_t>(value_bytes);
  Bytes halves;
  if (value_bytes != 0 && h.partial_format == PartialFormat::F16) halves = to_f16(partial->f32, h.d, exponents);
  out.reserve(sizeof h + h.rows * (sizeof(PartialRow) + groups_in(h.mask) * sizeof(float)) + value_bytes);
  append(out, &h, 1);
  if (!computed) return out;
  for (int t = 0; t < h.rows; ++t) {
    const PartialRow row{exponents[t], partial->range[t]};
    append(out, &row, 1);
  }
  append(out, partial->norms.data(), partial->norms.size());
  if (value_bytes == 0) return out;
  if (h.partial_format == PartialFormat::Fixed) {
    append(out, partial->fixed.data(), partial->fixed.size());
  } else if (h.partial_format == PartialFormat::F16) {
    append(out, halves.data(), halves.size());
  } else {
    append(out, partial->f32.data(), partial->f32.size());
  }
  return out;
}

bool decode_partial(const uint8_t* data, size_t size, PartialView* out) {
  Header& h = out->header;
  if (!read_header(data, size, &h) || h.kind != Kind::Partial) return false;
  if (h.status == Status::Computing || h.status == Status::Refused || h.status == Status::Passed) {
    return size == sizeof(Header);
  }
  if (h.status != Status::Ok && h.status != Status::Range) return false;
  if (!is_known(h.partial_format)) return false;
  if (h.status == Status::Range && h.partial_format != PartialFormat::Fixed) return false;
  if (h.rows == 0 || h.rows > kMaxRows) return false;
  const size_t table = h.rows * sizeof(PartialRow);
  const size_t norms = size_t(h.rows) * groups_in(h.mask) * sizeof(float);
  const size_t values = has_values(h) ? size_t(h.rows) * h.d * bytes_per_value(h.partial_format) : 0;
  if (h.payload != values || size != sizeof(Header) + table + norms + values) return false;
  out->range.resize(h.rows);
  out->exponents.resize(h.rows);
  bool any_range = false;
  for (int t = 0; t < h.rows; ++t) {
    PartialRow row;
    std::memcpy(&row, data + sizeof(Header) + t * sizeof(PartialRow), sizeof row);
    out->range[t] = row.range != 0;
    out->exponents[t] = row.exponent;
    any_range |= row.range != 0;
  }
  if (any_range != (h.status == Status::Range)) return false;
  out->norms = data + sizeof(Header) + table;
  out->values = values != 0 ? out->norms + norms : nullptr;
  return true;
}

Bytes encode_fill(Header header, uint32_t first, int rows, int kv_dim, size_t bytes, uint8_t** out) {
  header.kind = Kind::Fill;
  header.rows = static_cast<uint16_t>(rows);
  header.d = static_cast<uint32_t>(kv_dim);
  header.payload = static_cast<uint32_t>(bytes);
  const RequestRow row{first, 0, 0};
  Bytes message(sizeof header + sizeof row + bytes);
  std::memcpy(message.data(), &header, sizeof header);
  std::memcpy(message.data() + sizeof header, &row, sizeof row);
  *out = message.data() + sizeof header + sizeof row;
  return message;
}

bool decode_fill(const uint8_t* data, size_t size, FillView* out) {
  Header& h = out->header;
  if (!read_header(data, size, &h) || h.kind != Kind::Fill || h.rows == 0 || h.d == 0) return false;
  if (h.payload != uint64_t{h.rows} * h.d * 2 * sizeof(uint16_t)) return false;
  if (size != sizeof h + sizeof(RequestRow) + h.payload) return false;
  RequestRow row;
  std::memcpy(&row, data + sizeof h, sizeof row);
  out->first = row.position;
  out->rows = data + sizeof h + sizeof row;
  return true;
}

Bytes encode_filled(const Header& fill, Refusal reason, uint32_t took_us) {
  Header h = fill;
  h.kind = Kind::Filled;
  h.flags = 0;
  h.status = reason == Refusal::None ? Status::Ok : Status::Refused;
  h.reason = static_cast<uint16_t>(reason);
  h.took_us = took_us;
  h.payload = 0;
  Bytes out(sizeof h);
  std::memcpy(out.data(), &h, sizeof h);
  return out;
}

Bytes encode_probe(Header header, size_t payload, uint32_t reply_bytes) {
  header.kind = Kind::Probe;
  header.payload = static_cast<uint32_t>(payload);
  header.d = reply_bytes;
  Bytes out(sizeof header + payload, 0);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

Bytes encode_echo(const Header& probe) {
  Header h = probe;
  h.kind = Kind::Echo;
  h.payload = h.d < kMaxEcho ? h.d : kMaxEcho;
  Bytes out(sizeof h + h.payload, 0);
  std::memcpy(out.data(), &h, sizeof h);
  return out;
}

}  // namespace halo
