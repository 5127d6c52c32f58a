# SPDX-License-Identifier: Apache-2.0
"""Batch, instance and group normalization of images, and the normalizations without parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators.conversion import converted, grid_of, work_type
from bascule.providers.cuda.operators.reduction import MOMENTS, fold_axes
from bascule.providers.cuda.operators.rows import (
    HELD_ROW,
    held_threads,
    is_aligned,
    lines_along,
)
from bascule.providers.cuda.operators.shape import axis_of
from bascule.providers.cuda.operators.strided import pack
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_MODULE = "normalization"


@dataclass(frozen=True, slots=True)
class _Image:
    """A tensor [batch, channels, pixels], or [batch, pixels, channels]."""

    batch: int
    channels: int
    pixels: int
    channels_last: bool

    @property
    def size(self) -> int:
        return self.channels * self.pixels

    @property
    def inner(self) -> int:
        """How many neighbouring elements belong to one channel."""
        return 1 if self.channels_last else self.pixels


def _image(call: Call, shape: tuple[int, ...]) -> _Image:
    if len(shape) < 2:
        raise call.error(f"input of rank {len(shape)}, expected at least 2")
    channels_last = bool(call.attribute("channels_last", 0))
    axis = len(shape) - 1 if channels_last else 1
    pixels = math.prod(shape[1:]) // shape[axis] if shape[axis] else 0
    return _Image(shape[0], shape[axis], pixels, channels_last)


def _per_channel(call: Call, x: Tensor, index: int, image: _Image, works: DataType) -> Tensor:
    if x.size != image.channels:
        raise call.error(f"input {index} of shape {x.shape}, expected {image.channels} channels")
    return converted(call, x, works, index)


def _epsilon(call: Call) -> np.float32:
    epsilon: np.float32 = np.float32(call.attribute("epsilon", 1e-5))
    return epsilon


# --- groups of channels


@kernel("GroupNormalization", "InstanceNormalization", dtypes=FLOATS)
@kernel("GroupNormalization", "InstanceNormalization", domain=FUSED_DOMAIN, dtypes=FLOATS)
def group_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    image = _image(call, x.shape)
    groups = image.channels
    if call.node.op_type == "GroupNormalization":
        groups = call.attribute("num_groups", 0)
    if image.channels % groups if groups > 0 else image.channels:
        channels = f"{image.channels} channels are not a multiple of"
        raise call.error(f"{channels} num_groups={groups}")
    works = work_type(x, scale, bias)
    wide = converted(call, x, works) if works is DataType.DOUBLE else x
    scale = _per_channel(call, scale, 1, image, works)
    bias = _per_channel(call, bias, 2, image, works)
    if x.size == 0:
        return call.like(x)
    of_group = image.size // groups
    is_short = of_group <= HELD_ROW and not image.channels_last
    normalize = _normalize_held if is_short else _normalize_groups
    return converted(call, normalize(call, wide, image, groups, scale, bias), x.dtype)


def _normalize_held(
    call: Call, x: Tensor, image: _Image, groups: int, scale: Tensor, bias: Tensor
) -> Tensor:
    """Groups that fit into the registers of a block."""
    y = call.like(x)
    n = image.size // groups
    sizes = (np.int32(groups), np.int32(image.channels // groups), np.int32(image.pixels))
    last = (_epsilon(call), np.int32(is_aligned(x, n)))
    name, grid = type_name(x.dtype), image.batch * groups
    arguments = (x, scale, bias, y, *sizes, *last)
    module = f"layer_normalization.{name}"
    call.launch(module, f"group_block_{name}", grid, held_threads(n), *arguments)
    return y


def _normalize_groups(
    call: Call, x: Tensor, image: _Image, groups: int, scale: Tensor, bias: Tensor
) -> Tensor:
    """Moments of the groups first, then of each channel what it takes to normalize it."""
    size = image.channels // groups
    if image.channels_last:
        split = x.reshaped((image.batch, image.pixels, groups, size))
        moments = fold_axes(call, split, (False, True, False, True), MOMENTS)
    else:
        split = x.reshaped((image.batch, groups, size * image.pixels))
        moments = fold_axes(call, split, (False, False, True), MOMENTS)
    count = image.batch * image.channels
    means, factors = call.empty((count,), scale.dtype), call.empty((count,), scale.dtype)
    sizes = (np.int64(count), np.int64(image.channels), np.int64(size))
    name = f"group_factors_{type_name(scale.dtype)}"
    arguments = (moments, scale, means, factors, *sizes, _epsilon(call))
    call.launch(_MODULE, name, -(-count // _THREADS), _THREADS, *arguments)
    return _affine(call, x, image, means, factors, bias, image.channels)


def _affine(
    call: Call,
    x: Tensor,
    image: _Image,
    means: Tensor,
    factors: Tensor,
    bias: Tensor,
    step: int,
) -> Tensor:
    """(x - mean) * factor + bias; `step` is 0 if all images share means and factors."""
    y = call.like(x)
    images, size = (image.batch, image.size) if step else (1, image.batch * image.size)
    sizes = (np.int64(v) for v in (images, size, image.inner, image.channels, step))
    grid = (grid_of(-(-size * x.itemsize // 16)), min(images, 65535))
    name, last = f"affine_{type_name(x.dtype)}", np.int32(is_aligned(x, size))
    call.launch(_MODULE, name, grid, _THREADS, x, means, factors, bias, y, *sizes, last)
    return y


# --- batches


@kernel("BatchNormalization", dtypes=FLOATS)
@kernel("BatchNormalization", domain=FUSED_DOMAIN, dtypes=FLOATS)
def batch_normalization(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor | None, ...]:
    image = _image(call, x.shape if x.rank != 1 else (*x.shape, 1))  # [N] has one channel
    works = work_type(x, scale, bias, mean, variance)
    wide = converted(call, x, works) if works is DataType.DOUBLE else x
    given = [
        _per_channel(call, each, index, image, works)
        for index, each in enumerate((scale, bias, mean, variance), start=1)
    ]
    if call.attribute("training_mode", 0):
        y, *running = _normalize_batch(call, wide, image, given)
        results = (converted(call, y, x.dtype), *(converted(call, r, mean.dtype) for r in running))
        return results[: len(call.node.outputs)]
    factors = _channel_factors(call, given[3], given[0])
    y = _affine(call, wide, image, given[2], factors, given[1], 0)
    return (converted(call, y, x.dtype), None, None)[: len(call.node.outputs)]


def _channel_factors(call: Call, variance: Tensor, scale: Tensor) -> Tensor:
    """scale / sqrt(variance + epsilon), made once if both are constant."""

    def make(keeping: Call) -> Tensor:
        factors = keeping.like(scale)
        name = f"channel_factors_{type_name(scale.dtype)}"
        last = (np.int64(scale.size), _epsilon(keeping))
        grid = -(-scale.size // _THREADS)
        keeping.launch(_MODULE, name, grid, _THREADS, variance, scale, factors, *last)
        return factors

    if not (call.is_constant(1) and call.is_constant(4)):
        return make(call)
    factors: Tensor = call.prepared(f"factors {scale.dtype.name}", make)
    return factors


def _normalize_batch(
    call: Call, x: Tensor, image: _Image, given: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """By the moments of each channel over the batch; and the running mean and variance."""
    scale, bias, mean, variance = given
    if image.channels_last:
        split = x.reshaped((image.batch * image.pixels, image.channels))
        moments = fold_axes(call, split, (True, False), MOMENTS)
    else:
        split = x.reshaped((image.batch, image.channels, image.pixels))
        moments = fold_axes(call, split, (True, False, True), MOMENTS)
    name, grid = type_name(scale.dtype), -(-image.channels // _THREADS)
    count = np.int64(image.channels)
    running = []
    for of_variance, before in enumerate((mean, variance)):
        after = call.empty((image.channels,), scale.dtype)
        last = (count, np.float32(call.attribute("momentum", 0.9)), np.int32(of_variance))
        call.launch(_MODULE, f"running_{name}", grid, _THREADS, moments, before, after, *last)
        running.append(after)
    means, factors = call.like(scale), call.like(scale)
    arguments = (moments, scale, means, factors, count, count, np.int64(1), _epsilon(call))
    call.launch(_MODULE, f"group_factors_{name}", grid, _THREADS, *arguments)
    return _affine(call, x, image, means, factors, bias, 0), running[0], running[1]


# --- without parameters


@kernel("MeanVarianceNormalization", dtypes=FLOATS)
def mean_variance_normalization(call: Call, x: Tensor) -> Tensor:
    averaged = [False] * x.rank
    for axis in call.attribute("axes", [0, 2, 3]):
        averaged[axis_of(call, axis, x.rank)] = True
    y = call.like(x)
    if x.size == 0:
        return y
    moments = fold_axes(call, x, averaged, MOMENTS)
    steps, step = [0] * x.rank, 1
    for axis in reversed(range(x.rank)):
        if not averaged[axis]:
            steps[axis], step = step, step * x.shape[axis]
    axes = Struct(pack([x.rank], x.shape, steps))
    name = f"mean_variance_{type_name(x.dtype)}"
    call.launch(_MODULE, name, grid_of(x.size), _THREADS, x, moments, y, np.int64(x.size), axes)
    return y


def _norm_order(node: Node) -> str:
    p = node.attributes.get("p", 2)
    return "" if p in (1, 2) else f"p={p} is neither 1 nor 2"


@kernel("LpNormalization", dtypes=FLOATS, accepts=_norm_order)
def lp_normalization(call: Call, x: Tensor) -> Tensor:
    outer, n, inner = lines_along(call, x.shape, call.attribute("axis", -1))
    y = call.like(x)
    lanes = 32 if inner == 1 else 1
    grid = -(-outer * inner * lanes // _THREADS)
    sizes = (np.int64(outer * inner), np.int64(n), np.int64(inner))
    last = (np.int32(lanes), np.int32(call.attribute("p", 2) == 2))
    call.launch(_MODULE, f"norm_lines_{type_name(x.dtype)}", grid, _THREADS, x, y, *sizes, *last)
    return y


def _window(node: Node) -> str:
    return "" if node.attributes.get("size", 0) >= 1 else "size is below 1"


@kernel("LRN", dtypes=FLOATS, accepts=_window)
def local_response_normalization(call: Call, x: Tensor) -> Tensor:
    if x.rank < 2:
        raise call.error(f"input of rank {x.rank}, expected at least 2")
    sizes = (x.size, x.shape[1], math.prod(x.shape[2:]), call.attribute("size"))
    numbers = (
        np.float32(call.attribute("alpha", 1e-4)),
        np.float32(call.attribute("beta", 0.75)),
        np.float32(call.attribute("bias", 1.0)),
    )
    y = call.like(x)
    arguments = (x, y, *(np.int64(size) for size in sizes), *numbers)
    name = f"local_response_{type_name(x.dtype)}"
    call.launch(_MODULE, name, grid_of(x.size), _THREADS, *arguments)
    return y
