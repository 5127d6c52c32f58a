# SPDX-License-Identifier: Apache-2.0
"""Leave out Relu and Clip in front of a QuantizeLinear whose range already cuts off as much.

Before:
    g (float[N] x) => (uint8[N] y) <float s = {0.5}, uint8 z = {0}> {
        r = Relu(x)
        y = QuantizeLinear(r, s, z)
    }
After:
    g (float[N] x) => (uint8[N] y) <float s = {0.5}, uint8 z = {0}> { y = QuantizeLinear(x, s, z) }
Before:
    g (float[N] x) => (int8[N] y) <
        float s = {0.0234375}, int8 z = {-128}, float low = {0}, float high = {6}
    > {
        r = Clip(x, low, high)
        y = QuantizeLinear(r, s, z)
    }
After:
    g (float[N] x) => (int8[N] y) <float s = {0.0234375}, int8 z = {-128}> {
        y = QuantizeLinear(x, s, z)
    }
Keeps:
    g (float[N] x) => (uint8[N] y) <float s = {0.5}, uint8 z = {3}> {
        r = Relu(x)
        y = QuantizeLinear(r, s, z)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import constant_of, op, values
from bascule.optimizer.quantization import quantized
from bascule.optimizer.rewrite import Match, rule

x, scale = values("x", "scale")

_BOUNDED = op["Relu", "Clip"](x, ...)


@rule(op.QuantizeLinear(_BOUNDED, scale, ...))
def eliminate_quantized_relu(match: Match) -> Value | None:
    y, bounds = quantized(match.root), _bounds(match.node(_BOUNDED))
    if y is None or not y.of_tensor or bounds is None:
        return None
    info = np.iinfo(y.dtype.numpy)
    zero, step = int(y.zero), y.scale
    # A bound does nothing if it already gives the first or the last integer.
    low, high = (np.rint(np.float32(bound) / step) + zero for bound in bounds)
    if low > info.min or high < info.max:
        return None
    root = match.root
    return match.build.QuantizeLinear(
        match[x], *root.inputs[1:], type=root.output.type, **root.attributes
    )


def _bounds(node: Node) -> tuple[float, float] | None:
    if node.is_op("Relu"):
        return 0.0, np.inf
    bounds = [-np.inf, np.inf]
    for index in range(2):
        given = node.input(index + 1)
        if given is not None:
            constant = constant_of(given)
            if constant is None or constant.size != 1:
                return None
            bounds[index] = float(constant.numpy().reshape(()))
    return bounds[0], bounds[1]
