# SPDX-License-Identifier: Apache-2.0
"""Give a reshaped constant its shape; the elements stay where they are.

Before:
    g (float[N,2,3] x) => (float[N,2,3] y) <
        float[6] c = {1, 2, 3, 4, 5, 6}, int64[2] shape = {2, 3}, int64[1] axis = {0}
    > {
        a = Reshape(c, shape)
        b = Unsqueeze(a, axis)
        y = Add(x, b)
    }
After:
    g (float[N,2,3] x) => (float[N,2,3] y) <float[1,2,3] c = {1, 2, 3, 4, 5, 6}> {
        y = Add(x, c)
    }
"""

from __future__ import annotations

import math
from dataclasses import replace

from bascule.ir.constant import Constant
from bascule.ir.graph import Value
from bascule.optimizer.pattern import constant_of, constants, op
from bascule.optimizer.rewrite import Match, rule

(c,) = constants("c")


@rule(op["Reshape", "Flatten", "Squeeze", "Unsqueeze"](c, ...))
def fold_reshaped_constants(match: Match) -> Value | None:
    constant, shape = constant_of(match[c]), match.root.output.static_shape
    if constant is None or shape is None or math.prod(shape) != constant.size:
        return None
    return match.build.constant(reshaped(constant, shape), match.root.output.name)


def reshaped(constant: Constant, shape: tuple[int, ...]) -> Constant:
    """The same elements in another shape."""
    if constant.strings is not None:
        return replace(constant, shape=shape, strings=constant.strings.reshape(shape))
    return Constant(constant.dtype, shape, raw=constant.raw, mapped=constant.mapped)
