// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise/elementwise.h"

#include <map>

#include "kernels/elementwise/gather_tile.h"

namespace bascule {

BASCULE_PER_ISA(HalfFunctions half_functions(bool bfloat16));

namespace {

// Inner loops shorter than this are gathered into tiles: a call per run would cost more.
constexpr int64_t short_run = 32;
constexpr int max_operands = 3;

std::map<std::string, ElementwiseResolver>& resolvers() {
  static std::map<std::string, ElementwiseResolver> table;
  return table;
}

// Where the tile buffers of one thread are.
struct Buffers {
  alignas(64) std::byte tiles[max_operands][tile_size * 16];
};

void run_broadcast(RunContext& c, const ElementwiseOp& op, const Tensor* const* operands,
                   const Shape& shape) {
  const TileOp& tile = op.tile;
  const int count = tile.operands;
  const Shape* shapes[max_operands];
  const std::byte* data[max_operands];
  int64_t sizes[max_operands];
  for (int k = 0; k < count; ++k) {
    shapes[k] = &operands[k]->shape();
    data[k] = operands[k]->raw();
    sizes[k] = item_size(operands[k]->dtype());
  }
  const BroadcastLoops<max_operands> loops(shape, shapes, count);
  Tensor& y = c.output(0, op.output, shape);
  std::byte* out = y.raw();
  const int64_t out_size = item_size(op.output);

  const bool in_runs = loops.inner_size() >= short_run;
  const bool one_call = count == 2 && ((loops.steps(0) && loops.steps(1)) ||
                                       (loops.steps(0) && tile.run_b_single != nullptr) ||
                                       (loops.steps(1) && tile.run_a_single != nullptr));
  c.parallel_for(y.size(), op.cost, [&](int64_t begin, int64_t end) {
    if (in_runs && one_call) {
      const TileFunction function = !loops.steps(0)   ? tile.run_a_single
                                    : !loops.steps(1) ? tile.run_b_single
                                                      : tile.run;
      loops.for_runs(begin, end, [&](const int64_t* offsets, int64_t first, int64_t run) {
        function(tile, data[0] + offsets[0] * sizes[0], data[1] + offsets[1] * sizes[1], nullptr,
                 out + first * out_size, run);
      });
      return;
    }
    Buffers buffers;
    const std::byte* from[max_operands] = {};
    for (int k = 0; k < count; ++k) {
      if (!loops.is_single(k)) continue;
      splat_element(data[k], buffers.tiles[k], sizes[k], std::min(end - begin, tile_size));
    }
    for (int64_t first = begin; first < end; first += tile_size) {
      const int64_t run = std::min(end - first, tile_size);
      for (int k = 0; k < count; ++k) {
        if (loops.is_dense(k)) {
          from[k] = data[k] + first * sizes[k];
          continue;
        }
        from[k] = buffers.tiles[k];
        if (!loops.is_single(k)) {
          gather_tile(loops, k, data[k], sizes[k], first, run, buffers.tiles[k]);
        }
      }
      tile.run(tile, from[0], from[1], from[2], out + first * out_size, run);
    }
  });
}

}  // namespace

bool register_elementwise(const char* op_type, ElementwiseResolver resolver) {
  return resolvers().emplace(op_type, resolver).second;
}

std::string resolve_elementwise(const NodeSpec& node, ElementwiseOp& op) {
  if (!node.domain.empty()) return "domain " + node.domain + " has no elementwise operators";
  const auto found = resolvers().find(node.op_type);
  if (found == resolvers().end()) return node.op_type + " is not an elementwise operator";
  return found->second(node, op);
}

const HalfFunctions& half_functions_of(DType dtype) {
  static const HalfFunctions float16 = BASCULE_PICK(half_functions)(false);
  static const HalfFunctions bfloat16 = BASCULE_PICK(half_functions)(true);
  return dtype == DType::bfloat16 ? bfloat16 : float16;
}

void widen_operation(TileOp& op, DType dtype, bool result_is_bool) {
  const HalfFunctions& half = half_functions_of(dtype);
  op.inner = op.run;
  op.run = result_is_bool ? half.widened_test : half.widened;
  op.run_a_single = op.run_b_single = nullptr;
}

void run_elementwise(RunContext& c, const ElementwiseOp& op, const Tensor* const* operands) {
  const TileOp& tile = op.tile;
  const Tensor& a = *operands[0];
  const int64_t a_size = item_size(a.dtype()), out_size = item_size(op.output);
  if (tile.operands == 1) {
    const std::byte* x = a.raw();
    Tensor& y = c.output(0, op.output, a.shape());
    std::byte* out = y.raw();
    c.parallel_for(y.size(), op.cost, [&](int64_t begin, int64_t end) {
      tile.run(tile, x + begin * a_size, nullptr, nullptr, out + begin * out_size, end - begin);
    });
    return;
  }
  const Tensor& b = *operands[1];
  if (tile.operands == 2 && a.shape() == b.shape()) {
    const std::byte *left = a.raw(), *right = b.raw();
    const int64_t b_size = item_size(b.dtype());
    Tensor& y = c.output(0, op.output, a.shape());
    std::byte* out = y.raw();
    c.parallel_for(y.size(), op.cost, [&](int64_t begin, int64_t end) {
      tile.run(tile, left + begin * a_size, right + begin * b_size, nullptr, out + begin * out_size,
               end - begin);
    });
    return;
  }
  Shape shape = broadcast(a.shape(), b.shape());
  if (tile.operands == 3) shape = broadcast(shape, operands[2]->shape());
  run_broadcast(c, op, operands, shape);
}

Capability Elementwise::capability(const NodeSpec& node) {
  ElementwiseOp op;
  const std::string reason = resolve_elementwise(node, op);
  if (!reason.empty()) return reject(reason);
  if (op.has_bounds) return reject("the bounds need a kernel of their own");
  return accept;
}

Elementwise::Elementwise(const NodeSpec& node) { resolve_elementwise(node, op_); }

void Elementwise::run(RunContext& c) const {
  const Tensor* operands[max_operands];
  for (int k = 0; k < op_.tile.operands; ++k) operands[k] = &c.input(k);
  run_elementwise(c, op_, operands);
}

}  // namespace bascule
