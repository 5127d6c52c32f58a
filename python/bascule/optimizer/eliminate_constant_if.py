# SPDX-License-Identifier: Apache-2.0
"""Replace an If whose condition is constant by the branch that is taken.

Before:
    g (float[2] x) => (float[2] y) <bool yes = {1}> {
        t = If(yes) <
            then_branch = a () => (float[2] u) { s = Exp(x) u = Neg(s) },
            else_branch = b () => (float[2] v) { v = Abs(x) }
        >
        y = Relu(t)
    }
After:
    g (float[2] x) => (float[2] y) { s = Exp(x) u = Neg(s) y = Relu(u) }
Keeps:
    g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <
            then_branch = a () => (float[2] u) { u = Exp(x) },
            else_branch = b () => (float[2] v) { v = Abs(x) }
        >
    }
"""

from __future__ import annotations

from bascule.ir.graph import Graph, Node
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import Builder, replace


@graph_pass
def eliminate_constant_if(graph: Graph, context: Context) -> int:
    count = 0
    for inner in list(graph.walk_graphs()):
        for node in inner:
            condition = constant_of(node.input(0)) if node.is_op("If") else None
            if condition is not None and condition.size == 1:
                taken = bool(condition.numpy().reshape(-1)[0])
                _inline(node, node.attributes["then_branch" if taken else "else_branch"])
                count += 1
    return count


def _inline(node: Node, branch: Graph) -> None:
    """Move what is in `branch` in front of `node`, and let its outputs stand for the node's."""
    graph = node.graph
    assert graph is not None
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name]
        value.name = graph.fresh_name(value.name)
        graph.add_initializer(value)
    outputs = list(branch.outputs)
    for value in outputs:
        value.output_count -= 1
    branch.outputs = []
    for each in branch.nodes:
        for value in each.outputs:
            if value.name:
                value.name = graph.fresh_name(value.name)
        graph.move_before(node, each)
    replace(node, outputs, Builder(node))
