// What of a model's matrices is in memory, packed for one kernel variant: groups come when they are loaded or first
// asked for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/groups.h"
#include "engine/memory.h"
#include "engine/model.h"

namespace halo {

// The memory of all matrices is laid out at once; pages that nobody touches are none. May be used by several threads.
class Residency {
 public:
  // Of the bytes to be packed; called between groups.
  using Progress = std::function<void(size_t done, size_t total)>;

  // Points the model's matrices to where they will be. With `release`, pages of the file are given back once they are
  // packed: `model.file` must then be a mapping of a file that nobody writes to.
  Residency(Model& model, const Kernels& kernels, bool release);

  // Makes these groups' weights ready, and what all groups of the part need (k and v): nothing where they are.
  void ensure(int layer, Part part, uint64_t mask) { ensure(of(layer, part), mask); }
  void ensure_output() { ensure(output_, 0); }  // the head, which the hub alone computes

  uint64_t resident(int layer, Part part) const { return of(layer, part).resident.load(std::memory_order_acquire); }
  // Of these, what `load` was asked for: the rest was read to compute it once, which makes nobody its holder.
  uint64_t planned(int layer, Part part) const {
    return resident(layer, part) & of(layer, part).planned.load(std::memory_order_relaxed);
  }

  // Ensures the groups of `masks`, one entry a layer, and with `output` the head. What `progress` throws stops it
  // between two groups; those before it stay.
  void load(const std::vector<LayerMasks>& masks, bool output, const Progress& progress);

  // Bytes that these groups take, packed or, where rows stay as they are, in the file; in memory or not.
  size_t bytes(const std::vector<LayerMasks>& masks, bool output) const;
  // Bytes that are packed in memory now.
  size_t held_bytes() const;

  // Gives everything back. Nobody may compute meanwhile.
  void forget();

 private:
  struct Matrix {
    Tensor plain;            // in the file
    Tensor* used;            // what the engine multiplies with
    uint8_t* out = nullptr;  // where it is packed; null where rows stay as they are in the file
    bool packed = false;

    size_t bytes() const;  // packed
  };
  using Group = std::vector<Matrix>;
  struct Region {  // a part of a layer
    std::atomic<uint64_t> resident{0};
    std::atomic<uint64_t> planned{0};  // asked of `load`, in memory or not yet
    std::atomic<bool> begun{false};    // what all groups need is there
    std::mutex mutex;                  // held to pack; guards the matrices' marks
    Group always;                      // k and v; the head
    std::vector<Group> groups;         // q and o; gate, up and down
    std::vector<Tensor> file;          // what is read to pack them

    // One load, which orders what was packed before it is read.
    bool has(uint64_t mask) const {
      if (mask == 0) return begun.load(std::memory_order_acquire);
      return (mask & ~resident.load(std::memory_order_acquire)) == 0;
    }
  };
  // Called between groups, with no lock held, with the bytes of the last one; may throw to stop.
  using Step = std::function<void(size_t)>;
  void ensure(Region& region, uint64_t mask) {
    if (!region.has(mask)) fetch(region, mask, {});
  }
  void fetch(Region& region, uint64_t mask, const Step& step);
  void begin(Region& region);
  void use_huge_pages(const Region& region, uint64_t missing);
  void give_back(const Region& region) const;
  static void pack(Group& group);
  static size_t bytes_of(const Region& region, uint64_t missing);
  std::vector<Matrix*> all();

  Region& of(int layer, Part part) { return *regions_[2 * layer + (part == Part::Mlp)]; }
  const Region& of(int layer, Part part) const { return *regions_[2 * layer + (part == Part::Mlp)]; }

  bool release_;
  Memory memory_;
  uint8_t* layers_begin_ = nullptr;  // the head lies before them
  Region output_;
  std::vector<std::unique_ptr<Region>> regions_;  // attention and MLP of each layer
};

}  // namespace halo
