# SPDX-License-Identifier: Apache-2.0
"""Softmax and Dropout with what is added before and after."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.softmax import coerced_to_matrix
from bascule.ir.graph import Value


@operator("BiasSoftmax")
def bias_softmax(
    build: ContribBuilder, data: Value, bias: Value, *, is_inner_broadcast: int, axis: int = 1
) -> Outputs:
    """Over all axes from `axis` on together. The bias broadcasts by the rules of the standard."""
    total = build.typed(build.op("Add", data, bias))
    y = build.op("Softmax", total, axis=axis)
    assert y.producer is not None
    coerced_to_matrix(y.producer, Builder(y.producer, 0))
    return y


@operator("BitmaskDropout")
def bitmask_dropout(
    build: ContribBuilder,
    data: Value,
    ratio: Value | None,
    training_mode: Value | None,
    *,
    seed: int | None = None,
) -> Outputs:
    _refuse_bits(build)
    return build.op("Dropout", data, ratio, training_mode, **_seed(seed))


@operator("BitmaskBiasDropout")
def bitmask_bias_dropout(
    build: ContribBuilder,
    data: Value,
    bias: Value,
    residual: Value | None,
    ratio: Value | None,
    training_mode: Value | None,
    *,
    seed: int | None = None,
) -> Outputs:
    _refuse_bits(build)
    total = build.op("Add", data, bias)
    return build.plus(build.op("Dropout", total, ratio, training_mode, **_seed(seed)), residual)


def _refuse_bits(build: ContribBuilder) -> None:
    """Only the gradient reads the mask, whose order of bits no text tells."""
    if build.wants(1):
        raise build.not_supported("the mask as bits")


def _seed(seed: int | None) -> dict[str, int]:
    return {} if seed is None else {"seed": seed}


@operator("BiasDropout")
def bias_dropout(
    build: ContribBuilder,
    data: Value,
    bias: Value,
    residual: Value | None,
    ratio: Value | None,
    training_mode: Value | None,
    *,
    seed: int | None = None,
) -> Outputs:
    total = build.op("Add", data, bias)
    count = 2 if build.wants(1) else 1
    y, *mask = build.ops("Dropout", total, ratio, training_mode, outputs=count, seed=seed)
    return build.plus(y, residual), *mask
