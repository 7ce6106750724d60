// Packing by groups. Small pages where a device holds a part of a layer: a huge page would bring its neighbours'
// memory.
#include "engine/residency.h"

#include <algorithm>
#include <utility>

#include "engine/pack.h"

namespace halo {

namespace {

template <typename F>
void for_each_group(uint64_t mask, F f) {
  for (int g = 0; mask != 0; ++g, mask >>= 1) {
    if (mask & 1) f(g);
  }
}

Bounds scaled(Bounds bounds, int factor) {
  for (int& b : bounds) b *= factor;
  return bounds;
}

}  // namespace

Residency::Residency(Model& model, const Kernels& kernels, bool release) : release_(release) {
  const auto read_by = [&](Region& region, const Tensor& t) {
    if (packed_bytes(t, kernels) != 0) region.file.push_back(t);
  };
  const auto whole = [&](Region& region, std::vector<Matrix>& list, Tensor& t) {
    list.push_back({t, &t, nullptr, {}});
    read_by(region, t);
  };
  const auto by_columns = [&](Region& region, const Tensor& t, const Bounds& columns, std::vector<Tensor>& groups) {
    read_by(region, t);
    groups.resize(columns.size() - 1);
    for (size_t g = 0; g < groups.size(); ++g) {
      region.by_columns.push_back({columns_of(t, columns[g], columns[g + 1]), &groups[g], nullptr, {}});
    }
  };
  whole(output_, output_.always, model.output);
  for (Layer& l : model.layers) {
    Region& attention = *regions_.emplace_back(std::make_unique<Region>());
    for (Tensor* t : {&l.wk, &l.wv}) whole(attention, attention.always, *t);
    whole(attention, attention.by_rows, l.wq);
    attention.rows = scaled(l.head_groups, model.spec.heads_per_kv() * model.spec.head_dim);
    by_columns(attention, l.wo, attention.rows, l.wo_groups);
    Region& mlp = *regions_.emplace_back(std::make_unique<Region>());
    for (Tensor* t : {&l.gate, &l.up}) whole(mlp, mlp.by_rows, *t);
    mlp.rows = l.neuron_groups;
    by_columns(mlp, l.down, mlp.rows, l.down_groups);
  }
  size_t total = 0;
  for (const Matrix* m : all()) total += packed_bytes(m->plain, kernels);
  memory_ = Memory(total, Memory::Pages::Small);
  for (Matrix* m : all()) {
    const auto [used, out] = lay_out(m->plain, kernels, memory_);
    *m->used = used;
    m->out = out;
    if (out != nullptr) m->packed.resize(panels(used));
    if (m == &output_.always.front()) layers_begin_ = memory_.taken();
  }
}

// In the order in which they lie in memory.
std::vector<Residency::Matrix*> Residency::all() {
  std::vector<Matrix*> found;
  const auto add = [&](Region& region) {
    for (std::vector<Matrix>* list : {&region.always, &region.by_rows, &region.by_columns}) {
      for (Matrix& m : *list) found.push_back(&m);
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
    for (Matrix& m : region.by_rows) pack(m, panels_of(m, region.rows, g));
    pack(region.by_columns[g], {0, region.by_columns[g].packed.size()});
    region.resident.fetch_or(uint64_t{1} << g, std::memory_order_release);
    if (!step) return;
    lock.unlock();
    step(bytes_of(region, uint64_t{1} << g));
    lock.lock();
  });
}

void Residency::begin(Region& region) {
  if (region.begun.load(std::memory_order_relaxed)) return;
  for (Matrix& m : region.always) pack(m, {0, m.packed.size()});
  region.begun.store(true, std::memory_order_release);
}

void Residency::pack(Matrix& matrix, Panels panels) {
  if (matrix.out == nullptr) return;
  for (size_t p = panels.begin; p < panels.end; ++p) {
    if (!matrix.packed[p]) pack_panel(matrix.plain, *matrix.used, p, matrix.out);
    matrix.packed[p] = true;
  }
}

Residency::Panels Residency::panels_of(const Matrix& matrix, const Bounds& rows, int group) {
  if (matrix.out == nullptr) return {0, 0};
  const size_t panel = matrix.used->product->panel;
  return {rows[group] / panel, (rows[group + 1] + panel - 1) / panel};
}

size_t Residency::bytes_of(const Region& region, uint64_t missing) {
  size_t bytes = 0;
  if (!region.begun.load(std::memory_order_relaxed)) {
    for (const Matrix& m : region.always) bytes += m.packed.size() * m.used->panel_bytes;
  }
  for_each_group(missing, [&](int g) {
    for (const Matrix& m : region.by_rows) {
      const Panels some = panels_of(m, region.rows, g);
      bytes += (some.end - some.begin) * m.used->panel_bytes;
    }
    bytes += region.by_columns[g].packed.size() * region.by_columns[g].used->panel_bytes;
  });
  return bytes;
}

// Huge pages that will be full: runs of memory that are packed now, without a neighbour that is not.
void Residency::use_huge_pages(const Region& region, uint64_t missing) {
  std::vector<std::pair<uint8_t*, uint8_t*>> runs;
  const auto add = [&](const Matrix& m, Panels some) {
    if (m.out == nullptr) return;
    uint8_t* const begin = m.out + some.begin * m.used->panel_bytes;
    uint8_t* const end = m.out + some.end * m.used->panel_bytes;
    if (!runs.empty() && begin <= runs.back().second + Memory::kAlignment) {
      runs.back().second = std::max(runs.back().second, end);
    } else {
      runs.emplace_back(begin, end);
    }
  };
  if (!region.begun.load(std::memory_order_relaxed)) {
    for (const Matrix& m : region.always) add(m, {0, m.packed.size()});
  }
  for (const Matrix& m : region.by_rows) for_each_group(missing, [&](int g) { add(m, panels_of(m, region.rows, g)); });
  for_each_group(missing, [&](int g) { add(region.by_columns[g], {0, region.by_columns[g].packed.size()}); });
  for (const auto& [begin, end] : runs) memory_.use_huge_pages(begin, end);
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
    const uint64_t mask = i % 2 == 0 ? masks[i / 2].attention : masks[i / 2].mlp;
    all_groups &= static_cast<size_t>(__builtin_popcountll(mask)) == regions_[i]->by_columns.size();
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

void Residency::forget() {
  std::vector<Region*> regions{&output_};
  for (const auto& region : regions_) regions.push_back(region.get());
  for (Region* region : regions) {
    const std::lock_guard<std::mutex> lock(region->mutex);
    region->resident = 0;
    region->begun = false;
    for (std::vector<Matrix>* list : {&region->always, &region->by_rows, &region->by_columns}) {
      for (Matrix& m : *list) m.packed.assign(m.packed.size(), false);
    }
  }
  memory_.give_back();
}

}  // namespace halo
