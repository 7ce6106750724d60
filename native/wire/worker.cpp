// Requests are idempotent: one that is sent again is answered from the last replies, or with "computing" while its turn
// has not come, so the hub may ask again whenever it likes. Mere copies are dropped.
#include "wire/worker.h"

#include <algorithm>

namespace halo {

namespace {

constexpr size_t kKeptReplies = 16;
constexpr size_t kMaxPending = 256;

// Syncs are counted for as long as a hub lives: their numbers may begin anew.
bool is_before(uint32_t sync, uint32_t other) { return static_cast<int32_t>(sync - other) < 0; }

}  // namespace

void Worker::open(uint64_t session, int n_ctx, int n_slots) {
  std::lock_guard<std::mutex> computing(computing_);
  std::lock_guard<std::mutex> lock(mutex_);
  device_ = std::make_unique<Device>(model_, n_ctx, n_slots, threads_);
  serving_ = true;
  session_ = session;
  n_ctx_ = n_ctx;
  n_slots_ = n_slots;
  newest_sync_[0] = newest_sync_[1] = std::nullopt;
  pending_.clear();
  replies_.clear();
}

void Worker::close() {
  std::lock_guard<std::mutex> computing(computing_);
  std::lock_guard<std::mutex> lock(mutex_);
  serving_ = false;
  device_.reset();
  pending_.clear();
  replies_.clear();
}

Refusal Worker::check(const RequestView& request) const {
  const Header& h = request.header;
  const Spec& s = model_->spec;
  if (h.layer >= s.layers || static_cast<int>(h.d) != s.d || h.slot >= n_slots_) return Refusal::BadRequest;
  if (h.part != Part::Attention && h.part != Part::Mlp) return Refusal::BadRequest;
  if (!is_known(h.partial_format)) return Refusal::BadRequest;
  const Layer& layer = model_->layers[h.layer];
  if (h.groups != layer.groups(h.part) || (h.groups < 64 && h.mask >> h.groups != 0)) return Refusal::BadRequest;
  if (static_cast<Type>(h.input_format) != layer.input(h.part)) return Refusal::BadRequest;
  if (request.positions.back() >= static_cast<uint32_t>(n_ctx_)) return Refusal::BadRequest;
  if (h.base > request.positions.front()) return Refusal::BadRequest;
  for (int16_t e : request.exponents) {
    if (e != clamp_exponent(e)) return Refusal::BadRequest;
  }
  return Refusal::None;
}

Refusal Worker::check(const FillView& fill) const {
  const Header& h = fill.header;
  const Spec& s = model_->spec;
  const bool fits = h.layer < s.layers && static_cast<int>(h.d) == s.kv_dim() && h.slot < n_slots_ &&
                    uint64_t{fill.first} + h.rows <= static_cast<uint64_t>(n_ctx_) &&
                    h.base <= static_cast<uint32_t>(n_ctx_);
  return fits ? Refusal::None : Refusal::BadRequest;
}

Worker::Verdict Worker::accept(const uint8_t* data, size_t size, Bytes* answer, bool sealed) {
  std::lock_guard<std::mutex> lock(mutex_);
  Header h;
  if (!read_header(data, size, &h) || !serving_ || h.session != session_) {
    ++counters_.bad_messages;
    return Verdict::Drop;
  }
  if (h.kind == Kind::Probe) {
    if (const Bytes* reply = kept(h.request)) return again(h, *reply, answer);
    *answer = encode_echo(h);
    keep(h.request, *answer);
    return Verdict::Answer;
  }
  if (h.kind == Kind::Fill) {
    FillView fill;
    if (!decode_fill(data, size, &fill) || check(fill) != Refusal::None) {
      ++counters_.bad_messages;
      return Verdict::Drop;
    }
  } else {
    RequestView request;
    const bool well_formed = decode_request(data, size, &request);
    const Refusal refusal = well_formed ? check(request) : Refusal::BadRequest;
    if (refusal != Refusal::None) {
      ++counters_.bad_messages;
      if (h.kind != Kind::Request) return Verdict::Drop;
      *answer = encode_partial(h, Status::Refused, refusal, 0, nullptr, {});
      return Verdict::Answer;
    }
  }
  if (const Bytes* reply = kept(h.request)) return again(h, *reply, answer);
  if (pending_.count(h.request) != 0) {
    return again(h, encode_partial(h, Status::Computing, Refusal::None, 0, nullptr, {}), answer);
  }
  if (pending_.size() >= kMaxPending) {
    ++counters_.bad_messages;
    return Verdict::Drop;
  }
  if (h.kind == Kind::Request) {
    std::optional<uint32_t>& newest = newest_sync_[sealed];
    if (!newest || is_before(*newest, h.sync)) newest = h.sync;
  }
  pending_[h.request] = {Clock::now(), sealed};
  return Verdict::Compute;
}

// The hub waits for no request of an older sync than the newest: somebody else has computed it.
bool Worker::has_passed(const Header& h) const {
  const auto found = pending_.find(h.request);
  if (found == pending_.end()) return false;
  const std::optional<uint32_t>& newest = newest_sync_[found->second.sealed];
  if (!newest) return false;
  // What may be late is of use until the sync after its own is over.
  return is_before(h.sync + ((h.flags & kTolerant) != 0 ? 1 : 0), *newest);
}

const Bytes* Worker::kept(uint64_t id) const {
  const auto found = std::find_if(replies_.begin(), replies_.end(), [&](const auto& r) { return r.first == id; });
  return found == replies_.end() ? nullptr : &found->second;
}

void Worker::keep(uint64_t id, Bytes reply) {
  replies_.emplace_back(id, std::move(reply));
  if (replies_.size() > kKeptReplies) replies_.pop_front();
}

// A duplicate is answered if the hub has asked again; otherwise it is the copy of a message sent over two connections.
Worker::Verdict Worker::again(const Header& h, const Bytes& reply, Bytes* answer) {
  ++counters_.duplicates;
  if ((h.flags & kResend) == 0) return Verdict::Drop;
  *answer = reply;
  return Verdict::Answer;
}

// Computes a checked request; whatever goes wrong here must reach the hub as a refusal.
Status Worker::run(RequestView& request, bool passed, Partial& partial, Refusal& refusal) {
  const auto start = Pace::Clock::now();
  const Header& h = request.header;
  if (passed && h.part == Part::Mlp) return Status::Passed;
  // The layer input is copied because the network leaves it unaligned.
  const Bytes aligned(request.h, request.h + h.payload);
  SyncInput in;
  in.layer = h.layer;
  in.part = h.part;
  in.slot = h.slot;
  in.epoch = h.epoch;
  in.base = h.base;
  in.rows = h.rows;
  in.positions = request.positions.data();
  in.exponents = request.exponents.data();
  in.h = aligned.data();
  in.h_stride = request.h_stride;
  in.format = h.partial_format;
  refusal = device_->compute(in, passed ? 0 : h.mask, partial);
  if (refusal != Refusal::None) return Status::Refused;
  if (passed) return Status::Passed;
  pace_.until(start, __builtin_popcountll(h.mask));
  return partial.in_range() ? Status::Ok : Status::Range;
}

// How long the worker has had this request, in microseconds.
uint32_t Worker::took_us(uint64_t id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = pending_.find(id);
  if (found == pending_.end()) return 0;
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - found->second.since).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(took, 0, UINT32_MAX));
}

Bytes Worker::compute(const uint8_t* data, size_t size) {
  std::lock_guard<std::mutex> computing(computing_);
  Header header;
  if (read_header(data, size, &header) && header.kind == Kind::Fill) return fill(data, size);
  RequestView request;
  if (!decode_request(data, size, &request)) return {};
  const Header& h = request.header;
  bool passed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!serving_ || h.session != session_ || check(request) != Refusal::None) return {};
    passed = has_passed(h);
  }
  Partial partial;
  Refusal refusal = Refusal::None;
  Status status;
  try {
    status = run(request, passed, partial, refusal);
  } catch (const std::exception&) {
    status = Status::Refused;
    refusal = Refusal::Failed;
  }
  Bytes reply;
  try {
    reply = encode_partial(h, status, refusal, took_us(h.request), &partial, request.exponents);
  } catch (const std::exception&) {  // no memory: asked again, it may be possible
    std::lock_guard<std::mutex> lock(mutex_);
    pending_.erase(h.request);
    throw;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  ++counters_.requests;
  pending_.erase(h.request);
  if (status == Status::Refused) return reply;  // not kept: asked again, it may be possible
  if (status == Status::Ok) counters_.group_results += uint64_t(h.rows) * __builtin_popcountll(h.mask);
  keep(h.request, reply);
  return reply;
}

Bytes Worker::fill(const uint8_t* data, size_t size) {
  FillView f;
  if (!decode_fill(data, size, &f)) return {};
  const Header& h = f.header;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!serving_ || h.session != session_ || check(f) != Refusal::None) return {};
  }
  const CacheRows at{h.slot, h.layer, static_cast<int>(f.first), h.rows};
  const Refusal refusal = device_->fill(at, h.epoch, h.base, f.rows);
  Bytes reply = encode_filled(h, refusal, took_us(h.request));
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.erase(h.request);
  keep(h.request, reply);
  return reply;
}

WorkerCounters Worker::counters() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return counters_;
}

}  // namespace halo
