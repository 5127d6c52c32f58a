# SPDX-License-Identifier: Apache-2.0
"""Normalizations, with a residual and a bias added first."""

from __future__ import annotations

from bascule.canonical.contrib.axes import channels_first, channels_last, merge
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType


@operator("SkipLayerNormalization")
def skip_layer_normalization(
    build: ContribBuilder,
    input: Value,
    skip: Value,
    gamma: Value,
    beta: Value | None,
    bias: Value | None,
    *,
    epsilon: float = 1e-12,
) -> Outputs:
    total = _sum(build, input, skip, bias)
    count = 3 if build.wants(1) or build.wants(2) else 1
    found = build.ops(
        "LayerNormalization", total, gamma, beta, outputs=count, axis=-1, epsilon=epsilon
    )
    statistics = found[1:] if count > 1 else (None, None)
    return found[0], *statistics, total


@operator("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    build: ContribBuilder,
    input: Value,
    skip: Value,
    gamma: Value,
    bias: Value | None,
    *,
    epsilon: float = 1e-12,
) -> Outputs:
    total = _sum(build, input, skip, bias)
    y = build.op("RMSNormalization", total, gamma, axis=-1, epsilon=epsilon)
    mean = inverse = None
    if build.wants(1) or build.wants(2):
        wide = build.op("Cast", total, to=int(DataType.FLOAT))
        mean = build.op("ReduceMean", wide, build.ints(-1))
        square = build.op("ReduceMean", build.op("Mul", wide, wide), build.ints(-1))
        root = build.op("Sqrt", build.op("Add", square, build.floats(epsilon)))
        inverse = build.op("Reciprocal", root)
    return y, mean, inverse, total


def _sum(build: ContribBuilder, input: Value, skip: Value, bias: Value | None) -> Value:
    """The order in which it is added is that of the fused operators: the skip comes last."""
    return build.op("Add", input if bias is None else build.op("Add", input, bias), skip)


@operator("GroupNorm")
def group_norm(
    build: ContribBuilder,
    X: Value,
    gamma: Value,
    beta: Value,
    *,
    activation: int,
    groups: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Outputs:
    return _group_norm(build, X, gamma, beta, activation, groups, channels_last, epsilon)


@operator("SkipGroupNorm")
def skip_group_norm(
    build: ContribBuilder,
    X: Value,
    gamma: Value,
    beta: Value,
    skip: Value,
    bias: Value | None,
    *,
    activation: int,
    groups: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Outputs:
    """The skip may be one row of channels for each image."""
    start, end = (1, -1) if channels_last else (2, None)
    flat = build.op("Add", merge(build, X, start, end), merge(build, skip, start, end))
    if bias is not None and not channels_last:
        bias = build.op("Unsqueeze", bias, build.ints(1))
    total = build.op("Reshape", build.plus(flat, bias), build.shape(build.typed(X)), allowzero=1)
    y = _group_norm(build, total, gamma, beta, activation, groups, channels_last, epsilon)
    return y, total


def _group_norm(
    build: ContribBuilder,
    x: Value,
    gamma: Value,
    beta: Value,
    activation: int,
    groups: int,
    last: int,
    epsilon: float,
) -> Value:
    """In float32, and rounded once: the type of gamma and beta may be narrower than that of x."""
    if activation not in (0, 1):
        raise build.invalid(f"attribute 'activation' is {activation}, expected 0 or 1")
    wide, scale, offset = (
        build.cast(build.typed(each), DataType.FLOAT)
        for each in (channels_first(build, x) if last else x, gamma, beta)
    )
    y = build.op("GroupNormalization", wide, scale, offset, num_groups=groups, epsilon=epsilon)
    # Not inferred when the rank of x is not known.
    y.type = TensorType(DataType.FLOAT, build.typed(wide).shape)
    if activation:
        y = build.op("Swish", y)
    y = build.op("CastLike", y, x)
    return channels_last(build, y, build.typed(x).rank) if last else y
