# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear, which the rewrites of quantized operators are made of."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.arguments import CONTRIB_DOMAIN, check, integer, required, scalar
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType


@rewrite("QuantizeLinear", "DequantizeLinear", until=0, domain=CONTRIB_DOMAIN)
def as_in_the_standard(node: Node, build: Builder) -> None:
    """One scale for all elements, unless the axis of a vector of scales is given."""
    check(node, build, 0, 1, most=3)
    x, scale, zero = required(node, build, 0), required(node, build, 1), node.input(2)
    if "axis" in node.attributes:
        build.become(node.op_type, x, scale, zero, axis=integer(node, build, "axis"))
        return
    zero = None if zero is None else scalar(zero, build)
    build.become(node.op_type, x, scalar(scale, build), zero)


def dequantize(build: Builder, x: Value, scale: Value, zero: Value | None) -> Value:
    """``(x - zero) * scale`` with one scale and one zero point, which is 0 if left out."""
    zero = None if zero is None else scalar(zero, build)
    y = build.op("DequantizeLinear", x, scalar(scale, build), zero)
    if scale.dtype is not None:
        y.type = TensorType(scale.dtype, x.shape)
    return y


def become_quantized(
    build: Builder, y: Value, scale: Value, zero: Value | None, like: Value
) -> None:
    """Make the node the quantized form of `y`, of the type of `like` without a zero point."""
    zero = build.like(0, like) if zero is None else scalar(zero, build)
    build.become("QuantizeLinear", y, scalar(scale, build), zero)
