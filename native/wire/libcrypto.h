// The system's libcrypto (OpenSSL 1.1.1 or newer), opened at run time: nothing is linked, and no headers are needed to
// build. The prototypes are those of OpenSSL's manual, with opaque types of our own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace halo {

struct CipherContext;  // EVP_CIPHER_CTX
struct CipherKind;     // EVP_CIPHER
struct HashKind;       // EVP_MD
struct AsymmetricKey;  // EVP_PKEY
struct KeyContext;     // EVP_PKEY_CTX

struct Libcrypto {
  static constexpr int kX25519 = 1034;                  // NID_X25519
  static constexpr int kGetTag = 0x10, kSetTag = 0x11;  // EVP_CTRL_AEAD_GET_TAG, _SET_TAG

  CipherContext* (*cipher_new)();
  void (*cipher_free)(CipherContext*);
  int (*cipher_ctrl)(CipherContext*, int type, int arg, void* ptr);
  int (*encrypt_init)(CipherContext*, const CipherKind*, void* engine, const uint8_t* key, const uint8_t* iv);
  int (*encrypt_update)(CipherContext*, uint8_t* out, int* written, const uint8_t* in, int n);
  int (*encrypt_final)(CipherContext*, uint8_t* out, int* written);
  int (*decrypt_init)(CipherContext*, const CipherKind*, void* engine, const uint8_t* key, const uint8_t* iv);
  int (*decrypt_update)(CipherContext*, uint8_t* out, int* written, const uint8_t* in, int n);
  int (*decrypt_final)(CipherContext*, uint8_t* out, int* written);
  const CipherKind* (*chacha20_poly1305)();
  const CipherKind* (*aes_256_gcm)();
  const HashKind* (*sha256)();
  uint8_t* (*hmac)(const HashKind*, const void* key, int key_size, const uint8_t* data, size_t n, uint8_t* out,
                   unsigned* out_size);
  AsymmetricKey* (*private_key)(int type, void* engine, const uint8_t* key, size_t n);
  AsymmetricKey* (*public_key)(int type, void* engine, const uint8_t* key, size_t n);
  int (*get_public_key)(const AsymmetricKey*, uint8_t* out, size_t* n);
  void (*key_free)(AsymmetricKey*);
  KeyContext* (*key_context_new)(AsymmetricKey*, void* engine);
  void (*key_context_free)(KeyContext*);
  int (*derive_init)(KeyContext*);
  int (*derive_set_peer)(KeyContext*, AsymmetricKey* peer);
  int (*derive)(KeyContext*, uint8_t* out, size_t* n);
  int (*random_bytes)(uint8_t* out, int n);
  void (*clear_errors)();  // of this thread: Python's ssl module would take those we leave for its own
};

// The library, opened at the first call; null where there is none that will do, with `why` for people. HALO_LIBCRYPTO
// names a file to try instead of the usual names.
const Libcrypto* libcrypto(std::string* why);

}  // namespace halo
