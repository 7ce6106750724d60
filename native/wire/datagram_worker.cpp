// The endpoint's thread decides about each message and answers at once what needs no computing, heartbeats included;
// a second thread computes, in order of arrival.
#include "wire/datagram_worker.h"

#include <exception>
#include <utility>

namespace halo {

DatagramWorker::DatagramWorker(std::shared_ptr<Worker> worker, int port)
    : worker_(std::move(worker)),
      endpoint_([this](int, Bytes message) { receive(std::move(message)); }, port),
      thread_(&DatagramWorker::compute, this) {}

DatagramWorker::~DatagramWorker() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  arrived_.notify_all();
  thread_.join();
}

void DatagramWorker::serve(const PeerSetup& hub) { open({hub}); }

void DatagramWorker::close() { open({}); }

void DatagramWorker::open(const std::vector<PeerSetup>& peers) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++session_;
  requests_.clear();
  endpoint_.open(peers);
}

// An answer belongs to the session that asked: it never goes to the hub of another one.
void DatagramWorker::send(const Bytes& answer, uint64_t session) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (session == session_) endpoint_.send({{0, &answer}});
}

void DatagramWorker::receive(Bytes message) {
  uint64_t session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session = session_;
  }
  Bytes answer;
  switch (worker_->accept(message.data(), message.size(), &answer, true)) {
    case Worker::Verdict::Drop:
      return;
    case Worker::Verdict::Answer:
      send(answer, session);
      return;
    case Worker::Verdict::Compute:
      break;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (session == session_) requests_.push_back(std::move(message));
  }
  arrived_.notify_one();
}

void DatagramWorker::compute() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    arrived_.wait(lock, [&] { return stop_ || !requests_.empty(); });
    if (stop_) return;
    const Bytes request = std::move(requests_.front());
    requests_.pop_front();
    const uint64_t session = session_;
    lock.unlock();
    try {
      const Bytes answer = worker_->compute(request.data(), request.size());
      if (!answer.empty()) send(answer, session);
    } catch (const std::exception&) {
      // No memory even for saying so: the hub asks again, or does without this worker.
    }
    lock.lock();
  }
}

}  // namespace halo
