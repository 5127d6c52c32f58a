# SPDX-License-Identifier: Apache-2.0
"""Cast, CastLike and BitCast between all types."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidArgument
from bascule.ir.dtype import DataType
from tests.support.native import run_node

RANDOM = np.random.default_rng(5)
WIDE = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.int16, np.int32,
        np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.bool_]  # fmt: skip
FLOAT8 = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2,
          ml_dtypes.float8_e5m2fnuz]  # fmt: skip
PACKED = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2,
          ml_dtypes.float4_e2m1fn, ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn]  # fmt: skip


def cast(x: np.ndarray, to: Any, **attributes: Any) -> np.ndarray:
    code = int(DataType.from_numpy(np.dtype(to)))
    [actual] = run_node("Cast", [x], {"to": code, **attributes}, runs=2)
    assert actual.dtype == np.dtype(to)
    return actual


@pytest.mark.parametrize("source", [*WIDE, *FLOAT8, *PACKED])
def test_numbers_that_every_type_holds(source: Any) -> None:
    x = RANDOM.integers(0, 2, 1100).astype(np.float32).astype(source)
    for target in [*WIDE, *FLOAT8, *PACKED]:
        actual = cast(x, target)
        np.testing.assert_array_equal(actual.astype(np.float32), x.astype(np.float32))


@pytest.mark.parametrize("source", [np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64])
def test_integers_lose_their_upper_bits(source: Any) -> None:
    info = np.iinfo(source)
    x = RANDOM.integers(info.min, info.max, 700, source, endpoint=True)
    for target in [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64]:
        np.testing.assert_array_equal(cast(x, target), x.astype(target))
    np.testing.assert_array_equal(cast(x, np.float32), x.astype(np.float32))
    np.testing.assert_array_equal(cast(x, np.float64), x.astype(np.float64))


@pytest.mark.parametrize("source", [np.float32, np.float64])
def test_floats_are_cut_and_rounded(source: Any) -> None:
    x = (RANDOM.standard_normal(900) * 50).astype(source)
    for target in [np.int8, np.int16, np.int32, np.int64]:
        np.testing.assert_array_equal(cast(x, target), np.trunc(x).astype(np.int64).astype(target))
    for target in [np.float16, ml_dtypes.bfloat16]:
        np.testing.assert_array_equal(cast(x, target), x.astype(target))
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e30, 6e-8, 65520, 65519.9], source)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(cast(special, np.float16), special.astype(np.float16))
    assert cast(special, np.bool_).tolist() == [False, False, *[True] * 7]


def test_float64_is_rounded_once() -> None:
    # Rounding to float32 first would land on the tie and then go down.
    x = np.array([1 + 2.0**-11 + 2.0**-40], np.float64)
    np.testing.assert_array_equal(cast(x, np.float16), np.array([1 + 2.0**-10], np.float16))
    beside = np.array([1.25 + 2.0**-40], np.float64)
    np.testing.assert_array_equal(cast(beside, ml_dtypes.float4_e2m1fn).astype(float), [1.5])
    np.testing.assert_array_equal(cast(beside - 0.25, ml_dtypes.float8_e8m0fnu).astype(float), [2])
    text = np.array(["1.000488281250001"], object)
    np.testing.assert_array_equal(cast(text, np.float16), np.array([1 + 2.0**-10], np.float16))


@pytest.mark.parametrize("source", [np.int64, np.uint64])
def test_long_integers_are_rounded_once(source: Any) -> None:
    # Rounding to float64 first would land on the tie and then go down.
    x = np.array([2**62 + 2**54 + 1], source)
    np.testing.assert_array_equal(cast(x, ml_dtypes.bfloat16).astype(float), [2.0**62 + 2.0**55])


@pytest.mark.parametrize("target", FLOAT8)
def test_float8(target: Any) -> None:
    x = (RANDOM.standard_normal(500) * 8).astype(np.float32)
    np.testing.assert_array_equal(cast(x, target), x.astype(target))
    largest = float(ml_dtypes.finfo(target).max)
    beyond = np.array([1e9, -1e9, np.inf, np.nan], np.float32)
    saturated = cast(beyond, target).astype(np.float32)
    np.testing.assert_array_equal(saturated, [largest, -largest, largest, np.nan])
    special = cast(beyond, target, saturate=0).astype(np.float32)
    assert not np.isfinite(special).any()


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_float8e8m0(mode: str, saturate: int) -> None:
    from onnx.numpy_helper import to_float8e8m0

    x = np.array([1, 1.2, 1.5, 1.75, 3, 0.3, 1e-38, 3e38, np.inf, np.nan], np.float32)
    expected = to_float8e8m0(x, bool(saturate), mode)
    actual = cast(x, ml_dtypes.float8_e8m0fnu, round_mode=mode, saturate=saturate)
    np.testing.assert_array_equal(actual.astype(np.float32), expected.astype(np.float32))


def test_the_smallest_float8e8m0() -> None:
    x = np.array([2.0**-127, 2.0**-127 * 1.5, 2.0**-140, 0], np.float32)
    up = [2.0**-127, 2.0**-126, 2.0**-127, 2.0**-127]
    np.testing.assert_array_equal(cast(x, ml_dtypes.float8_e8m0fnu).astype(float), up)


@pytest.mark.parametrize("dtype", PACKED)
def test_packed_types_round_trip(dtype: Any) -> None:
    bits = DataType.from_numpy(np.dtype(dtype)).bits
    values = np.arange(2**bits, dtype=np.uint8).view(dtype).astype(np.float32)
    values = np.concatenate([values, values[:5], np.resize(values, 1024)])
    packed = cast(values, dtype)
    np.testing.assert_array_equal(packed.astype(np.float32), values)
    np.testing.assert_array_equal(cast(packed, np.float32), values)


def test_text_to_numbers() -> None:
    text = np.array(["1", "-2.5", "+3e2", " 4 ", "INF", "-inf", "NaN", "+Inf"], dtype=object)
    expected = [1, -2.5, 300, 4, np.inf, -np.inf, np.nan, np.inf]
    for dtype in [np.float32, np.float64, np.float16]:
        np.testing.assert_array_equal(cast(text, dtype), np.array(expected, dtype))
    whole = np.array(["-7", "100.5", "9223372036854775807"], dtype=object)
    np.testing.assert_array_equal(cast(whole, np.int64), [-7, 100, 2**63 - 1])
    with pytest.raises(InvalidArgument, match="'Hello' is not a number"):
        cast(np.array(["Hello"], dtype=object), np.float32)


def test_numbers_to_text() -> None:
    def text(x: np.ndarray) -> list[str]:
        return list(run_node("Cast", [x], {"to": int(DataType.STRING)})[0])

    numbers = [0.1, 1e-5, 1e16, 123456.789, -2.0, np.inf, np.nan, 0.00025]
    for dtype in [np.float32, np.float64, np.float16]:
        with np.errstate(over="ignore"):
            x = np.array(numbers, dtype)
        assert text(x) == [str(v) for v in x.astype(np.str_)]
    assert text(np.array([-5, 7], np.int8)) == ["-5", "7"]
    assert text(np.array([2.75, 7.5, -0.5], ml_dtypes.float6_e2m3fn)) == ["2.8", "7.5", "-0.5"]
    assert text(np.array([True, False])) == ["True", "False"]


def test_cast_like_takes_the_type_of_the_second_input() -> None:
    x = np.array([1.75, -2.5], np.float32)
    np.testing.assert_array_equal(run_node("CastLike", [x, np.zeros(3, np.int32)])[0], [1, -2])


def test_bit_cast_keeps_the_bits() -> None:
    x = RANDOM.standard_normal((3, 5)).astype(np.float32)
    [actual] = run_node("BitCast", [x], {"to": int(DataType.INT32)})
    np.testing.assert_array_equal(actual, x.view(np.int32))
