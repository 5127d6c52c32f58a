# SPDX-License-Identifier: Apache-2.0
"""Reductions and cumulative sums."""

from __future__ import annotations

from collections.abc import Callable

from bascule.gradient.build import Builder, Term, axis_of, known_constant
from bascule.gradient.registry import Gradients, gradient, no_gradient
from bascule.ir.graph import Node

no_gradient("ArgMax", "ArgMin", "Hardmax")


class _Reduction:
    """The tensors of a reduction: x, and y and dy with all the axes that x has."""

    def __init__(self, node: Node, dy: Term, build: Builder) -> None:
        x, *rest = node.inputs
        assert x is not None
        self.build = build
        self.x = build(x)
        self._axes = build.optional(rest[0]) if rest else None
        self._no_axes_is_none = node.attribute("noop_with_empty_axes", 0)
        self.y, self.dy = build(node.output), dy
        if not node.attribute("keepdims", 1):
            kept = self._kept_shape()
            self.y, self.dy = build.reshape(self.y, kept), build.reshape(dy, kept)

    def sum(self, term: Term) -> Term:
        """`term`, of the shape of x, over the reduced axes, which stay as ones."""
        return self._reduce("ReduceSum", term)

    def product(self, term: Term) -> Term:
        return self._reduce("ReduceProd", term)

    def _reduce(self, op_type: str, term: Term) -> Term:
        return self.build.op(
            op_type,
            term,
            self._axes,
            keepdims=1,
            noop_with_empty_axes=self._no_axes_is_none or None,
        )

    def count(self) -> Term:
        """How many elements become one, in the type of x."""
        axes, build = self._known_axes(), self.build
        if axes is not None:
            return build.cast(build.size(self.x, axes), self.x.dtype)
        return self.sum(build.fill(build.shape(self.x), 1, self.x.dtype))

    def _kept_shape(self) -> Term:
        axes, build = self._known_axes(), self.build
        if axes is None:
            return build.shape(self.sum(self.x))
        parts = [
            build.ints(1) if axis in axes else build.dim(self.x, axis)
            for axis in range(self.x.rank)
        ]
        return build.concat(*parts) if parts else build.ints()

    def _known_axes(self) -> list[int] | None:
        """The reduced axes, counted from the front; None if only values at run time tell."""
        rank = self.x.value.rank
        if rank is None:
            return None
        axes: list[int] = []
        if self._axes is not None:
            array = known_constant(self._axes.value)
            if array is None:
                return None
            axes = [axis_of(int(axis), rank) for axis in array]
        return axes if axes or self._no_axes_is_none else list(range(rank))


def _reduction(*op_types: str) -> Callable[[Callable[[_Reduction], Term]], object]:
    """Register a rule that gives a tensor of the shape of x."""

    def register(function: Callable[[_Reduction], Term]) -> object:
        def apply(node: Node, dy: Term, build: Builder) -> Gradients:
            return [function(_Reduction(node, dy, build))]

        return gradient(*op_types, inputs=1)(apply)

    return register


@_reduction("ReduceSum")
def reduce_sum(r: _Reduction) -> Term:
    return r.build.expand_like(r.dy, r.x)


@_reduction("ReduceMean")
def reduce_mean(r: _Reduction) -> Term:
    return r.build.expand_like(r.dy / r.count(), r.x)


@_reduction("ReduceMax", "ReduceMin")
def reduce_extremum(r: _Reduction) -> Term:
    """Elements that are equal share the gradient."""
    chosen = r.build.Equal(r.x, r.y)
    count = r.sum(r.build.cast(chosen, r.dy.dtype))
    return r.build.Where(chosen, r.dy / count, 0)


@_reduction("ReduceProd")
def reduce_prod(r: _Reduction) -> Term:
    """The product of the others: zero if there is a zero among them."""
    build = r.build
    is_zero = build.Equal(r.x, 0)
    zeros = build.cast(is_zero, r.x.dtype)
    others = build.Where(is_zero, 1, r.x)
    without_zeros = r.product(others) / others
    return r.dy * build.Where(r.sum(zeros) - zeros > 0, 0, without_zeros)


@_reduction("ReduceL1")
def reduce_l1(r: _Reduction) -> Term:
    return r.dy * r.build.Sign(r.x)


@_reduction("ReduceL2")
def reduce_l2(r: _Reduction) -> Term:
    """Zero where the norm is."""
    return r.dy * r.x / r.build.Where(r.build.Equal(r.y, 0), 1, r.y)


@_reduction("ReduceLogSum")
def reduce_log_sum(r: _Reduction) -> Term:
    return r.build.expand_like(r.dy / r.sum(r.x), r.x)


@_reduction("ReduceLogSumExp")
def reduce_log_sum_exp(r: _Reduction) -> Term:
    return r.dy * r.build.Exp(r.x - r.y)


@_reduction("ReduceSumSquare")
def reduce_sum_square(r: _Reduction) -> Term:
    return r.dy * r.x * 2


@gradient("CumSum", inputs=1)
def cum_sum(node: Node, dy: Term, build: Builder) -> Gradients:
    exclusive, reverse = (node.attribute(name, 0) for name in ("exclusive", "reverse"))
    axis = node.input(1)
    return [build.op("CumSum", dy, axis, exclusive=exclusive, reverse=1 - reverse)]
