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
    scales = [_scalar(body, body.input(f"{name}_scale")) for name in "ABY"]
    zeros = [_zero(body, f"{name}_zero") for name in "ABY"]
    factors = [body.call("Div", scale, scales[2]) for scale in scales[:2]]
    moved = [body.call("Mul", *pair) for pair in zip(factors, zeros)]
    offset = body.call("Sub", zeros[2], body.call("Add", *moved))
    a, b = (
        body.call("Mul", body.call("Cast", body.input(name), to=_FLOAT), factor)
        for name, factor in zip("AB", factors)
    )
    y = body.call("Add", a, body.call("Add", b, offset))
    zero = body.number(0, body.input("A"))
    return body.output(body.call("QuantizeLinear", y, body.constant(np.float32(1)), zero))


def _scalar(body: Body, value: Value) -> Value:
    """One element, which may come as a vector, brought to rank 0."""
    return body.call("Reshape", value, body.constant(np.zeros(0, np.int64)))


def _zero(body: Body, name: str) -> Value:
    given = body.optional(name)
    if given is None:
        return body.constant(np.float32(0))
    return body.call("Cast", _scalar(body, given), to=_FLOAT)
