// SPDX-License-Identifier: Apache-2.0
// Offsets for pieces of memory of known lifetimes in one arena.
#pragma once

#include <cstdint>
#include <vector>

namespace bascule {

// `bytes` of memory needed from step `first` to step `last`, both included.
struct Interval {
  int first;
  int last;
  int64_t bytes;
  int64_t offset;
};

// Gives every interval a 64-byte aligned offset so that no two alive at the same step overlap;
// returns the bytes of the arena. Greedy by size, each into the lowest gap that fits (Pisarchyk and
// Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
int64_t assign_offsets(std::vector<Interval>& intervals);

}  // namespace bascule
