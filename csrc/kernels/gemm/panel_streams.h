// SPDX-License-Identifier: Apache-2.0
// How many panels of B a product of few rows goes through side by side. Included by sources that
// are compiled per instruction set.
#pragma once

namespace bascule::BASCULE_ISA {
namespace {

// That many streams for the hardware to fetch ahead, which it does better than instructions do, and
// enough independent sums to hide the latency of the additions.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_few_rows = 6;
constexpr int sums_at_once = 24;
#else
constexpr int most_few_rows = 3;
constexpr int sums_at_once = 12;
#endif
constexpr int panels_for(int rows) {
  const int panels = sums_at_once / (2 * rows);
  return panels > 4 ? 4 : panels < 1 ? 1 : panels;
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
