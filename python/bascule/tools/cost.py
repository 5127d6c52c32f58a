# SPDX-License-Identifier: Apache-2.0
"""How much a graph computes and holds, from its shapes alone."""

from __future__ import annotations

import math

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Use, Value
from bascule.ir.replaced import PRODUCTS


def is_product(node: Node) -> bool:
    """Whether a node's time goes into multiply-adds: products, convolutions, attention, RNNs."""
    return node.domain in ("", FUSED_DOMAIN) and node.op_type in PRODUCTS


def flops(node: Node) -> int | None:
    """Floating-point operations of one run (a multiply-add counts 2); None if a size is unknown.

    Products count in full, every other operator as one operation an output element.
    """
    output = node.outputs[0].static_shape if node.outputs else ()
    if output is None:
        return None
    elements = math.prod(output)
    if not is_product(node):
        return elements
    if node.op_type == "MatMulNBits":
        return 2 * elements * int(node.attribute("K", 0))
    if node.op_type in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Project"):
        depth = _shared_size(node)
        return None if depth is None else 2 * elements * depth
    if node.op_type == "SplitMatMul":  # the parts are equal
        depth = _shared_size(node)
        return None if depth is None else 2 * elements * depth * len(node.outputs)
    if node.op_type == "ProjectNBits":
        rows = elements // max(output[-1], 1) if output else 0
        return 2 * rows * int(node.attribute("K", 0)) * int(node.attribute("N", 0))
    if node.op_type == "PointwiseDepthwiseConv":
        return _pointwise_depthwise(node, elements)
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        weight = _shape(node, 3 if node.op_type == "QLinearConv" else 1)
        return None if weight is None else 2 * elements * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        x, weight = _shape(node, 0), _shape(node, 1)
        if x is None or weight is None:
            return None
        return 2 * math.prod(x) * math.prod(weight[1:])
    if node.op_type == "Attention":
        q, k, past = _shape(node, 0), _shape(node, 1), _shape(node, 4)
        if q is None or k is None:
            return None
        # Scores and the weighted sum each take one multiply-add per query, key and feature.
        return 4 * math.prod(q) * (k[-2] + (0 if past is None else past[-2]))
    if node.op_type in ("LSTM", "GRU", "RNN"):
        w, r, x = _shape(node, 1), _shape(node, 2), _shape(node, 0)
        if w is None or r is None or x is None:
            return None
        return 2 * x[0] * x[1] * (math.prod(w) + math.prod(r))
    return elements


def _pointwise_depthwise(node: Node, elements: int) -> int | None:
    """A 1x1 convolution, then one of its channels with a filter each."""
    x, weight, taps = _shape(node, 0), _shape(node, 1), _shape(node, 3)
    if x is None or weight is None or taps is None:
        return None
    pixels = math.prod(x[:-1])
    return 2 * pixels * math.prod(weight[:2]) + 2 * elements * math.prod(taps[1:])


def _shape(node: Node, index: int) -> tuple[int, ...] | None:
    value = node.input(index)
    return None if value is None else value.static_shape


def _shared_size(node: Node) -> int | None:
    """The size that a product sums over."""
    a = _shape(node, 0)
    if not a:
        return None
    transposed = bool(node.attribute("transA", 0))
    return a[-2] if transposed and len(a) > 1 else a[-1]


def parameter_count(graph: Graph) -> int:
    """Elements of all floating-point constants, nested graphs included."""
    return sum(
        value.constant.size
        for each in graph.walk_graphs()
        for value in each.initializers.values()
        if value.constant is not None and value.constant.dtype.is_float
    )


def weight_bytes(graph: Graph) -> int:
    """Bytes of all constants, nested graphs included."""
    return sum(
        value.constant.nbytes
        for each in graph.walk_graphs()
        for value in each.initializers.values()
        if value.constant is not None
    )


def streamed_bytes(graph: Graph) -> int:
    """Bytes of the constants that a run reads in full: not those of which it gathers a few rows."""
    return sum(
        value.constant.nbytes
        for each in graph.walk_graphs()
        for value in each.initializers.values()
        if value.constant is not None and any(not _is_looked_up(use) for use in value.uses)
    )


def _is_looked_up(use: Use) -> bool:
    return use.index == 0 and use.node.op_type in ("Gather", "GatherBlockQuantized")


def activation_bytes(graph: Graph) -> int | None:
    """The most bytes of values alive at once when nodes run in order; None if sizes are unknown."""
    last_use: dict[int, int] = {}
    nodes = graph.nodes
    for position, node in enumerate(nodes):
        reads = [v for v in node.inputs if v is not None]
        for nested in node.subgraphs:
            reads.extend(nested.captures())
        for value in reads:
            last_use[id(value)] = position
    outputs = {id(value) for value in graph.outputs}
    alive = peak = 0
    dying: dict[int, list[int]] = {}
    for position, node in enumerate(nodes):
        for value in node.outputs:
            if value.is_unused:
                continue
            size = _bytes(value)
            if size is None:
                return None
            alive += size
            if id(value) not in outputs:
                dying.setdefault(last_use.get(id(value), position), []).append(size)
        peak = max(peak, alive)
        alive -= sum(dying.pop(position, []))
    return peak


def _bytes(value: Value) -> int | None:
    shape = value.static_shape
    if shape is None or value.dtype is None:
        return None
    return (math.prod(shape) * value.dtype.bits + 7) // 8
