# SPDX-License-Identifier: Apache-2.0
"""What is certain about sizes, some of which are only names."""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.ir.types import Dim, Shape
from bascule.optimizer.pattern import constant_of

_LONG_AXES = 64


def same_dim(a: Dim, b: Dim) -> bool:
    """True when two sizes are certainly equal: equal numbers, or one name."""
    return a is not None and a == b


def certain_shape(value: Value) -> Shape | None:
    """The shape, without names that only the caller's declaration of a graph output gives."""
    shape = value.shape
    if shape is None or not value.is_graph_output or value.producer is None:
        return shape
    return tuple(dim if isinstance(dim, int) else None for dim in shape)


def same_shape(*values: Value) -> bool:
    """True when these values certainly have one shape."""
    first = certain_shape(values[0])
    if first is None:
        return False
    for value in values[1:]:
        shape = certain_shape(value)
        if shape is None or len(shape) != len(first) or not all(map(same_dim, first, shape)):
            return False
    return True


def same_elements(before: Value, after: Value) -> bool:
    """True when `after` is `before` reshaped, and certainly has its shape too.

    One size may be unknown: as the number of elements is kept, the others determine it.
    """
    a, b = certain_shape(before), certain_shape(after)
    if a is None or b is None or len(a) != len(b):
        return False
    different = sum(not same_dim(x, y) for x, y in zip(a, b))
    return different == 0 or (different == 1 and 0 not in a and 0 not in b and _fixed(a, b))


def _fixed(a: Shape, b: Shape) -> bool:
    """Names may stand for 0, where any size would do for the unknown one."""
    return all(isinstance(x, int) for x, y in zip(a, b) if same_dim(x, y))


def reshape_sizes(before: Shape | None, after: Shape | None) -> list[int] | None:
    """The shape input of a Reshape from `before` to `after`; None when it cannot be constant."""
    if before is None or after is None:
        return None
    sizes: list[int] = []
    for axis, dim in enumerate(after):
        if isinstance(dim, int) and dim != 0:
            sizes.append(dim)
        elif axis < len(before) and (dim is not None and same_dim(dim, before[axis])):
            sizes.append(0)
        else:
            sizes.append(-1)
    return sizes if sizes.count(-1) <= 1 and (-1 not in sizes or 0 not in after) else None


def integers(value: Value | None) -> list[int] | None:
    """The elements of a constant list of integers; None if it is not one, or a long one."""
    constant = constant_of(value)
    if constant is None or not constant.dtype.is_integer or constant.size > _LONG_AXES:
        return None
    return [int(each) for each in constant.numpy().reshape(-1)]


def broadcasts_to(small: Shape | None, large: Shape | None) -> bool:
    """True when a tensor of shape `small` certainly does not enlarge one of shape `large`."""
    if small is None or large is None or len(small) > len(large):
        return False
    return all(s == 1 or same_dim(s, d) for s, d in zip(small[::-1], large[::-1]))
