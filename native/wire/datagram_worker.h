// A worker's end of the datagram exchange: receives, computes and answers without a language above it.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "wire/endpoint.h"
#include "wire/worker.h"

namespace halo {

class DatagramWorker {
 public:
  // Opens the socket at this port (0: at a free one); throws Error where that fails.
  explicit DatagramWorker(std::shared_ptr<Worker> worker, int port = 0);
  ~DatagramWorker();
  DatagramWorker(const DatagramWorker&) = delete;
  DatagramWorker& operator=(const DatagramWorker&) = delete;

  // Answers this hub from now on, and nobody else.
  void serve(const PeerSetup& hub);
  void close();

  const Endpoint& endpoint() const { return endpoint_; }

 private:
  void open(const std::vector<PeerSetup>& peers);
  void send(const Bytes& answer, uint64_t session);
  void receive(Bytes message);
  void compute();

  const std::shared_ptr<Worker> worker_;
  std::mutex mutex_;  // guards what is below
  std::condition_variable arrived_;
  std::deque<Bytes> requests_;
  uint64_t session_ = 0;  // counts them
  bool stop_ = false;

  Endpoint endpoint_;
  std::thread thread_;
};

}  // namespace halo
