// Runs every kernel, the packing, the pool, the message parsers and whole models on buffers of exactly their size,
// under AddressSanitizer and UBSan: whatever reads or writes beyond stops the program. Prints "ok" at the end.
//
// Built by tests/native/test_sanitized.py with -DHALO_SANITIZE=ON; it checks memory, not values (test_kernels.py does).
// `sanitized models` runs the models alone, with the variant that HALO_ISA names.
#include <cstdio>
#include <cstring>

#include "engine/threads.h"
#include "tests/guarded.h"
#include "wire/message.h"

void wire_crypto();  // sanitized_wire.cpp

namespace {

using namespace halo;
using namespace halo::sanitized;

void pool() {
  for (const int size : {1, 2, 4}) {
    Threads threads(size);
    for (int n = 0; n < 300; ++n) {
      auto seen = exactly<int>(n);
      threads.split(n, [&](int begin, int end, int) {
        for (int i = begin; i < end; ++i) ++seen[i];
      });
      for (int i = 0; i < n; ++i) {
        if (seen[i] != 1) std::abort();
      }
    }
  }
}

void messages() {
  for (int i = 0; i < 20000; ++i) {
    const size_t size = drawn() % 400;
    auto bytes = noise(size);
    if (size >= 6 && drawn() % 8 != 0) {
      std::memcpy(bytes.get(), "HALO", 4);
      bytes[4] = kProtocol;
      bytes[5] = static_cast<uint8_t>(drawn() % 5);
    }
    Header header;
    RequestView request;
    PartialView partial;
    int version;
    read_header(bytes.get(), size, &header);
    other_version(bytes.get(), size, 0, &version);
    decode_request(bytes.get(), size, &request);
    decode_partial(bytes.get(), size, &partial);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    run_kernels();
    pool();
    messages();
    wire_crypto();
  } else if (std::strcmp(argv[1], "models") != 0) {
    std::puts("usage: sanitized [models]");
    return 2;
  }
  run_models();
  std::puts("ok");
}
