// What parity costs per message and sealing per packet, in microseconds; medians over rounds of many calls. Prints a
// table.
//
// g++ -std=c++17 -O3 -Inative benchmarks/wire.cpp native/wire/{field,parity,seal,libcrypto}.cpp -ldl -o build/wire &&
// build/wire
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "wire/field.h"
#include "wire/parity.h"
#include "wire/seal.h"

namespace {

using namespace halo;

template <typename Call>
double microseconds(Call&& call) {
  constexpr int kRounds = 51, kCalls = 400;
  std::vector<double> rounds;
  for (int r = 0; r < kRounds; ++r) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call(i);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    rounds.push_back(took.count() / kCalls);
  }
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
}

void ways() {
  std::vector<uint8_t> in(1104, 7), out(1104, 9);
  for (const field::Way& way : field::ways()) {
    std::printf("multiply_add of 1104 B, %s: %.3f us\n", way.isa,
                microseconds([&](int i) { way.multiply_add(2 + i % 250, in.data(), in.size(), out.data()); }));
  }
}

void parity() {
  constexpr size_t kBytes = 1104;
  std::printf("fragments of %zu B: us to make m parities / to restore m lost data fragments\n", kBytes);
  for (const int k : {2, 4, 8, 32}) {
    std::vector<std::vector<uint8_t>> fragments(k + 3, std::vector<uint8_t>(kBytes, 1));
    std::vector<uint8_t*> pointers;
    for (auto& fragment : fragments) pointers.push_back(fragment.data());
    for (int m = 1; m <= std::min(k, 3); ++m) {
      const double make = microseconds([&](int) {
        for (int i = 0; i < m; ++i) make_parity(pointers.data(), k, i, kBytes, pointers[k + i]);
      });
      bool present[64];
      for (int i = 0; i < k + m; ++i) present[i] = i >= m;
      const double mend = microseconds([&](int) { restore(pointers.data(), present, k, m, kBytes); });
      std::printf("  k = %2d, m = %d: %.2f / %.2f\n", k, m, make, mend);
    }
  }
}

void sealing() {
  std::string why;
  if (!sealing_available(&why)) {
    std::printf("no sealing: %s\n", why.c_str());
    return;
  }
  std::printf("packets, 24 B of header authenticated: us to seal / to open / to refuse a forged one\n");
  const KeyPair hub = make_key_pair(), worker = make_key_pair();
  const Keys keys = derive_keys(hub, worker.open, 1, "boot");
  for (const Cipher cipher : {Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm}) {
    Sealer sealer(cipher, keys.to_worker, keys.iv_to_worker);
    const uint8_t aad[24] = {};
    for (const size_t n : {16, 600, 1200}) {
      std::vector<uint8_t> data(n, 1), packet(n + kTag), out(n);
      uint64_t number = 0;
      const double seal =
          microseconds([&](int) { sealer.seal(++number, aad, sizeof(aad), data.data(), n, packet.data()); });
      int opened = 0, refused = 0, calls = 0;
      const double open = microseconds([&](int) {
        ++calls;
        opened += sealer.open(number, aad, sizeof(aad), packet.data(), n + kTag, out.data()) ? 1 : 0;
      });
      const double refuse = microseconds(
          [&](int) { refused += sealer.open(0, aad, sizeof(aad), packet.data(), n + kTag, out.data()) ? 0 : 1; });
      if (opened != calls || refused != calls) std::abort();
      std::printf("  %s, %4zu B: %.2f / %.2f / %.2f\n",
                  cipher == Cipher::Aes256Gcm ? "AES-256-GCM" : "ChaCha20-Poly1305", n, seal, open, refuse);
    }
  }
  std::printf("a key pair: %.0f us; keys of a channel: %.0f us\n", microseconds([](int) { make_key_pair(); }),
              microseconds([&](int) { derive_keys(hub, worker.open, 1, "boot"); }));
}

}  // namespace

int main() {
  ways();
  parity();
  sealing();
}
