// A pool of threads that runs one job at a time, the caller being one of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace halo {

class Threads {
 public:
  // n >= 1 threads, the caller's included. Throws Error where the system gives fewer.
  explicit Threads(int n);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int size() const { return static_cast<int>(pool_.size()) + 1; }

  // Calls job(begin, end, thread) on disjoint spans that cover 0 .. n - 1; returns when all are done. `thread`
  // is 0 .. size() - 1, for scratch memory. The job must not throw.
  template <typename F>
  void split(int n, const F& job) {
    static_assert(std::is_invocable_v<const F&, int, int, int>);
    run_job(n, {&job, [](const void* f, int begin, int end, int thread) {
                  (*static_cast<const F*>(f))(begin, end, thread);
                }});
  }

 private:
  struct Job {  // a borrowed callable: unlike std::function it allocates nothing
    const void* callable = nullptr;
    void (*call)(const void* callable, int begin, int end, int thread) = nullptr;
  };

  void run_job(int n, Job job);
  bool work_on_one_piece(int thread);
  bool has_piece() const;
  void run(int thread);
  void stop();

  std::vector<std::thread> pool_;
  // Generation of the job (32 bits), its number of pieces (16), the next piece that nobody has taken (16).
  std::atomic<uint64_t> ticket_{0};
  std::atomic<uint32_t> done_{0};  // pieces
  // Of the present job; read only by who has taken a piece of it, since the job cannot end before that piece.
  Job job_;
  int n_ = 0;

  std::mutex mutex_;  // whoever goes to sleep holds it while looking once more
  std::condition_variable work_, done_all_;
  std::atomic<int> sleeping_{0};  // of the pool
  std::atomic<bool> caller_sleeping_{false};
  std::atomic<bool> stop_{false};
};

}  // namespace halo
