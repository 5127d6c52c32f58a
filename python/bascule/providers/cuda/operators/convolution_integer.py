# SPDX-License-Identifier: Apache-2.0
"""Convolutions of 8-bit integers."""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.convolution import THREADS, blocks_of, check_shape
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.windows import Convolution, convolution_of

_BYTES = (DataType.INT8, DataType.UINT8)


@kernel("ConvInteger", dtypes=_BYTES)
@kernel("ConvInteger", domain="bascule", dtypes=_BYTES)
def integer_convolution(
    call: Call,
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    """The int32 sums of (X - x_zero) * (W - w_zero)"""
    return _integer_sums(call, convolution_of(call.node, x.shape, w.shape), x, w, x_zero, w_zero)


@kernel("QLinearConv", dtypes=_BYTES)
@kernel("QLinearConv", domain="bascule", dtypes=_BYTES)
def quantized_convolution(
    call: Call,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor:
    """Sums of integers, scaled to bytes."""
    sizes = convolution_of(call.node, x.shape, w.shape)
    if w_scale.size not in (1, sizes.out_channels):
        raise call.error(f"w_scale has shape {w_scale.shape}, expected ({sizes.out_channels},)")
    check_shape(call, "bias", bias, (sizes.out_channels,))
    sums = _integer_sums(call, sizes, x, w, x_zero, w_zero)
    y = call.empty(sums.shape, call.dtype())
    call.launch(
        "convolution",
        f"requantize_{type_name(y.dtype)}",
        blocks_of(y.size),
        THREADS,
        sums,
        bias,
        x_scale,
        w_scale,
        np.int64(w_scale.size),
        y_scale,
        y_zero,
        y,
        np.int64(y.size),
        np.int64(sizes.out_channels),
        np.int64(1 if sizes.channels_last else sizes.out_pixels),
    )
    return y


def _integer_sums(
    call: Call,
    sizes: Convolution,
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None,
    w_zero: Tensor | None,
) -> Tensor:
    if w_zero is not None and w_zero.size not in (1, sizes.out_channels):
        raise call.error(f"w_zero_point has shape {w_zero.shape}, expected ({sizes.out_channels},)")
    sums = call.empty(sizes.output_shape, DataType.INT32)
    taps = sizes.taps
    strides = (sizes.group_in * taps, taps, 1, sizes.group_out * sizes.group_in * taps)
    call.launch(
        "convolution",
        f"integer_convolution_{type_name(x.dtype)}_{type_name(w.dtype)}",
        blocks_of(sums.size),
        THREADS,
        x,
        w,
        x_zero,
        w_zero,
        np.int64(1 if w_zero is None else w_zero.size),
        sums,
        sizes.argument(strides),
    )
    return sums
