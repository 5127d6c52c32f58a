# SPDX-License-Identifier: Apache-2.0
"""The sum of quantized tensors."""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.optimizer.fused.body import Body

_FLOAT = int(DataType.FLOAT)


def define_qlinear_add(node: Node) -> Body:
    """In steps of the result, each scale divided by that of the result beforehand."""
    body = Body(node, "A", "A_scale", "A_zero", "B", "B_scale", "B_zero", "Y_scale", "Y_zero")
    return body.output(add_quantized(body, body.input("A"), body.input("B"), "A", "B", "Y"))


def add_quantized(body: Body, left: Value, right: Value, *names: str) -> Value:
    """The sum of bytes, with the scales and zeros of `names`: of both, and of the result."""
    scales = [_scalar(body, body.input(f"{name}_scale")) for name in names]
    zeros = [_zero(body, f"{name}_zero") for name in names]
    factors = [body.call("Div", scale, scales[2]) for scale in scales[:2]]
    moved = [body.call("Mul", *pair) for pair in zip(factors, zeros)]
    offset = body.call("Sub", zeros[2], body.call("Add", *moved))
    a, b = (
        body.call("Mul", body.call("Cast", value, to=_FLOAT), factor)
        for value, factor in zip((left, right), factors)
    )
    y = body.call("Add", a, body.call("Add", b, offset))
    one = body.constant(np.float32(1))
    return body.call("QuantizeLinear", y, one, body.number(0, left))


def _scalar(body: Body, value: Value) -> Value:
    """One element, which may come as a vector, brought to rank 0."""
    return body.call("Reshape", value, body.constant(np.zeros(0, np.int64)))


def _zero(body: Body, name: str) -> Value:
    given = body.optional(name)
    if given is None:
        return body.constant(np.float32(0))
    return body.call("Cast", _scalar(body, given), to=_FLOAT)
