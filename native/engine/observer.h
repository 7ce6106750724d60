// Who may look at the outputs of a layer's MLP groups one by one, before they are added up.
#pragma once

#include <cstdint>

#include "engine/threads.h"

namespace halo {

struct SyncInput;

class Observer {
 public:
  virtual ~Observer() = default;

  // Before the outputs of one compute; false: they are not looked at.
  virtual bool begin(const SyncInput& in, uint64_t mask) = 0;
  // Values [first, first + n) of what the i-th group of the mask gives for input row t. Comes from the device's
  // threads, each with values of its own.
  virtual void output(int i, int t, int first, const float* values, int n) = 0;
  // All of them have come; the threads are free.
  virtual void end(const SyncInput& in, Threads& threads) = 0;
};

}  // namespace halo
