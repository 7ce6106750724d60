// What the fuzz target and its seeds share: a tiny model, and the session that its worker serves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/model.h"
#include "wire/message.h"

namespace halo::fuzz {

inline constexpr uint64_t kSession = 0x0123456789abcdef;
inline constexpr int kContext = 64;

// F32, one layer, two groups of either kind.
std::shared_ptr<const Model> tiny_model();

// A well-formed datagram that the attacked end must not take.
Bytes datagram_of_a_peer(uint64_t number, const Bytes& plain);

}  // namespace halo::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
