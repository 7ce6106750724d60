// A pool of threads that runs one job at a time, the caller being one of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace halo {

class Threads {
 public:
  explicit Threads(int n);  // n >= 1 threads, the caller's included
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int size() const { return static_cast<int>(pool_.size()) + 1; }

  // Calls job(begin, end, thread) on disjoint spans that cover 0 .. n - 1; returns when all are done. `thread`
  // is 0 .. size() - 1, for scratch memory. The job must not throw.
  void split(int n, const std::function<void(int, int, int)>& job);

 private:
  void work(int thread);

  std::vector<std::thread> pool_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> running_{0};
  std::atomic<bool> stop_{false};
  const std::function<void(int, int, int)>* job_ = nullptr;
  int n_ = 0;
};

}  // namespace halo
