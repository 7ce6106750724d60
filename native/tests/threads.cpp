// A cell in which everything has a thread of its own, under ThreadSanitizer: the hub computes, workers answer over
// datagrams and over what stands for MQTT, come and go and load what they hold, and others look on. Prints "ok".
//
// Built by tests/native/test_sanitized.py with -DHALO_SANITIZE_THREADS=ON. `threads N` computes N texts.
#include <arpa/inet.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/residency.h"
#include "engine/shards.h"
#include "tests/tiny_model.h"
#include "wire/datagram_worker.h"
#include "wire/relay.h"
#include "wire/seal.h"
#include "wire/worker.h"

namespace {

using namespace halo;
using namespace halo::sanitized;
using std::chrono::milliseconds;

constexpr uint64_t kSession = 7;
constexpr int kContext = 64, kTokens = 12, kPrompt = 5;

// Runs what it is given, in that order, in a thread of its own.
class Line {
 public:
  Line() : thread_(&Line::run, this) {}
  ~Line() {
    add(nullptr);
    thread_.join();
  }
  void add(std::function<void()> work) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back(std::move(work));
    }
    arrived_.notify_one();
  }

 private:
  void run() {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      arrived_.wait(lock, [&] { return !queue_.empty(); });
      const std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      if (!work) return;
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::function<void()>> queue_;
  std::thread thread_;
};

// Calls `step` again and again, in a thread of its own.
class Again {
 public:
  Again(milliseconds pause, std::function<void()> step)
      : thread_([this, pause, step = std::move(step)] {
          while (!stop_) {
            step();
            std::this_thread::sleep_for(pause);
          }
        }) {}
  ~Again() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

PeerSetup link(const KeyPair& own, const uint8_t* peer, const std::string& incarnation, bool hub, int port) {
  const Keys k = derive_keys(own, peer, kSession, incarnation);
  PeerSetup setup;
  setup.channel = k.channel;
  setup.cipher = Cipher::ChaCha20Poly1305;
  std::memcpy(setup.out_key, hub ? k.to_worker : k.to_hub, sizeof setup.out_key);
  std::memcpy(setup.out_iv, hub ? k.iv_to_worker : k.iv_to_hub, sizeof setup.out_iv);
  std::memcpy(setup.in_key, hub ? k.to_hub : k.to_worker, sizeof setup.in_key);
  std::memcpy(setup.in_iv, hub ? k.iv_to_hub : k.iv_to_worker, sizeof setup.in_iv);
  if (port != 0) setup.candidates = {parse_address("127.0.0.1", port)};
  return setup;
}

// A worker process: its MQTT connection decides in one thread and computes in another, its datagrams have two more.
struct Device {
  explicit Device(const std::shared_ptr<Model>& model) : worker(std::make_shared<Worker>(model, 2)) {
    worker->open(kSession, kContext, 1);
  }

  void hear(const std::shared_ptr<const Bytes>& message, const std::function<void(Bytes)>& answer) {
    deciding.add([=] {
      Bytes reply;
      switch (worker->accept(message->data(), message->size(), &reply)) {
        case Worker::Verdict::Compute:
          computing.add([=] { answer(worker->compute(message->data(), message->size())); });
          return;
        case Worker::Verdict::Answer:
          answer(std::move(reply));
          return;
        default:
          return;
      }
    });
  }

  std::shared_ptr<Worker> worker;
  std::unique_ptr<DatagramWorker> datagrams;
  std::optional<PeerSetup> hub, peer;  // both ends of the link
  Line computing, deciding;            // in this order: the last one ends first
};

class Cell {
 public:
  static constexpr int kDevices = 3;  // the last one has MQTT alone, and is slow

  explicit Cell(const std::shared_ptr<Model>& model)
      : model_(model), engine_(model, kContext, 1, 2, PartialFormat::Fixed) {
    for (int i = 0; i < kDevices; ++i) devices_.push_back(std::make_unique<::Device>(model));
    devices_.back()->worker->pace().set(2000, 0);
    relay_ = std::make_shared<Relay>(
        kSession, [this](Outgoing letters) { post(std::move(letters)); }, RelayOptions{4096, 0.02, 4.0});
    const bool sealed = sealing_available(nullptr);
    if (sealed) relay_->open_datagrams(false);
    engine_.attach(relay_);
    engine_.set_assigner(std::make_unique<EvenAssigner>(0.2));
    const KeyPair hub = sealed ? make_key_pair() : KeyPair{};
    for (int i = 0; i < kDevices; ++i) {
      ::Device& device = *devices_[i];
      if (sealed && i + 1 < kDevices) {
        const KeyPair own = make_key_pair();
        device.datagrams = std::make_unique<DatagramWorker>(device.worker);
        device.hub = link(own, hub.open, std::to_string(i), false, 0);
        device.datagrams->serve(*device.hub);
        device.peer = link(hub, own.open, std::to_string(i), true, device.datagrams->endpoint().port());
      }
      relay_->join(device.peer);
    }
  }

  // Logits of all positions of one text: a prompt, then token by token.
  std::vector<float> text() {
    const int vocab = engine_.spec().vocab;
    std::vector<int32_t> tokens(kTokens);
    for (int i = 0; i < kTokens; ++i) tokens[i] = i * 7 % vocab;
    std::vector<float> out(static_cast<size_t>(kTokens) * vocab);
    engine_.truncate(0, 0);
    engine_.forward(0, tokens.data(), kPrompt, true, out.data(), [] {});
    for (int i = kPrompt; i < kTokens; ++i) {
      engine_.forward(0, &tokens[i], 1, true, &out[static_cast<size_t>(i) * vocab], [] {});
    }
    return out;
  }

  // What a user's screen and the control plane ask for.
  void look() {
    relay_->members();
    relay_->links();
    relay_->counters();
    relay_->endpoint_counters();
    engine_.counters();
    for (const auto& device : devices_) {
      device->worker->counters();
      if (device->datagrams) device->datagrams->endpoint().report(0);
    }
    if (++looks_ % 50 == 0) relay_->reset_counters();
  }

  // One device goes and comes back, as the same process or as a new one; another one's shard and address change.
  void change() {
    const int turn = turn_++, number = turn / 2 % kDevices;
    if (turn % 2 == 0) {
      relay_->leave(number, "it has left");
    } else if (turn % 8 == 1) {
      start_anew(number);
    } else {
      relay_->rejoin(number);
    }
    const int other = (turn / 2 + 1) % kDevices;
    relay_->set_resident(other, turn % 3 == 0 ? shard_masks(*model_, turn % 2, 2) : all_masks(*model_));
    if (devices_[other]->datagrams) {
      relay_->update_candidates(other, {parse_address("127.0.0.1", devices_[other]->datagrams->endpoint().port())});
    }
    devices_[other]->worker->pace().set(turn % 4 == 0 ? 3000 : 0, 10);
  }

  Engine& engine() { return engine_; }

  // How much the devices took part.
  void tell() const {
    for (const auto& device : devices_) {
      const WorkerCounters c = device->worker->counters();
      const uint64_t packets = device->datagrams ? device->datagrams->endpoint().counters(0).packets_received : 0;
      std::fprintf(stderr, "%s requests, %s group results, %s packets\n", std::to_string(c.requests).c_str(),
                   std::to_string(c.group_results).c_str(), std::to_string(packets).c_str());
    }
  }

 private:
  void start_anew(int number) {
    ::Device& device = *devices_[number];
    relay_->forget(number);
    if (device.datagrams) device.datagrams->close();
    device.worker->close();
    device.worker->open(kSession, kContext, 1);
    if (device.datagrams) device.datagrams->serve(*device.hub);
    if (relay_->join(device.peer) != number) std::abort();  // the first number that is free
  }

  void post(Outgoing letters) {
    for (Letter& letter : letters) {
      if (++posted_ % 16 == 0) continue;  // lost
      const auto message = std::make_shared<const Bytes>(std::move(letter.message));
      const int worker = letter.worker;
      devices_[worker]->hear(message, [this, worker](Bytes answer) { relay_->deliver(worker, std::move(answer)); });
    }
  }

  const std::shared_ptr<Model> model_;
  std::atomic<unsigned> posted_{0};
  unsigned looks_ = 0;
  int turn_ = 0;
  std::shared_ptr<Relay> relay_;
  Engine engine_;
  std::vector<std::unique_ptr<::Device>> devices_;  // they end before what they answer to
};

void load(const std::shared_ptr<Model>& model) {
  model->residency->load(all_masks(*model), true, [](size_t, size_t) {});
}

// Exact whatever happens, as without workers; then with results that may be late.
void run_cell(int texts) {
  const auto model = tiny_model({Type::Q8_0, Type::Q8_0, Type::Q8_0, Type::Q8_0, Type::Q8_0}, 4);
  Cell cell(model);  // loads while it computes
  const Again loading(milliseconds(20), [&] { load(model); });
  const Again looking(milliseconds(1), [&] { cell.look(); });
  const Again changing(milliseconds(15), [&] { cell.change(); });
  const std::vector<float> expected = cell.text();
  for (int i = 0; i < texts; ++i) {
    if (cell.text() != expected) std::abort();
  }
  cell.engine().set_tolerance(random_tables(*model));
  for (int i = 0; i < texts; ++i) {
    cell.engine().set_quality(i % 2 == 0 ? 0.5 : 1.0, i % 3 == 2);
    cell.text();
  }
  const Again cancelling(milliseconds(7), [&] { cell.engine().cancel(); });
  for (int i = 0; i < texts; ++i) {
    try {
      cell.text();
    } catch (const Interrupted&) {
    }
  }
  cell.tell();
}

}  // namespace

int main(int argc, char** argv) {
  run_cell(argc > 1 ? std::atoi(argv[1]) : 60);
  std::puts("ok");
}
