# SPDX-License-Identifier: Apache-2.0
"""Dequantize small constants that no integer operator has taken in.

Before:
    g (float[N,2] x) => (float[N,2] y) <int8[2] b = {1, 2}, float s = {0.5}> {
        f = DequantizeLinear(b, s)
        y = Add(x, f)
    }
After:
    g (float[N,2] x) => (float[N,2] y) <float[2] f = {0.5, 1.0}> { y = Add(x, f) }
"""

from __future__ import annotations

from bascule.ir.graph import Graph
from bascule.optimizer.context import Context
from bascule.optimizer.fold_constants import computed
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import Builder, replace

_LARGE = 1 << 14
"""Larger weights stay integers, which are a quarter of the size."""


@graph_pass
def fold_small_dequantize(graph: Graph, context: Context) -> int:
    count = 0
    for inner in list(graph.walk_graphs()):
        for node in inner:
            source = node.input(0) if node.is_op("DequantizeLinear") else None
            constant = None if source is None else constant_of(source)
            if constant is None or constant.nbytes >= _LARGE:
                continue
            results = computed(node, context)
            if results is None:
                continue
            build = Builder(node)
            replace(node, [build.constant(results[0], node.output.name)], build)
            count += 1
    return count
