# SPDX-License-Identifier: Apache-2.0
"""Reductions and cumulative sums."""

from __future__ import annotations

from dataclasses import dataclass

from bascule.gradient.build import Builder, Term, axis_of, known_constant
from bascule.gradient.registry import Gradients, gradient, no_gradient
from bascule.ir.graph import Node

no_gradient("ArgMax", "ArgMin", "Hardmax")


@dataclass(frozen=True)
class _Reduction:
    """The tensors of a reduction: x, and y and dy with the axes that x has."""

    x: Term
    y: Term
    dy: Term
    axes: list[int] | None
    """The reduced axes, counted from the front; None if they are known at run time only."""
    build: Builder

    def sum(self, term: Term) -> Term:
        """`term`, of the shape of x, over the reduced axes, which stay as ones."""
        if self.axes is None:
            kept = self.build.shape(self.y)
            ones = self.build.reshape(self.build.fill(kept, 1, term.dtype), kept)
            return _sum_like(self.build, term, ones)
        return self.build.sum(term, self.axes, keepdims=True)

    def count(self) -> Term:
        """How many elements are reduced to one, in the type of x."""
        build = self.build
        if self.axes is not None:
            return build.cast(build.size(self.x, self.axes), self.x.dtype)
        return self.sum(build.fill(build.shape(self.x), 1, self.x.dtype))
