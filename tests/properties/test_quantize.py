# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear, of every type and granularity.

Oracle: the formulas of the standard in NumPy, in the precision that the standard asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from tests.properties.bounds import assert_exact, assert_within, wide
from tests.properties.rounding import has_nan, rounded
from tests.properties.running import run
from tests.properties.strategies import Array, Shape, arrays, axis_of, setups, shapes

F32 = np.dtype(np.float32)
SCALES = (F32, np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
INTEGERS = tuple(
    np.dtype(t)
    for t in ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")
)  # fmt: skip
FEW_BITS = tuple(
    np.dtype(getattr(ml_dtypes, name))
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
                 "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn")
)  # fmt: skip


@dataclass(frozen=True)
class Grain:
    """Which elements share a scale, and how a node is told."""

    shape: Shape
    attributes: dict[str, int]

    def spread(self, values: Array, shape: Shape) -> Array:
        """One of `values` for each element."""
        axis, block = self.attributes.get("axis", 1), self.attributes.get("block_size", 0)
        if values.size == 1 and not block:
            return np.broadcast_to(values.reshape(()), shape)
        if block:
            return np.take(np.repeat(values, block, axis), range(shape[axis]), axis)
        sides = [1] * len(shape)
        sides[axis] = -1
        return np.broadcast_to(values.reshape(sides), shape)


@st.composite
def grains(draw: st.DrawFn, shape: Shape) -> Grain:
    kind = draw(st.sampled_from(["tensor", "axis", "block"]))
    if kind == "tensor" or not shape:
        return Grain(draw(st.sampled_from([(), (1,)])), {})
    axis = draw(axis_of(len(shape)))
    if kind == "axis":
        return Grain((shape[axis],), {"axis": axis})
    block = draw(st.integers(1, max(shape[axis], 1)))
    blocks = list(shape)
    blocks[axis] = -(-shape[axis] // block)
    return Grain(tuple(blocks), {"axis": axis, "block_size": block})


@st.composite
def scales(draw: st.DrawFn, dtype: Any, shape: Shape) -> Array:
    """Positive, large and small."""
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    power = 2.0 ** draw(st.integers(-6, 6))
    plain = generator.uniform(0.5, 2, shape) * power
    return np.asarray(plain if draw(st.booleans()) else np.full(shape, power)).astype(dtype)


def number_of(dtype: Any) -> int:
    """The standard's number of an element type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def quotients(x: Array, each: Array, precision: Any) -> Array:
    """Rounded to the precision, in float64."""
    with np.errstate(all="ignore"):
        if precision == F32:
            return wide(x.astype(F32) / each.astype(F32))
        one, other = x.astype(F32).astype(precision), each.astype(precision)
        return wide((one.astype(F32) / other.astype(F32)).astype(precision))


@st.composite
def quantizable(draw: st.DrawFn) -> tuple[Array, Array, Grain]:
    """Values, their scales and which of them share one."""
    shape = draw(shapes())
    x = draw(arrays(draw(st.sampled_from(SCALES)), shape))
    grain = draw(grains(shape))
    return x, draw(scales(draw(st.sampled_from(SCALES)), grain.shape)), grain


@given(quantizable(), st.sampled_from(INTEGERS), st.data())
def test_to_integers(drawn: tuple[Array, Array, Grain], y_type: Any, data: st.DataObject) -> None:
    x, scale, grain = drawn
    zero = data.draw(st.one_of(st.none(), arrays(y_type, grain.shape, ("special", "bits"))))
    attributes = dict(grain.attributes)
    if zero is None:
        attributes["output_dtype"] = number_of(y_type)
    precision = data.draw(st.sampled_from([None, *SCALES]))
    if precision is not None:
        attributes["precision"] = number_of(precision)
    [y] = run("QuantizeLinear", [x, scale, zero], attributes, data.draw(setups(3)))
    whole = np.rint(quotients(x, grain.spread(scale, x.shape), precision or scale.dtype))
    if zero is not None:
        whole = whole + grain.spread(wide(zero), x.shape)
    info = ml_dtypes.iinfo(y_type)
    least, largest = int(info.min), int(info.max)
    whole = np.where(np.isnan(whole), least, np.clip(whole, least, largest))
    assert (y.dtype, y.shape) == (y_type, x.shape)
    np.testing.assert_array_equal(wide(y), whole)


@given(quantizable(), st.sampled_from(FEW_BITS), st.booleans(), st.data())
def test_to_floats_of_few_bits(
    drawn: tuple[Array, Array, Grain], y_type: Any, saturate: bool, data: st.DataObject
) -> None:
    x, scale, grain = drawn
    if not has_nan(y_type):
        x = np.where(np.isfinite(wide(x)), x, np.ones((), x.dtype))
    saturate |= not has_nan(y_type)
    zero = np.zeros(grain.shape, y_type) if data.draw(st.booleans()) else None
    attributes = dict(grain.attributes) | {"saturate": int(saturate)}
    if zero is None:
        attributes["output_dtype"] = number_of(y_type)
    [y] = run("QuantizeLinear", [x, scale, zero], attributes, data.draw(setups(3)))
    exact = quotients(x, grain.spread(scale, x.shape), scale.dtype)
    assert (y.dtype, y.shape) == (y_type, x.shape)
    np.testing.assert_array_equal(wide(y), rounded(exact, y_type, saturate))


@given(st.data())
def test_int32_by_int32(data: st.DataObject) -> None:
    x = data.draw(arrays(np.int32, data.draw(shapes()), ("bits", "special", "whole")))
    grain = data.draw(grains(x.shape))
    scale = np.abs(data.draw(arrays(np.int32, grain.shape, ("whole",)))) + np.int32(1)
    y_type = data.draw(st.sampled_from(INTEGERS))
    zero = data.draw(arrays(y_type, grain.shape, ("special",)))
    [y] = run("QuantizeLinear", [x, scale, zero], grain.attributes, data.draw(setups(3)))
    whole = np.rint(wide(x) / grain.spread(wide(scale), x.shape))
    info = ml_dtypes.iinfo(y_type)
    whole = whole + grain.spread(wide(zero), x.shape)
    np.testing.assert_array_equal(wide(y), np.clip(whole, int(info.min), int(info.max)))
    assert (y.dtype, y.shape) == (y_type, x.shape)


@given(st.data())
def test_dequantize(data: st.DataObject) -> None:
    x_type = data.draw(st.sampled_from([*INTEGERS, np.dtype(np.int32), *FEW_BITS]))
    x = data.draw(arrays(x_type, data.draw(shapes()), ("bits",)
                         if x_type.kind in "iu" else ("plain",)))  # fmt: skip
    grain = data.draw(grains(x.shape))
    scale = data.draw(scales(data.draw(st.sampled_from(SCALES)), grain.shape))
    zero = None
    if x_type in INTEGERS and data.draw(st.booleans()):
        zero = data.draw(arrays(x_type, grain.shape, ("special", "bits")))
    attributes, y_type = dict(grain.attributes), scale.dtype
    if data.draw(st.booleans()):
        y_type = data.draw(st.sampled_from(SCALES))
        attributes["output_dtype"] = number_of(y_type)
    [y] = run("DequantizeLinear", [x, scale, zero], attributes, data.draw(setups(3)))
    shift = 0 if zero is None else grain.spread(wide(zero), x.shape)
    expected = (wide(x) - shift) * grain.spread(wide(scale), x.shape)
    # The difference and the product are rounded in float32.
    assert_within(y, expected, 2 * float(np.finfo(F32).eps) * np.abs(expected), y_type)


@given(shapes(), st.sampled_from([1.0, 1e-30, 1e30]), st.data())
def test_dynamic(shape: Shape, power: float, data: st.DataObject) -> None:
    plain = data.draw(arrays(F32, shape, ("plain", "whole")))
    shift = np.float32(data.draw(st.sampled_from([0.0, -8.0, 8.0])))
    x = (plain + shift) * np.float32(power)
    y, scale, zero = run("DynamicQuantizeLinear", [x], {}, data.draw(setups(1)), (True,) * 3)
    low, high = np.float32(x.min(initial=0)), np.float32(x.max(initial=0))
    step = (high - low) / np.float32(255) if high > low else np.float32(1)
    assert_exact(scale, np.asarray(step, F32))
    assert_exact(zero, np.asarray(np.rint(np.clip(-low / step, 0, 255)), np.uint8))
    whole = np.clip(np.rint(x / step) + np.float32(zero), 0, 255)
    assert_exact(y, whole.astype(np.uint8))
