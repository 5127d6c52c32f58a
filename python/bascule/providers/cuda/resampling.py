# SPDX-License-Identifier: Apache-2.0
"""Where the elements along one resized axis come from, and with which weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.graph import Node

_FILTER_RADIUS = {"linear": 1, "cubic": 2}
_MOST_TAPS = 1 << 20
_HALFWAY = 1e-6
"""How far from the middle of two elements is still halfway: 4.5 / 0.3 in float32 is 14.999999."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis, its lengths, and the scale between them, which need not be their quotient."""

    number: int
    input: int
    output: int
    numerator: float
    denominator: float
    """The scale is a fraction: of an output by an input length, or a given float32 by 1."""

    is_given: bool
    begin: float = 0.0
    end: float = 1.0
    """The region of tf_crop_and_resize."""

    @property
    def scale(self) -> float:
        return self.numerator / self.denominator


class Sampling:
    """What the attributes of Resize say of each axis."""

    def __init__(self, node: Node) -> None:
        def get(name: str, default: Any) -> Any:
            return node.attributes.get(name, default)

        self.mode = str(get("mode", "nearest"))
        self.coordinates = str(get("coordinate_transformation_mode", "half_pixel"))
        self.nearest = str(get("nearest_mode", "round_prefer_floor"))
        self.antialias = bool(get("antialias", 0))
        self.exclude_outside = bool(get("exclude_outside", 0))
        self.cubic_a = float(np.float32(get("cubic_coeff_a", -0.75)))

    def keeps(self, axis: Axis) -> bool:
        """Whether nothing changes along the axis."""
        if axis.input != axis.output or abs(axis.scale - 1) >= 1e-9:
            return False
        return self.coordinates != "tf_crop_and_resize" or (axis.begin, axis.end) == (0, 1)

    def taps(self, axis: Axis) -> tuple[Array, Array | None]:
        """int32 indices and float64 weights, [taps, outputs]; an index of -1 is outside.

        Nearest has one index and no weights.
        """
        with np.errstate(all="ignore"):
            source = self._source(axis)
            last = axis.input - 1
            outside = np.zeros(axis.output, bool)
            if self.coordinates == "tf_crop_and_resize":
                outside = ~((source >= 0) & (source <= last))
                source = np.where(outside, 0.0, source)
            if self.mode == "nearest":
                nearest = np.clip(self._rounded(source), 0, last).astype(np.int32)
                return np.where(outside, np.int32(-1), nearest)[None], None
            indices, weights = self._filtered(axis, source)
        indices[:, outside] = -1
        return indices, weights

    def _source(self, axis: Axis) -> Array:
        """The place in the input that each output is centred on."""
        o = np.arange(axis.output, dtype=np.float64)
        if self.coordinates == "align_corners":
            return o * 0 if axis.output == 1 else o * (axis.input - 1) / (axis.output - 1)
        if self.coordinates == "asymmetric":
            return self._unscaled(axis, o)
        if self.coordinates == "tf_crop_and_resize":
            length = (axis.end - axis.begin) * (axis.input - 1)
            within = o * 0 + length / 2 if axis.output == 1 else o * length / (axis.output - 1)
            return axis.begin * (axis.input - 1) + within
        half_pixel = self._unscaled(axis, o + 0.5) - 0.5
        if self.coordinates == "half_pixel_symmetric":
            adjustment = axis.output / (axis.scale * axis.input)
            return axis.input / 2 * (1 - adjustment) + half_pixel
        if self.coordinates == "pytorch_half_pixel" and axis.output == 1:
            return np.zeros_like(o)
        return half_pixel

    def _unscaled(self, axis: Axis, places: Array) -> Array:
        """The places divided by the scale, rounded once.

        Nearest divides by a given scale in its own precision, as other runtimes do: 3 / 0.6 is 5 in
        float32 and a little less in float64.
        """
        if self.mode == "nearest" and axis.is_given:
            places = places.astype(np.float32) / np.float32(axis.numerator)
            return places.astype(np.float64)
        return places * axis.denominator / axis.numerator

    def _rounded(self, x: Array) -> Array:
        low = np.floor(x)
        part = x - low
        if self.nearest == "round_prefer_floor":
            return np.where(part > 0.5 + _HALFWAY, low + 1, low)
        if self.nearest == "round_prefer_ceil":
            return np.where(part >= 0.5 - _HALFWAY, low + 1, low)
        return low if self.nearest == "floor" else np.ceil(x)

    def _filtered(self, axis: Axis, source: Array) -> tuple[Array, Array]:
        stretch = min(axis.scale, 1.0) if self.antialias else 1.0
        first = math.floor(-_FILTER_RADIUS[self.mode] / stretch) + 1
        count = 2 - 2 * first
        if count > _MOST_TAPS:
            raise ValueError(f"a scale of {axis.scale} is too small to antialias")
        places = np.floor(source) + np.arange(first, first + count, dtype=np.float64)[:, None]
        distance = np.abs((places - source) * stretch)
        weights = self._cubic(distance) if self.mode == "cubic" else np.maximum(0, 1 - distance)
        if self.exclude_outside:
            weights[(places < 0) | (places >= axis.input)] = 0
        if self.antialias or self.exclude_outside:
            # Not NumPy's sum, whose order depends on the layout.
            total = np.zeros(axis.output)
            for row in weights:
                total = total + row
            weights = np.where(total != 0, weights / total, weights)
        return np.clip(places, 0, axis.input - 1).astype(np.int32), weights

    def _cubic(self, x: Array) -> Array:
        a = self.cubic_a
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
