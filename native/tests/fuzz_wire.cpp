// What comes from the network, whatever it is: a libFuzzer target, which fuzz_driver.cpp runs where there is no
// libFuzzer.
//
// The first byte of an input chooses what is attacked, the rest is cut into pieces (two bytes of length each):
//   0  datagrams at one end of a link that is in use, as anybody may send them
//   1  packets that are sealed with the right key, as a peer may send them that is hostile or has a bug
//   2  messages to a worker with a tiny model, and what the parsers of both sides make of them
// Beyond memory errors it stops where a link delivers what was not sent, or stops working.
#include "fuzz_wire.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "wire/channel.h"
#include "wire/worker.h"

namespace halo::fuzz {

namespace {

constexpr uint8_t kKeys[2][32] = {{1}, {2}};
constexpr uint8_t kIvs[2][12] = {{3}, {4}};
constexpr uint32_t kChannel = 7;

void expect(bool holds) {
  if (!holds) std::abort();
}

Channel end(int which) {
  return Channel(0, kChannel, Cipher::ChaCha20Poly1305, kKeys[which], kIvs[which], kKeys[1 - which], kIvs[1 - which]);
}

// A copy of exactly its size, which the sanitizer guards.
std::unique_ptr<uint8_t[]> exactly(const Bytes& piece) {
  std::unique_ptr<uint8_t[]> copy(new uint8_t[piece.size()]);
  std::copy(piece.begin(), piece.end(), copy.get());
  return copy;
}

std::vector<Bytes> pieces_of(const uint8_t* data, size_t size) {
  std::vector<Bytes> pieces;
  while (size >= 2) {
    const size_t n = std::min<size_t>(size_t{data[0]} | size_t{data[1]} << 8, size - 2);
    pieces.emplace_back(data + 2, data + 2 + n);
    data += 2 + n;
    size -= 2 + n;
  }
  return pieces;
}

// Both ends, and what one tells the other while somebody interferes.
struct Link {
  Channel hub = end(0), worker = end(1);
  Micros now = 1000000;
  Outbox out;
  std::vector<Bytes> complete;

  void pass(Channel& to) {
    for (size_t i = 0; i < out.size(); ++i) to.receive(out[i].packet.bytes, out[i].packet.size, now, complete);
    out.clear();
  }
  void work() {
    now += 500;
    hub.work(now, out);
    pass(worker);
    worker.work(now, out);
    pass(hub);
  }
  // A message from the hub; whether it has arrived after some time.
  bool arrives(const Bytes& message) {
    complete.clear();
    hub.send(message.data(), message.size(), now, out);
    pass(worker);
    for (int i = 0; i < 50 && complete.empty(); ++i) work();
    return complete.size() == 1 && complete[0] == message;
  }
};

void sealed(const std::vector<Bytes>& datagrams) {
  Link link;
  const Bytes message(3000, 5);
  expect(link.arrives(message));
  for (const Bytes& d : datagrams) {
    std::vector<Bytes> complete;
    expect(link.worker.receive(exactly(d).get(), d.size(), link.now, complete) == Channel::Verdict::Bad);
    expect(complete.empty());
  }
  expect(link.arrives(message));
}

// The peer itself is hostile: nothing can be expected of its own messages, only that the end goes on working.
void opened(const std::vector<Bytes>& packets) {
  Link link;
  Sealer sealer(Cipher::ChaCha20Poly1305, kKeys[0], kIvs[0]);
  link.worker.send(Bytes(3000, 6).data(), 3000, link.now, link.out);
  link.out.clear();
  uint64_t number = 0;
  for (const Bytes& plain : packets) {
    const size_t n = std::min(plain.size(), kMaxDatagram - kClearBytes - kTag);
    Bytes datagram(kClearBytes + n + kTag);
    number += n > 5 && plain[4] == 0xff ? uint64_t{plain[5]} << 20 : 1;  // numbers may leap
    std::memcpy(datagram.data(), &kChannel, 4);
    std::memcpy(datagram.data() + 4, &number, 8);
    sealer.seal(number, datagram.data(), kClearBytes, plain.data(), n, datagram.data() + kClearBytes);
    std::vector<Bytes> complete;
    link.worker.receive(exactly(datagram).get(), datagram.size(), link.now, complete);
    for (const Bytes& m : complete) expect(m.size() <= Channel::kMaxMessage);
    link.now += 1 + n % 7 * 1000;
    link.worker.work(link.now, link.out);
    expect(link.out.size() <= 2000);
    link.out.clear();
    expect(link.worker.next_work() > link.now - 1000000);
  }
}

void messages(const std::vector<Bytes>& pieces) {
  static Worker worker(tiny_model(), 1);
  worker.open(kSession, kContext, 1);
  for (const Bytes& piece : pieces) {
    const auto data = exactly(piece);
    RequestView request;
    if (decode_request(data.get(), piece.size(), &request)) {
      expect(request.h + request.h_stride * request.header.rows == data.get() + piece.size());
    }
    PartialView partial;
    if (decode_partial(data.get(), piece.size(), &partial) && partial.values != nullptr) {
      expect(partial.values + partial.header.payload == data.get() + piece.size());
    }
    Bytes answer;
    if (worker.accept(data.get(), piece.size(), &answer) == Worker::Verdict::Compute) {
      answer = worker.compute(data.get(), piece.size());
      expect(!answer.empty());
    }
    Header header;
    if (!answer.empty()) expect(read_header(answer.data(), answer.size(), &header) && header.session == kSession);
    if (!answer.empty() && header.kind == Kind::Partial) expect(decode_partial(answer.data(), answer.size(), &partial));
  }
}

}  // namespace

Bytes datagram_of_a_peer(uint64_t number, const Bytes& plain) {
  Sealer sealer(Cipher::ChaCha20Poly1305, kKeys[1], kIvs[1]);  // of the other direction: reflected
  Bytes datagram(kClearBytes + plain.size() + kTag);
  std::memcpy(datagram.data(), &kChannel, 4);
  std::memcpy(datagram.data() + 4, &number, 8);
  sealer.seal(number, datagram.data(), kClearBytes, plain.data(), plain.size(), datagram.data() + kClearBytes);
  return datagram;
}

}  // namespace halo::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halo::fuzz;
  if (size == 0) return 0;
  const auto pieces = pieces_of(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      sealed(pieces);
      break;
    case 1:
      opened(pieces);
      break;
    default:
      messages(pieces);
  }
  return 0;
}
