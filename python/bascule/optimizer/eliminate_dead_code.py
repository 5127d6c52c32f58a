# SPDX-License-Identifier: Apache-2.0
"""Remove nodes whose results nothing reads.

Before:
    g (float[2] x) => (float[2] y) { t = Exp(x) u = Neg(t) y = Abs(x) }
After:
    g (float[2] x) => (float[2] y) { y = Abs(x) }
"""

from __future__ import annotations

from bascule.ir.graph import Graph
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.rewrite import remove_if_unused


@graph_pass
def eliminate_dead_code(graph: Graph, context: Context) -> int:
    count = 0
    for inner in list(graph.walk_graphs()):
        for node in reversed(inner):
            count += remove_if_unused(node)
    return count
