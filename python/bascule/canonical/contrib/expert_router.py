# SPDX-License-Identifier: Apache-2.0
"""Which experts a token goes to, of the groups of experts that suit it best."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.precision import narrow, wide
from bascule.ir.graph import Value

_LEAST = 1e-20
"""Of smaller weights no logarithm is taken."""


@operator("MoEGroupRouter")
def moe_group_router(
    build: ContribBuilder,
    logits: Value,
    expert_bias: Value,
    projection_weight: Value | None,
    *,
    top_k: int,
    group_topk: int = 2,
    n_group: int = 1,
    router_sentinel: float = -10000.0,
    topk_group: int = 1,
) -> Outputs:
    """In float32. Experts are chosen by weights with a bias, which only the choice has."""
    if min(top_k, group_topk, n_group, topk_group) < 1 or topk_group > n_group:
        raise build.invalid(
            f"top_k ({top_k}), group_topk ({group_topk}), n_group ({n_group}) and topk_group "
            f"({topk_group}) must be positive, and topk_group no more than n_group"
        )
    experts = build.known_dim(expert_bias, 0)
    if experts is not None and (experts % n_group or top_k > experts):
        raise build.invalid(
            f"{experts} experts are not {n_group} groups of one size, or fewer than top_k ({top_k})"
        )
    if projection_weight is not None:
        columns = build.op("Transpose", wide(build, projection_weight), perm=[1, 0])
        scores = build.op("MatMul", wide(build, logits), columns)
    else:
        shape = build.op("Concat", build.ints(-1), build.dim(expert_bias, 0), axis=0)
        scores = build.op("Reshape", wide(build, logits), shape)
    weights = build.op("Sigmoid", scores)
    chosen_by = build.op("Add", weights, expert_bias)
    if not build.wants(0):
        if (n_group, topk_group) != (1, 1):
            raise build.invalid("outputs 'selection_scores' and 'router_weights' have one group")
        return None, chosen_by, weights
    if build.wants(1) or build.wants(2) or projection_weight is not None:
        raise build.invalid("output 'router_probs' excludes the other outputs and a projection")
    if topk_group < n_group:
        chosen_by = _of_best_groups(build, chosen_by, n_group, topk_group, group_topk)
    values, places = build.ops("TopK", chosen_by, build.ints(top_k), outputs=2, axis=1)
    logarithms = build.op("Log", build.op("Max", weights, build.like(_LEAST, weights)))
    nothing = build.like(router_sentinel, weights)
    found = build.op("GatherElements", logarithms, places, axis=1)
    if topk_group < n_group:  # there may be fewer experts in the groups
        found = build.op("Where", build.op("IsInf", values), nothing, found)
    all_nothing = build.op("Expand", nothing, build.op("Shape", weights))
    y = build.op("ScatterElements", all_nothing, places, found, axis=1)
    return narrow(build, y, logits), None, None


def _of_best_groups(
    build: ContribBuilder, scores: Value, count: int, kept: int, summed: int
) -> Value:
    """With -inf for all experts but those of the groups whose best experts' sum is largest."""
    groups = build.op("Reshape", scores, build.ints(0, count, -1))
    size = build.op("Min", build.ints(summed), build.dim(groups, 2))
    best, _ = build.ops("TopK", groups, size, outputs=2, axis=2)
    sums = build.op("ReduceSum", best, build.ints(2), keepdims=0)
    _, places = build.ops("TopK", sums, build.ints(kept), outputs=2, axis=1)
    least = build.op("Expand", build.like(float("-inf"), scores), build.op("Shape", sums))
    zeros = build.op("Expand", build.like(0.0, scores), build.op("Shape", places))
    mask = build.op("ScatterElements", least, places, zeros, axis=1)
    masked = build.op("Add", groups, build.op("Unsqueeze", mask, build.ints(2)))
    return build.op("Reshape", masked, build.op("Shape", scores))
