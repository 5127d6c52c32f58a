# SPDX-License-Identifier: Apache-2.0
"""Softmax and its logarithm."""

from __future__ import annotations

import math

from bascule.gradient.build import Builder, Term, axis_of
from bascule.gradient.registry import Gradients, gradient
from bascule.ir.graph import Node


@gradient("Softmax")
def softmax(node: Node, dy: Term, build: Builder) -> Gradients:
    """Where all scores are -inf, as in a row that a mask hides, the gradient is zero, not NaN."""
    (x,), y = build.inputs(node), build(node.output)
    axes = [axis_of(node.attribute("axis", -1), x.rank)]
    top = build.ReduceMax(x, build.ints(*axes), keepdims=1)
    y = build.Where(build.Equal(top, -math.inf), 0, y)
    return [y * (dy - build.sum(dy * y, axes, keepdims=True))]


@gradient("LogSoftmax")
def log_softmax(node: Node, dy: Term, build: Builder) -> Gradients:
    (x,) = build.inputs(node)
    axis = axis_of(node.attribute("axis", -1), x.rank)
    return [log_softmax_slope(build, build(node.output), dy, axis)]


def log_softmax_slope(build: Builder, y: Term, dy: Term, axis: int) -> Term:
    return dy - build.Exp(y) * build.sum(dy, [axis], keepdims=True)
