# SPDX-License-Identifier: Apache-2.0
"""What each node of a graph computes and moves, at the sizes that a run had."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.tools import cost

Made = Sequence[tuple[str, Sequence[int]]]
"""(element type, shape) of each tensor that a node makes."""

VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"])
"""Operators that show memory in another shape."""

# fmt: off
_MOVES = frozenset([
    "Cast", "CastLike", "Concat", "DepthToSpace", "Expand", "Gather", "GatherElements",
    "GatherND", "Pad", "Scatter", "ScatterElements", "ScatterND", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "Tile", "Transpose", "TensorScatter", "ConstantOfShape", "Range",
    "Compress", "NonZero", "OneHot", "CacheRows", "UpdateCache", "Constant", "If", "Loop",
    "Scan", "SequenceAt", "SequenceConstruct", "SequenceInsert", "ConcatFromSequence",
    "SplitToSequence",
])
# fmt: on
"""Operators that compute nothing."""

_REDUCTIONS = frozenset(["ArgMax", "ArgMin", "GlobalAveragePool", "GlobalMaxPool"])
"""Operators of one operation an element that they read."""

_LOOK_UPS = frozenset(["Gather", "GatherElements", "GatherND", "GatherBlockQuantized"])


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call of a node."""

    flops: int | None
    """Operations; a multiply-add counts 2. None where a size is unknown."""
    bytes: int | None
    """Read and written at least: each input and output once."""

    @property
    def intensity(self) -> float | None:
        """Operations a byte."""
        return self.flops / self.bytes if self.flops and self.bytes else None


def costs_of(
    graph: Graph, inputs: Mapping[str, Sequence[int]], made: Mapping[str, Made]
) -> dict[str, Cost]:
    """The cost of every node, by its name.

    `inputs` are the shapes of the graph's inputs, `made` what nodes made, by their names; the types
    of the graph's values are set to these.
    """
    for value in graph.inputs:
        if value.name in inputs and isinstance(value.type, TensorType):
            value.type = TensorType(value.type.dtype, tuple(inputs[value.name]))
    for node in _nodes(graph):
        _set_types(node, made.get(node.name, ()))
    return {node.name: cost_of(node) for node in _nodes(graph)}


def _nodes(graph: Graph) -> Iterator[Node]:
    """Those of nested graphs too, but for the bodies of fused nodes, which are one kernel."""
    for each in graph.walk_graphs():
        if each.parent is None or each.parent.domain != FUSED_DOMAIN:
            yield from each


def _set_types(node: Node, made: Made) -> None:
    tensors = [value for value in node.outputs if not value.is_unused]
    if len(tensors) != len(made):
        return
    for value, (name, shape) in zip(tensors, made):
        try:
            dtype = DataType[name.upper()]
        except KeyError:
            continue
        value.type = TensorType(dtype, tuple(shape))


def cost_of(node: Node) -> Cost:
    """What one call of `node` computes and moves, where the sizes of its values are known."""
    return Cost(operations(node), moved_bytes(node))


def operations(node: Node) -> int | None:
    """As cost.flops, but none for what only moves data, and all of chains and of reductions."""
    if node.op_type in VIEWS or node.op_type in _MOVES:
        return 0
    if node.domain == FUSED_DOMAIN and node.op_type == "Elementwise":
        body = node.attribute("body")
        shape = node.outputs[0].static_shape
        steps = len(body) if isinstance(body, Graph) else 1
        return None if shape is None else steps * math.prod(shape)
    if node.op_type.startswith("Reduce") or node.op_type in _REDUCTIONS:
        source = node.input(0)
        read = None if source is None else source.static_shape
        return None if read is None else math.prod(read)
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        shape = node.outputs[0].static_shape
        return None if shape is None else math.prod((*shape, *node.attribute("kernel_shape", ())))
    return cost.flops(node)


def moved_bytes(node: Node) -> int | None:
    """Bytes of the inputs that are read and of the outputs that are written; 0 of a view."""
    if node.op_type in VIEWS or node.op_type in ("Shape", "Size"):
        return 0
    outputs = [_bytes(value) for value in node.outputs if not value.is_unused]
    inputs = []
    for index, value in enumerate(node.inputs):
        if value is None or any(value is other for other in node.inputs[:index]):
            continue
        if index == 0 and node.op_type in _LOOK_UPS:
            inputs.append(outputs[0] if outputs else None)
        else:
            inputs.append(_bytes(value))
    sizes = [*inputs, *outputs]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _bytes(value: Value) -> int | None:
    shape = value.static_shape
    if shape is None or value.dtype is None:
        return None
    return (math.prod(shape) * value.dtype.bits + 7) // 8
