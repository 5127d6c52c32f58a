# SPDX-License-Identifier: Apache-2.0
"""Dropout and the random generators."""

from __future__ import annotations

from bascule.gradient.build import Builder, Term, known_constant
from bascule.gradient.registry import Gradients, gradient, no_gradient
from bascule.ir.graph import Node

no_gradient("Bernoulli", "EyeLike", "RandomNormalLike", "RandomUniformLike")


@gradient("Dropout", inputs=1)
def dropout(node: Node, dy: Term, build: Builder) -> Gradients:
    """Scaled by ``1 / (1 - ratio)`` what was kept; without training, all of it as it is."""
    _, ratio, training = (build.optional(node.input(index)) for index in range(3))
    if training is None:
        return [dy]
    known = known_constant(training.value)
    if known is not None and not known.any():
        return [dy]
    share = build.number(0.5, dy.dtype) if ratio is None else build.cast(ratio, dy.dtype)
    scale = build.Where(training, 1 / (1 - share), 1)
    return [build.Where(build.extra_output(node, 1), dy * scale, 0)]
