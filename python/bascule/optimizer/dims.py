# SPDX-License-Identifier: Apache-2.0
"""Reasoning about sizes that are partly symbolic."""

from __future__ import annotations

import math

from bascule.ir.graph import Value
from bascule.ir.types import Dim, Shape

_DEPTH = 8


def same_dim(a: Dim, b: Dim) -> bool:
    """True when two sizes are certainly equal: equal numbers, or the same name."""
    return a is not None and a == b


def same_shape(a: Shape | None, b: Shape | None) -> bool:
    """True when two shapes are certainly equal."""
    return a is not None and b is not None and len(a) == len(b) and all(map(same_dim, a, b))


def dims_of(value: Value, depth: int = _DEPTH) -> Shape | None:
    """The shape of `value`, with what can be found by looking at how it was made."""
    shape, node = value.shape, value.producer
    if shape is None or node is None or depth == 0 or all(isinstance(dim, int) for dim in shape):
        return shape
    source = node.input(0)
    if source is None:
        return shape
    if node.is_op("Transpose"):
        inner = dims_of(source, depth - 1)
        if inner is None or len(inner) != len(shape):
            return shape
        permutation = node.attribute("perm") or range(len(inner))[::-1]
        return tuple(_better(inner[axis], dim) for axis, dim in zip(permutation, shape))
    if node.is_op("Reshape"):
        inner = dims_of(source, depth - 1)
        return shape if inner is None else solve_reshape(inner, shape)
    if node.is_op("Concat"):
        # A cache that is a graph output has names of its own for sizes that are known here.
        inner = dims_of(source, depth - 1)
        if inner is None or len(inner) != len(shape):
            return shape
        axis = node.attribute("axis") % len(shape)
        better = [_better(a, b) for a, b in zip(inner, shape)]
        return (*better[:axis], shape[axis], *better[axis + 1 :])
    return shape


def solve_reshape(before: Shape, after: Shape) -> Shape:
    """`after` with one unknown size found: both shapes have the same number of elements."""
    rest, unknown, divisor = list(before), [], 1
    for axis, dim in enumerate(after):
        if dim is not None and dim in rest:
            rest.remove(dim)
        elif isinstance(dim, int):
            divisor *= dim
        else:
            unknown.append(axis)
    numbers = [dim for dim in rest if isinstance(dim, int)]
    others = [dim for dim in rest if not isinstance(dim, int)]
    if len(unknown) != 1 or 0 in before or divisor == 0:
        return after
    count = math.prod(numbers)
    solved: Dim = None
    if not others and count % divisor == 0:
        solved = count // divisor
    elif len(others) == 1 and count == divisor:
        solved = others[0]
    if solved is None:
        return after
    return tuple(solved if axis in unknown else dim for axis, dim in enumerate(after))


def keeps_elements_in_place(before: Shape | None, after: Shape | None) -> bool:
    """True when a Reshape between these shapes certainly changes nothing."""
    if before is None or after is None or len(before) != len(after):
        return False
    different = sum(not same_dim(a, b) for a, b in zip(before, after))
    return different == 0 or (different == 1 and 0 not in before)


def before_reshape(value: Value | None) -> Value | None:
    """`value`, or what it was before Reshapes that change nothing."""
    while value is not None and value.producer is not None and value.producer.is_op("Reshape"):
        source = value.producer.input(0)
        if source is None or not keeps_elements_in_place(dims_of(source), value.shape):
            break
        value = source
    return value


def with_same_batch(value: Value) -> Value:
    """`value`, or what it was before Reshapes and Transposes that keep its first axis."""
    while value.producer is not None:
        node, source = value.producer, value.producer.input(0)
        before = None if source is None else dims_of(source)
        if source is None or not before or value.shape is None:
            break
        kept = node.is_op("Transpose") and (node.attribute("perm") or [None])[0] == 0
        if not kept and not (node.is_op("Reshape") and same_dim(before[0], value.shape[0])):
            break
        value = source
    return value


def _better(a: Dim, b: Dim) -> Dim:
    return a if isinstance(a, int) or b is None else b if isinstance(b, int) else a
