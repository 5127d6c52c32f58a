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
