# SPDX-License-Identifier: Apache-2.0
"""Images whose channels stand in blocks: what onnxruntime's optimizer for CPUs leaves in a model.

They are images in the standard's order here, weights are brought back to it, and what was filled up
to whole blocks of channels is filled only where something reads it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.activations import activate
from bascule.canonical.contrib.block_layout import (
    Array,
    filled,
    order_of_blocks,
    without_blocks,
)
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.registry import NCHWC_DOMAIN
from bascule.ir.graph import Value


@operator("ReorderInput", domain=NCHWC_DOMAIN)
def reorder_input(
    build: ContribBuilder, X: Value, *, channels_last: int = 0, block_size: int
) -> Outputs:
    x = build.op("Transpose", X, perm=[0, 3, 1, 2]) if channels_last else X
    channels = build.known_dim(X, 3 if channels_last else 1)
    if channels is not None:
        return _fill(build, x, -channels % block_size)
    missing = build.op("Mod", build.op("Neg", build.dim(x, 1)), build.ints(block_size))
    pads = build.op("Concat", build.ints(0, 0, 0, 0, 0), missing, build.ints(0, 0), axis=0)
    return build.op("Pad", x, pads)


@operator("ReorderOutput", domain=NCHWC_DOMAIN)
def reorder_output(
    build: ContribBuilder, X: Value, *, channels: int, channels_last: int = 0, block_size: int
) -> Outputs:
    if channels < 1:
        raise build.invalid(f"attribute 'channels' is {channels}, expected a positive number")
    y = X
    source = _without_filling(build, X)
    if source is not None and build.known_dim(source, 1) == channels:
        y = source
    elif build.known_dim(X, 1) != channels:
        y = build.op("Slice", X, build.ints(0), build.ints(channels), build.ints(1))
    return build.op("Transpose", y, perm=[0, 2, 3, 1]) if channels_last else y


@operator("Conv", attributes_of="Conv", domain=NCHWC_DOMAIN)
def nchwc_conv(
    build: ContribBuilder,
    X: Value,
    W: Value,
    B: Value | None,
    Sum: Value | None,
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    block_size: int,
    group: int = 1,
    **attributes: Any,
) -> Outputs:
    """`Sum` is added before the activation."""
    shape = build.typed(W).static_shape
    if shape is None or len(shape) != 4:
        raise build.not_supported("a weight whose four sizes are not all known")
    weights, bias = known_constant(W), None if B is None else known_constant(B)
    parameters, attributes["group"] = activation_params or [], group
    if weights is None or (B is not None and bias is None):
        apart, order = order_of_blocks(shape, group, block_size)
        w = build.op("Transpose", build.op("Reshape", W, build.ints(*apart)), perm=[*order])
        w = build.op("Reshape", w, build.ints(*shape))
        y = build.plus(build.op("Conv", X, w, B, **attributes), Sum)
        return activate(build, y, activation, parameters)
    if bias is not None and bias.shape != shape[:1]:
        raise build.invalid(f"the bias has shape {list(bias.shape)}, expected [{shape[0]}]")
    weights = without_blocks(weights, group, block_size)
    source = _without_filling(build, X)
    known = None if source is None else build.known_dim(source, 1)
    extra = 0 if known is None else shape[1] * group - known
    depthwise = group > 1 and group == shape[0] and shape[1] == 1
    spare, addend, value = 0, Sum, 0.0
    if group == 1 or depthwise:
        spare, addend, value = _spare(build, weights, bias, Sum, block_size)
    if depthwise and Sum is None:
        spare = min(spare, extra)
    filling = _constant_activation(value, activation, parameters)
    if not spare or filling is None or (depthwise and spare != extra):
        spare, addend = 0, Sum
    x = X
    if source is not None and group == 1 and 0 < extra <= filled(weights.swapaxes(0, 1)):
        x, weights = source, weights[:, :known]
    elif source is not None and depthwise and spare:
        x, attributes["group"] = source, known
    kept = len(weights) - spare
    w = build.constant(np.ascontiguousarray(weights[:kept]))
    b = None if bias is None else build.constant(bias[:kept])
    y = build.plus(build.op("Conv", x, w, b, **attributes), addend)
    y = activate(build, y, activation, parameters)
    return _fill(build, y, spare, filling or 0.0)


def _spare(
    build: ContribBuilder, weights: Array, bias: Array | None, addend: Value | None, size: int
) -> tuple[int, Value | None, float]:
    """How many channels of the result are the same everywhere, as they only fill up a block.

    With what is added to the others, and their one number.
    """
    spare = min(filled(weights), size - 1)
    if bias is not None:
        spare = min(spare, filled(bias))
    if addend is None:
        return spare, None, 0.0
    source, extra, value = _unfilled(build, addend)
    return (extra, source, value) if 0 < extra <= spare else (0, addend, 0.0)


def _constant_activation(x: float, activation: str, parameters: list[float]) -> float | None:
    """An activation of one number, or None where that is not easily told."""
    match activation, parameters:
        case "", _:
            return x
        case "Relu", _:
            return max(x, 0.0)
        case "LeakyRelu", [alpha]:
            return x if x >= 0 else alpha * x
        case "Clip", [low, high]:
            return min(max(x, low), high)
        case "HardSigmoid", [alpha, beta]:
            return min(max(alpha * x + beta, 0.0), 1.0)
        case "Sigmoid", _:
            return 1 / (1 + float(np.exp(-x)))
        case "Tanh", _:
            return float(np.tanh(x))
    return None


def _fill(build: ContribBuilder, x: Value, count: int, value: float = 0.0) -> Value:
    """With so many channels of one number behind the others."""
    if not count:
        return x
    pads = build.ints(0, 0, 0, 0, 0, count, 0, 0)
    return build.op("Pad", x, pads, build.like(value, build.typed(x)))


def _unfilled(build: ContribBuilder, x: Value) -> tuple[Value, int, float]:
    """What was filled up to make `x`, with how many channels of which number."""
    node = x.producer
    if node is None or not node.is_op("Pad"):
        return x, 0, 0.0
    source, pads = node.input(0), known_constant(node.input(1))
    value = known_constant(node.input(2))
    if source is None or pads is None or pads.shape != (8,) or value is None:
        return x, 0, 0.0
    if pads[5] < 1 or pads[[0, 1, 2, 3, 4, 6, 7]].any() or len(node.inputs) > 3 or node.attributes:
        return x, 0, 0.0
    return source, int(pads[5]), float(value)


_POINTWISE = {
    **dict.fromkeys(("Add", "Mul", "Sub", "Sum"), 2),
    **dict.fromkeys(("Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu"), 1),
    **dict.fromkeys(("Sigmoid", "Softplus", "Swish", "Tanh"), 1),
}
"""Operators that a channel at a time goes through, and how many images they take."""


def _without_filling(build: ContribBuilder, x: Value) -> Value | None:
    """`x` as it is before channels are filled up, also where nothing but this node reads it."""
    source, extra, _ = _unfilled(build, x)
    if extra:
        return source
    node = x.producer
    if node is None or x.only_use() is None or not node.is_op(*_POINTWISE):
        return None
    if len(node.inputs) != _POINTWISE[node.op_type]:
        return None
    parts = [None if value is None else _without_filling(build, value) for value in node.inputs]
    sizes = {None if part is None else build.known_dim(part, 1) for part in parts}
    if None in sizes or len(sizes) > 1:
        return None
    return build.op(node.op_type, *parts, **node.attributes)


@operator("MaxPool", attributes_of="MaxPool", domain=NCHWC_DOMAIN)
def nchwc_max_pool(
    build: ContribBuilder, X: Value, *, block_size: int, **attributes: Any
) -> Outputs:
    return build.op("MaxPool", X, **attributes)


@operator("AveragePool", attributes_of="AveragePool", domain=NCHWC_DOMAIN)
def nchwc_average_pool(
    build: ContribBuilder, X: Value, *, block_size: int, **attributes: Any
) -> Outputs:
    return build.op("AveragePool", X, **attributes)


@operator("GlobalMaxPool", domain=NCHWC_DOMAIN)
def nchwc_global_max_pool(build: ContribBuilder, X: Value, *, block_size: int) -> Outputs:
    return build.op("GlobalMaxPool", X)


@operator("GlobalAveragePool", domain=NCHWC_DOMAIN)
def nchwc_global_average_pool(build: ContribBuilder, X: Value, *, block_size: int) -> Outputs:
    return build.op("GlobalAveragePool", X)


@operator("Upsample", domain=NCHWC_DOMAIN)
def nchwc_upsample(
    build: ContribBuilder,
    X: Value,
    *,
    scales: list[int],
    mode: str = "nearest",
    coordinate_transformation_mode: str = "asymmetric",
    block_size: int,
) -> Outputs:
    if len(scales) != 4:
        raise build.invalid(f"attribute 'scales' is {scales}, expected four factors")
    return build.op(
        "Resize",
        X,
        None,
        build.floats(*scales),
        mode=mode,
        coordinate_transformation_mode=coordinate_transformation_mode,
        nearest_mode="floor",
    )
