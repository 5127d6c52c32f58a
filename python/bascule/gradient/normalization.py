# SPDX-License-Identifier: Apache-2.0
"""Normalizations: ``y = scale * z + bias``, with z the input brought to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bascule.gradient.broadcast import sum_to
from bascule.gradient.build import Builder, Term, axis_of
from bascule.gradient.registry import Gradients, gradient
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node

_EPSILON = 1e-5


@dataclass(frozen=True)
class _Normal:
    """z, and the inverse of the standard deviation, along these axes of x."""

    build: Builder
    z: Term
    inverse: Term
    axes: Sequence[int]
    centered: bool = True

    def slope(self, dz: Term) -> Term:
        """With respect to x: without the parts of dz along what z cannot be, constant and x."""
        along = self.z * self.build.mean(dz * self.z, self.axes, keepdims=True)
        if self.centered:
            dz = dz - self.build.mean(dz, self.axes, keepdims=True)
        return self.inverse * (dz - along)


def _normal(build: Builder, x: Term, axes: Sequence[int], node: Node) -> _Normal:
    distance = x - build.mean(x, axes, keepdims=True)
    return _scaled(build, distance, axes, node)


def _scaled(
    build: Builder, x: Term, axes: Sequence[int], node: Node, centered: bool = True
) -> _Normal:
    squares = build.mean(x * x, axes, keepdims=True)
    inverse = build.Reciprocal(build.Sqrt(squares + node.attribute("epsilon", _EPSILON)))
    return _Normal(build, x * inverse, inverse, axes, centered)


def _wide(build: Builder, term: Term) -> Term:
    """Statistics of narrow numbers are computed in float32."""
    return build.cast(term, DataType.FLOAT) if term.dtype.bits < 32 else term


def _per_channel(build: Builder, term: Term, rank: int) -> Term:
    """``[C]`` to what broadcasts to ``[N, C, ...]``."""
    return build.unsqueeze(term, *range(1, rank - 1))


@gradient("LayerNormalization", "RMSNormalization")
def layer_normalization(node: Node, dy: Term, build: Builder) -> Gradients:
    original = build.inputs(node)[0]
    rank, y = original.rank, build(node.output)
    axes = range(axis_of(node.attribute("axis", -1), rank), rank)
    x, dy = _wide(build, original), _wide(build, dy)
    scale = build.cast(build.inputs(node)[1], x.dtype)
    if node.op_type == "RMSNormalization":
        normal = _scaled(build, x, axes, node, centered=False)
    else:
        normal = _normal(build, x, axes, node)
    dscale = sum_to(build, dy * normal.z, y, build.inputs(node)[1])
    bias = build.optional(node.input(2))
    dbias = None if bias is None else sum_to(build, dy, y, bias)
    return [normal.slope(dy * scale), dscale, dbias]


@gradient("InstanceNormalization")
def instance_normalization(node: Node, dy: Term, build: Builder) -> Gradients:
    x, scale, _ = build.inputs(node)
    rank = x.rank
    x, dy = _wide(build, x), _wide(build, dy)
    scale = _per_channel(build, build.cast(scale, x.dtype), rank)
    normal = _normal(build, x, range(2, rank), node)
    others = [0, *range(2, rank)]
    dscale, dbias = build.sum(dy * normal.z, others), build.sum(dy, others)
    return [normal.slope(dy * scale), dscale, dbias]


@gradient("GroupNormalization")
def group_normalization(node: Node, dy: Term, build: Builder) -> Gradients:
    """The channels of a group become an axis of their own."""
    original, scale, _ = build.inputs(node)
    rank = original.rank
    groups = build.ints(node.attributes["num_groups"])
    apart = build.concat(
        build.dim(original, 0),
        groups,
        build.divide(build.dim(original, 1), groups),
        build.shape(original, 2),
    )
    x, dy = _wide(build, original), _wide(build, dy)
    scale = _per_channel(build, build.cast(scale, x.dtype), rank)
    normal = _normal(build, build.reshape(x, apart), range(2, rank + 1), node)
    dx = normal.slope(build.reshape(dy * scale, apart))
    others = [0, *range(2, rank)]
    dscale = build.sum(dy * build.reshape_like(normal.z, original), others)
    return [build.reshape_like(dx, original), dscale, build.sum(dy, others)]


@gradient("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, dy: Term, build: Builder) -> Gradients:
    (x,) = build.inputs(node)
    axes = [axis_of(axis, x.rank) for axis in node.attribute("axes", [0, 2, 3])]
    x, dy = _wide(build, x), _wide(build, dy)
    distance = x - build.mean(x, axes, keepdims=True)
    deviation = build.Sqrt(build.mean(distance * distance, axes, keepdims=True))
    inverse = build.Reciprocal(deviation + 1e-9)
    return [_Normal(build, distance * inverse, inverse, axes).slope(dy)]


@gradient("BatchNormalization")
def batch_normalization(node: Node, dy: Term, build: Builder) -> Gradients:
    """In training the statistics are those of x, otherwise they are inputs."""
    x, *parameters = build.inputs(node)
    rank = x.rank
    others = [0, *range(2, rank)]
    x, dy = _wide(build, x), _wide(build, dy)
    scale, _, mean, variance = (
        _per_channel(build, build.cast(each, x.dtype), rank) for each in parameters
    )
    if node.attribute("training_mode", 0):
        normal = _normal(build, x, others, node)
        dscale, dbias = build.sum(dy * normal.z, others), build.sum(dy, others)
        return [normal.slope(dy * scale), dscale, dbias]
    wide = variance + node.attribute("epsilon", _EPSILON)
    inverse = build.Reciprocal(build.Sqrt(wide))
    dx = dy * (scale * inverse)
    by_variance = dx * (x - mean) / wide * -0.5
    dscale, dbias = build.sum(dy * (x - mean) * inverse, others), build.sum(dy, others)
    return [dx, dscale, dbias, build.sum(-dx, others), build.sum(by_variance, others)]
