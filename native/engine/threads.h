// A pool of threads that runs one job at a time, the caller being one of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
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

  using Job = std::function<void(int begin, int end, int thread)>;

  // Calls job(begin, end, thread) on disjoint spans that cover 0 .. n - 1; returns when all are done. `thread`
  // is 0 .. size() - 1, for scratch memory. The job must not throw.
  void split(int n, const Job& job);

 private:
  bool work_on_one_piece(int thread);
  bool has_piece() const;
  void run(int thread);

  std::vector<std::thread> pool_;
  // Generation of the job (32 bits), its number of pieces (16), the next piece that nobody has taken (16).
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> done_{0};  // pieces
  // Of the present job; read only by who has taken a piece of it, since the job cannot end before that piece.
  const Job* job_ = nullptr;
  int n_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace halo
