#include "schedule/placing.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/groups.h"

namespace halo {

namespace {

constexpr double kOftenLate = 0.01;  // of its requests

using Order = std::array<uint8_t, kMaxGroups>;

uint64_t bit(int i) { return uint64_t{1} << i; }

// Greater: less reliable.
std::pair<bool, double> unreliability(const Candidate& c) { return {c.unstable, c.lateness}; }

// Gives each group of device `to` away for the lowest one below it that a more reliable device has, the highest first.
void exchange(size_t to, const Order& by_score, int groups, const std::vector<Candidate>& candidates,
              std::vector<uint64_t>& masks) {
  for (int high = groups; high-- > 0;) {
    const uint64_t given = bit(by_score[high]);
    if ((masks[to] & given) == 0) continue;
    for (int low = 0; low < high; ++low) {
      const uint64_t wanted = bit(by_score[low]);
      if ((masks[to] & wanted) != 0 || (candidates[to].resident & wanted) == 0) continue;
      size_t from = 0;
      while ((masks[from] & wanted) == 0) ++from;
      const bool better = unreliability(candidates[from]) < unreliability(candidates[to]);
      if (!better || (candidates[from].resident & given) == 0) continue;
      masks[to] ^= given | wanted;
      masks[from] ^= given | wanted;
      break;
    }
  }
}

}  // namespace

bool is_unreliable(const Candidate& c) { return c.unstable || c.lateness > kOftenLate; }

bool any_unreliable(const std::vector<Candidate>& candidates) {
  return std::any_of(candidates.begin() + 1, candidates.end(),
                     [](const Candidate& c) { return c.takes && is_unreliable(c); });
}

uint64_t held_unreliably(const std::vector<Candidate>& candidates, int groups) {
  uint64_t reliably = candidates[0].resident, unreliably = 0;
  for (size_t i = 1; i < candidates.size(); ++i) {
    const Candidate& c = candidates[i];
    if (c.takes) (is_unreliable(c) ? unreliably : reliably) |= c.resident;
  }
  return unreliably & ~reliably & first_bits(groups);
}

void place(const float* scores, int groups, const std::vector<Candidate>& candidates, std::vector<uint64_t>& masks) {
  std::array<uint8_t, kMaxGroups> devices;  // those that may be late, the least reliable first
  size_t count = 0;
  for (size_t i = 1; i < masks.size() && count < devices.size(); ++i) {
    if (masks[i] != 0 && is_unreliable(candidates[i])) devices[count++] = static_cast<uint8_t>(i);
  }
  if (count == 0) return;
  std::sort(devices.begin(), devices.begin() + count, [&](int a, int b) {
    return std::pair(unreliability(candidates[b]), a) < std::pair(unreliability(candidates[a]), b);
  });
  Order by_score;
  for (int g = 0; g < groups; ++g) by_score[g] = static_cast<uint8_t>(g);
  std::sort(by_score.begin(), by_score.begin() + groups,
            [&](int a, int b) { return std::pair(scores[a], a) < std::pair(scores[b], b); });
  for (size_t i = 0; i < count; ++i) exchange(devices[i], by_score, groups, candidates, masks);
}

void place_planned(int layer, int groups, uint64_t tolerant, const std::vector<Candidate>& candidates,
                   std::vector<uint64_t>& masks) {
  masks.assign(candidates.size(), 0);
  const size_t workers = candidates.size() - 1;
  std::array<uint8_t, kMaxGroups + 1> counts{};
  for (int g = 0; g < groups; ++g) {
    size_t to = 0;
    for (size_t k = 0; (tolerant >> g & 1) != 0 && k < workers; ++k) {  // ties are spread over the layers
      const size_t i = 1 + (k + static_cast<size_t>(layer)) % workers;
      const Candidate& c = candidates[i];
      if (i >= counts.size() || !c.takes || (c.resident >> g & 1) == 0) continue;
      const auto worth = [&](size_t j) { return std::pair(is_unreliable(candidates[j]), counts[j]); };
      if (to == 0 || worth(i) < worth(to)) to = i;
    }
    if (is_unreliable(candidates[to]) && (candidates[0].resident >> g & 1) != 0) to = 0;
    masks[to] |= bit(g);
    ++counts[to];
  }
}

uint64_t may_be_late(uint64_t tolerant, bool planned, const std::vector<Candidate>& candidates,
                     const std::vector<uint64_t>& masks) {
  uint64_t workers = 0;
  for (size_t i = 1; i < masks.size() && i <= 64; ++i) {
    const bool allowed = masks[i] != 0 && (masks[i] & ~tolerant) == 0;
    if (allowed && (planned || is_unreliable(candidates[i]))) workers |= bit(static_cast<int>(i) - 1);
  }
  return workers;
}

}  // namespace halo
