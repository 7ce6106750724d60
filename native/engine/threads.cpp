// A job is cut into a few even pieces per thread, and whoever is free takes the next one: where other processes want
// the same cores, a thread that the system has put aside delays one piece, not its whole share. Whoever waits, for a
// job or for its end, spins briefly (a layer's phases follow each other in microseconds), then sleeps.
#include "engine/threads.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#include "engine/error.h"

namespace halo {

namespace {

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr int kPiecesPerThread = 4;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

template <typename Ready>
bool spin_until(Ready ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

uint32_t pieces_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 16 & 0xffff); }
uint32_t next_of(uint64_t ticket) { return static_cast<uint32_t>(ticket & 0xffff); }

}  // namespace

Threads::Threads(int n) {
  try {
    for (int i = 1; i < n; ++i) pool_.emplace_back(&Threads::run, this, i);
  } catch (const std::system_error& e) {
    const int got = size();
    stop();
    throw Error("the system gives only " + std::to_string(got) + " of " + std::to_string(n) + " threads (" + e.what() +
                "): ask for fewer");
  }
}

Threads::~Threads() { stop(); }

void Threads::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& t : pool_) t.join();
  pool_.clear();
}

void Threads::run_job(int n, Job job) {
  if (pool_.empty() || n <= 1) {
    if (n > 0) job.call(job.callable, 0, n, 0);
    return;
  }
  const auto pieces = static_cast<uint32_t>(std::min(n, kPiecesPerThread * size()));
  job_ = job;
  n_ = n;
  done_ = 0;
  ticket_ = ((ticket_ >> 32) + 1) << 32 | static_cast<uint64_t>(pieces) << 16;
  if (sleeping_ != 0) {  // whoever falls asleep from here on has seen the ticket
    std::lock_guard<std::mutex> lock(mutex_);
    work_.notify_all();
  }
  while (work_on_one_piece(0)) {
  }
  if (spin_until([&] { return done_ == pieces; })) return;
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeping_ = true;  // whoever ends the last piece from here on wakes us, or we see that it has ended
  done_all_.wait(lock, [&] { return done_ == pieces; });
  caller_sleeping_ = false;
}

bool Threads::has_piece() const {
  const uint64_t ticket = ticket_;
  return next_of(ticket) < pieces_of(ticket);
}

bool Threads::work_on_one_piece(int thread) {
  uint64_t ticket = ticket_;
  do {
    if (next_of(ticket) >= pieces_of(ticket)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1));
  const int64_t piece = next_of(ticket), pieces = pieces_of(ticket);
  job_.call(job_.callable, static_cast<int>(n_ * piece / pieces), static_cast<int>(n_ * (piece + 1) / pieces), thread);
  if (++done_ == pieces && caller_sleeping_) {
    std::lock_guard<std::mutex> lock(mutex_);
    done_all_.notify_one();
  }
  return true;
}

void Threads::run(int thread) {
  while (!stop_) {
    while (work_on_one_piece(thread)) {
    }
    if (spin_until([&] { return has_piece() || stop_; })) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleeping_;
    work_.wait(lock, [&] { return has_piece() || stop_; });
    --sleeping_;
  }
}

}  // namespace halo
