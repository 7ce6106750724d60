// Whole models: one device, a hub with two workers, and workers that are sent what no hub would send.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/error.h"
#include "engine/shards.h"
#include "predictor/calibration.h"
#include "tests/guarded.h"
#include "tests/tiny_model.h"
#include "wire/relay.h"
#include "wire/worker.h"

namespace halo {
namespace sanitized {

namespace {

constexpr int kContext = 70;  // of more than one block of attention
constexpr uint64_t kSession = 7;

const Types kTypes[] = {
    {Type::F32, Type::F32, Type::F32, Type::F32, Type::F32},
    {Type::F16, Type::BF16, Type::F16, Type::F16, Type::F16},
    {Type::Q8_0, Type::Q4_0, Type::Q4_0, Type::Q8_0, Type::Q8_0},
    {Type::Q3_K, Type::Q5_K, Type::Q4_K, Type::Q6_K, Type::Q6_K},
    {Type::Q5_0, Type::Q4_1, Type::IQ4_NL, Type::Q5_1, Type::Q5_1},
    {Type::Q8_0, Type::F16, Type::Q5_K, Type::Q4_0, Type::BF16},
};

void forward(Engine& engine, int tokens) {
  std::vector<int32_t> in(tokens);
  for (int32_t& token : in) token = static_cast<int32_t>(drawn() % engine.spec().vocab);
  auto logits = exactly<float>(static_cast<size_t>(tokens) * engine.spec().vocab);
  engine.forward(0, in.data(), tokens, true, logits.get(), [] {});
}

void alone(const std::shared_ptr<Model>& model) {
  for (const PartialFormat format : {PartialFormat::Fixed, PartialFormat::F32}) {
    Engine engine(model, kContext, 2, 3, format);
    forward(engine, 65);
    forward(engine, 1);
    engine.truncate(0, 3);
    forward(engine, kContext - 3);
  }
}

// Both passes of calibration, the second one with room for fewer tokens than there are.
void calibrated(const std::shared_ptr<Model>& model) {
  constexpr size_t kTokens = 40;
  const size_t d = model->spec.d;
  std::vector<std::unique_ptr<double[]>> sums;
  std::vector<std::unique_ptr<float[]>> values;
  const auto doubles = [&](size_t n) { return sums.emplace_back(exactly<double>(n)).get(); };
  const auto singles = [&](size_t n) { return values.emplace_back(exactly<float>(n)).get(); };
  std::vector<MeanPass::Layer> means;
  std::vector<DistancePass::Layer> distances;
  for (const Layer& layer : model->layers) {
    const size_t groups = layer.groups(Part::Mlp);
    means.push_back({doubles(groups * d), doubles(groups), doubles(d)});
    distances.push_back({singles(groups * d), singles(kTokens * d), singles(kTokens * groups)});
  }
  const auto second = std::make_shared<DistancePass>(model, distances, kTokens, nullptr);
  Engine engine(model, kContext, 1, 3, PartialFormat::F32);
  engine.observe(std::make_shared<MeanPass>(model, means, nullptr));
  forward(engine, 65);
  engine.truncate(0, 0);
  engine.observe(second);
  forward(engine, 65);
  if (second->rewind() != kTokens) std::abort();
}

// A message with a few bytes changed, cut off or added: mostly in the header, where there is something to decide.
Bytes damaged(const Bytes& message) {
  Bytes out = message;
  for (int i = 0, n = 1 + static_cast<int>(drawn() % 3); i < n; ++i) {
    const size_t limit = drawn() % 4 != 0 ? std::min<size_t>(out.size(), 100) : out.size();
    out[drawn() % limit] = static_cast<uint8_t>(drawn() % 4 != 0 ? drawn() : drawn() % 4);
  }
  if (drawn() % 8 == 0) out.resize(drawn() % (out.size() + 100));
  return out;
}

// What a worker answers; the message in a buffer of its own size, at any alignment.
Bytes ask(Worker& worker, const Bytes& message) {
  auto guarded = exactly<uint8_t>(message.size() + 1);
  std::memcpy(guarded.get() + 1, message.data(), message.size());
  Bytes answer;
  if (worker.accept(guarded.get() + 1, message.size(), &answer) != Worker::Verdict::Compute) return answer;
  return worker.compute(guarded.get() + 1, message.size());
}

// A hub with two workers; every message is kept in `seen`. With `hostile`, answers may come damaged as well.
void shared(const std::shared_ptr<Model>& model, PartialFormat format, bool hostile, std::vector<Bytes>& seen) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < 2; ++i) {
    workers.push_back(std::make_unique<Worker>(model, 2));
    workers.back()->open(kSession, kContext, 1);
  }
  Relay* to = nullptr;
  const auto post = [&](Outgoing outgoing) {
    for (const auto& [i, attempt, message] : outgoing) {
      const Bytes answer = ask(*workers[i], message);
      const Bytes sent = hostile && drawn() % 4 == 0 ? damaged(answer) : answer;
      to->deliver(i, sent);
      to->deliver(i, answer);
      seen.push_back(message);
    }
  };
  const auto relay = std::make_shared<Relay>(kSession, post, RelayOptions{4096, 0.02, 0.1});
  to = relay.get();
  Engine engine(model, kContext, 1, 1, format);
  engine.attach(relay);
  for (int i = 0; i < 2; ++i) relay->join({});
  engine.set_assigner(std::make_unique<RandomAssigner>(drawn()));
  try {
    forward(engine, 34);
    forward(engine, 1);
  } catch (const Error&) {  // a worker that answered nonsense is expelled, or its numbers are not finite
    if (!hostile) throw;
  }
}

// Threads that load different shards while one computes; then a model that gave its memory back and holds a part.
void partly(const Types& types) {
  const std::shared_ptr<Model> model = tiny_model(types);
  Residency& residency = *model->residency;
  std::vector<std::thread> loading;
  for (int i = 0; i < 3; ++i) {
    loading.emplace_back([&, i] { residency.load(shard_masks(*model, i, 3), i == 0, [](size_t, size_t) {}); });
  }
  alone(model);
  for (std::thread& thread : loading) thread.join();
  residency.forget();
  residency.load(shard_masks(*model, 1, 2), false, [](size_t, size_t) {});
  alone(model);
}

void hostile_requests(const std::shared_ptr<Model>& model, const std::vector<Bytes>& seen) {
  Worker worker(model, 1);
  worker.open(kSession, kContext, 1);
  for (int i = 0; i < 400; ++i) {
    Bytes message = damaged(seen[drawn() % seen.size()]);
    if (message.size() > 16 && drawn() % 2 == 0) message[16 + drawn() % 8] = static_cast<uint8_t>(drawn());  // a new id
    ask(worker, message);
    if (i % 100 == 99) worker.open(kSession, kContext, 1);
  }
  for (const Bytes& message : seen) ask(worker, message);  // and it still serves
  const WorkerCounters c = worker.counters();
  if (c.requests == 0 || c.bad_messages == 0) std::abort();
}

}  // namespace

void run_models() {
  for (const Types& types : kTypes) {
    const std::shared_ptr<Model> model = tiny_model(types);
    alone(model);
    calibrated(model);
    partly(types);
    run_relaxed(types);
    std::vector<Bytes> seen;
    shared(model, PartialFormat::Fixed, false, seen);
    shared(model, PartialFormat::F32, false, seen);
    for (int i = 0; i < 8; ++i) shared(model, PartialFormat::Fixed, true, seen);
    hostile_requests(model, seen);
  }
}

}  // namespace sanitized
}  // namespace halo
