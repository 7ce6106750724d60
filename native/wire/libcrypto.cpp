// Opens the first libcrypto that has all that sealing needs.
#include "wire/libcrypto.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

namespace halo {

namespace {

// What is missing, or null.
const char* find_functions(void* library, Libcrypto* c) {
  const char* missing = nullptr;
  const auto find = [&](const char* name, auto& function) {
    void* found = dlsym(library, name);
    if (found == nullptr && missing == nullptr) missing = name;
    function = reinterpret_cast<std::decay_t<decltype(function)>>(found);
  };
  find("EVP_CIPHER_CTX_new", c->cipher_new);
  find("EVP_CIPHER_CTX_free", c->cipher_free);
  find("EVP_CIPHER_CTX_ctrl", c->cipher_ctrl);
  find("EVP_EncryptInit_ex", c->encrypt_init);
  find("EVP_EncryptUpdate", c->encrypt_update);
  find("EVP_EncryptFinal_ex", c->encrypt_final);
  find("EVP_DecryptInit_ex", c->decrypt_init);
  find("EVP_DecryptUpdate", c->decrypt_update);
  find("EVP_DecryptFinal_ex", c->decrypt_final);
  find("EVP_chacha20_poly1305", c->chacha20_poly1305);
  find("EVP_aes_256_gcm", c->aes_256_gcm);
  find("EVP_sha256", c->sha256);
  find("HMAC", c->hmac);
  find("EVP_PKEY_new_raw_private_key", c->private_key);
  find("EVP_PKEY_new_raw_public_key", c->public_key);
  find("EVP_PKEY_get_raw_public_key", c->get_public_key);
  find("EVP_PKEY_free", c->key_free);
  find("EVP_PKEY_CTX_new", c->key_context_new);
  find("EVP_PKEY_CTX_free", c->key_context_free);
  find("EVP_PKEY_derive_init", c->derive_init);
  find("EVP_PKEY_derive_set_peer", c->derive_set_peer);
  find("EVP_PKEY_derive", c->derive);
  find("RAND_bytes", c->random_bytes);
  find("ERR_clear_error", c->clear_errors);
  return missing;
}

// A library restricted to some list of algorithms (FIPS) has the functions, and refuses when they are called.
const char* find_refusal(const Libcrypto& c) {
  const uint8_t key[32] = {1};
  const char* refused = nullptr;
  CipherContext* context = c.cipher_new();
  if (context == nullptr || c.encrypt_init(context, c.aes_256_gcm(), nullptr, key, key) != 1) refused = "AES-256-GCM";
  if (context == nullptr || c.encrypt_init(context, c.chacha20_poly1305(), nullptr, key, key) != 1) {
    refused = "ChaCha20-Poly1305";
  }
  if (context != nullptr) c.cipher_free(context);
  AsymmetricKey* pair = c.private_key(Libcrypto::kX25519, nullptr, key, sizeof(key));
  if (pair == nullptr) refused = "X25519";
  if (pair != nullptr) c.key_free(pair);
  if (refused != nullptr) c.clear_errors();
  return refused;
}

struct Opened {
  Libcrypto functions = {};
  bool usable = false;
  std::string why;

  Opened() {
    const char* named = std::getenv("HALO_LIBCRYPTO");
    std::vector<const char*> names = {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"};
    if (named != nullptr && *named != '\0') names = {named};
    for (const char* name : names) {
      if (!usable) attempt(name);
    }
    if (!usable)
      why = "no libcrypto of OpenSSL 1.1.1 or newer that will do (" + why + "); on Debian: apt install libssl3";
  }

  void attempt(const char* name) {
    const auto note = [&](const std::string& reason) { why += (why.empty() ? "" : "; ") + reason; };
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return note(dlerror());
    if (const char* missing = find_functions(library, &functions)) {
      dlclose(library);
      return note(std::string(name) + " has no " + missing);
    }
    // From here on it stays open: OpenSSL does not like to be unloaded.
    if (const char* refused = find_refusal(functions)) return note(std::string(name) + " refuses " + refused);
    usable = true;
  }
};

}  // namespace

const Libcrypto* libcrypto(std::string* why) {
  static const Opened opened;
  if (!opened.usable && why != nullptr) *why = opened.why;
  return opened.usable ? &opened.functions : nullptr;
}

}  // namespace halo
