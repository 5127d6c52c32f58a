# SPDX-License-Identifier: Apache-2.0
"""Resize, and Upsample from which it came."""

from __future__ import annotations

import numpy as np

from bascule.canonical.builder import Builder, known_constant
from bascule.canonical.registry import EVERY_VERSION, rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Attribute, Node, Value

_UPSAMPLE_MODES = {
    "nearest": "nearest",
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
}


@rewrite("Upsample", until=10)
def upsample(node: Node, build: Builder) -> None:
    x = node.inputs[0]
    scales: Value | None
    if build.version < 7:
        height, width = node.attributes["height_scale"], node.attributes["width_scale"]
        scales = build.floats(1.0, 1.0, height, width)
    elif build.version < 9:
        scales = build.floats(*node.attributes["scales"])
    else:
        scales = node.inputs[1]
    mode = node.attributes.get("mode", "nearest")
    if mode not in _UPSAMPLE_MODES:
        raise build.invalid(f"mode '{mode}' is unknown")
    build.become("Resize", x, None, scales, **_asymmetric(_UPSAMPLE_MODES[mode], "floor"))


@rewrite("Resize", until=10)
def resize_10(node: Node, build: Builder) -> None:
    """Nearest rounded down where the axis grows and up where it shrinks."""
    x, scales = node.inputs
    assert x is not None and scales is not None
    mode = node.attributes.get("mode", "nearest")
    if mode != "nearest":
        build.become("Resize", x, None, scales, **_asymmetric(mode, "floor"))
        return
    known = known_constant(scales)
    if known is not None and (known >= 1).all():
        build.become("Resize", x, None, scales, **_asymmetric(mode, "floor"))
    elif known is not None and (known <= 1).all():
        build.become("Resize", x, None, scales, **_asymmetric(mode, "ceil"))
    else:
        grow = build.op("Max", scales, build.floats(1.0))
        shrink = build.op("Min", scales, build.floats(1.0))
        grown = build.op("Resize", x, None, grow, **_asymmetric(mode, "floor"))
        build.become("Resize", grown, None, shrink, **_asymmetric(mode, "ceil"))


@rewrite("Resize", since=11, until=12)
def resize_11(node: Node, build: Builder) -> None:
    """Inputs that were required came empty when they had nothing to say."""
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode != "tf_crop_and_resize":
        node.set_input(1, None)
    if node.input(3) is not None:
        node.set_input(2, None)
    if mode == "tf_half_pixel_for_nn":
        _tf_half_pixel_for_nn(node, build)


# That mode is half_pixel moved up by 0.5, which another rounding undoes.
_TF_HALF_PIXEL_ROUNDING = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}


def _tf_half_pixel_for_nn(node: Node, build: Builder) -> None:
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    interpolation = node.attributes.get("mode", "nearest")
    if interpolation != "nearest" or rounding not in _TF_HALF_PIXEL_ROUNDING:
        raise build.invalid(
            "coordinate_transformation_mode 'tf_half_pixel_for_nn' goes with mode 'nearest' and "
            f"nearest_mode 'floor' or 'round_prefer_floor', not '{interpolation}' and '{rounding}'"
        )
    node.attributes["nearest_mode"] = _TF_HALF_PIXEL_ROUNDING[rounding]
    node.attributes["coordinate_transformation_mode"] = "half_pixel"


@rewrite("Resize", since=19, until=EVERY_VERSION)
def resize_19(node: Node, build: Builder) -> None:
    """Take align_corners by scales that the caller feeds as the standard's test suite does.

    The last output then stands for the fractional length, input * scale, although the standard's
    text has the length of the output, and so have other runtimes and the kernels here. Cropping to
    that part of the input is the same.
    """
    x, scales = node.input(0), node.input(2)
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode != "align_corners" or x is None or scales is None or node.input(3) is not None:
        return
    if scales.producer is not None or scales.constant is not None:
        return
    shape = build.shape(x)
    axes = node.attributes.get("axes")
    if isinstance(axes, list):
        shape = build.op("Gather", shape, build.ints(*axes))
    one = build.floats(1.0)
    length = build.op("Mul", build.cast(shape, DataType.FLOAT), scales)
    last = build.op("Sub", build.op("Floor", length), one)
    # 0 / 0 where the length is 1, whose only element is the first.
    least = build.floats(float(np.finfo(np.float32).tiny))
    end = build.op("Div", last, build.op("Max", build.op("Sub", length, one), least))
    start = build.op("Mul", end, build.floats(0.0))
    node.set_input(1, build.op("Concat", start, end, axis=0))
    node.attributes["coordinate_transformation_mode"] = "tf_crop_and_resize"


def _asymmetric(mode: str, rounding: str) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "mode": mode,
        "coordinate_transformation_mode": "asymmetric",
    }
    if mode == "nearest":
        attributes["nearest_mode"] = rounding
    return attributes
