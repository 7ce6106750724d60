// How long a request takes at least, for measurements: several slow devices then fit on one machine with few cores.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace halo {

// May be set from any thread while another one waits; it holds from the next request on.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  void set(int per_request_us, int per_group_us) {
    per_request_us_ = per_request_us;
    per_group_us_ = per_group_us;
  }

  // Sleeps for what the arithmetic has left of the time of a request for so many groups, whatever its rows.
  void until(Clock::time_point start, int groups) const {
    const std::chrono::microseconds least(per_request_us_ + int64_t{per_group_us_} * groups);
    if (least.count() != 0) std::this_thread::sleep_until(start + least);
  }

 private:
  std::atomic<int> per_request_us_{0}, per_group_us_{0};
};

}  // namespace halo
