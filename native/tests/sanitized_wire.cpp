// The erasure code and sealing on buffers of exactly their size, for sanitized.cpp. Checks values where that is free.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "wire/field.h"
#include "wire/parity.h"
#include "wire/patience.h"
#include "wire/seal.h"

namespace {

using namespace halo;

std::mt19937 drawn(2);

std::vector<uint8_t> noise(size_t n) {
  std::vector<uint8_t> bytes(n);
  bytes.shrink_to_fit();  // the sanitizer guards its very end
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(drawn());
  return bytes;
}

void ways() {
  for (const field::Way& way : field::ways()) {
    for (size_t n = 0; n < 100; ++n) {
      const auto in = noise(n);
      auto out = noise(n);
      way.multiply_add(static_cast<uint8_t>(drawn()), in.data(), n, out.data());
    }
  }
}

void parity() {
  for (int i = 0; i < 2000; ++i) {
    const int k = 1 + static_cast<int>(drawn() % (i % 50 == 0 ? kMaxData : 9));
    const int m = static_cast<int>(drawn() % (kMaxParity + 1));
    const size_t bytes = drawn() % 70;
    std::vector<std::vector<uint8_t>> fragments;
    std::vector<uint8_t*> pointers;
    for (int j = 0; j < k + m; ++j) fragments.push_back(noise(bytes));
    for (auto& fragment : fragments) pointers.push_back(fragment.data());
    for (int j = 0; j < m; ++j) make_parity(pointers.data(), k, j, bytes, pointers[k + j]);
    const auto sent = fragments;
    const std::unique_ptr<bool[]> present(new bool[k + m]);
    int here = 0;
    for (int j = 0; j < k + m; ++j) here += (present[j] = drawn() % 5 != 0) ? 1 : 0;
    for (int j = 0; j < k + m; ++j) {
      if (!present[j]) fragments[j].assign(bytes, 0);
      if (!present[j] && j >= k) pointers[j] = nullptr;
    }
    if (restore(pointers.data(), present.get(), k, m, bytes) != (here >= k)) std::abort();
    for (int j = 0; j < k && here >= k; ++j) {
      if (fragments[j] != sent[j]) std::abort();
    }
  }
  bool present[1] = {true};
  if (restore(nullptr, present, 0, 1, 4) || restore(nullptr, present, kMaxData + 1, 0, 4) ||
      restore(nullptr, present, 1, kMaxParity + 1, 4)) {
    std::abort();
  }
}

void sealing() {
  const KeyPair hub = make_key_pair(), worker = make_key_pair();
  const Keys keys = derive_keys(hub, worker.open, drawn(), "boot");
  for (const Cipher cipher : {Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm}) {
    Sealer sealer(cipher, keys.to_worker, keys.iv_to_worker);
    for (int number = 0; number < 2000; ++number) {
      const size_t n = number % 70;
      const auto aad = noise(drawn() % 20), data = noise(n);
      std::vector<uint8_t> packet(n + kTag), out(n);
      sealer.seal(number, aad.data(), aad.size(), data.data(), n, packet.data());
      if (!sealer.open(number, aad.data(), aad.size(), packet.data(), n + kTag, out.data()) || out != data)
        std::abort();
      const size_t some = drawn() % (n + kTag);  // cut, or noise
      const auto forged = number % 2 == 0 ? std::vector<uint8_t>(packet.begin(), packet.begin() + some) : noise(some);
      std::vector<uint8_t> nothing(some < kTag ? 0 : some - kTag);
      if (sealer.open(number, aad.data(), aad.size(), forged.data(), some, nothing.data())) std::abort();
    }
  }
}

void replay() {
  ReplayWindow window;
  for (int i = 0; i < 200000; ++i) {
    const uint64_t wild = uint64_t{drawn()} << 32 | drawn();
    const uint64_t number = i % 1000 == 0 ? wild : window.highest() + drawn() % 4000 - 2000;
    window.mark(number);
    if (window.is_new(number)) std::abort();
  }
}

void expect(bool holds) {
  if (!holds) std::abort();
}

void patience() {
  using std::chrono::milliseconds;
  Patience p;
  const int token = kind_of(Part::Mlp, 1), prompt = kind_of(Part::Mlp, 32);
  expect(p.wait(token, 1) == milliseconds(500));  // nothing is known yet
  for (int i = 0; i < 100; ++i) p.answered(token, milliseconds(5), milliseconds(5), 1, false);
  expect(p.wait(token, 1) >= milliseconds(8) && p.wait(token, 1) < milliseconds(9));
  expect(p.wait(token, 3) > 2 * p.wait(token, 1) && p.wait(token, 50) == milliseconds(500));
  expect(p.wait(prompt, 1) == milliseconds(500));  // another kind has times of its own
  for (int i = 0; i < 20; ++i) p.answered(token, milliseconds(13), milliseconds(5), 2, false);
  expect(p.wait(token, 1) < milliseconds(9));  // which of the two was answered nobody knows
  for (int i = 0; i < 60; ++i) p.answered(token, milliseconds(40), milliseconds(9), 3, true);
  expect(p.wait(token, 1) > milliseconds(40));  // "computing" tells that it just takes longer now
  for (Part part : {Part::Attention, Part::Mlp}) {
    for (int rows : {0, 1, 2, 31, 32, 65535}) p.answered(kind_of(part, rows), {}, {}, 1, false);
  }
}

}  // namespace

void wire_crypto() {
  patience();
  ways();
  parity();
  if (sealing_available(nullptr)) sealing();
  replay();
}
