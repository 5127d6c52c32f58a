# SPDX-License-Identifier: Apache-2.0
"""Make the signed bytes that integer products read unsigned, with zero points that are 128 larger.

The products take unsigned bytes, and would copy signed ones. All that the bytes pass through on
their way has to follow.

Before:
    g (float[2,4] x) => (float[2,2] y) <
        float s = {0.5}, int8 z = {7}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8 wz = {0},
        float t = {0.25}, int8 u = {-3}, int8[4] b = {4, -9, -128, 127}
    > {
        a = QuantizeLinear(x, s, z)
        c = bascule.QLinearAdd(a, s, z, b, s, z, t, u)
        m = QLinearMatMul(c, t, u, w, s, wz, t, u)
        y = DequantizeLinear(m, t, u)
    }
After:
    g (float[2,4] x) => (float[2,2] y) <
        float s = {0.5}, uint8 z = {135}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8 wz = {0},
        float t = {0.25}, uint8 u = {125}, int8 v = {-3}, uint8[4] b = {132, 119, 0, 255}
    > {
        a = QuantizeLinear(x, s, z)
        c = bascule.QLinearAdd(a, s, z, b, s, z, t, u)
        m = QLinearMatMul(c, t, u, w, s, wz, t, v)
        y = DequantizeLinear(m, t, v)
    }
Keeps:
    g (int8[2,4] x) => (int8[2,2] y) <
        float s = {0.5}, int8 z = {7}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8 wz = {0}
    > { y = QLinearMatMul(x, s, z, w, s, wz, s, z) }
Keeps:
    g (float[2,4] x, bool c) => (int8[2,2] y) <
        float s = {0.5}, int8 z = {7}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8 wz = {0},
        int8[2,2] v = {1, 2, 3, 4}
    > {
        a = QuantizeLinear(x, s, z)
        y = If(c) <
            then_branch = t () => (int8[2,2] m) { m = QLinearMatMul(a, s, z, w, s, wz, s, z) },
            else_branch = e () => (int8[2,2] n) { n = Neg(v) }
        >
    }
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.context import Context
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import Builder

_OUTPUT = -1

Port = tuple[tuple[int, int], ...]
"""Bytes of one type: (input or output, input that is its zero point) of a node."""

_PORTS: dict[str, tuple[Port, ...]] = {
    "QuantizeLinear": (((_OUTPUT, 2),),),
    "DequantizeLinear": (((0, 2),),),
    "QLinearConv": (((0, 2),), ((_OUTPUT, 7), (9, 11), (_OUTPUT, 13))),
    "QLinearMatMul": (
        *(((0, 2),), ((3, 5),)),
        ((_OUTPUT, 7), (8, 10), (_OUTPUT, 12), (13, 15), (_OUTPUT, 17)),
    ),
    "QLinearAdd": (((0, 2), (3, 5), (_OUTPUT, 7)),),
    "MatMulInteger": (((0, 2),), ((1, 3),)),
    "ConvInteger": (((0, 2),),),
}
_PRODUCTS = frozenset(("QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger"))
"""They copy signed bytes of input 0."""

_ADDENDS = {11: 9, 13: 9, 10: 8, 12: 8, 15: 13, 17: 13}
"""Zero points that are there if another input is."""

# fmt: off
_MOVES = frozenset((
    "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice",
    "SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))
# fmt: on

_LARGE = 1 << 20
"""Bytes of constants that are not worth a copy: what is picked from them is converted instead."""


@graph_pass
def move_to_unsigned(graph: Graph, context: Context) -> int:
    return sum(_Groups(inner).move() for inner in list(graph.walk_graphs()))


class _Groups:
    """Values that must have one type, found by joining those of each port."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parent: dict[Value, Value] = {}
        self.fixed: set[Value] = set()
        for node in graph:
            for value in filter(_is_signed, (*node.inputs, *node.outputs)):
                self.parent.setdefault(value, value)
        for node in graph:
            self._join(node)

    def move(self) -> int:
        fixed = {self._find(value) for value in self.fixed}
        wanted = {
            self._find(value)
            for node in self.graph
            for value in node.inputs[:1]
            if node.op_type in _PRODUCTS and value in self.parent
        }
        moved = {value for value in self.parent if self._find(value) in wanted - fixed}
        for node in self.graph.nodes:
            for port in _ports(node):
                if any(value in moved for value in _members(node, port)):
                    _move_constants(node, port)
        for value in moved:
            if value.producer is not None and _picks(value.producer):
                _convert(value)
            else:
                value.type = TensorType(DataType.UINT8, value.shape)
        return len(moved)

    def _find(self, value: Value) -> Value:
        while self.parent[value] is not value:
            value = self.parent[value]
        return value

    def _join(self, node: Node) -> None:
        known: set[Value] = set()
        for port in _ports(node):
            members = [value for value in _members(node, port) if value in self.parent]
            known.update(members)
            for value in members[1:]:
                self.parent[self._find(value)] = self._find(members[0])
            if members and not _can_move(node, port):
                self.fixed.add(members[0])
        for value in filter(_is_signed, (*node.inputs, *node.outputs)):
            # Neither what an outer graph computes for this one, nor what a nested one reads.
            nodes = [value.producer, *(use.node for use in value.uses)]
            ours = all(node is not None and node.graph is self.graph for node in nodes)
            if value not in known or not ours or value.is_graph_output:
                self.fixed.add(value)


def _is_signed(value: Value | None) -> TypeGuard[Value]:
    return value is not None and value.dtype is DataType.INT8 and constant_of(value) is None


def _picks(node: Node) -> bool:
    """True for Gather from a large constant."""
    table = constant_of(node.input(0)) if node.is_op("Gather") else None
    return table is not None and table.nbytes >= _LARGE


def _ports(node: Node) -> tuple[Port, ...]:
    if node.domain not in (ONNX_DOMAIN, FUSED_DOMAIN):
        return ()
    if node.op_type in _MOVES:
        return (((_OUTPUT, _OUTPUT),) if _picks(node) else ((0, _OUTPUT), (_OUTPUT, _OUTPUT)),)
    if node.op_type == "Concat":
        inputs = [(index, _OUTPUT) for index in range(len(node.inputs))]
        return ((*inputs, (_OUTPUT, _OUTPUT)),)
    return tuple(
        tuple(pair for pair in port if node.input(_ADDENDS.get(pair[1], 0)) is not None)
        for port in _PORTS.get(node.op_type, ())
    )


def _members(node: Node, port: Port) -> list[Value]:
    found = [node.outputs[0] if index == _OUTPUT else node.input(index) for index, _ in port]
    return [value for value in found if value is not None]


def _can_move(node: Node, port: Port) -> bool:
    """True if the zero points are constants, as are the other numbers that have to follow."""
    if node.op_type == "QuantizeLinear" and node.attribute("output_dtype", 0):
        return False
    zeros = [node.input(zero) for _, zero in port if zero != _OUTPUT]
    if not all(zero is not None and constant_of(zero) is not None for zero in zeros):
        return False
    constants = [constant_of(value) for value in _members(node, port)]
    return all(constant is None or constant.nbytes < _LARGE for constant in constants)


def _move_constants(node: Node, port: Port) -> None:
    build = Builder(node)
    for index in {index for pair in port for index in pair if index != _OUTPUT}:
        value = node.input(index)
        constant = None if value is None else constant_of(value)
        if value is not None and constant is not None:
            unsigned = (constant.numpy().astype(np.int16) + 128).astype(np.uint8)
            node.set_input(index, build.constant(unsigned, value.name))


def _convert(value: Value) -> None:
    """Let all readers of signed bytes read unsigned ones."""
    node = value.producer
    assert node is not None and node.graph is not None
    graph, one = node.graph, node.graph.constant(np.float32(1))
    zeros = [graph.constant(np.int8(0)), graph.constant(np.uint8(128))]
    quantize = Node("QuantizeLinear", [one, one, zeros[1]], 1)
    value.replace_uses(quantize.output)
    dequantize = Node("DequantizeLinear", [value, one, zeros[0]], 1)
    dequantize.output.type = TensorType(DataType.FLOAT, value.shape)
    quantize.output.type = TensorType(DataType.UINT8, value.shape)
    quantize.set_input(0, dequantize.output)
    graph.insert_after(node, dequantize)
    graph.insert_after(dequantize, quantize)
