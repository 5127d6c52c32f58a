# SPDX-License-Identifier: Apache-2.0
"""What the fusions of normalizations have in common: the pieces of their formulas."""

from __future__ import annotations

import math

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.pattern import (
    Pattern,
    Variable,
    any_of,
    constant_of,
    constants,
    op,
    uniform_value,
)
from bascule.optimizer.rewrite import Builder, Match

_MOST_ELEMENTS = 1 << 26
"""Of a constant that a fusion makes: no model normalizes longer rows."""

(epsilon,) = constants("epsilon")


def square(x: Pattern) -> Pattern:
    return any_of(op.Mul(x, x), op.Pow(x, 2.0))


def standardize(x: Pattern, variance: Pattern) -> tuple[Pattern, ...]:
    """``x / sqrt(variance + epsilon)`` in each way to write it."""
    shifted = op.Add(variance, epsilon)
    root = any_of(op.Sqrt(shifted), op.Pow(shifted, 0.5))
    return op.Div(x, root), op.Mul(x, reciprocal_root(variance))


def reciprocal_root(variance: Pattern) -> Pattern:
    """``1 / sqrt(variance + epsilon)`` in each way to write it."""
    shifted = op.Add(variance, epsilon)
    root = any_of(op.Sqrt(shifted), op.Pow(shifted, 0.5))
    return any_of(op.Reciprocal(root), op.Div(1.0, root), op.Pow(shifted, -0.5))


def epsilon_of(match: Match) -> float | None:
    """The number that `epsilon` stands for; None if it is not a single one."""
    constant = constant_of(match[epsilon])
    if constant is None or constant.size != 1:
        return None
    return float(uniform_value(constant))


def axes_of(match: Match, x: Variable, *variables: Variable) -> tuple[int, ...] | None:
    """The axes of `x`, sorted, that all of these constant lists name; None if they differ."""
    rank = match[x].rank
    if rank is None:
        return None
    found = set()
    for variable in variables:
        if variable in match:
            found.add(tuple(sorted(int(axis) % rank for axis in match.array(variable).reshape(-1))))
    return found.pop() if len(found) == 1 else None


def trailing_axis(match: Match, x: Variable, *variables: Variable) -> int | None:
    """The negative first axis when the axes are the last ones of `x`; else None."""
    axes = axes_of(match, x, *variables)
    rank = match[x].rank
    if not axes or rank is None or axes != tuple(range(axes[0], rank)):
        return None
    return axes[0] - rank


def uniform(build: Builder, like: Value, sizes: tuple[int, ...], number: float) -> Value:
    """A constant of the element type of `like`, filled with a number."""
    assert like.dtype is not None
    return build.constant(np.full(sizes, number, dtype=like.dtype.numpy))


def is_uniform(value: Value | None, number: float) -> bool:
    """True for a constant whose elements all are `number`."""
    constant = constant_of(value)
    return constant is not None and uniform_value(constant) == number


def sizes_from(x: Value, axis: int) -> tuple[int, ...] | None:
    """The sizes of `x` from `axis` (negative) on, when all are known and fit a constant."""
    if x.shape is None or len(x.shape) < -axis:
        return None
    sizes = tuple(dim for dim in x.shape[axis:] if isinstance(dim, int))
    return sizes if len(sizes) == -axis and math.prod(sizes) <= _MOST_ELEMENTS else None


def reshaped(build: Builder, value: Value, sizes: tuple[int, ...], rank: int) -> Value | None:
    """`value` as a tensor of exactly `sizes`, if it broadcasts like one up to `rank`.

    Axes of size 1 in front are dropped from constants; other values must have these sizes already.
    """
    shape = value.static_shape
    if shape == sizes:
        return value
    constant = constant_of(value)
    if shape is None or constant is None or len(shape) > rank or len(shape) < len(sizes):
        return None
    front = len(shape) - len(sizes)
    if shape[front:] != sizes or any(size != 1 for size in shape[:front]):
        return None
    return build.constant(constant.numpy().reshape(sizes), value.name)
