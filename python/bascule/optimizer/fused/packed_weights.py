# SPDX-License-Identifier: Apache-2.0
"""A product with weights that are packed by blocks."""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.body import Body

_FLOAT = int(DataType.FLOAT)


def define_matmul_nbits(node: Node) -> Body:
    """``A @ ((B - zero_points) * scales)' + bias``, a factor and a zero for each block of K."""
    body = Body(node, "A", "B", "scales", "zero_points", "g_idx", "bias")
    a = body.input("A")
    return body.output(body.call("CastLike", _product(body, node, a), a))


def define_project_nbits(node: Node) -> Body:
    """MatMulNBits of RMSNormalization(X); swish(first half) * second half of it; plus residual."""
    body = Body(node, "X", "B", "scales", "zero_points", "bias", "norm", "residual")
    x = body.input("X")
    norm, residual = body.optional("norm"), body.optional("residual")
    if norm is not None:
        epsilon = float(node.attribute("epsilon", 1e-5))
        x = body.call("RMSNormalization", x, norm, axis=-1, epsilon=epsilon)
    y = _product(body, node, x)
    if node.attribute("gated", 0):
        halves = body.graph.append(Node("Split", [y], 2, {"axis": -1, "num_outputs": 2})).outputs
        y = body.call("Mul", body.call("Swish", halves[0]), halves[1])
    y = body.call("CastLike", y, body.input("X"))
    return body.output(y if residual is None else body.call("Add", y, residual))


def _product(body: Body, node: Node, a: Value) -> Value:
    """The product of `a` with the weights, in float."""
    columns, inside = int(node.attribute("N")), int(node.attribute("K"))
    bits, size = int(node.attribute("bits", 4)), int(node.attribute("block_size"))
    blocks = -(-inside // size)
    spread = _Spread(body, columns, blocks, inside, size)
    weights = _unpacked(body, body.input("B"), bits, columns, blocks * size, inside)
    values = node.attribute("values")
    if values:
        table = body.constant(np.array(values, np.float32))
        weights = body.call("Gather", table, body.call("Cast", weights, to=int(DataType.INT64)))
    else:
        zeros: Value = body.constant(np.float32(1 << (bits - 1)))
        given = body.optional("zero_points")
        if given is not None:
            if given.dtype is DataType.UINT8:
                bytes_ = -(-blocks * bits // 8)
                given = _unpacked(body, given, bits, columns, bytes_ * 8 // bits, blocks)
            zeros = spread(body.call("Cast", given, to=_FLOAT))
        weights = body.call("Sub", body.call("Cast", weights, to=_FLOAT), zeros)
    scales = spread(body.call("Cast", body.input("scales"), to=_FLOAT))
    weights = body.call("Mul", weights, scales)
    y = body.call(
        "MatMul", body.call("Cast", a, to=_FLOAT), body.call("Transpose", weights, perm=[1, 0])
    )
    bias = body.optional("bias")
    if bias is not None:
        y = body.call("Add", y, body.call("Cast", bias, to=_FLOAT))
    return y


class _Spread:
    """From a number for each block to one for each of the weights."""

    def __init__(self, body: Body, columns: int, blocks: int, inside: int, size: int) -> None:
        self._body = body
        self._shape = body.constant(np.array([columns, blocks]))
        groups = body.optional("g_idx")
        if groups is None:
            groups = body.constant(np.arange(inside) // size)
        else:
            groups = body.call(
                "Slice", groups, body.constant(np.array([0])), body.constant(np.array([inside]))
            )
        self._groups = groups

    def __call__(self, numbers: Value) -> Value:
        table = self._body.call("Reshape", numbers, self._shape)
        return self._body.call("Gather", table, self._groups, axis=1)


def _unpacked(body: Body, x: Value, bits: int, rows: int, each: int, kept: int) -> Value:
    """The first `kept` of the `each` numbers of a row, the lowest bits of a byte first."""
    pieces = []
    mask = body.constant(np.array((1 << bits) - 1, np.uint8))
    for shift in range(0, 8, bits):
        by = body.constant(np.array(shift, np.uint8))
        moved = body.call("BitShift", x, by, direction="RIGHT")
        last = body.constant(np.array([-1]))
        pieces.append(body.call("Unsqueeze", body.call("BitwiseAnd", moved, mask), last))
    apart = body.call("Concat", *pieces, axis=-1)
    whole = body.call("Reshape", apart, body.constant(np.array([rows, each])))
    start, end, axis = (body.constant(np.array([n])) for n in (0, kept, 1))
    return body.call("Slice", whole, start, end, axis)
