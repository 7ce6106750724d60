// Threads: spans are static, so that the same thread touches the same weights at every token. A thread spins
// briefly for the next job (a layer's phases follow each other in microseconds), then sleeps.
#include "engine/threads.h"

#include <chrono>

namespace halo {

namespace {

constexpr auto kSpin = std::chrono::microseconds(30);

template <typename Ready>
bool spin_until(Ready ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    if (ready()) return true;
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

Threads::Threads(int n) {
  for (int i = 1; i < n; ++i) pool_.emplace_back(&Threads::work, this, i);
}

Threads::~Threads() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    ++generation_;
  }
  wake_.notify_all();
  for (std::thread& t : pool_) t.join();
}

void Threads::split(int n, const std::function<void(int, int, int)>& job) {
  if (pool_.empty() || n <= 1) {
    if (n > 0) job(0, n, 0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    n_ = n;
    running_ = static_cast<int>(pool_.size());
    ++generation_;
  }
  wake_.notify_all();
  job(0, static_cast<int>(int64_t{n} / size()), 0);
  while (!spin_until([&] { return running_.load() == 0; })) std::this_thread::yield();
}

void Threads::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    if (!spin_until([&] { return generation_.load() != seen; })) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
    }
    seen = generation_.load();
    if (stop_) return;
    const int begin = static_cast<int>(int64_t{n_} * thread / size());
    const int end = static_cast<int>(int64_t{n_} * (thread + 1) / size());
    if (begin < end) (*job_)(begin, end, thread);
    --running_;
  }
}

}  // namespace halo
