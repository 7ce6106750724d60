// Who computes which groups where answers may be late: what matters least goes to whom can be relied on least.
#pragma once

#include <cstdint>
#include <vector>

#include "schedule/assigner.h"

namespace halo {

// Whether what this device is asked may well come late: it is on probation, or has been late lately.
bool is_unreliable(const Candidate& candidate);
bool any_unreliable(const std::vector<Candidate>& candidates);

// Of the devices that take part: the groups that only unreliable ones hold.
uint64_t held_unreliably(const std::vector<Candidate>& candidates, int groups);

// Exchanges groups between devices, of which each keeps as many as it has, so that the unreliable ones have the groups
// with the lowest scores (groups), the least reliable one the lowest of them; as far as devices hold what they would
// get. Where everybody is reliable nothing changes.
void place(const float* scores, int groups, const std::vector<Candidate>& candidates, std::vector<uint64_t>& masks);

// The hub computes what is not tolerant, and workers that can be relied on equal numbers of tolerant groups; unreliable
// ones what nobody else holds.
void place_planned(int layer, int groups, uint64_t tolerant, const std::vector<Candidate>& candidates,
                   std::vector<uint64_t>& masks);

// The workers (bits, the first one after the hub is bit 0) whose requests may be late: all of their groups are
// tolerant, and they are unreliable or lateness is planned.
uint64_t may_be_late(uint64_t tolerant, bool planned, const std::vector<Candidate>& candidates,
                     const std::vector<uint64_t>& masks);

}  // namespace halo
