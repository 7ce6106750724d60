// A device's arithmetic on groups: attention with its cache, the MLP, and the projection back to the residual.
//
// Phases: products of the layer input (rows of q, k, v or gate, up that belong to the mask), the group's own
// non-linearity, then `project`, which walks the rows of o or down and adds each group's column block in group
// order. Threads split rows, never a sum.
#include "engine/device.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/scalar.h"

namespace halo {

namespace {

constexpr int kChunk = 32;  // rows of the projection that one thread computes at a time

template <typename T>
T* grow(std::vector<T>& v, size_t n) {
  if (v.size() < n) v.resize(n);
  return v.data();
}

template <typename F>
void for_each_group(uint64_t mask, F f) {
  for (int g = 0; mask != 0; ++g, mask >>= 1) {
    if (mask & 1) f(g);
  }
}

int popcount(uint64_t mask) { return __builtin_popcountll(mask); }

}  // namespace

bool Partial::in_range() const {
  return std::all_of(range.begin(), range.end(), [](uint8_t r) { return r == 0; });
}

Device::Device(std::shared_ptr<const Model> model, int n_ctx, int n_slots, int threads)
    : model_(std::move(model)), k_(kernels()), n_ctx_(n_ctx), slots_(n_slots), threads_(threads) {
  const Spec& s = model_->spec;
  const double step = s.rope_dims > 0 ? std::pow(double{s.rope_base}, -2.0 / s.rope_dims) : 1.0;
  rope_step_ = static_cast<float>(step);
}

Cache& Device::slot(int i) {
  if (!slots_[i]) slots_[i] = std::make_unique<Cache>(model_->spec, n_ctx_);
  return *slots_[i];
}

Refusal Device::compute(const SyncInput& in, uint64_t mask, Partial& out) {
  const size_t values = size_t(in.rows) * model_->spec.d;
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
  rows_of(w, x, x_stride, T, {{0, static_cast<int>(w.rows)}}, y, w.rows);
}

// y[t * y_stride + r] for the rows r of all spans, split over the threads.
void Device::rows_of(const Tensor& w, const uint8_t* x, size_t x_stride, int T, const std::vector<Span>& spans,
                     float* y, size_t y_stride) {
  int total = 0;
  for (const Span& s : spans) total += s.end - s.begin;
  threads_.split(total, [&](int begin, int end, int) {
    int before = 0;  // rows in the spans already passed
    for (const Span& s : spans) {
      const int first = s.begin + std::max(begin - before, 0);
      const int last = std::min(s.end, s.begin + (end - before));
      before += s.end - s.begin;
      if (first >= last) continue;
      k_.matmul(w.type, w.row(first), w.stride, last - first, static_cast<int>(w.cols), x, x_stride, T, y + first,
                y_stride);
    }
  });
}

// The layer input in the format that `w` consumes; converted only where a layer's weights differ in it.
const uint8_t* Device::input_for(const SyncInput& in, const Tensor& w, Type input, size_t* stride) {
  const Type wanted = info(w.type).activation;
  if (wanted == input) {
    *stride = in.h_stride;
    return in.h;
  }
  const int d = model_->spec.d;
  *stride = row_bytes(wanted, d);
  grow(converted_, *stride * in.rows);
  grow(decoded_, d);
  for (int t = 0; t < in.rows; ++t) {
    k_.dequantize(input, in.h + t * in.h_stride, d, decoded_.data());
    k_.quantize(wanted, decoded_.data(), d, converted_.data() + t * *stride);
  }
  return converted_.data();
}

// Sines and cosines of the rows' positions; kept while the positions stay, which is all layers of a token.
// The angle is a chain of f32 products, as in llama.cpp.
void Device::prepare_rotations(const SyncInput& in) {
  if (std::equal(in.positions, in.positions + in.rows, rotated_.begin(), rotated_.end())) return;
  rotated_.assign(in.positions, in.positions + in.rows);
  const int dims = model_->spec.rope_dims;
  rotations_.resize(size_t(in.rows) * dims);
  for (int t = 0; t < in.rows; ++t) {
    float angle = static_cast<float>(in.positions[t]);
    for (int i = 0; i < dims; i += 2, angle *= rope_step_) {
      double sine, cosine;
      sincos_f64(angle, &sine, &cosine);
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

void Device::store_keys_and_values(const SyncInput& in, const Layer& layer, Cache& cache) {
  const int kv_dim = model_->spec.kv_dim();
  const std::vector<Span> all{{0, kv_dim}};
  size_t stride;
  float* kv = grow(kv_, size_t(in.rows) * kv_dim);
  const uint8_t* h = input_for(in, layer.wk, layer.attention_input, &stride);
  rows_of(layer.wk, h, stride, in.rows, all, kv, kv_dim);
  for (int t = 0; t < in.rows; ++t) {
    rotate(kv + size_t(t) * kv_dim, model_->spec.kv_heads, t);
    uint16_t* out = cache.key(in.layer, static_cast<int>(in.positions[t]));
    for (int i = 0; i < kv_dim; ++i) out[i] = f32_to_f16(kv[size_t(t) * kv_dim + i]);
  }
  h = input_for(in, layer.wv, layer.attention_input, &stride);
  rows_of(layer.wv, h, stride, in.rows, all, kv, kv_dim);
  for (int t = 0; t < in.rows; ++t) {
    uint16_t* out = cache.value(in.layer, static_cast<int>(in.positions[t]));
    for (int i = 0; i < kv_dim; ++i) out[i] = f32_to_f16(kv[size_t(t) * kv_dim + i]);
  }
  cache.fill(in.layer, static_cast<int>(in.positions[in.rows - 1]) + 1);
}

Refusal Device::attention(const SyncInput& in, uint64_t mask, Partial& out) {
  const Layer& layer = model_->layers[in.layer];
  const Spec& s = model_->spec;
  Cache& cache = slot(in.slot);
  const int first = static_cast<int>(in.positions[0]);
  if (in.epoch < cache.epoch()) return Refusal::OldEpoch;
  if (in.epoch > cache.epoch()) cache.enter(in.epoch, first);
  if (first > cache.filled(in.layer)) return Refusal::CacheIncomplete;
  prepare_rotations(in);
  store_keys_and_values(in, layer, cache);
  if (mask == 0) return Refusal::None;

  const int per_kv = s.heads_per_kv(), q_per_kv = per_kv * s.head_dim, q_dim = s.heads * s.head_dim;
  std::vector<Span> groups;   // columns of o, which are also rows of q
  std::vector<int> kv_heads;  // of all groups in the mask
  for_each_group(mask, [&](int g) {
    groups.push_back({layer.head_groups[g] * q_per_kv, layer.head_groups[g + 1] * q_per_kv});
    for (int head = layer.head_groups[g]; head < layer.head_groups[g + 1]; ++head) kv_heads.push_back(head);
  });
  size_t stride;
  const uint8_t* h = input_for(in, layer.wq, layer.attention_input, &stride);
  float* q = grow(q_, size_t(in.rows) * q_dim);
  rows_of(layer.wq, h, stride, in.rows, groups, q, q_dim);

  float* attended = grow(attended_, size_t(in.rows) * q_dim);
  grow(scores_, size_t(threads_.size()) * n_ctx_);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const int heads = static_cast<int>(kv_heads.size());
  threads_.split(in.rows * heads, [&](int begin, int end, int thread) {
    for (int i = begin; i < end; ++i) {
      const int t = i / heads, kv_head = kv_heads[i % heads];
      float* query = q + size_t(t) * q_dim + size_t(kv_head) * q_per_kv;
      rotate(query, per_kv, t);
      k_.attention(query, per_kv, cache.key(in.layer, 0) + size_t(kv_head) * s.head_dim,
                   cache.value(in.layer, 0) + size_t(kv_head) * s.head_dim, cache.stride(), s.head_dim,
                   static_cast<int>(in.positions[t]) + 1, scale, scores_.data() + size_t(thread) * n_ctx_,
                   attended + size_t(t) * q_dim + size_t(kv_head) * q_per_kv);
    }
  });

  const Type format = info(layer.wo.type).activation;
  activation_stride_ = row_bytes(format, q_dim);
  grow(activation_, activation_stride_ * in.rows);
  for (int t = 0; t < in.rows; ++t) {
    for (const Span& g : groups) {
      k_.quantize(format, attended + size_t(t) * q_dim + g.begin, g.end - g.begin,
                  activation_.data() + t * activation_stride_ + row_bytes(format, g.begin));
    }
  }
  project(layer.wo, groups, layer.groups(Part::Attention), in, out);
  return Refusal::None;
}

void Device::mlp(const SyncInput& in, uint64_t mask, Partial& out) {
  const Layer& layer = model_->layers[in.layer];
  const int ff = model_->spec.ff;
  std::vector<Span> groups;
  for_each_group(mask, [&](int g) { groups.push_back({layer.neuron_groups[g], layer.neuron_groups[g + 1]}); });
  float* gate = grow(gate_, size_t(in.rows) * ff);
  float* up = grow(up_, size_t(in.rows) * ff);
  size_t stride;
  const uint8_t* h = input_for(in, layer.gate, layer.mlp_input, &stride);
  rows_of(layer.gate, h, stride, in.rows, groups, gate, ff);
  h = input_for(in, layer.up, layer.mlp_input, &stride);
  rows_of(layer.up, h, stride, in.rows, groups, up, ff);

  const Type format = info(layer.down.type).activation;
  activation_stride_ = row_bytes(format, ff);
  grow(activation_, activation_stride_ * in.rows);
  const int n = static_cast<int>(groups.size());
  threads_.split(in.rows * n, [&](int begin, int end, int) {
    for (int i = begin; i < end; ++i) {
      const Span& g = groups[i % n];
      const size_t at = size_t(i / n) * ff + g.begin;
      k_.silu_mul(gate + at, up + at, g.end - g.begin, gate + at);
      k_.quantize(format, gate + at, g.end - g.begin,
                  activation_.data() + (i / n) * activation_stride_ + row_bytes(format, g.begin));
    }
  });
  project(layer.down, groups, layer.groups(Part::Mlp), in, out);
}

// Adds w's column blocks of all groups, times their activations, to `out`.
void Device::project(const Tensor& w, const std::vector<Span>& groups, int total_groups, const SyncInput& in,
                     Partial& out) {
  const int chunks = (static_cast<int>(w.rows) + kChunk - 1) / kChunk;
  const size_t pairs = size_t(in.rows) * groups.size();
  squares_.assign(chunks * pairs, 0.0f);
  overflows_.assign(size_t(chunks) * in.rows, 0);
  const float limit = fixed_limit(total_groups);
  threads_.split(chunks, [&](int begin, int end, int) {
    for (int c = begin; c < end; ++c) project_chunk(w, groups, limit, in, c, out);
  });
  for (int c = 0; c < chunks; ++c) {
    for (int t = 0; t < in.rows; ++t) out.range[t] |= overflows_[size_t(c) * in.rows + t];
    for (size_t i = 0; i < pairs; ++i) out.norms[i] += squares_[c * pairs + i];
  }
  for (float& norm : out.norms) norm = std::sqrt(norm);
}

// Rows chunk * kChunk and on of w, for all rows of the input. Groups are added in order, each rounded first in
// `Fixed`; what is kept per chunk (squares, overflows) makes the result independent of the threads.
void Device::project_chunk(const Tensor& w, const std::vector<Span>& groups, float limit, const SyncInput& in,
                           int chunk, Partial& out) {
  const int d = model_->spec.d, n_groups = static_cast<int>(groups.size());
  const int first = chunk * kChunk, n = std::min(kChunk, d - first);
  const Type format = info(w.type).activation;
  float y[kMaxRows * kChunk];
  for (int g = 0; g < n_groups; ++g) {
    k_.matmul(w.type, w.row(first) + w.column_offset(groups[g].begin), w.stride, n, groups[g].end - groups[g].begin,
              activation_.data() + row_bytes(format, groups[g].begin), activation_stride_, in.rows, y, kChunk);
    for (int t = 0; t < in.rows; ++t) {
      const float* row = y + t * kChunk;
      float squares = 0.0f;
      for (int r = 0; r < n; ++r) squares += row[r] * row[r];
      squares_[(size_t(chunk) * in.rows + t) * n_groups + g] = squares;
      if (in.format == PartialFormat::Fixed) {
        int32_t* sum = out.fixed.data() + size_t(t) * d + first;
        const float scale = std::ldexp(1.0f, kFixedBits - in.exponents[t]);
        bool fits = true;
        for (int r = 0; r < n; ++r) {
          const float value = row[r] * scale;
          const bool ok = std::fabs(value) <= limit;  // false for NaN
          fits &= ok;
          sum[r] += ok ? static_cast<int32_t>(std::nearbyint(value)) : 0;
        }
        if (!fits) overflows_[size_t(chunk) * in.rows + t] = 1;
      } else {
        float* sum = out.f32.data() + size_t(t) * d + first;
        for (int r = 0; r < n; ++r) sum[r] += row[r];
      }
    }
  }
}

}  // namespace halo
