# SPDX-License-Identifier: Apache-2.0
"""Split constant weights instead of the product with them, whose parts then need not be copied.

Before:
    g (float[2,3] x) => (float[2,1] y, float[2,2] z)
    <float[3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3] b = {7, 8, 9}, int64[2] sizes = {1, 2}> {
        t = bascule.MatMul(x, w, b)
        y, z = Split<axis = -1>(t, sizes)
    }
After:
    g (float[2,3] x) => (float[2,1] y, float[2,2] z)
    <float[3,1] v = {1, 4, 7}, float[1] a = {7}, float[3,2] w = {2, 3, 5, 6, 8, 9},
     float[2] b = {8, 9}> {
        y = bascule.MatMul(x, v, a)
        z = bascule.MatMul(x, w, b)
    }
Keeps:
    g (float[2,3] x, float[3,2] w) => (float[2,1] y, float[2,1] z) {
        t = MatMul(x, w)
        y, z = Split<axis = -1, num_outputs = 2>(t)
    }
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.pattern import any_of, attribute_of, constant_of, fused, op, values
from bascule.optimizer.rewrite import Match, rule

a, b = values("a", "b")

_PRODUCT = any_of(
    op.MatMul(a, b),
    fused.MatMul(a, b, ..., transB=lambda flag: not flag),
)
_MOST_PARTS = 8


@rule(op.Split(_PRODUCT, ..., outputs=_MOST_PARTS))
def move_split_to_weights(match: Match) -> Sequence[Value] | None:
    split, product = match.root, match.node(_PRODUCT)
    weights, row = constant_of(match[b]), constant_of(product.input(2))
    if weights is None or len(weights.shape) != 2 or len(match[b].uses) != 1:
        return None
    if (product.input(2) is not None and row is None) or product.input(3) is not None:
        return None
    rank = match[_PRODUCT].rank
    if rank is None or rank < 2 or attribute_of(split, "axis") not in (-1, rank - 1):
        return None
    widths = [None if each.shape is None else each.shape[-1] for each in split.outputs]
    if any(not isinstance(width, int) for width in widths):
        return None
    ends = list(accumulate(width for width in widths if isinstance(width, int)))
    if ends[-1] != weights.shape[1]:
        return None
    results = []
    for first, last, output in zip([0, *ends], ends, split.outputs):
        part = np.ascontiguousarray(weights.numpy()[:, first:last])
        addend = None if row is None else np.ascontiguousarray(row.numpy()[..., first:last])
        made = match.build.node(
            "MatMul",
            [match[a], part, addend],
            product.attributes,
            domain=product.domain,
            type=output.type,
        )
        results.append(made.output)
    return results
