# SPDX-License-Identifier: Apache-2.0
"""Pooling with the Lp norm, whose p need not have been a whole number."""

from __future__ import annotations

import math

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node, Value


@rewrite("LpPool", until=1, types=True)
def lp_pool(node: Node, build: Builder) -> None:
    x = node.inputs[0]
    assert x is not None
    kernel = node.attributes.get("kernel_shape")
    if kernel is None:
        raise build.invalid("attribute 'kernel_shape' is missing")
    p = node.attributes.pop("p", 2.0)
    if p == int(p):
        node.attributes["p"] = int(p)
        return
    # The average over all places of the window, the padding included, is the sum but for a factor.
    mean = build.op("AveragePool", _power(build, x, p), count_include_pad=1, **node.attributes)
    total = build.op("Mul", mean, build.like(float(math.prod(kernel)), x))
    build.become("Pow", total, build.like(1.0 / p, x))


@rewrite("GlobalLpPool", until=1, types=True)
def global_lp_pool(node: Node, build: Builder) -> None:
    x = node.inputs[0]
    assert x is not None
    p = node.attributes.pop("p", 2.0)
    if p == int(p):
        node.attributes["p"] = int(p)
        return
    total = build.op("ReduceSum", _power(build, x, p), build.axes_from(2, x))
    build.become("Pow", total, build.like(1.0 / p, x))


def _power(build: Builder, x: Value, p: float) -> Value:
    return build.op("Pow", build.op("Abs", x), build.like(p, x))
