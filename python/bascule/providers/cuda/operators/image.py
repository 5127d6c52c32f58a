# SPDX-License-Identifier: Apache-2.0
"""Reading images in regions that a tensor names, and putting elements back."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.registry import FLOATS, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_MOST_AXES = 4
_PARTS = frozenset(map(type_name, FLOATS))
_OTHERS = frozenset((DataType.BOOL, DataType.COMPLEX64, DataType.COMPLEX128))
_UNSIGNED = {
    DataType.INT8: DataType.UINT8,
    DataType.INT16: DataType.UINT16,
    DataType.INT32: DataType.UINT32,
    DataType.INT64: DataType.UINT64,
}

Array = np.ndarray[Any, Any]


def _launch(call: Call, name: str, part: str, threads: int, *arguments: Argument) -> None:
    """`part` of kernels/image.cu: a floating-point type, or other."""
    module = f"image.{part if part in _PARTS else 'other'}"
    blocks = min(-(-threads // _THREADS), 1 << 20)
    call.launch(module, f"{name}_{part}", blocks, _THREADS, *arguments)


def _numbers(numbers: Sequence[int], *floats: float) -> Struct:
    return Struct(struct.pack(f"<{len(numbers)}q{len(floats)}d", *numbers, *floats))


def _accepts_rois(node: Node) -> str:
    x, rois = node.inputs[0], node.inputs[1]
    same = x is not None and rois is not None and x.dtype is rois.dtype
    return "" if same else "the regions are of another type"


@kernel("RoiAlign", dtypes=FLOATS, accepts=_accepts_rois)
def roi_align(call: Call, x: Tensor, rois: Tensor, images: Tensor) -> Tensor:
    """Regions of a feature map, each pooled to one size from bilinear samples."""
    rows = int(call.attribute("output_height", 1))
    columns = int(call.attribute("output_width", 1))
    sampling = int(call.attribute("sampling_ratio", 0))
    if rows < 1 or columns < 1 or sampling < 0:
        raise call.error("output sizes must be positive and sampling_ratio not negative")
    fits = x.rank == 4 and rois.rank == 2 and rois.shape[1] == 4 and images.size == rois.shape[0]
    if not fits or min(x.shape[2:]) < 1:
        raise call.error(f"regions of shape {rois.shape} do not fit an input of shape {x.shape}")
    y = call.empty((rois.shape[0], x.shape[1], rows, columns), x.dtype)
    shift = call.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    average = call.attribute("mode", "avg") != "max"
    numbers = (rois.shape[0], *x.shape, rows, columns, sampling, int(shift), int(average))
    scale = float(np.float32(call.attribute("spatial_scale", 1.0)))
    _launch(
        call, "roi_align", type_name(x.dtype), y.size, x, rois, images, y, _numbers(numbers, scale)
    )
    return y


@kernel("MaxRoiPool", dtypes=FLOATS, accepts=_accepts_rois)
def max_roi_pool(call: Call, x: Tensor, rois: Tensor) -> Tensor:
    """Regions of a feature map, cut into bins of which the largest elements are taken."""
    pooled = [int(n) for n in call.attribute("pooled_shape") or ()]
    if len(pooled) != 2 or min(pooled) < 1:
        raise call.error("pooled_shape must be two positive numbers")
    if x.rank != 4 or rois.rank != 2 or rois.shape[1] != 5:
        raise call.error(f"regions of shape {rois.shape} do not fit an input of shape {x.shape}")
    y = call.empty((rois.shape[0], x.shape[1], *pooled), x.dtype)
    scale = float(np.float32(call.attribute("spatial_scale", 1.0)))
    numbers = (rois.shape[0], *x.shape, *pooled)
    _launch(call, "max_roi_pool", type_name(x.dtype), y.size, x, rois, y, _numbers(numbers, scale))
    return y


def _list(call: Call, name: str, count: int, fill: int) -> list[int]:
    values = [int(n) for n in call.attribute(name) or [fill] * count]
    if len(values) != count:
        raise call.error(f"attribute '{name}' must have {count} numbers")
    return values


@kernel("MaxUnpool", dtypes=FLOATS, host=(2,))
def max_unpool(call: Call, x: Tensor, indices: Tensor, output_shape: Array | None = None) -> Tensor:
    """Elements put back where a pool took them from, zeros elsewhere."""
    block = [int(n) for n in call.attribute("kernel_shape")]
    axes = len(block)
    strides, pads = _list(call, "strides", axes, 1), _list(call, "pads", 2 * axes, 0)
    if x.rank != axes + 2 or indices.shape != x.shape:
        raise call.error(f"indices of shape {indices.shape} do not fit an input of shape {x.shape}")
    pooled = list(x.shape)
    for i in range(axes):
        pooled[i + 2] = (x.shape[i + 2] - 1) * strides[i] + block[i] - pads[i] - pads[i + axes]
    if min(pooled) < 0:
        raise call.error(f"the pads {pads} leave a shape of {pooled}")
    shape = pooled if output_shape is None else [int(n) for n in output_shape.tolist()]
    if len(shape) != len(pooled) or any(a < b for a, b in zip(shape, pooled)):
        raise call.error(f"output_shape {shape} is smaller than {pooled}")
    y = call.zeros(shape, x.dtype)
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    rest = [1] * (8 - len(shape))
    where = _numbers((len(shape), *pooled, *rest, *steps, *rest))
    count, limit = np.int64(x.size), np.int64(math.prod(pooled))
    _launch(call, "max_unpool", str(x.itemsize), x.size, x, indices, y, where, count, limit)
    return y


@kernel("Col2Im", dtypes=NUMBERS | _OTHERS, host=(1, 2))
def col2im(call: Call, x: Tensor, image_shape: Array, block_shape: Array) -> Tensor:
    """Windows [N, channels * block, windows] put back into an image; where they overlap, sums."""
    image = [int(n) for n in image_shape.tolist()]
    block = [int(n) for n in block_shape.tolist()]
    axes = len(image)
    if x.rank != 3 or not 1 <= axes <= _MOST_AXES or len(block) != axes:
        raise call.error(f"input {x.shape}, image {image} and block {block} do not fit each other")
    strides, dilations = _list(call, "strides", axes, 1), _list(call, "dilations", axes, 1)
    pads = _list(call, "pads", 2 * axes, 0)
    if min(image + block + strides + dilations) < 1 or min(pads) < 0:
        raise call.error("sizes, strides and dilations must be positive")
    counts = []
    for i in range(axes):
        room = image[i] + pads[i] + pads[i + axes] - dilations[i] * (block[i] - 1) - 1
        counts.append(0 if room < 0 else room // strides[i] + 1)
    elements, windows = math.prod(block), math.prod(counts)
    channels = x.shape[1] // elements
    if x.shape[1] != channels * elements or x.shape[2] != windows:
        raise call.error(f"input {x.shape} does not have {windows} windows of {elements} elements")
    y = call.empty((x.shape[0], channels, *image), x.dtype)
    lists = (image, block, counts, strides, pads[:axes], dilations)
    padded = [n for values in lists for n in (*values, *[1] * (_MOST_AXES - axes))]
    numbers = (x.shape[0] * channels, axes, elements, windows, *padded)
    name = type_name(_UNSIGNED.get(x.dtype, x.dtype))
    _launch(call, "col2im", name, y.size, x, y, _numbers(numbers))
    return y
