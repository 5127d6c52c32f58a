# SPDX-License-Identifier: Apache-2.0
"""Normalizations, with a residual and a bias added first."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


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
