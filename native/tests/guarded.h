// Buffers of exactly their size, which the sanitizer guards at both ends, and what fills them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>

namespace halo {
namespace sanitized {

inline std::mt19937 drawn(1);

template <typename T>
std::unique_ptr<T[]> exactly(size_t n) {
  return std::unique_ptr<T[]>(new T[n]());
}

inline std::unique_ptr<uint8_t[]> noise(size_t n) {
  auto bytes = exactly<uint8_t>(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(drawn());  // NaN and infinite scales among them
  return bytes;
}

inline std::unique_ptr<float[]> floats(size_t n) {
  auto values = exactly<float>(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(drawn() % 2001) / 100.0f - 10.0f;
  return values;
}

// Every kernel of every variant, and packing.
void run_kernels();
// A tiny model of several types, alone and with workers: the engine, devices and hostile messages.
void run_models();

}  // namespace sanitized
}  // namespace halo
