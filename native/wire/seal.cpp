// Key agreement and AEAD through libcrypto; wire/seal.h says what they promise.
#include "wire/seal.h"

#include <algorithm>
#include <climits>
#include <cstring>

#include "engine/error.h"
#include "wire/libcrypto.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace halo {

namespace {

constexpr char kLabel[] = "halo datagrams 1";
constexpr size_t kHash = 32;

const Libcrypto& need_libcrypto() {
  std::string why;
  const Libcrypto* found = libcrypto(&why);
  if (found == nullptr) throw Error("sealing is unavailable: " + why);
  return *found;
}

// Where the library is known to be open.
const Libcrypto& opened() { return *libcrypto(nullptr); }

void wipe(void* data, size_t n) {
  std::memset(data, 0, n);
  __asm__ volatile("" : : "r"(data) : "memory");  // the compiler must think that it is read
}

template <size_t N>
struct Secret {
  uint8_t bytes[N] = {};
  ~Secret() { wipe(bytes, N); }
};

struct FreeKey {
  void operator()(AsymmetricKey* key) const { opened().key_free(key); }
  void operator()(KeyContext* context) const { opened().key_context_free(context); }
};
using Key = std::unique_ptr<AsymmetricKey, FreeKey>;

[[noreturn]] void fail(const Libcrypto& c, const char* what) {
  c.clear_errors();
  throw Error(what);
}

void shared_secret(const KeyPair& own, const uint8_t* peer, uint8_t* out) {
  const Libcrypto& c = need_libcrypto();
  const Key ours(c.private_key(Libcrypto::kX25519, nullptr, own.secret, kKeyBytes));
  const Key theirs(c.public_key(Libcrypto::kX25519, nullptr, peer, kKeyBytes));
  if (!ours || !theirs) fail(c, "libcrypto makes no X25519 keys");
  const std::unique_ptr<KeyContext, FreeKey> context(c.key_context_new(ours.get(), nullptr));
  size_t size = kKeyBytes;
  if (!context || c.derive_init(context.get()) != 1 || c.derive_set_peer(context.get(), theirs.get()) != 1 ||
      c.derive(context.get(), out, &size) != 1) {
    fail(c, "the peer's public key is refused: it is of low order");
  }
  uint8_t any = 0;  // libcrypto looks as well; this does not depend on its version
  for (size_t i = 0; i < kKeyBytes; ++i) any |= out[i];
  if (size != kKeyBytes || any == 0) fail(c, "the peer's public key is refused: it is of low order");
}

void hmac(const uint8_t* key, size_t key_size, const uint8_t* data, size_t n, uint8_t out[kHash]) {
  const Libcrypto& c = opened();
  unsigned size = 0;
  if (c.hmac(c.sha256(), key, static_cast<int>(key_size), data, n, out, &size) == nullptr || size != kHash) {
    fail(c, "libcrypto computes no HMAC-SHA256");
  }
}

// RFC 5869: extract, then expand to n bytes.
void hkdf(const uint8_t* secret, size_t secret_size, const uint8_t* salt, size_t salt_size, const std::string& info,
          uint8_t* out, size_t n) {
  Secret<kHash> key, block;
  hmac(salt, salt_size, secret, secret_size, key.bytes);
  std::string input;  // the block before, info, a counter
  for (uint8_t counter = 1; n > 0; ++counter) {
    input.append(info).push_back(static_cast<char>(counter));
    hmac(key.bytes, kHash, reinterpret_cast<const uint8_t*>(input.data()), input.size(), block.bytes);
    const size_t some = n < kHash ? n : kHash;
    std::memcpy(out, block.bytes, some);
    out += some;
    n -= some;
    wipe(input.data(), input.size());
    input.assign(reinterpret_cast<const char*>(block.bytes), kHash);
  }
  wipe(input.data(), input.size());
}

std::string info_of(const uint8_t* own, const uint8_t* peer, const std::string& incarnation) {
  const bool own_first = std::memcmp(own, peer, kKeyBytes) < 0;
  std::string info = kLabel + incarnation;
  info.append(reinterpret_cast<const char*>(own_first ? own : peer), kKeyBytes);
  info.append(reinterpret_cast<const char*>(own_first ? peer : own), kKeyBytes);
  return info;
}

struct Nonce {
  uint8_t bytes[kIvBytes];
  Nonce(const uint8_t* iv, uint64_t number) {
    std::memcpy(bytes, iv, kIvBytes);
    for (int i = 0; i < 8; ++i) bytes[kIvBytes - 1 - i] ^= static_cast<uint8_t>(number >> (8 * i));
  }
};

}  // namespace

bool sealing_available(std::string* why) { return libcrypto(why) != nullptr; }

bool has_aes() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
  const unsigned long needed = HWCAP_AES | HWCAP_PMULL;
  return (getauxval(AT_HWCAP) & needed) == needed;
#else
  return false;
#endif
}

KeyPair::~KeyPair() { wipe(secret, sizeof(secret)); }

Keys::~Keys() { wipe(this, sizeof(*this)); }

KeyPair make_key_pair() {
  const Libcrypto& c = need_libcrypto();
  Secret<kKeyBytes> secret;
  if (c.random_bytes(secret.bytes, kKeyBytes) != 1) fail(c, "libcrypto has no random numbers yet");
  return key_pair_of(secret.bytes);
}

KeyPair key_pair_of(const uint8_t secret[kKeyBytes]) {
  const Libcrypto& c = need_libcrypto();
  KeyPair pair;
  std::memcpy(pair.secret, secret, kKeyBytes);
  const Key key(c.private_key(Libcrypto::kX25519, nullptr, secret, kKeyBytes));
  size_t size = kKeyBytes;
  if (!key || c.get_public_key(key.get(), pair.open, &size) != 1 || size != kKeyBytes) {
    fail(c, "libcrypto makes no X25519 keys");
  }
  return pair;
}

Keys derive_keys(const KeyPair& own, const uint8_t peer[kKeyBytes], uint64_t session, const std::string& incarnation) {
  Secret<kKeyBytes> secret;
  shared_secret(own, peer, secret.bytes);
  uint8_t salt[8], channel[4];
  for (int i = 0; i < 8; ++i) salt[i] = static_cast<uint8_t>(session >> (8 * i));
  Secret<2 * kKeyBytes + 2 * kIvBytes + sizeof(channel)> derived;
  hkdf(secret.bytes, kKeyBytes, salt, sizeof(salt), info_of(own.open, peer, incarnation), derived.bytes,
       sizeof(derived.bytes));
  Keys keys;
  const uint8_t* next = derived.bytes;
  const auto take = [&next](uint8_t* out, size_t n) {
    std::memcpy(out, next, n);
    next += n;
  };
  take(keys.to_worker, kKeyBytes);
  take(keys.to_hub, kKeyBytes);
  take(keys.iv_to_worker, kIvBytes);
  take(keys.iv_to_hub, kIvBytes);
  take(channel, sizeof(channel));
  keys.channel = 0;
  for (int i = 0; i < 4; ++i) keys.channel |= static_cast<uint32_t>(channel[i]) << (8 * i);
  return keys;
}

void Sealer::Free::operator()(CipherContext* context) const { opened().cipher_free(context); }

Sealer::Sealer(Cipher cipher, const uint8_t key[kKeyBytes], const uint8_t iv[kIvBytes]) {
  const Libcrypto& c = need_libcrypto();
  std::memcpy(iv_, iv, kIvBytes);
  const CipherKind* kind = cipher == Cipher::Aes256Gcm ? c.aes_256_gcm() : c.chacha20_poly1305();
  sealing_.reset(c.cipher_new());
  opening_.reset(c.cipher_new());
  if (!sealing_ || !opening_ || c.encrypt_init(sealing_.get(), kind, nullptr, key, nullptr) != 1 ||
      c.decrypt_init(opening_.get(), kind, nullptr, key, nullptr) != 1) {
    fail(c, "libcrypto does not start the cipher");
  }
}

// An update of 0 bytes is left out: to OpenSSL a null input means the end.
void Sealer::seal(uint64_t number, const uint8_t* aad, size_t aad_size, const uint8_t* in, size_t n, uint8_t* out) {
  const Libcrypto& c = opened();
  CipherContext* context = sealing_.get();
  const Nonce nonce(iv_, number);
  int written = 0;
  const bool sealed =
      n <= INT_MAX && aad_size <= INT_MAX && c.encrypt_init(context, nullptr, nullptr, nullptr, nonce.bytes) == 1 &&
      (aad_size == 0 || c.encrypt_update(context, nullptr, &written, aad, static_cast<int>(aad_size)) == 1) &&
      (n == 0 || c.encrypt_update(context, out, &written, in, static_cast<int>(n)) == 1) &&
      c.encrypt_final(context, out + n, &written) == 1 &&
      c.cipher_ctrl(context, Libcrypto::kGetTag, kTag, out + n) == 1;
  if (sealed) return;
  std::memset(out, 0, n + kTag);
  fail(c, "libcrypto failed to seal a packet");
}

bool Sealer::open(uint64_t number, const uint8_t* aad, size_t aad_size, const uint8_t* in, size_t n, uint8_t* out) {
  if (n < kTag || n > INT_MAX || aad_size > INT_MAX) return false;
  n -= kTag;
  const Libcrypto& c = opened();
  CipherContext* context = opening_.get();
  const Nonce nonce(iv_, number);
  uint8_t tag[kTag], rest[kTag];
  std::memcpy(tag, in + n, kTag);
  int written = 0;
  const bool opens =
      c.decrypt_init(context, nullptr, nullptr, nullptr, nonce.bytes) == 1 &&
      c.cipher_ctrl(context, Libcrypto::kSetTag, kTag, tag) == 1 &&
      (aad_size == 0 || c.decrypt_update(context, nullptr, &written, aad, static_cast<int>(aad_size)) == 1) &&
      (n == 0 || c.decrypt_update(context, out, &written, in, static_cast<int>(n)) == 1) &&
      c.decrypt_final(context, rest, &written) == 1;
  if (opens) return true;
  std::fill_n(out, n, uint8_t{0});  // what was deciphered is not authentic
  c.clear_errors();
  return false;
}

}  // namespace halo
