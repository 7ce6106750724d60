// What the native module throws besides std::invalid_argument (bad input).
#pragma once

#include <stdexcept>
#include <string>

namespace halo {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct WorkerLost : Error {
  WorkerLost(int worker, const std::string& what) : Error(what), worker(worker) {}
  int worker;  // index in the exchange
};

struct Interrupted : Error {
  Interrupted() : Error("forward was cancelled") {}
};

}  // namespace halo
