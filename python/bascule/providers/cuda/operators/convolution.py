# SPDX-License-Identifier: Apache-2.0
"""Conv, ConvTranspose and DeformConv."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.activation import Activation, accepts_activation, activation_of
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators import matmul
from bascule.providers.cuda.operators.product import Epilogue
from bascule.providers.cuda.operators.strided import copy_strided, strides_of
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.tuning import fastest
from bascule.providers.cuda.windows import Convolution, convolution_of

THREADS = 256
_INDEX_LIMIT = 1 << 31
"""How many elements 32-bit indices reach."""


@kernel("Conv", dtypes=FLOATS)
@kernel("Conv", domain="bascule", dtypes=FLOATS, accepts=accepts_activation)
def convolution(
    call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None, residual: Tensor | None = None
) -> Tensor:
    """activation(X * W + B + residual)"""
    sizes = convolution_of(call.node, x.shape, w.shape)
    return _convolve(call, sizes, x, w, bias, residual)


@kernel("ConvTranspose", dtypes=FLOATS)
@kernel("ConvTranspose", domain="bascule", dtypes=FLOATS, accepts=accepts_activation)
def transposed_convolution(call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """activation(transposed convolution of X with W, + B)"""
    sizes = convolution_of(call.node, x.shape, w.shape, transposed=True)
    return _convolve(call, sizes, x, w, bias, None)


@dataclass(frozen=True, slots=True)
class _Work:
    """A convolution to be computed."""

    call: Call
    sizes: Convolution
    x: Tensor
    w: Tensor
    bias: Tensor | None
    residual: Tensor | None
    activation: Activation


def _convolve(
    call: Call,
    sizes: Convolution,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    check_shape(call, "bias", bias, (sizes.out_channels,))
    check_shape(call, "residual", residual, sizes.output_shape)
    work = _Work(call, sizes, x, w, bias, residual, activation_of(call.node))
    if math.prod(sizes.output_shape) and _is_product(sizes):
        return _multiplied(work, x.reshaped((sizes.batch * sizes.in_pixels, sizes.in_channels)), w)
    if math.prod(sizes.output_shape) and _cuts_patches(sizes, x):
        weights = _weights(call, w, "channels last", _channels_last)
        return _multiplied(work, _patches(work), weights)
    y = call.empty(sizes.output_shape, x.dtype)
    if y.size and not _by_channels(work, y) and not _by_library(work, y):
        _by_element(work, y)
    return y


def check_shape(call: Call, name: str, given: Tensor | None, expected: tuple[int, ...]) -> None:
    """Raise an error if an operand that is there has another shape."""
    if given is not None and given.shape != expected:
        raise call.error(f"{name} has shape {given.shape}, expected {expected}")


def _is_product(sizes: Convolution) -> bool:
    """Whether pixels are rows of a matrix, each multiplied with the weights."""
    ones = (1, 1, 1)
    return (
        sizes.channels_last
        and not sizes.transposed
        and sizes.groups == 1
        and sizes.kernel == sizes.stride == ones
        and sizes.in_ == sizes.out
        and sizes.pad == (0, 0, 0)
    )


def _cuts_patches(sizes: Convolution, x: Tensor) -> bool:
    """Whether windows lie side by side, in an image of few channels: libraries are slow there."""
    return (
        sizes.channels_last
        and not sizes.transposed
        and sizes.groups == 1
        and sizes.kernel == sizes.stride
        and sizes.dilation == (1, 1, 1)
        and sizes.pad == (0, 0, 0)
        and all(n * size <= all_ for n, size, all_ in zip(sizes.out, sizes.kernel, sizes.in_))
        and sizes.in_channels * x.itemsize % 16 != 0
    )


def _patches(work: _Work) -> Tensor:
    """The windows as rows of a matrix, each [taps, C]."""
    sizes, x = work.sizes, work.x
    y = work.call.empty((sizes.batch * sizes.out_pixels, sizes.taps * sizes.in_channels), x.dtype)
    lengths = (sizes.batch, *sizes.out, *sizes.kernel, sizes.in_channels)
    batch, *pixel, channel = strides_of((sizes.batch, *sizes.in_, sizes.in_channels))
    windows = (step * size for step, size in zip(pixel, sizes.kernel))
    source = (batch, *windows, *pixel, channel)
    copy_strided(work.call, x, y, lengths, source, strides_of(lengths))
    return y


def _multiplied(work: _Work, rows_of_x: Tensor, w: Tensor) -> Tensor:
    """Rows of X times the weights, which are rows too."""
    sizes, residual = work.sizes, work.residual
    rows = sizes.batch * sizes.out_pixels
    epilogue = Epilogue(
        bias=work.bias,
        residual=None if residual is None else residual.reshaped((rows, sizes.out_channels)),
        activation=work.activation,
    )
    y = matmul.multiply(
        work.call,
        rows_of_x,
        w.reshaped((sizes.out_channels, rows_of_x.shape[1])),
        transpose_b=True,
        epilogue=epilogue,
        constant=work.call.is_constant(1),
    )
    return y.reshaped(sizes.output_shape)


# --- the ways to compute it, each of which may find that it does not fit


def _by_channels(work: _Work, y: Tensor) -> bool:
    """Depthwise with channels last: limited by memory, so each thread moves 16 bytes at a time."""
    call, sizes, x = work.call, work.sizes, work.x
    side, stride = sizes.kernel[2], sizes.stride[2]
    lanes = 16 // x.itemsize
    if (
        not sizes.channels_last
        or sizes.transposed
        or not sizes.is_depthwise
        or x.dtype is DataType.DOUBLE
        or sizes.in_channels % lanes
        or sizes.kernel != (1, side, side)
        or side not in (3, 5, 7)
        or sizes.stride[1:] != (stride, stride)
        or stride not in (1, 2)
        or sizes.dilation[1:] != (1, 1)
        or sizes.in_[0] != 1
        or sizes.pad[0]
        or sizes.out[0] != 1
        or max(x.size, y.size) >= _INDEX_LIMIT
    ):
        return False
    weights = _weights(call, work.w, "taps first", _taps_first)
    rows = sizes.batch * sizes.out[1] * (sizes.in_channels // lanes)
    tile = 4
    if rows * -(-sizes.out[2] // tile) < 128 * call.device.processors:
        tile = 1  # rather more threads than work shared in one
    threads = rows * -(-sizes.out[2] // tile)
    if threads >= _INDEX_LIMIT - 128:
        return False
    numbers = (sizes.batch, sizes.in_channels, *sizes.in_[1:], *sizes.out[1:], *sizes.pad[1:])
    dtype = type_name(x.dtype)
    call.launch(
        f"depthwise.{side}_{dtype}",
        f"depthwise_{side}_{stride}_{tile}_{dtype}",
        -(-threads // 128),
        128,
        x,
        weights,
        work.bias,
        work.residual,
        y,
        Struct(struct.pack("<8i", *numbers)),
        work.activation.argument,
    )
    return True


def _by_library(work: _Work, y: Tensor) -> bool:
    """cuDNN, with the bias, the residual and Relu in its own kernel where it has one."""
    call, sizes, x, w = work.call, work.sizes, work.x, work.w
    bias, residual, activation = work.bias, work.residual, work.activation
    cudnn = call.device.cudnn
    if cudnn is None or x.size == 0 or w.size == 0:
        return False
    fused = not sizes.transposed
    relu = fused and activation.name == "Relu"
    weights = _weights(call, w, "channels last", _channels_last) if sizes.channels_last else w
    operands = [x, weights, bias, residual, y] if fused else [x, weights, y]
    addresses = [t.address for t in operands if t is not None]

    def choose(description: str, count: int, plan_of: Callable[[int], Any]) -> int:
        def start(number: int) -> Callable[[int], None]:
            plan = plan_of(number)
            memory = call.device.allocate(max(plan.workspace, 1))
            return lambda _: plan.run(addresses, memory[0])

        return fastest(call.device, f"cuDNN {description}", count, start)

    def make(_: Call) -> Any:
        return cudnn.convolution(
            *(sizes, x.dtype, bias is not None and fused, residual is not None and fused, relu),
            choose=choose if call.device.tunes else None,
        )

    plan = call.planned("plan", make)
    if plan is None:
        return False
    workspace = call.workspace(plan.workspace)
    plan.run(addresses, workspace.address)
    if not fused:
        _finish(call, sizes, y, bias, residual, activation)
    elif not relu and activation.name:
        _finish(call, sizes, y, None, None, activation)
    return True


def _by_element(work: _Work, y: Tensor) -> None:
    """A thread for each output element."""
    sizes, x = work.sizes, work.x
    weights, strides = _strided_weights(work.call, sizes, work.w)
    name = "transposed_convolution" if sizes.transposed else "convolution"
    work.call.launch(
        "convolution",
        f"{name}_{type_name(x.dtype)}",
        blocks_of(y.size),
        THREADS,
        x,
        weights,
        work.bias,
        work.residual,
        y,
        sizes.argument(strides),
        work.activation.argument,
    )


def _finish(
    call: Call,
    sizes: Convolution,
    y: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: Activation,
) -> None:
    """What a library's convolution leaves to do, in place."""
    if bias is None and residual is None and not activation.name:
        return
    call.launch(
        "convolution",
        f"finish_{type_name(y.dtype)}",
        blocks_of(-(-y.nbytes // 16)),
        THREADS,
        y,
        bias,
        residual,
        np.int64(y.size),
        np.int64(sizes.out_channels),
        np.int64(1 if sizes.channels_last else sizes.out_pixels),
        activation.argument,
    )


def blocks_of(threads: int) -> int:
    """A grid whose threads take turns when there is more to do."""
    return min(-(-threads // THREADS), 1 << 20)


# --- weights in other layouts, made once when they are constant


def _weights(call: Call, w: Tensor, key: str, make: Callable[[Call, Tensor], Tensor]) -> Tensor:
    if call.is_constant(1):
        kept: Tensor = call.prepared(key, lambda keeping: make(keeping, w))
        return kept
    return make(call, w)


def _swapped(call: Call, w: Tensor, outer: int, rows: int, columns: int) -> Tensor:
    """W as [outer, rows, columns] in the order [outer, columns, rows]."""
    if rows == 1 or columns == 1:
        return w
    y = call.like(w)
    name = f"swap_weights_{w.itemsize}"
    sizes = np.int64(outer), np.int64(rows), np.int64(columns)
    call.launch("convolution", name, blocks_of(w.size), THREADS, w, y, *sizes)
    return y


def _channels_last(call: Call, w: Tensor) -> Tensor:
    """[K, taps, C]"""
    return _swapped(call, w, w.shape[0], w.shape[1], w.size // (w.shape[0] * w.shape[1]))


def _taps_first(call: Call, w: Tensor) -> Tensor:
    """[taps, K] of the weights [K, 1, taps]"""
    return _swapped(call, w, 1, w.shape[0], w.size // w.shape[0])


def _outputs_last(call: Call, w: Tensor) -> Tensor:
    """[C, taps, K]: threads that are neighbours read neighbouring weights."""
    return _swapped(call, w, 1, w.shape[0], w.size // w.shape[0])


def _strided_weights(
    call: Call, sizes: Convolution, w: Tensor
) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Weights for the kernels, and their strides: out, in, tap, and from group to group."""
    taps = sizes.taps
    if sizes.transposed:  # [C, K / groups, taps]
        return w, (taps, sizes.group_out * taps, 1, sizes.group_in * sizes.group_out * taps)
    if sizes.channels_last:
        weights = _weights(call, w, "outputs last", _outputs_last)
        channels = sizes.out_channels
        return weights, (1, taps * channels, channels, sizes.group_out)
    return w, (sizes.group_in * taps, taps, 1, sizes.group_out * sizes.group_in * taps)


# --- DeformConv


@kernel("DeformConv", dtypes=FLOATS)
def deformed_convolution(
    call: Call,
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """What each tap sees is gathered first, then multiplied with the weights."""
    sizes = convolution_of(call.node, x.shape, w.shape)
    groups = int(call.attribute("offset_group", 1))
    if groups < 1 or sizes.in_channels % groups:
        raise call.error(f"{sizes.in_channels} channels do not fit offset_group {groups}")
    axes, spatial = x.rank - 2, sizes.output_shape[2:]
    planes = groups * sizes.taps
    check_shape(call, "offset", offset, (sizes.batch, planes * axes, *spatial))
    check_shape(call, "mask", mask, (sizes.batch, planes, *spatial))
    check_shape(call, "B", bias, (sizes.out_channels,))
    y = call.empty(sizes.output_shape, x.dtype)
    wide = DataType.DOUBLE if x.dtype is DataType.DOUBLE else DataType.FLOAT
    depth = sizes.in_channels * sizes.taps
    columns = call.empty((sizes.batch, depth, sizes.out_pixels), wide)
    name = type_name(x.dtype)
    call.launch(
        "convolution",
        f"deformed_columns_{name}",
        blocks_of(columns.size),
        THREADS,
        x,
        offset,
        mask,
        columns,
        sizes.argument((0, 0, 0, 0)),
        np.int64(groups),
        np.int32(axes),
    )
    pixels, one, none = (1, 1, sizes.out_pixels), (1, 1, 1), (0, 0, 0)
    product = Convolution(
        transposed=False,
        channels_last=False,
        rank=3,
        batch=sizes.batch,
        groups=sizes.groups,
        in_channels=depth,
        out_channels=sizes.out_channels,
        in_=pixels,
        out=pixels,
        kernel=one,
        stride=one,
        dilation=one,
        pad=none,
    )
    group_depth = product.group_in
    strides = (group_depth, 1, 1, group_depth * product.group_out)
    call.launch(
        "convolution",
        f"columns_convolution_{name}",
        blocks_of(y.size),
        THREADS,
        columns,
        w,
        bias,
        y,
        product.argument(strides),
    )
    return y
