// What the native module throws besides std::invalid_argument (bad input).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace halo {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct WorkerLost : Error {
  WorkerLost(int worker, const std::string& what, bool expelled = false)
      : Error(what), worker(worker), expelled(expelled) {}
  int worker;     // index in the exchange
  bool expelled;  // it is there, and its answers cannot be used
};

// A worker answered with values or norms that are not finite: is it the worker, or the model?
struct NotFinite : WorkerLost {
  NotFinite(int worker, const std::string& what, uint64_t mask) : WorkerLost(worker, what, true), mask(mask) {}
  uint64_t mask;  // the groups that it was asked for
};

struct Interrupted : Error {
  Interrupted() : Error("forward was cancelled") {}
};

}  // namespace halo
