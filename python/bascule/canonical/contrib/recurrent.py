# SPDX-License-Identifier: Apache-2.0
"""LSTM with quantized weights."""

from __future__ import annotations

from typing import Any

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("DynamicQuantizeLSTM", attributes_of="LSTM")
def dynamic_quantize_lstm(
    build: ContribBuilder,
    X: Value,
    W: Value,
    R: Value,
    B: Value | None,
    sequence_lens: Value | None,
    initial_h: Value | None,
    initial_c: Value | None,
    P: Value | None,
    W_scale: Value,
    W_zero_point: Value,
    R_scale: Value,
    R_zero_point: Value,
    **attributes: Any,
) -> Outputs:
    """The LSTM of the weights that the integers stand for.

    Rounding the rows of each step, which the operator allows for speed, would make a sample's
    result depend on the others of its batch.
    """
    weights = (_weights(build, W, W_scale, W_zero_point), _weights(build, R, R_scale, R_zero_point))
    state = (B, sequence_lens, initial_h, initial_c, P)
    count = len(build.node.outputs)
    return tuple(build.ops("LSTM", X, *weights, *state, outputs=count, **attributes))


def _weights(build: ContribBuilder, w: Value, scale: Value, zero: Value) -> Value:
    """``[directions, rows, columns]``, scaled by direction and maybe column, as LSTM has them."""
    by_column = build.op("Concat", build.dim(w, 0), build.ints(1, -1), axis=0)
    zeros = build.op("Reshape", build.op("Cast", zero, to=int(DataType.FLOAT)), by_column)
    moved = build.op("Sub", build.op("Cast", w, to=int(DataType.FLOAT)), zeros)
    numbers = build.op("Mul", moved, build.op("Reshape", scale, by_column))
    return build.op("Transpose", numbers, perm=[0, 2, 1])
