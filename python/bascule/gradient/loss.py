# SPDX-License-Identifier: Apache-2.0
"""The losses of classification."""

from __future__ import annotations

from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Gradients, gradient
from bascule.gradient.softmax import log_softmax_slope
from bascule.ir.graph import Node


@gradient("NegativeLogLikelihoodLoss", inputs=1)
def negative_log_likelihood_loss(node: Node, dy: Term, build: Builder) -> Gradients:
    return [_likelihood_slope(node, dy, build)]


@gradient("SoftmaxCrossEntropyLoss", inputs=1, outputs=2)
def softmax_cross_entropy_loss(node: Node, dys: list[Term | None], build: Builder) -> Gradients:
    """By its second output, the logarithms of the probabilities, of which the first is made."""
    scores = build.inputs(node)[0]
    if len(node.outputs) > 1:
        logs = build(node.outputs[1])
    else:
        logs = build.LogSoftmax(scores, axis=1)
    dy, total = dys[0], dys[1] if len(dys) > 1 else None
    if dy is not None:
        by_loss = _likelihood_slope(node, dy, build)
        total = by_loss if total is None else total + by_loss
    assert total is not None
    return [log_softmax_slope(build, logs, total, 1)]


def _likelihood_slope(node: Node, dy: Term, build: Builder) -> Term:
    """With respect to the logarithms: a weight at the target of each sample, zero elsewhere."""
    logs, target = build.inputs(node)[:2]
    weights, ignored = build.optional(node.input(2)), node.attribute("ignore_index")
    counts = None
    if ignored is not None:
        counts = build.Not(build.Equal(target, ignored))
        target = build.Where(counts, target, 0)
    if weights is not None:
        share = build.Gather(weights, target)
    else:
        share = build.fill(build.shape(target), 1, dy.dtype)
    if counts is not None:
        share = build.Where(counts, share, 0)
    if node.attribute("reduction", "mean") == "mean":
        dy = dy / build.ReduceSum(share, keepdims=0)
    at_target = build.unsqueeze(-dy * share, 1)
    places = build.unsqueeze(target, 1)
    return build.ScatterElements(build.zeros_like(logs), places, at_target, axis=1)
