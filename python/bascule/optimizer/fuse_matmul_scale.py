# SPDX-License-Identifier: Apache-2.0
"""Fuse the multiplication of a product, or of an operand, by one number into MatMul.

Before:
    g (float[2,3,8] x, float[2,8,4] w) => (float[2,3,4] y) {
        c = Constant<value_float = 0.125>()
        t = MatMul(x, w)
        y = Mul(t, c)
    }
After:
    g (float[2,3,8] x, float[2,8,4] w) => (float[2,3,4] y) {
        y = bascule.MatMul<alpha = 0.125>(x, w)
    }
"""

from __future__ import annotations

import math

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.attribute_precision import fits_attribute
from bascule.optimizer.normalization import reshaped
from bascule.optimizer.pattern import any_of, constant_of, constants, fused, op, optional, values
from bascule.optimizer.rewrite import Match, rule

a, b = values("a", "b")
bias, row = values("bias", "row")
(c,) = constants("c")

_PRODUCT = any_of(op.MatMul(a, b), fused.MatMul(a, b, activation=lambda name: not name))


@rule(op.Mul(_PRODUCT, c), op.Div(_PRODUCT, c))
def fuse_matmul_scale(match: Match) -> Value | None:
    return _scaled(match, match.node(_PRODUCT), divide=match.root.is_op("Div"))


_SCALED_LEFT, _SCALED_RIGHT = op["Mul", "Div"](a, c), op["Mul", "Div"](b, c)


@rule(
    op.MatMul(_SCALED_LEFT, b),
    op.MatMul(a, _SCALED_RIGHT),
    fused.MatMul(_SCALED_LEFT, b, ...),
    fused.MatMul(a, _SCALED_RIGHT, ...),
)
def fuse_matmul_operand_scale(match: Match) -> Value | None:
    inner = _SCALED_LEFT if _SCALED_LEFT in match else _SCALED_RIGHT
    scaled = match.node(inner)
    if scaled.is_op("Div") and constant_of(scaled.input(0)) is not None:
        return None
    return _scaled(match, match.root, divide=scaled.is_op("Div"))


_BIASED = any_of(
    op.MatMul(a, b), fused.MatMul(a, b, optional(bias), activation=lambda name: not name)
)


@rule(op.Mul(_BIASED, row))
def fuse_matmul_column_scale(match: Match) -> Value | None:
    """A factor for each column is a factor of the columns of a constant weight."""
    node, y, weight = match.node(_BIASED), match[_BIASED], constant_of(match[b])
    if weight is None or len(weight.shape) != 2 or len(match[b].uses) > 1 or y.rank is None:
        return None
    transposed = node.attribute("transB", 0)
    columns = weight.shape[0 if transposed else 1]
    factor = reshaped(match.build, match[row], (columns,), y.rank)
    factors = constant_of(factor)
    addend = match.get(bias)
    addends = constant_of(addend)
    if factors is None or (addend is not None and addends is None):
        return None
    scale = factors.numpy()
    with np.errstate(all="ignore"):
        scaled = weight.numpy() * (scale[:, None] if transposed else scale)
        shift = None if addends is None else addends.numpy() * scale
    if not all(np.isfinite(each).all() for each in (scaled, shift) if each is not None):
        return None  # 0 times infinity would be NaN sooner than in the graph
    return match.build.node(
        "MatMul", [match[a], scaled, shift], node.attributes, domain=node.domain
    ).output


def _scaled(match: Match, node: Node, *, divide: bool) -> Value | None:
    factor = constant_of(match[c])
    if factor is None or factor.size != 1 or match[c].rank not in (0, 1):
        return None
    if not factor.dtype.is_float or match[a].rank in (None, 0, 1) or match[b].rank in (None, 1):
        return None
    number = float(factor.numpy().reshape(-1)[0])
    if divide:
        number = 1 / number if number else math.inf
    if not math.isfinite(number):
        return None
    # Results of 16 bits keep the roundings of the graph; a power of two has none.
    if factor.dtype.bits < 32 and abs(math.frexp(number)[0]) != 0.5:
        return None
    alpha = node.attribute("alpha", 1.0) * number
    if not fits_attribute(alpha, match.root.output.dtype):
        return None
    attributes = node.attributes | {"alpha": alpha}
    return match.fused.MatMul(match[a], match[b], *node.inputs[2:], **attributes)
