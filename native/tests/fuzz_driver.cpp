// Runs the fuzz target without libFuzzer, on inputs made from seeds by the mutations that parsers fear, the same ones
// each time:
//
//   fuzz RUNS [KEPT]  so many inputs; prints "ok". Each is written to the file KEPT before it is run, so that the one
//                     that stops the program is there.
//   fuzz FILE...      inputs that libFuzzer has found, or that were kept
//
// With clang's libFuzzer, for as long as one likes:
//   CXX=clang++ cmake -S . -B build/fuzz -DHALO_SANITIZE=ON -DHALO_LIBFUZZER=ON
//   cmake --build build/fuzz --target fuzz && mkdir -p build/corpus && build/fuzz/fuzz -max_len=8192 build/corpus
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "fuzz_wire.h"
#include "wire/packet.h"

namespace {

using namespace halo;

std::mt19937 drawn(1);

size_t below(size_t n) { return drawn() % n; }

void append(Bytes& out, const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  out.insert(out.end(), p, p + size);
}

template <typename T>
Bytes as_bytes(const T& value, size_t more = 0) {
  Bytes out;
  append(out, &value, sizeof value);
  out.resize(out.size() + more, 0x11);
  return out;
}

Bytes input(uint8_t target, const std::vector<Bytes>& pieces) {
  Bytes out{target};
  for (const Bytes& piece : pieces) {
    out.push_back(static_cast<uint8_t>(piece.size()));
    out.push_back(static_cast<uint8_t>(piece.size() >> 8));
    append(out, piece.data(), piece.size());
  }
  return out;
}

Bytes fragment(uint32_t message, uint32_t length, int index, int data, int bytes, uint8_t flags) {
  PacketHeader p;
  p.kind = PacketKind::Fragment;
  p.flags = flags;
  Bytes out = as_bytes(p);
  const FragmentHeader h{message, length, static_cast<uint8_t>(index), static_cast<uint8_t>(data),
                         static_cast<uint16_t>(bytes)};
  append(out, &h, sizeof h);
  out.resize(out.size() + bytes, static_cast<uint8_t>(index));
  return out;
}

std::vector<Bytes> packets() {
  std::vector<Bytes> all;
  for (int i = 0; i < 4; ++i) all.push_back(fragment(1, 100, i, 7, 16, i == 3 ? kLastOfRun : 0));
  for (int i = 4; i < 9; ++i) all.push_back(fragment(1, 100, i, 7, 16, kAgain));  // parity among them
  all.push_back(fragment(2, 1000, 0, 1, 1008, kLastOfRun | kAnswer));
  all.push_back(fragment(3, 1000, 0, 63, 16, 0));
  all.push_back(fragment(40, 1000, 70, 63, 16, 0));
  PacketHeader ack;
  ack.kind = PacketKind::Ack;
  ack.loss = 20;
  ack.burst = 16;
  ack.echo = 1000000;
  ack.complete = 3;
  all.push_back(as_bytes(ack));
  ack.kind = PacketKind::Nack;
  Bytes nack = as_bytes(ack);
  NackHeader lacks;
  lacks.message = 1;
  lacks.have[0] = 1;
  append(nack, &lacks, sizeof lacks);
  all.push_back(nack);
  return all;
}

Bytes request(uint64_t id, Part part, int rows, PartialFormat format, uint32_t position) {
  std::vector<float> h(32 * rows, 0.5f);
  std::vector<uint32_t> positions(rows);
  const std::vector<int16_t> exponents(rows, 3);
  for (int t = 0; t < rows; ++t) positions[t] = position + t;
  SyncInput in;
  in.rows = rows;
  in.positions = positions.data();
  in.exponents = exponents.data();
  in.h = reinterpret_cast<const uint8_t*>(h.data());
  in.h_stride = 128;
  in.format = format;
  Header header;
  header.session = fuzz::kSession;
  header.request = header.sync = static_cast<uint32_t>(id);
  header.part = part;
  header.partial_format = format;
  header.groups = 2;
  header.mask = 3;
  header.d = 32;
  return encode_request(header, in, Type::F32, 0, rows, 32);
}

std::vector<Bytes> requests() {
  std::vector<Bytes> all;
  uint64_t id = 1;
  for (const PartialFormat format : {PartialFormat::Fixed, PartialFormat::F32, PartialFormat::F16}) {
    const uint32_t position = static_cast<uint32_t>(3 * (id / 2));
    all.push_back(request(id++, Part::Attention, 3, format, position));
    all.push_back(request(id++, Part::Mlp, 3, format, position));
  }
  Bytes again = all.back();
  again[6] = kResend;
  all.push_back(again);
  Header probe;
  probe.session = fuzz::kSession;
  probe.request = 99;
  all.push_back(encode_probe(probe, 50, 100));
  Partial partial;
  partial.f32.assign(64, 1.0f);
  partial.range.assign(2, 0);
  partial.norms.assign(4, 1.0f);
  Header asked;
  std::memcpy(&asked, all[3].data(), sizeof asked);
  asked.rows = 2;
  all.push_back(encode_partial(asked, Status::Ok, Refusal::None, 7, &partial, {0, 0}));
  return all;
}

// Places where a number is likely to lie, and the values that are at an edge.
void edge(Bytes& b, size_t from) {
  static const uint32_t values[] = {0,    1,    2,     15,    16,    31,       32,         63,         64,
                                    127,  128,  239,   240,   241,   247,      248,        255,        256,
                                    1136, 1152, 32767, 32768, 65535, 1u << 20, 0x7fffffff, 0x80000000, 0xffffffff};
  const size_t width = size_t{1} << below(3);
  if (b.size() < from + width) return;
  const uint32_t value = values[below(std::size(values))];
  const size_t at = from + below(std::min<size_t>(b.size() - from, 80) - width + 1);
  std::memcpy(b.data() + at, &value, width);
}

void mutate_piece(Bytes& b, const std::vector<Bytes>& others) {
  switch (below(8)) {
    case 0:
    case 1:
    case 2:
      edge(b, 0);
      break;
    case 3:
      if (!b.empty()) b[below(b.size())] ^= static_cast<uint8_t>(1 << below(8));
      break;
    case 4:
      b.resize(below(b.size() + 1));
      break;
    case 5:
      b.resize(b.size() + below(64), static_cast<uint8_t>(drawn()));
      break;
    case 6: {  // the head of another one
      const Bytes& other = others[below(others.size())];
      const size_t n = std::min({b.size(), other.size(), below(80)});
      std::copy_n(other.begin(), n, b.begin());
      break;
    }
    default:
      for (size_t i = below(8); i > 0 && !b.empty(); --i)
        b[below(std::min<size_t>(b.size(), 80))] = static_cast<uint8_t>(drawn());
  }
}

std::vector<Bytes> mutated(const std::vector<Bytes>& from) {
  std::vector<Bytes> pieces;
  const size_t n = 1 + below(2 * from.size());
  for (size_t i = 0; i < n; ++i) {
    Bytes piece = from[below(4) == 0 ? below(from.size()) : i % from.size()];
    for (size_t k = below(2) == 0 ? 0 : 1 + below(3); k > 0; --k) mutate_piece(piece, from);
    pieces.push_back(piece);
  }
  return pieces;
}

Bytes read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

// `kept`: a file, or -1. It stays open: some file systems put on the disk at once what is closed after it was emptied.
void run(const Bytes& input, int kept) {
  if (kept >= 0 && (pwrite(kept, input.data(), input.size(), 0) != static_cast<ssize_t>(input.size()) ||
                    ftruncate(kept, static_cast<off_t>(input.size())) != 0)) {
    std::perror("the input cannot be kept");
    std::exit(1);
  }
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 0;
  if (runs <= 0) {
    for (int i = 1; i < argc; ++i) run(read(argv[i]), -1);
    return 0;
  }
  const int kept = argc > 2 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
  if (argc > 2 && kept < 0) {
    std::perror(argv[2]);
    return 1;
  }
  std::vector<Bytes> datagrams;
  for (const Bytes& p : packets()) datagrams.push_back(fuzz::datagram_of_a_peer(datagrams.size() + 100, p));
  const std::vector<std::vector<Bytes>> corpora{datagrams, packets(), requests()};
  for (uint8_t target = 0; target < 3; ++target) run(input(target, corpora[target]), kept);
  for (int i = 0; i < runs; ++i) {
    const auto target = static_cast<uint8_t>(i % 8 == 0 ? 0 : 1 + i % 2);  // what opens is where bugs can be
    run(input(target, mutated(corpora[target])), kept);
  }
  std::puts("ok");
  return 0;
}
