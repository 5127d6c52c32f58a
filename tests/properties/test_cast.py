# SPDX-License-Identifier: Apache-2.0
"""Cast between all types, and BitCast. Oracle: numbers written in binary, rounded once."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper

from tests.properties.bounds import assert_exact, wide
from tests.properties.integers import exactly
from tests.properties.rounding import has_nan, rounded
from tests.properties.running import run
from tests.properties.strategies import BOOL, FLOATS, INTEGERS, Array, arrays, setups, shapes

PACKED = tuple(np.dtype(t) for t in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2,
                                     ml_dtypes.uint2))  # fmt: skip
NARROW = tuple(
    np.dtype(t)
    for t in (
        ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz, ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn,
        ml_dtypes.float4_e2m1fn,
    )
)  # fmt: skip
WHOLE = INTEGERS + PACKED


def code(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def source(data: st.DataObject, dtypes: tuple[np.dtype[Any], ...]) -> Array:
    dtype = data.draw(st.sampled_from(dtypes))
    shape = data.draw(shapes())
    if dtype in NARROW:  # every bit pattern
        bits = 4 if "float4" in dtype.name else 6 if "float6" in dtype.name else 8
        drawn = data.draw(arrays(np.uint8, shape, flavours=("bits",)))
        return (drawn & (2**bits - 1)).view(dtype)
    return data.draw(arrays(dtype, shape))


def cast(data: st.DataObject, x: Array, dtype: np.dtype[Any], **attributes: Any) -> Array:
    [y] = run("Cast", [x], {"to": code(dtype), **attributes}, data.draw(setups(1)))
    assert y.dtype == dtype
    return np.asarray(y)


def widest(x: Array) -> Array:
    """The numbers of `x`, all of them exact."""
    return x.astype(np.longdouble) if x.dtype.kind in "iu" else wide(x)


@pytest.mark.parametrize("target", FLOATS + NARROW, ids=str)
@given(st.data())
def test_to_floats(target: np.dtype[Any], data: st.DataObject) -> None:
    x = source(data, FLOATS + NARROW + WHOLE + (BOOL,))
    saturate = data.draw(st.booleans()) if "float8" in target.name else target in NARROW
    y = cast(data, x, target, **({} if saturate else {"saturate": 0}))
    if not has_nan(target):
        assume(not np.isnan(wide(x)).any())
    # A type saturates what others bring, not its own infinities.
    expected = rounded(widest(x), target, saturate and x.dtype != target)
    assert_exact(wide(y), expected)


@pytest.mark.parametrize("target", WHOLE, ids=str)
@given(st.data())
def test_to_integers(target: np.dtype[Any], data: st.DataObject) -> None:
    x = source(data, FLOATS + NARROW + WHOLE + (BOOL,))
    y = cast(data, x, target)
    info = ml_dtypes.iinfo(target)
    low, high = int(info.min), int(info.max)
    if x.dtype in (*WHOLE, BOOL):  # loses upper bits
        size = 1 << info.bits
        cut = exactly(lambda v: (v - low) % size + low, x)
        np.testing.assert_array_equal(y.astype(object), cut)
        return
    # What does not fit, or is no number, may be anything.
    for found, value in zip(y.astype(object).reshape(-1), wide(x).reshape(-1)):
        if math.isfinite(value) and low <= math.trunc(value) <= high:
            assert found == math.trunc(value)


@given(st.data())
def test_to_bool(data: st.DataObject) -> None:
    x = source(data, FLOATS + NARROW + WHOLE + (BOOL,))
    assert_exact(cast(data, x, BOOL), wide(x) != 0)


@given(st.data())
def test_integers_and_text(data: st.DataObject) -> None:
    x = source(data, INTEGERS)
    text = cast(data, x, np.dtype(object))
    assert_exact(text, np.asarray(exactly(str, x), dtype=object))
    assert_exact(cast(data, text, x.dtype), x)


@given(st.data())
def test_floats_and_text(data: st.DataObject) -> None:
    """Text has enough digits to give the same number again."""
    x = source(data, FLOATS)
    text = cast(data, x, np.dtype(object))
    for word, number in zip(text.reshape(-1), wide(x).reshape(-1)):
        assert (word.lower() == "nan") == math.isnan(number)
    assert_exact(cast(data, text, x.dtype), x)


@given(st.data())
def test_bit_cast(data: st.DataObject) -> None:
    x = source(data, FLOATS + INTEGERS + NARROW[:4])
    same_size = [d for d in FLOATS + INTEGERS + NARROW[:4] if d.itemsize == x.dtype.itemsize]
    target = data.draw(st.sampled_from(same_size))
    [y] = run("BitCast", [x], {"to": code(target)}, data.draw(setups(1)))
    assert y.dtype == target
    assert y.shape == x.shape
    assert y.tobytes() == x.tobytes()
