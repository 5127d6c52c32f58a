# SPDX-License-Identifier: Apache-2.0
"""Merge a chain of Reshape, Flatten, Squeeze and Unsqueeze into one Reshape.

Before:
    g (float[N,4,6] x) => (float[N,1,24] y) {
        shape = Constant<value_ints = [0, 2, 12]>()
        a = Reshape(x, shape)
        b = Flatten(a)
        axes = Constant<value_ints = [1]>()
        y = Unsqueeze(b, axes)
    }
After:
    g (float[N,4,6] x) => (float[N,1,24] y) {
        shape = Constant<value_ints = [-1, 1, 24]>()
        y = Reshape(x, shape)
    }
Before:
    g (float[N,K] x, float[K,N] like) => (float[K,N] y) {
        shape = Constant<value_ints = [-1]>()
        a = Reshape(x, shape)
        s = Shape(like)
        y = Reshape<allowzero = 1>(a, s)
    }
After:
    g (float[N,K] x, float[K,N] like) => (float[K,N] y) {
        s = Shape(like)
        y = Reshape<allowzero = 1>(x, s)
    }
Keeps:
    g (float[N,K] x, int64[3] s) => (float[A,B,C] y) {
        shape = Constant<value_ints = [-1]>()
        a = Reshape(x, shape)
        y = Reshape(a, s)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.pattern import op, shared, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import certain_shape, integers, reshape_sizes

(x,) = values("x")
_SHAPE_ONLY = op["Reshape", "Flatten", "Squeeze", "Unsqueeze"]
_FIRST = shared(_SHAPE_ONLY(x, ...))


@rule(_SHAPE_ONLY(_FIRST, ...))
def merge_reshapes(match: Match) -> Value | None:
    node, y = match.root, match.root.output
    if node.is_op("Reshape"):
        sizes = integers(node.input(1))
        if node.attribute("allowzero", 0) or (sizes is not None and 0 not in sizes):
            allow_zero = node.attribute("allowzero")
            return match.build.Reshape(match[x], node.input(1), allowzero=allow_zero, type=y.type)
    sizes = reshape_sizes(certain_shape(match[x]), certain_shape(y))
    if sizes is None:
        return None
    return match.build.Reshape(match[x], np.array(sizes, dtype=np.int64), type=y.type)
