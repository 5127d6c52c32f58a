# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pooling with a residual, an activation, and channels that may be last."""

from __future__ import annotations

from typing import Any

from bascule.canonical.contrib.activations import activate
from bascule.canonical.contrib.axes import channels_first, channels_last
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("FusedConv", attributes_of="Conv")
def fused_conv(
    build: ContribBuilder,
    X: Value,
    W: Value,
    B: Value | None,
    Z: Value | None,
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    **attributes: Any,
) -> Outputs:
    """Z is added before the activation."""
    y = build.plus(build.op("Conv", X, W, B, **attributes), Z)
    return activate(build, y, activation, activation_params or ())


@operator("NhwcFusedConv", attributes_of="Conv")
def nhwc_fused_conv(
    build: ContribBuilder,
    X: Value,
    W: Value,
    B: Value | None,
    Z: Value | None,
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    **attributes: Any,
) -> Outputs:
    y = build.plus(_nhwc_conv(build, X, W, B, _rank(build, W, attributes), attributes), Z)
    return activate(build, y, activation, activation_params or ())


@operator("NhwcConv", attributes_of="Conv")
def nhwc_conv(
    build: ContribBuilder, X: Value, W: Value, B: Value | None, **attributes: Any
) -> Outputs:
    """The weights have their channels last too, whatever its schema says.

    Those of the schema are known by a kernel_shape that fits only them.
    """
    rank = _rank(build, W, attributes)
    kernel, shape = tuple(attributes.get("kernel_shape", ())), build.typed(W).shape or ()
    if not (kernel and shape[2:] == kernel != shape[1:-1]):
        W = channels_first(build, W, rank)
    return _nhwc_conv(build, X, W, B, rank, attributes)


@operator("NhwcMaxPool", attributes_of="MaxPool")
def nhwc_max_pool(
    build: ContribBuilder, x: Value, *, kernel_shape: list[int], **attributes: Any
) -> Outputs:
    rank = len(kernel_shape) + 2
    first = channels_first(build, x, rank)
    y = build.op("MaxPool", first, kernel_shape=kernel_shape, **attributes)
    return channels_last(build, y, rank)


def _nhwc_conv(
    build: ContribBuilder,
    x: Value,
    w: Value,
    b: Value | None,
    rank: int | None,
    attributes: dict[str, Any],
) -> Value:
    first = channels_first(build, x, rank)
    return channels_last(build, build.op("Conv", first, w, b, **attributes), rank)


def _rank(build: ContribBuilder, w: Value, attributes: dict[str, Any]) -> int | None:
    """What the weights, or an attribute of one number for each spatial axis, tell of the rank."""
    known = build.typed(w).rank
    if known is not None:
        return known
    counts = (len(attributes.get(name, ())) for name in ("kernel_shape", "strides"))
    return next((count + 2 for count in counts if count), None)


@operator("ConvTransposeWithDynamicPads", attributes_of="ConvTranspose")
def conv_transpose_with_dynamic_pads(
    build: ContribBuilder,
    X: Value,
    W: Value,
    Pads: Value | None,
    B: Value | None,
    **attributes: Any,
) -> Outputs:
    """Padding of a transposed convolution is what is cut off from all that it makes."""
    if Pads is None or attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return build.op("ConvTranspose", X, W, B, **attributes)
    begins, ends = build.ops("Split", Pads, outputs=2, num_outputs=2)
    whole = build.op("ConvTranspose", X, W, B, **attributes)
    sizes = build.op("Shape", whole, start=2)
    last = build.op("Sub", sizes, ends)
    count = build.op("Squeeze", build.op("Shape", begins))
    axes = build.op(
        "Range",
        build.int_scalar(2),
        build.op("Add", count, build.int_scalar(2)),
        build.int_scalar(1),
    )
    return build.op("Slice", whole, begins, last, axes)
