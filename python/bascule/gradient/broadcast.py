# SPDX-License-Identifier: Apache-2.0
"""The inverse of broadcasting: a sum over the axes along which a tensor was repeated."""

from __future__ import annotations

from bascule.gradient.build import Builder, Term
from bascule.ir.types import Dim, Shape


def sum_to(build: Builder, term: Term, shape_of: Term, target: Term) -> Term:
    """`term`, of the shape of `shape_of`, summed to the shape of `target`, which fits into it."""
    wide, narrow = shape_of.value.shape, target.value.shape
    if wide is not None and narrow is not None:
        axes = _repeated_axes(wide, narrow)
        if axes is not None:
            missing = len(wide) - len(narrow)
            term = build.sum(term, [axis for axis in axes if axis >= missing], keepdims=True)
            return build.sum(term, range(missing))
    return _sum_at_run_time(build, term, shape_of, target)


def _repeated_axes(wide: Shape, narrow: Shape) -> list[int] | None:
    """The axes of `wide` that `narrow` does not have or has once; None if sizes must tell."""
    missing = len(wide) - len(narrow)
    axes = list(range(missing))
    for axis, (size, own) in enumerate(zip(wide[missing:], narrow), start=missing):
        if own == 1:
            if size != 1:
                axes.append(axis)
        elif not _surely_equal(size, own):
            return None
    return axes


def _surely_equal(size: Dim, own: Dim) -> bool:
    """True if an axis of size `own` that was broadcast to `size` has been left as it was."""
    return isinstance(own, int) or (own is not None and own == size)


def _sum_at_run_time(build: Builder, term: Term, shape_of: Term, target: Term) -> Term:
    wide, narrow = build.shape(shape_of), build.shape(target)
    rank, own_rank = build.Size(wide), build.Size(narrow)
    missing = build.Reshape(rank - own_rank, build.ints(1))
    ones = build.Expand(build.ints(1), missing)
    repeated = build.Not(build.Equal(build.concat(ones, narrow), wide))
    axes = build.squeeze(build.NonZero(repeated), 0)
    total = build.ReduceSum(term, axes, keepdims=1, noop_with_empty_axes=1)
    return build.reshape(total, narrow)
