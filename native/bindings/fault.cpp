// What the system cannot deliver of a mapped file: a sentence instead of "Bus error".
#include <unistd.h>

#include <csignal>
#include <string>

#include "bindings/bindings.h"

namespace halo {

namespace {

std::string& words() {
  static std::string text;
  return text;
}

// Only what may be done in a signal handler; nothing can go on without these bytes.
void say_and_end(int) {
  const ssize_t written = write(STDERR_FILENO, words().data(), words().size());
  _exit(written < 0 ? 2 : 1);
}

void explain_bus_errors(const std::string& text) {
  words() = text;
  struct sigaction action = {};
  action.sa_handler = say_and_end;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace

void bind_fault(py::module_& m) {
  m.def(
      "explain_bus_errors", &explain_bus_errors, py::arg("text"),
      "From now on SIGBUS, which reading a mapped file raises where it has shrunk or its disk fails, writes this text "
      "to standard error and ends the process with exit code 1. For programs, not for libraries.");
}

}  // namespace halo
