# SPDX-License-Identifier: Apache-2.0
"""Convolutions. With respect to their input they are the transpose of each other."""

from __future__ import annotations

from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, gradient
from bascule.gradient.window import window_of
from bascule.ir.graph import Node


@gradient("Conv")
def conv(node: Node, dy: Term, build: Builder) -> Gradients:
    x, w = build.inputs(node)[:2]
    group = node.attribute("group", 1)
    window = window_of(node, build, x, build(node.output), w)
    dw = window.kernel_slope(x, dy, group)
    return [window.spread(dy, w, group), dw, _bias_slope(build, dy, window.rank)]


@gradient("ConvTranspose")
def conv_transpose(node: Node, dy: Term, build: Builder) -> Gradients:
    x, w = build.inputs(node)[:2]
    group = node.attribute("group", 1)
    window = window_of(node, build, build(node.output), x, w)
    dx = window.collect(dy, w, group)
    if any(name in node.attributes for name in ("auto_pad", "output_padding", "output_shape")):
        dx = window.fit(dx)
    return [dx, window.kernel_slope(dy, x, group), _bias_slope(build, dy, window.rank)]


def _bias_slope(build: Builder, dy: Term, rank: int) -> Term:
    return build.sum(dy, [0, *range(2, 2 + rank)])
