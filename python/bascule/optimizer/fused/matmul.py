# SPDX-License-Identifier: Apache-2.0
"""MatMul with scale, bias, residual and activation."""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.activation import activate
from bascule.optimizer.fused.body import Body


def define_matmul(node: Node) -> Body | None:
    """``activation(alpha * A' @ B' + bias + residual)``."""
    body = Body(node, "A", "B", "bias", "residual")
    operands: list[Value] = []
    for name, flag in (("A", "transA"), ("B", "transB")):
        operand = body.input(name)
        if node.attribute(flag, 0):
            if operand.rank is None or operand.rank < 2:
                return None
            axes = list(range(operand.rank))
            operand = body.call("Transpose", operand, perm=[*axes[:-2], axes[-1], axes[-2]])
        operands.append(operand)
    y = body.call("MatMul", *operands)
    alpha = float(node.attribute("alpha", 1.0))
    if alpha != 1.0:
        y = body.call("Mul", y, body.number(alpha, y))
    for name in ("bias", "residual"):
        addend = body.optional(name)
        if addend is not None:
            y = body.call("Add", y, addend)
    return body.output(activate(body, node, y))
