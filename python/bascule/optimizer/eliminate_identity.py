# SPDX-License-Identifier: Apache-2.0
"""Remove nodes that give back what they are given.

Before:
    g (float[N,4] x) => (float[N,4] y) {
        a = Identity(x)
        b = Dropout(a)
        minus_zero = Constant<value = float {-0.0}>()
        c = Add(b, minus_zero)
        one = Constant<value = float[1] {1.0}>()
        d = Mul(one, c)
        e = Cast<to = 1>(d)
        f = Transpose<perm = [0, 1]>(e)
        y = Neg(f)
    }
After:
    g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }
Before:
    g (float[N,4] x) => (float[N,4] y) {
        from = Constant<value_ints = [0, 0]>()
        to = Constant<value_ints = [9223372036854775807, 4]>()
        a = Slice(x, from, to)
        pads = Constant<value_ints = [0, 0, 0, 0]>()
        b = Pad(a, pads)
        c = Concat<axis = 1>(b)
        repeats = Constant<value_ints = [1, 1]>()
        d = Tile(c, repeats)
        shape = Constant<value_ints = [0, 4]>()
        e = Reshape(d, shape)
        ones = Constant<value_ints = [1, 1]>()
        f = Expand(e, ones)
        y = Neg(f)
    }
After:
    g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }
Before:
    g (bool[N] x) => (bool[N] y) <bool true = {1}, bool false = {0}> {
        a = And(true, x)
        b = Or(a, false)
        y = Not(b)
    }
After:
    g (bool[N] x) => (bool[N] y) { y = Not(x) }
Keeps:
    g (float[N,4] x) => (float[N,4] y) <float zero = {0}> { a = Add(x, zero) y = Neg(a) }
Keeps:
    g (float[4] x) => (float[1,4] y) <float[1,1] one = {1}> { a = Mul(x, one) y = Neg(a) }
Keeps:
    g (float[4] x) => (float[4] y) { y = Identity(x) }
"""

from __future__ import annotations

import math

from bascule.ir.graph import Node, Value
from bascule.optimizer.merge_transposes import permutation
from bascule.optimizer.pattern import (
    attribute_of,
    constant_of,
    op,
    uniform_value,
    values,
)
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import integers, same_elements, same_shape

x, operand = values("x", "operand")


@rule(op.Identity(x), op["Sum", "Max", "Min", "Mean", "Concat", "Einsum"](x))
def eliminate_identity(match: Match) -> Value | None:
    if match.root.is_op("Einsum"):
        sides = attribute_of(match.root, "equation").replace(" ", "").split("->")
        distinct = len(set(sides[0]) - {"."}) == len(sides[0].replace("...", ""))
        return match[x] if len(sides) == 2 and sides[0] == sides[1] and distinct else None
    return match[x]


@rule(op.Dropout(x, ...))
def eliminate_dropout(match: Match) -> Value | None:
    mode = match.root.input(2)
    constant = constant_of(mode)
    if mode is not None and (constant is None or uniform_value(constant)):
        return None
    return match[x]


@rule(op.Cast(x), op.CastLike(x, operand))
def eliminate_cast(match: Match) -> Value | None:
    if match[x].dtype is None or match[x].dtype != match.root.output.dtype:
        return None
    return match[x]


@rule(op["Reshape", "Flatten", "Squeeze", "Unsqueeze"](x, ...))
def eliminate_reshape(match: Match) -> Value | None:
    return match[x] if same_elements(match[x], match.root.output) else None


@rule(op.Transpose(x))
def eliminate_transpose(match: Match) -> Value | None:
    axes = permutation(match.root)
    return match[x] if axes is not None and axes == sorted(axes) else None


@rule(op["Expand", "Tile"](x, ...))
def eliminate_expand(match: Match) -> Value | None:
    """Sizes of 1 repeat nothing; neither does what leaves a shape without zeros as it was."""
    sizes, rank = integers(match.root.input(1)), match[x].rank
    if sizes is not None and rank is not None and len(sizes) <= rank and set(sizes) <= {1}:
        return match[x]
    return match[x] if same_shape(match[x], match.root.output) else None


@rule(op.Slice(x, ...))
def eliminate_slice(match: Match) -> Value | None:
    starts, ends, axes, steps = (integers(match.root.input(index)) for index in range(1, 5))
    rank = match[x].rank
    if steps is None and match.root.input(4) is not None:
        return None
    if steps is not None and set(steps) != {1}:
        return None
    if same_shape(match[x], match.root.output):
        return match[x]
    if starts is None or ends is None or rank is None or set(starts) - {0}:
        return None
    if axes is None and match.root.input(3) is not None:
        return None
    shape = match[x].shape or ()
    for axis, end in zip(axes or range(rank), ends):
        size = shape[axis]
        if end < (size if isinstance(size, int) else 2**31 - 1):
            return None
    return match[x]


@rule(op.Pad(x, ...))
def eliminate_pad(match: Match) -> Value | None:
    pads = integers(match.root.input(1))
    return match[x] if pads is not None and not any(pads) else None


@rule(op.Split(x, ...))
def eliminate_split(match: Match) -> Value | None:
    return match[x] if len(match.root.outputs) == 1 else None


@rule(op.Resize(x, ...))
def eliminate_resize(match: Match) -> Value | None:
    """By scales of 1, or to the sizes there are; a scale nearly 1 may keep all sizes, too."""
    node = match.root
    scales, sizes = constant_of(node.input(2)), constant_of(node.input(3))
    coordinates = attribute_of(node, "coordinate_transformation_mode")
    if coordinates == "tf_crop_and_resize":
        return None
    if scales is not None and scales.size and uniform_value(scales) == 1:
        return match[x]
    shape = match[x].static_shape
    if sizes is None or shape is None or coordinates == "tf_half_pixel_for_nn":
        return None
    axes = node.attribute("axes") or range(len(shape))
    if sizes.numpy().tolist() != [shape[axis] for axis in axes]:
        return None
    return match[x] if attribute_of(node, "keep_aspect_ratio_policy") == "stretch" else None


@rule(op["Add", "Mul", "Sub", "Div", "Pow", "And", "Or"](x, operand))
def eliminate_neutral_operand(match: Match) -> Value | None:
    """Where the operand is neutral for every x: 0.0 is not, as ``-0.0 + 0.0`` is 0.0."""
    constant = constant_of(match[operand])
    if constant is None or match[x].dtype is not constant.dtype:
        return None
    number = uniform_value(constant)
    if number is None or not _is_neutral(match.root, number):
        return None
    rank = match[x].rank
    is_scalar = constant.size == 1 and rank is not None and len(constant.shape) <= rank
    return match[x] if is_scalar or same_shape(match[x], match.root.output) else None


def _is_neutral(node: Node, number: float) -> bool:
    if node.is_op("And", "Or"):
        return number is node.is_op("And")
    if not node.is_op("Add", "Sub"):
        return number == 1
    if isinstance(number, int):
        return number == 0
    return number == 0 and math.copysign(1, number) == (1 if node.is_op("Sub") else -1)
