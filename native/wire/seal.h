// Sealing of datagrams: keys from an X25519 agreement, each packet by an AEAD under a number of its own. The algorithms
// are those of the system's libcrypto, opened at run time (wire/libcrypto.h); where it is missing nothing is sealed,
// and nothing may be sent unsealed instead.
//
// Hub and worker each draw a key pair per session and incarnation, and tell each other the open halves over the control
// plane, whose broker vouches for who said what. The keys live in memory only. Packet numbers never repeat under a key:
// a repeat of a fragment is a new packet with a new number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "wire/replay.h"

namespace halo {

inline constexpr size_t kTag = 16, kKeyBytes = 32, kIvBytes = 12;

// Whether the functions below work on this machine; where they do not, `why` (may be null) gets the reason, for people.
bool sealing_available(std::string* why);

// This CPU has instructions for AES-GCM: only then is it as fast as ChaCha20-Poly1305, and announced.
bool has_aes();

// X25519 (RFC 7748).
struct KeyPair {
  uint8_t secret[kKeyBytes];
  uint8_t open[kKeyBytes];  // told to the peer
  ~KeyPair();               // wipes
};
KeyPair make_key_pair();                               // throws Error where sealing is unavailable
KeyPair key_pair_of(const uint8_t secret[kKeyBytes]);  // the pair of a given secret; throws the same

struct Keys {
  uint8_t to_worker[kKeyBytes], to_hub[kKeyBytes];
  uint8_t iv_to_worker[kIvBytes], iv_to_hub[kIvBytes];
  uint32_t channel;  // names the pair in the clear, in front of each packet; not a secret
  ~Keys();           // wipes
};
// Both ends derive the same: HKDF-SHA256 (RFC 5869) of the X25519 shared secret with salt = session (8 bytes, little
// endian) and info = "halo datagrams 1", the incarnation, and both open keys, the lower first. Its 92 bytes are Keys in
// its order, the channel little endian. Throws Error where the peer's key is of low order (the shared secret would be
// zero, known to all) or sealing is unavailable.
Keys derive_keys(const KeyPair& own, const uint8_t peer[kKeyBytes], uint64_t session, const std::string& incarnation);

enum class Cipher : uint8_t { ChaCha20Poly1305 = 1, Aes256Gcm = 2 };  // RFC 8439, NIST SP 800-38D

// One direction: one end seals with it, the other opens. Not thread safe; does not allocate after construction.
class Sealer {
 public:
  Sealer(Cipher cipher, const uint8_t key[kKeyBytes], const uint8_t iv[kIvBytes]);  // throws Error

  // Seals n bytes as packet `number`, which must never have been sealed under this key. The nonce is iv XOR the number
  // in its last 8 bytes, big endian (RFC 9001 5.3). `aad` travels in the clear and is authenticated. Writes n + kTag
  // bytes to `out`, which is `in` or does not touch it. Throws Error, and leaves `out` zeroed, should libcrypto fail.
  void seal(uint64_t number, const uint8_t* aad, size_t aad_size, const uint8_t* in, size_t n, uint8_t* out);

  // Opens n bytes, tag included, and writes n - kTag to `out`, which is `in` or does not touch it. False, and `out`
  // zeroed, where key, number, aad or any bit is another than when it was sealed. Whether the number is new is for
  // ReplayWindow, after this.
  bool open(uint64_t number, const uint8_t* aad, size_t aad_size, const uint8_t* in, size_t n, uint8_t* out);

 private:
  struct Free {
    void operator()(struct CipherContext* context) const;
  };
  using Context = std::unique_ptr<struct CipherContext, Free>;

  Context sealing_, opening_;  // hold the expanded key: only the nonce is set per packet
  uint8_t iv_[kIvBytes];
};

}  // namespace halo
