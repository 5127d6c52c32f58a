# SPDX-License-Identifier: Apache-2.0
"""MatMul with scale, bias, residual and activation; that of integers with sums of bytes."""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.activation import activate
from bascule.optimizer.fused.body import Body
from bascule.optimizer.fused.quantized_sum import add_quantized

_QUANTIZED = (
    *("A", "A_scale", "A_zero", "B", "B_scale", "B_zero", "Y_scale", "Y_zero"),
    *("row", "row_scale", "row_zero", "row_sum_scale", "row_sum_zero"),
    *("residual", "residual_scale", "residual_zero", "sum_scale", "sum_zero"),
)


def define_matmul(node: Node) -> Body:
    """``activation(alpha * A' @ B' + bias + residual)``."""
    body = Body(node, "A", "B", "bias", "residual")
    return _multiplied(body, node, body.input("A"))


def define_project(node: Node) -> Body:
    """MatMul of the normalization of A."""
    body = Body(node, "A", "B", "bias", "residual", "scale", "norm_bias")
    parameters = [body.optional(name) for name in ("scale", "norm_bias")]
    if parameters[1] is None:
        parameters.pop()
    epsilon = float(node.attribute("epsilon", 1e-5))
    kind = str(node.attribute("normalization"))
    normal = body.call(kind, body.input("A"), *parameters, axis=-1, epsilon=epsilon)
    return _multiplied(body, node, normal)


def define_qlinear_matmul(node: Node) -> Body:
    """QLinearMatMul, and QLinearAdd of a row and of a tensor of its shape."""
    body = Body(node, *_QUANTIZED)
    y, own = body.call("QLinearMatMul", *(body.input(name) for name in _QUANTIZED[:8])), "Y"
    for name, total in (("row", "row_sum"), ("residual", "sum")):
        added = body.optional(name)
        if added is None:
            continue
        operands = [(y, own), (added, name)]
        if node.attribute(f"{name}_first", 0):
            operands.reverse()
        (a, a_name), (b, b_name) = operands
        y, own = add_quantized(body, a, b, a_name, b_name, total), total
    return body.output(y)


def _multiplied(body: Body, node: Node, a: Value) -> Body:
    operands: list[Value] = []
    for name, flag in (("A", "transA"), ("B", "transB")):
        operand = a if name == "A" else body.input(name)
        operands.append(_swapped(body, operand) if node.attribute(flag, 0) else operand)
    y = body.call("MatMul", *operands)
    alpha = float(node.attribute("alpha", 1.0))
    if alpha != 1.0:
        y = body.call("Mul", y, body.number(alpha, y))
    for name in ("bias", "residual"):
        addend = body.optional(name)
        if addend is not None:
            y = body.call("Add", y, addend)
    return body.output(activate(body, node, y))


def _swapped(body: Body, x: Value) -> Value:
    """With the last two axes swapped, of which a vector has only one."""
    if x.rank is not None:
        axes = list(range(x.rank))
        perm = [*axes[:-2], *reversed(axes[-2:])]
        return body.call("Transpose", x, perm=perm)
    outer = body.call("Shape", x, end=-2)
    rows = body.call("Shape", x, start=-2, end=-1)
    columns = body.call("Shape", x, start=-1)
    products = [body.call("ReduceProd", sizes) for sizes in (outer, rows)]
    flat = body.call("Concat", *products, columns, axis=0)
    stack = body.call("Transpose", body.call("Reshape", x, flat, allowzero=1), perm=[0, 2, 1])
    swapped = body.call("Concat", outer, columns, rows, axis=0)
    return body.call("Reshape", stack, swapped, allowzero=1)
