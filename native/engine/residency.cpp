// Packing by groups. Small pages where a device holds a part of a layer: a huge page would bring its neighbours'
// memory.
#include "engine/residency.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "engine/pack.h"

namespace halo {

namespace {

Bounds scaled(Bounds bounds, int factor) {
  for (int& b : bounds) b *= factor;
  return bounds;
}

}  // namespace

Residency::Residency(Model& model, const Kernels& kernels, bool release) : release_(release) {
  const auto add = [&](Region& region, const Tensor& t) {
    if (packed_bytes(t, kernels) != 0 && t.converter == nullptr) region.file.push_back(t);
  };
  const auto whole = [&](Region& region, Tensor& t) {
    region.always.push_back({t, &t});
    add(region, t);
  };
  // Each group's rows or, with `across`, its columns.
  const auto cut = [&](Region& region, const Tensor& t, const Bounds& bounds, bool across, std::vector<Tensor>& parts) {
    parts.resize(bounds.size() - 1);
    region.groups.resize(parts.size());
    for (size_t g = 0; g < parts.size(); ++g) {
      const auto some = across ? columns_of : rows_of;
      region.groups[g].push_back({some(t, bounds[g], bounds[g + 1]), &parts[g]});
    }
    add(region, t);
  };
  whole(output_, model.output);
  // The embedding is looked up by rows: in the file or, if they are converted, as the portable kernels keep them.
  const bool converted = model.embedding.converter != nullptr;
  if (converted) whole(output_, model.embedding);
  const auto kept_by = [&](const Matrix& m) -> const Kernels& {
    return m.used == &model.embedding ? kPortable : kernels;
  };
  for (Layer& l : model.layers) {
    Region& attention = *regions_.emplace_back(std::make_unique<Region>());
    for (Tensor* t : {&l.wk, &l.wv}) whole(attention, *t);
    const Bounds heads = scaled(l.head_groups, model.spec.heads_per_kv() * model.spec.head_dim);
    cut(attention, l.wq, heads, false, l.wq_groups);
    cut(attention, l.wo, heads, true, l.wo_groups);
    Region& mlp = *regions_.emplace_back(std::make_unique<Region>());
    cut(mlp, l.gate, l.neuron_groups, false, l.gate_groups);
    cut(mlp, l.up, l.neuron_groups, false, l.up_groups);
    cut(mlp, l.down, l.neuron_groups, true, l.down_groups);
  }
  size_t total = 0;
  for (const Matrix* m : all()) total += packed_bytes(m->plain, kept_by(*m));
  memory_ = Memory(total, Memory::Pages::Small);
  for (Matrix* m : all()) {
    std::tie(*m->used, m->out) = lay_out(m->plain, kept_by(*m), memory_);
    if (m == &output_.always.back()) layers_begin_ = memory_.taken();
  }
}

// In the order in which they lie in memory.
std::vector<Residency::Matrix*> Residency::all() {
  std::vector<Matrix*> found;
  const auto add = [&](Region& region) {
    for (Matrix& m : region.always) found.push_back(&m);
    for (Group& group : region.groups) {
      for (Matrix& m : group) found.push_back(&m);
    }
  };
  add(output_);
  for (const auto& region : regions_) add(*region);
  return found;
}

void Residency::fetch(Region& region, uint64_t mask, const Step& step) {
  std::unique_lock<std::mutex> lock(region.mutex);
  const uint64_t missing = mask & ~region.resident.load(std::memory_order_relaxed);
  use_huge_pages(region, missing);
  struct Return {  // also where `step` throws
    const Residency* self;
    const Region* region;
    ~Return() { self->give_back(*region); }
  } give_back_at_the_end{this, &region};
  begin(region);
  for_each_group(missing, [&](int g) {
    pack(region.groups[g]);
    region.resident.fetch_or(uint64_t{1} << g, std::memory_order_release);
    if (!step) return;
    lock.unlock();
    step(bytes_of(region, uint64_t{1} << g));
    lock.lock();
  });
}

void Residency::begin(Region& region) {
  if (region.begun.load(std::memory_order_relaxed)) return;
  pack(region.always);
  region.begun.store(true, std::memory_order_release);
}

void Residency::pack(Group& group) {
  for (Matrix& m : group) {
    if (m.out == nullptr || m.packed) continue;
    halo::pack(m.plain, *m.used, m.out);
    m.packed = true;
  }
}

size_t Residency::Matrix::bytes() const { return out == nullptr ? 0 : halo::bytes_of(*used); }

size_t Residency::bytes_of(const Region& region, uint64_t missing) {
  size_t bytes = 0;
  const auto add = [&](const Group& group) {
    for (const Matrix& m : group) bytes += m.bytes();
  };
  if (!region.begun.load(std::memory_order_relaxed)) add(region.always);
  for_each_group(missing, [&](int g) { add(region.groups[g]); });
  return bytes;
}

// Huge pages that will be full: runs of memory that are packed now, without a neighbour that is not.
void Residency::use_huge_pages(const Region& region, uint64_t missing) {
  std::vector<std::pair<uint8_t*, uint8_t*>> runs;
  const auto add = [&](const Group& group) {
    for (const Matrix& m : group) {
      if (m.out == nullptr) continue;
      if (runs.empty() || m.out > runs.back().second + Memory::kAlignment) runs.emplace_back(m.out, m.out);
      runs.back().second = m.out + m.bytes();
    }
  };
  if (!region.begun.load(std::memory_order_relaxed)) add(region.always);
  for_each_group(missing, [&](int g) { add(region.groups[g]); });
  for (const auto& [begin, end] : runs) Memory::use_huge_pages(begin, end);
}

void Residency::give_back(const Region& region) const {
  if (!release_) return;
  for (const Tensor& t : region.file) release_pages(t.data, t.bytes());
}

void Residency::load(const std::vector<LayerMasks>& masks, bool output, const Progress& progress) {
  struct Work {
    Region* region;
    uint64_t mask;
    size_t bytes;
  };
  std::vector<Work> work;
  const auto add = [&](Region& region, uint64_t mask) {
    const uint64_t missing = mask & ~region.resident.load(std::memory_order_acquire);
    work.push_back({&region, mask, bytes_of(region, missing)});
  };
  if (output) add(output_, 0);
  bool all_groups = true;
  for (size_t i = 0; i < regions_.size(); ++i) {
    const uint64_t mask = masks[i / 2].of(i % 2 == 0 ? Part::Attention : Part::Mlp);
    all_groups &= static_cast<size_t>(__builtin_popcountll(mask)) == regions_[i]->groups.size();
    regions_[i]->planned.fetch_or(mask, std::memory_order_relaxed);
    add(*regions_[i], mask);
  }
  if (all_groups) memory_.use_huge_pages(output ? memory_.begin() : layers_begin_, memory_.taken());
  size_t done = 0, total = 0;
  for (const Work& w : work) total += w.bytes;
  for (const Work& w : work) {
    size_t within = 0;
    const auto step = [&](size_t bytes) { progress(done + std::min(within += bytes, w.bytes), total); };
    if (!w.region->has(w.mask) || !w.region->has(0)) fetch(*w.region, w.mask, step);
    done += w.bytes;
    progress(done, total);
  }
}

size_t Residency::bytes(const std::vector<LayerMasks>& masks, bool output) const {
  size_t bytes = 0;
  const auto add = [&](const Group& group) {
    for (const Matrix& m : group) bytes += m.out == nullptr ? m.plain.bytes() : m.bytes();
  };
  if (output) add(output_.always);
  for (size_t i = 0; i < regions_.size(); ++i) {
    add(regions_[i]->always);
    for_each_group(masks[i / 2].of(i % 2 == 0 ? Part::Attention : Part::Mlp),
                   [&](int g) { add(regions_[i]->groups[g]); });
  }
  return bytes;
}

size_t Residency::held_bytes() const {
  size_t bytes = 0;
  const auto add = [&](const Group& group) {
    for (const Matrix& m : group) bytes += m.bytes();
  };
  const auto of = [&](const Region& region) {
    if (region.begun.load(std::memory_order_acquire)) add(region.always);
    for_each_group(region.resident.load(std::memory_order_acquire), [&](int g) { add(region.groups[g]); });
  };
  of(output_);
  for (const auto& region : regions_) of(*region);
  return bytes;
}

void Residency::forget() {
  std::vector<Region*> regions{&output_};
  for (const auto& region : regions_) regions.push_back(region.get());
  for (Region* region : regions) {
    region->resident = 0;
    region->planned = 0;
    region->begun = false;
  }
  for (Matrix* m : all()) m->packed = false;
  memory_.give_back();
}

}  // namespace halo
