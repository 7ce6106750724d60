// A device's arithmetic on groups: attention with its cache, the MLP, and the projection back to the residual.
//
// Phases: products of the layer input (rows of q, k, v or gate, up that belong to the mask), the group's own
// non-linearity, then `project`, which walks the rows of o or down and adds each group's column block in group
// order. Threads split rows, never a sum.
#include "engine/device.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/groups.h"
#include "engine/residency.h"
#include "kernels/scalar.h"

namespace halo {

namespace {

constexpr int kChunk = 64;         // rows of the projection that are computed at a time: a multiple of every panel
constexpr int kUnit = 16;          // rows of other products that are not split: a multiple of every variant's panel
constexpr int kAttentionRows = 8;  // rows of a prompt that one thread attends for at a time

template <typename Vector>
auto grow(Vector& v, size_t n) {
  if (v.size() < n) v.resize(n);
  return v.data();
}

int popcount(uint64_t mask) { return __builtin_popcountll(mask); }

// Values [begin, end) of a bias, where the model has it, to those of y.
void add_bias(const Tensor& bias, int begin, int end, float* y) {
  if (bias.data == nullptr) return;
  for (int i = begin; i < end; ++i) y[i] += bias.f32()[i];
}

}  // namespace

bool Partial::in_range() const {
  return std::all_of(range.begin(), range.end(), [](uint8_t r) { return r == 0; });
}

bool Partial::finite() const {
  return std::all_of(norms.begin(), norms.end(), [](float norm) { return std::isfinite(norm); });
}

Device::Device(std::shared_ptr<const Model> model, int n_ctx, int n_slots, int threads)
    : model_(std::move(model)), k_(kernels()), n_ctx_(n_ctx), slots_(n_slots), threads_(threads) {
  const Spec& s = model_->spec;
  if (s.rope_dims > 0) rope_step_ = static_cast<float>(pow_f64(s.rope_base, -2.0 / s.rope_dims));
  // Here, not at the first request: a context that does not fit is refused when a session is opened.
  for (auto& slot : slots_) slot = std::make_unique<Cache>(s, n_ctx);
}

Refusal Device::compute(const SyncInput& in, uint64_t mask, Partial& out) {
  const size_t values = size_t(in.rows) * model_->spec.d;
  if (in.part == Part::Attention || mask != 0) model_->residency->ensure(in.layer, in.part, mask);
  for (Prepared& p : inputs_) p.ready = false;
  watching_ = nullptr;
  out.range.assign(in.rows, 0);
  out.norms.assign(size_t(in.rows) * popcount(mask), 0.0f);
  if (in.format == PartialFormat::Fixed) {
    out.fixed.assign(mask != 0 ? values : 0, 0);
  } else {
    out.f32.assign(mask != 0 ? values : 0, 0.0f);
  }
  if (in.part == Part::Attention) return attention(in, mask, out);
  if (mask != 0) mlp(in, mask, out);
  return Refusal::None;
}

void Device::product(const Tensor& w, const uint8_t* x, size_t x_stride, int T, float* y) {
  const int n = static_cast<int>(w.cols);
  const Type format = info(w.type).activation;
  const Rows prepared = activations_for(w, T);
  for (int t = 0; t < T; ++t) k_.prepare(format, x + t * x_stride, n, prepared.data + t * prepared.stride);
  multiply({{&w, {0, static_cast<int>(w.rows)}, prepared, y, static_cast<size_t>(w.rows)}}, T);
}

// All rows of all tasks, split over the threads in whole panels.
void Device::multiply(const std::vector<Task>& tasks, int T) {
  const auto units_of = [](const Task& task) { return (task.rows.end - task.rows.begin + kUnit - 1) / kUnit; };
  int total = 0;
  for (const Task& task : tasks) total += units_of(task);
  threads_.split(total, [&](int begin, int end, int) {
    int before = 0;  // units of the tasks already passed
    for (const Task& task : tasks) {
      const int units = units_of(task);
      const int first = task.rows.begin + std::max(begin - before, 0) * kUnit;
      const int last = std::min(task.rows.end, task.rows.begin + (end - before) * kUnit);
      before += units;
      if (first >= last) continue;
      task.w->product->matmul(task.w->slice(first, last), task.x.data, task.x.stride, T, task.y + first, task.y_stride);
    }
  });
}

// The layer input as products with `w` read it: made once per sync for each format that the layer's weights consume.
Device::Rows Device::input_for(const SyncInput& in, const Tensor& w) {
  const Type wanted = info(w.type).activation, given = model_->layers[in.layer].input(in.part);
  auto found = std::find_if(inputs_.begin(), inputs_.end(), [&](const Prepared& p) { return p.format == wanted; });
  if (found == inputs_.end()) found = inputs_.insert(inputs_.end(), Prepared{wanted, false, {}});
  const size_t stride = prepared_bytes(wanted, model_->spec.d);
  const Rows out{grow(found->bytes, stride * in.rows), stride};
  if (!found->ready) convert(in, given, wanted, out);
  found->ready = true;
  return out;
}

void Device::convert(const SyncInput& in, Type from, Type to, Rows out) {
  const int d = model_->spec.d;
  std::vector<float> values(from == to ? 0 : d);
  std::vector<uint8_t> bytes(from == to ? 0 : row_bytes(to, d));
  for (int t = 0; t < in.rows; ++t) {
    const uint8_t* h = in.h + t * in.h_stride;
    if (from != to) {  // a layer's weights differ in the format that they consume
      dequantize(from, h, d, values.data());
      k_.quantize(to, values.data(), d, bytes.data());
      h = bytes.data();
    }
    k_.prepare(to, h, d, out.data + t * out.stride);
  }
}

// Room for rows of activations of all of w's columns.
Device::Rows Device::activations_for(const Tensor& w, int rows) {
  const size_t stride = prepared_bytes(info(w.type).activation, w.cols);
  return {grow(activation_, stride * rows), stride};
}

// Quantises x's columns (x points at column 0) to the activations that `w` consumes.
void Device::activate(const Tensor& w, const float* x, const Span& columns, int t, Rows out) {
  const Type format = info(w.type).activation;
  const int step = std::max(info(format).block, 256);  // a multiple of every block
  alignas(64) uint8_t block[1024];                     // 256 values of any format
  for (int c = columns.begin; c < columns.end; c += step) {
    const int n = std::min(step, columns.end - c);
    k_.quantize(format, x + c, n, block);
    k_.prepare(format, block, n, out.data + t * out.stride + prepared_bytes(format, c));
  }
}

// Sines and cosines of the rows' positions; kept while the positions stay, which is all layers of a token.
// The angle is a chain of f32 products, then scaled, as in llama.cpp.
void Device::prepare_rotations(const SyncInput& in) {
  if (std::equal(in.positions, in.positions + in.rows, rotated_.begin(), rotated_.end())) return;
  rotated_.assign(in.positions, in.positions + in.rows);
  const int dims = model_->spec.rope_dims;
  const float scale = 1.0f / model_->spec.rope_scaling;
  const float* divisors = model_->rope_freqs.f32();
  rotations_.resize(size_t(in.rows) * dims);
  for (int t = 0; t < in.rows; ++t) {
    float angle = static_cast<float>(in.positions[t]);
    for (int i = 0; i < dims; i += 2, angle *= rope_step_) {
      double sine, cosine;
      sincos_f64(scale * (divisors != nullptr ? angle / divisors[i / 2] : angle), &sine, &cosine);
      rotations_[size_t(t) * dims + i] = static_cast<float>(cosine);
      rotations_[size_t(t) * dims + i + 1] = static_cast<float>(sine);
    }
  }
}

// Rotary position embedding of row t on pairs (2i, 2i + 1) of each head; x: (heads, head_dim).
void Device::rotate(float* x, int heads, int t) const {
  const Spec& s = model_->spec;
  const float* rotation = rotations_.data() + size_t(t) * s.rope_dims;
  for (int h = 0; h < heads; ++h, x += s.head_dim) {
    for (int i = 0; i < s.rope_dims; i += 2) {
      const float a = x[i], b = x[i + 1];
      x[i] = a * rotation[i] - b * rotation[i + 1];
      x[i + 1] = a * rotation[i + 1] + b * rotation[i];
    }
  }
}

// keys, values: (rows, kv_dim)
void Device::store_keys_and_values(const SyncInput& in, const float* keys, const float* values, Cache& cache) {
  const Spec& s = model_->spec;
  for (int t = 0; t < in.rows; ++t) {
    const int position = static_cast<int>(in.positions[t]);
    for (int head = 0; head < s.kv_heads; ++head) {
      const size_t at = size_t(t) * s.kv_dim() + size_t(head) * s.head_dim;
      k_.quantize(Type::F16, keys + at, s.head_dim, reinterpret_cast<uint8_t*>(cache.key(in.layer, head, position)));
      k_.quantize(Type::F16, values + at, s.head_dim,
                  reinterpret_cast<uint8_t*>(cache.value(in.layer, head, position)));
    }
  }
  cache.fill(in.layer, static_cast<int>(in.positions[0]), in.rows);
}

// Whether the epoch is the cache's, or newer: then it is entered.
bool Device::enter(Cache& cache, uint32_t epoch, uint32_t base) {
  if (epoch < cache.epoch()) return false;
  if (epoch > cache.epoch()) cache.enter(epoch, static_cast<int>(base));
  return true;
}

Refusal Device::attention(const SyncInput& in, const uint64_t asked, Partial& out) {
  uint64_t mask = asked;
  const Layer& layer = model_->layers[in.layer];
  const Spec& s = model_->spec;
  Cache& cache = *slots_[in.slot];
  const int first = static_cast<int>(in.positions[0]);
  if (!enter(cache, in.epoch, in.base)) return Refusal::OldEpoch;
  if (first > cache.filled(in.layer)) mask = 0;  // its own rows can be kept all the same

  const int kv_dim = s.kv_dim(), q_dim = s.heads * s.head_dim, q_per_kv = s.heads_per_kv() * s.head_dim;
  float* keys = grow(keys_, size_t(in.rows) * kv_dim);
  float* values = grow(values_, size_t(in.rows) * kv_dim);
  float* q = grow(q_, size_t(in.rows) * q_dim);
  std::vector<Task> tasks{{&layer.wk, {0, kv_dim}, input_for(in, layer.wk), keys, size_t(kv_dim)},
                          {&layer.wv, {0, kv_dim}, input_for(in, layer.wv), values, size_t(kv_dim)}};
  std::vector<Share> groups;  // columns of o, which are also rows of q
  std::vector<int> kv_heads;  // of all groups in the mask
  for_each_group(mask, [&](int g) {
    const Span heads{layer.head_groups[g] * q_per_kv, layer.head_groups[g + 1] * q_per_kv};
    groups.push_back({&layer.wo_groups[g], heads});
    tasks.push_back(
        {&layer.wq_groups[g], {0, heads.end - heads.begin}, input_for(in, layer.wq), q + heads.begin, size_t(q_dim)});
    for (int head = layer.head_groups[g]; head < layer.head_groups[g + 1]; ++head) kv_heads.push_back(head);
  });
  multiply(tasks, in.rows);
  for (int t = 0; t < in.rows; ++t) {
    add_bias(layer.k_bias, 0, kv_dim, keys + size_t(t) * kv_dim);
    add_bias(layer.v_bias, 0, kv_dim, values + size_t(t) * kv_dim);
    for (const Share& g : groups) add_bias(layer.q_bias, g.columns.begin, g.columns.end, q + size_t(t) * q_dim);
  }
  prepare_rotations(in);
  for (int t = 0; t < in.rows; ++t) rotate(keys + size_t(t) * kv_dim, s.kv_heads, t);
  store_keys_and_values(in, keys, values, cache);
  if (first > cache.filled(in.layer)) return asked == 0 ? Refusal::None : Refusal::CacheIncomplete;
  if (mask == 0) return Refusal::None;

  attend(in, cache, kv_heads);
  const Rows x = activations_for(layer.wo, in.rows);
  for (int t = 0; t < in.rows; ++t) {
    for (const Share& g : groups) activate(layer.wo, attended_.data() + size_t(t) * q_dim, g.columns, t, x);
  }
  project(groups, x, layer.groups(Part::Attention), in, out);
  return Refusal::None;
}

void Device::copy_rows(const CacheRows& at, uint8_t* out) const {
  const Spec& s = model_->spec;
  Cache& cache = *slots_[at.slot];
  const size_t bytes = size_t(at.rows) * s.head_dim * sizeof(uint16_t);
  for (int head = 0; head < s.kv_heads; ++head, out += 2 * bytes) {
    std::memcpy(out, cache.key(at.layer, head, at.first), bytes);
    std::memcpy(out + bytes, cache.value(at.layer, head, at.first), bytes);
  }
}

Refusal Device::fill(const CacheRows& at, uint32_t epoch, uint32_t base, const uint8_t* rows) {
  const Spec& s = model_->spec;
  Cache& cache = *slots_[at.slot];
  if (!enter(cache, epoch, base)) return Refusal::OldEpoch;
  const size_t bytes = size_t(at.rows) * s.head_dim * sizeof(uint16_t);
  for (int head = 0; head < s.kv_heads; ++head, rows += 2 * bytes) {
    std::memcpy(cache.key(at.layer, head, at.first), rows, bytes);
    std::memcpy(cache.value(at.layer, head, at.first), rows + bytes, bytes);
  }
  cache.fill(at.layer, at.first, at.rows);
  return Refusal::None;
}

// q_ to attended_ for the query heads of these KV heads, both (rows, heads * head_dim).
void Device::attend(const SyncInput& in, Cache& cache, const std::vector<int>& kv_heads) {
  const Spec& s = model_->spec;
  const int per_kv = s.heads_per_kv(), q_dim = s.heads * s.head_dim;
  const int chunks = (in.rows + kAttentionRows - 1) / kAttentionRows;
  const size_t states = 2 * size_t(per_kv) * kAttentionRows;
  grow(attended_, size_t(in.rows) * q_dim);
  grow(states_, threads_.size() * states);
  threads_.split(chunks * static_cast<int>(kv_heads.size()), [&](int begin, int end, int thread) {
    for (int i = begin; i < end; ++i) {
      const int head = kv_heads[i / chunks], first = i % chunks * kAttentionRows;
      const int rows = std::min(kAttentionRows, in.rows - first);
      const size_t at = size_t(first) * q_dim + size_t(head) * per_kv * s.head_dim;
      for (int t = 0; t < rows; ++t) rotate(q_.data() + at + size_t(t) * q_dim, per_kv, first + t);
      k_.attention({q_.data() + at, attended_.data() + at, size_t(q_dim), per_kv, rows, cache.key(in.layer, head, 0),
                    cache.value(in.layer, head, 0), s.head_dim, static_cast<int>(in.positions[first]),
                    1.0f / std::sqrt(static_cast<float>(s.head_dim)), states_.data() + thread * states});
    }
  });
}

void Device::mlp(const SyncInput& in, uint64_t mask, Partial& out) {
  const Layer& layer = model_->layers[in.layer];
  const int ff = model_->spec.ff;
  float* gate = grow(gate_, size_t(in.rows) * ff);
  float* up = grow(up_, size_t(in.rows) * ff);
  std::vector<Share> groups;
  std::vector<Task> tasks;
  for_each_group(mask, [&](int g) {
    const Span neurons{layer.neuron_groups[g], layer.neuron_groups[g + 1]};
    groups.push_back({&layer.down_groups[g], neurons});
    const Span rows{0, neurons.end - neurons.begin};
    tasks.push_back({&layer.gate_groups[g], rows, input_for(in, layer.gate), gate + neurons.begin, size_t(ff)});
    tasks.push_back({&layer.up_groups[g], rows, input_for(in, layer.up), up + neurons.begin, size_t(ff)});
  });
  multiply(tasks, in.rows);

  const Rows x = activations_for(layer.down, in.rows);
  const int n = static_cast<int>(groups.size());
  threads_.split(in.rows * n, [&](int begin, int end, int) {
    for (int i = begin; i < end; ++i) {
      const Span& g = groups[i % n].columns;
      float *row = gate + size_t(i / n) * ff, *others = up + size_t(i / n) * ff;
      add_bias(layer.gate_bias, g.begin, g.end, row);
      add_bias(layer.up_bias, g.begin, g.end, others);
      k_.silu_mul(row + g.begin, others + g.begin, g.end - g.begin, row + g.begin);
      activate(layer.down, row, g, i / n, x);
    }
  });
  watching_ = observer_ && observer_->begin(in, mask) ? observer_.get() : nullptr;
  project(groups, x, layer.groups(Part::Mlp), in, out);
  if (watching_ != nullptr) watching_->end(in, threads_);
}

// Adds each share's columns times their activations to `out`. Group by group through a thread's rows: that is the
// order in which the weights lie in memory.
void Device::project(const std::vector<Share>& shares, Rows x, int total_groups, const SyncInput& in, Partial& out) {
  const int chunks = (model_->spec.d + kChunk - 1) / kChunk;
  const size_t pairs = size_t(in.rows) * shares.size();
  squares_.assign(chunks * pairs, 0.0f);
  overflows_.assign(size_t(chunks) * in.rows, 0);
  const float limit = fixed_limit(total_groups);
  threads_.split(chunks, [&](int begin, int end, int) {
    for (size_t i = 0; i < shares.size(); ++i) {
      for (int c = begin; c < end; ++c) project_chunk(shares[i], i, x, limit, in, c, out);
    }
  });
  for (int c = 0; c < chunks; ++c) {
    for (int t = 0; t < in.rows; ++t) out.range[t] |= overflows_[size_t(c) * in.rows + t];
    for (size_t i = 0; i < pairs; ++i) out.norms[i] += squares_[c * pairs + i];
  }
  for (float& norm : out.norms) norm = std::sqrt(norm);
}

namespace {

// sum[i] += y[i]; returns the sum of the squares of y, in lanes: one addition after the other would take as long as a
// good part of the product itself.
float add_floats(const float* __restrict y, int n, float* __restrict sum) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += y[i + lane] * y[i + lane];
    for (int lane = 0; lane < kLanes; ++lane) sum[i + lane] += y[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) {
    lanes[lane] += y[i] * y[i];
    sum[i] += y[i];
  }
  float squares = 0.0f;
  for (float lane : lanes) squares += lane;
  return squares;
}

}  // namespace

// Rows chunk * kChunk and on, for all rows of the input; each group's output is rounded before it is added in
// `Fixed`. What is kept per chunk (squares, overflows) makes the result independent of the threads.
// `number`: of the share, among those of the mask.
void Device::project_chunk(const Share& share, size_t number, Rows x, float limit, const SyncInput& in, int chunk,
                           Partial& out) {
  const int d = model_->spec.d, groups = static_cast<int>(out.norms.size()) / in.rows;
  const int first = chunk * kChunk, n = std::min(kChunk, d - first);
  float y[kMaxRows * kChunk];
  float* squares = &squares_[chunk * out.norms.size() + number];  // of input row t, at t * groups
  share.w->product->matmul(share.w->slice(first, first + n),
                           x.data + prepared_bytes(info(share.w->type).activation, share.columns.begin), x.stride,
                           in.rows, y, kChunk);
  for (int t = 0; t < in.rows; ++t, squares += groups) {
    const float* row = y + t * kChunk;
    if (watching_ != nullptr) watching_->output(static_cast<int>(number), t, first, row, n);
    if (in.format == PartialFormat::Fixed) {
      const float scale = std::ldexp(1.0f, kFixedBits - in.exponents[t]);
      const bool fits = k_.add_fixed(row, n, scale, limit, out.fixed.data() + size_t(t) * d + first, squares);
      if (!fits) overflows_[size_t(chunk) * in.rows + t] = 1;
    } else {
      *squares = add_floats(row, n, out.f32.data() + size_t(t) * d + first);
    }
  }
}

}  // namespace halo
