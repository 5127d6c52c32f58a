# SPDX-License-Identifier: Apache-2.0
"""Move the regions around convolutions to channels-last layout.

One sweep in execution order: a convolution gets its input in channels-last form and gives its
result so, and whatever can work on that form follows. Transposes remain where other nodes read or
make the standard layout; those that a model has itself become the border, or vanish.

Before:
    g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) {
        c = Conv(x, w)
        r = Sigmoid(c)
        y = Mul(c, r)
    }
After:
    g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) {
        t = Transpose<perm = [0, 2, 3, 1]>(x)
        c = bascule.Conv<channels_last = 1>(t, w)
        r = Sigmoid(c)
        m = Mul(c, r)
        y = Transpose<perm = [0, 3, 1, 2]>(m)
    }
Keeps:
    g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }
"""

from __future__ import annotations

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node
from bascule.optimizer.channels_last import RANKS, Layouts
from bascule.optimizer.channels_last_carriers import (
    CARRIERS,
    Carrier,
    carry_convolution,
    carry_integer_convolution,
    carry_quantized_sum,
)
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.rewrite import Builder, replace

_SEEDS: dict[str, tuple[int, Carrier]] = {
    "Conv": (1, carry_convolution),
    "ConvTranspose": (1, carry_convolution),
    "ConvInteger": (1, carry_integer_convolution),
    "QLinearConv": (3, carry_integer_convolution),
}
"""By operator: which input its weights are, and its carrier."""


@graph_pass
def move_to_channels_last(graph: Graph, context: Context) -> int:
    return sum(_sweep(inner) for inner in list(graph.walk_graphs()))


def _sweep(graph: Graph) -> int:
    if not any(_is_seed(node) for node in graph):
        return 0
    layouts = Layouts(graph)
    count = 0
    for node in graph.nodes:
        if node.graph is not graph:
            continue
        layouts.observe(node)
        carry: Carrier
        if _is_seed(node):
            carry = _SEEDS[node.op_type][1]
        elif node.is_op("QLinearAdd", domain=FUSED_DOMAIN) and _has_last(node, layouts):
            carry = carry_quantized_sum
        elif node.is_op(*CARRIERS) and _has_last(node, layouts):
            carry = CARRIERS[node.op_type]
        else:
            continue
        build = Builder(node)
        results = carry(node, layouts.at(build))
        if results is None:
            layouts.forget(build)
            continue
        replace(node, layouts.standard(node, results, build), build)
        count += 1
    return count


def _has_last(node: Node, layouts: Layouts) -> bool:
    return any(layouts.has_last(value) for value in node.inputs)


def _is_seed(node: Node) -> bool:
    if node.domain not in ("", FUSED_DOMAIN) or node.op_type not in _SEEDS:
        return False
    weight = node.input(_SEEDS[node.op_type][0])
    known = weight is not None and weight.rank in RANKS
    return known and not node.attribute("channels_last", 0)
