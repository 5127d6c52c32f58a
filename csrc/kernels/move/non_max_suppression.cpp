// SPDX-License-Identifier: Apache-2.0
// NonMaxSuppression: per batch and class, the boxes in falling order of score that overlap no box
// already chosen by more than a threshold.
#include <algorithm>
#include <limits>
#include <vector>

#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Box {
  float y1, x1, y2, x2;
  float area() const { return (y2 - y1) * (x2 - x1); }
};

Box read_box(const float* p, bool center) {
  if (center) {
    const float w = p[2] / 2, h = p[3] / 2;
    return {p[1] - h, p[0] - w, p[1] + h, p[0] + w};
  }
  return {std::min(p[0], p[2]), std::min(p[1], p[3]), std::max(p[0], p[2]), std::max(p[1], p[3])};
}

float overlap(const Box& a, const Box& b) {
  const float h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  const float w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  if (!(h > 0 && w > 0)) return 0;
  const float both = h * w;
  const float all = a.area() + b.area() - both;
  return all > 0 ? both / all : 0;
}

struct NonMaxSuppression final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float>{});
  }
  explicit NonMaxSuppression(const NodeSpec& node)
      : center(node.get_int("center_point_box", 0) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& boxes = c.input(0);
    const Tensor& scores = c.input(1);
    if (boxes.rank() != 3 || scores.rank() != 3 || boxes.dim(2) != 4 ||
        boxes.dim(0) != scores.dim(0) || boxes.dim(1) != scores.dim(2)) {
      invalid("NonMaxSuppression: boxes of shape " + boxes.shape().text() +
              " and scores of shape " + scores.shape().text() +
              " are not [batch, boxes, 4] and [batch, classes, boxes]");
    }
    const int64_t most = c.has_input(2) ? std::max<int64_t>(c.input(2).to_int(), 0) : 0;
    const float limit = c.has_input(3) ? static_cast<float>(c.input(3).to_double()) : 0;
    if (!(limit >= 0 && limit <= 1)) invalid("NonMaxSuppression: iou_threshold is not in [0, 1]");
    const float least = c.has_input(4) ? static_cast<float>(c.input(4).to_double())
                                       : -std::numeric_limits<float>::infinity();
    const bool every = !c.has_input(4);
    const int64_t classes = scores.dim(1), count = boxes.dim(1);
    std::vector<std::vector<int64_t>> chosen(
        static_cast<size_t>(most > 0 ? boxes.dim(0) * classes : 0));
    c.parallel_for(static_cast<int64_t>(chosen.size()), 16.0 * static_cast<double>(count),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       chosen[static_cast<size_t>(i)] = choose(
                           boxes.data<float>() + i / classes * count * 4,
                           scores.data<float>() + i * count, count, most, limit, least, every);
                     }
                   });
    int64_t total = 0;
    for (const auto& list : chosen) total += static_cast<int64_t>(list.size());
    int64_t* y = c.output(0, DType::int64, {total, 3}).data<int64_t>();
    for (size_t i = 0; i < chosen.size(); ++i) {
      for (const int64_t box : chosen[i]) {
        *y++ = static_cast<int64_t>(i) / classes;
        *y++ = static_cast<int64_t>(i) % classes;
        *y++ = box;
      }
    }
  }

 private:
  std::vector<int64_t> choose(const float* boxes, const float* scores, int64_t count, int64_t most,
                              float limit, float least, bool every) const {
    std::vector<int64_t> order(static_cast<size_t>(count));
    size_t candidates = 0;
    for (int64_t i = 0; i < count; ++i) {  // without a branch: scores come in any order
      order[candidates] = i;
      // A NaN is no score.
      candidates += (scores[i] > least) | (every & (scores[i] == scores[i]));
    }
    order.resize(candidates);
    // Of equal scores the first box goes first. A heap: often few boxes are wanted.
    const auto later = [&](int64_t a, int64_t b) {
      return scores[a] < scores[b] || (scores[a] == scores[b] && a > b);
    };
    std::make_heap(order.begin(), order.end(), later);
    std::vector<int64_t> result;
    std::vector<Box> kept;
    while (!order.empty() && static_cast<int64_t>(result.size()) < most) {
      std::pop_heap(order.begin(), order.end(), later);
      const int64_t i = order.back();
      order.pop_back();
      const Box box = read_box(boxes + i * 4, center);
      const bool hidden = std::any_of(
          kept.begin(), kept.end(), [&](const Box& other) { return overlap(box, other) > limit; });
      if (hidden) continue;
      result.push_back(i);
      kept.push_back(box);
    }
    return result;
  }
  bool center;
};
BASCULE_KERNEL("NonMaxSuppression", NonMaxSuppression);

}  // namespace
}  // namespace bascule
