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
Keeps, as what joins and parts the rows goes away together with the product:
    g (float[2,3,2,4] x, float[8,6] w, float[6] b) => (float[2,3,2,3] y) {
        whole = Constant<value_ints = [2, 3, 8]>()
        rows = Constant<value_ints = [6, 8]>()
        parts = Constant<value_ints = [2, 3, 6]>()
        heads = Constant<value_ints = [2, 3, 2, 3]>()
        t = Reshape(x, whole)
        u = Reshape(t, rows)
        v = Gemm(u, w, b)
        z = Reshape(v, parts)
        y = Reshape(z, heads)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.optimizer.pattern import op, shared, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import certain_shape, integers, reshape_sizes

(x,) = values("x")
_SHAPE_ONLY = op["Reshape", "Flatten", "Squeeze", "Unsqueeze"]
_FIRST = shared(_SHAPE_ONLY(x, ...))


@rule(_SHAPE_ONLY(_FIRST, ...))
def merge_reshapes(match: Match) -> Value | None:
    node, y = match.root, match.root.output
    if _parts_rows(match[_FIRST]) or _joins_rows(y):
        return None
    if node.is_op("Reshape"):
        sizes = integers(node.input(1))
        if node.attribute("allowzero", 0) or (sizes is not None and 0 not in sizes):
            allow_zero = node.attribute("allowzero")
            return match.build.Reshape(match[x], node.input(1), allowzero=allow_zero, type=y.type)
    sizes = reshape_sizes(certain_shape(match[x]), certain_shape(y))
    if sizes is None:
        return None
    return match.build.Reshape(match[x], np.array(sizes, dtype=np.int64), type=y.type)


def _parts_rows(value: Value) -> bool:
    """Whether a Reshape follows a product of rows that another Reshape has joined."""
    source = None if value.producer is None else value.producer.input(0)
    product = None if source is None else source.producer
    rows = None if product is None or not _is_product(product) else product.input(0)
    return rows is not None and rows.producer is not None and rows.producer.is_op("Reshape")


def _joins_rows(value: Value) -> bool:
    """Whether a Reshape comes before a product that another Reshape follows."""
    if len(value.uses) != 1 or value.rank != 2:
        return False
    use = value.uses[0]
    product = use.node
    if use.index or not _is_product(product) or len(product.output.uses) != 1:
        return False
    return product.output.uses[0].node.is_op("Reshape")


def _is_product(node: Node) -> bool:
    return node.op_type in ("Gemm", "MatMul") and node.domain in ("", FUSED_DOMAIN)
