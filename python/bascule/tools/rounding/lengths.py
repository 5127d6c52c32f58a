# SPDX-License-Identifier: Apache-2.0
"""How many terms the results of a node add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bascule.ir.graph import Graph, Node

Shapes = Sequence[tuple[int, ...]]
"""Of the inputs of a node; () for one that is left out."""


def length_of(node: Node, shapes: Shapes) -> int:
    """The terms of the longest sum in `node`, 1 where it adds nothing up."""
    rule = _RULES.get(node.op_type)
    nested = [_nested(graph) for graph in node.subgraphs]
    try:
        own = 1 if rule is None else rule(node, shapes)
    except (IndexError, KeyError, TypeError):  # an input without a known shape
        own = max((math.prod(shape) for shape in shapes), default=1)
    return max(1, own, *nested)


def _nested(graph: Graph) -> int:
    """Of the nodes of a body: by the sizes that are known before it runs."""
    found = 1
    for node in graph:
        shapes = [
            tuple(dim if isinstance(dim, int) else 1 for dim in (value.shape or ()))
            if value is not None
            else ()
            for value in node.inputs
        ]
        found = max(found, length_of(node, shapes))
    return found


def _product(node: Node, shapes: Shapes) -> int:
    a = shapes[0]
    if node.op_type == "Gemm" and node.attribute("transA", 0):
        return a[0]
    return a[-1]


def _convolution(node: Node, shapes: Shapes) -> int:
    weight = shapes[3 if node.op_type == "QLinearConv" else 1]
    return math.prod(weight[1:])


def _whole(node: Node, shapes: Shapes) -> int:
    return math.prod(shapes[0])


def _last(node: Node, shapes: Shapes) -> int:
    return shapes[0][-1] if shapes[0] else 1


def _from_axis(node: Node, shapes: Shapes) -> int:
    axis = int(node.attribute("axis", -1))
    return math.prod(shapes[0][axis:])


def _along_axis(node: Node, shapes: Shapes) -> int:
    return shapes[0][int(node.attribute("axis", -1))]


def _image(node: Node, shapes: Shapes) -> int:
    return math.prod(shapes[0][1:])


def _window(node: Node, shapes: Shapes) -> int:
    return math.prod(node.attribute("kernel_shape", [1]))


def _recurrent(node: Node, shapes: Shapes) -> int:
    """Along one gate and over all steps, each of which reads the one before."""
    steps = shapes[0][0]
    return (shapes[1][-1] + shapes[2][-1]) * steps


def _attention(node: Node, shapes: Shapes) -> int:
    query, key = shapes[:2]
    past = shapes[4] if len(shapes) > 4 else ()
    keys = key[-2] + (past[-2] if past else 0)
    return max(query[-1], keys) + keys


_RULES: dict[str, Callable[[Node, Shapes], int]] = {
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum"), _product),
    **dict.fromkeys(("Project", "SplitMatMul", "MatMulNBits", "ProjectNBits"), _product),
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("PointwiseDepthwiseConv", "DeformConv"), _convolution),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2"), _whole),
    **dict.fromkeys(("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd"), _whole),
    **dict.fromkeys(("Sum", "Mean"), lambda node, shapes: len(shapes)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _from_axis),
    **dict.fromkeys(("SkipLayerNormalization", "SkipRMSNormalization"), _last),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LpNormalization"), _along_axis),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _image),
    **dict.fromkeys(("MeanVarianceNormalization", "CumSum", "CumProd"), _whole),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool"), _image),
    **dict.fromkeys(("AveragePool", "LpPool"), _window),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Attention": _attention,
    **dict.fromkeys(("Gelu", "Mish", "Swish", "HardSwish"), lambda node, shapes: 9),
    **dict.fromkeys(("DFT", "STFT", "ScatterElements", "ScatterND", "Det"), _whole),
}


def growth_of(nodes: Sequence[Node], shapes: dict[int, tuple[int, ...]]) -> float:
    """The sum of the square roots of the lengths; `shapes` are those of values, by id."""
    total = 0.0
    for node in nodes:
        known = [() if value is None else _shape(value, shapes) for value in node.inputs]
        total += math.sqrt(length_of(node, known))
    return max(total, 1.0)


def _shape(value: Any, shapes: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
    found = shapes.get(id(value))
    if found is not None:
        return found
    return tuple(dim if isinstance(dim, int) else 1 for dim in (value.shape or ()))
