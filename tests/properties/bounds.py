# SPDX-License-Identifier: Apache-2.0
"""Comparing with a reference in float64, within bounds that follow from the arithmetic.

A result is computed in a work type (float32 for float32 and the 16-bit types, else float64) and
rounded once to its own type. What the arithmetic in the work type may lose is for each test to
say, as an array; the last rounding is added here.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

WORK = {2: np.dtype(np.float32), 4: np.dtype(np.float32), 8: np.dtype(np.float64)}


def epsilon(dtype: Any) -> float:
    """The spacing at 1 of the type that `dtype` is computed in."""
    return float(np.finfo(WORK[np.dtype(dtype).itemsize]).eps)


def assert_exact(actual: Array, expected: Array) -> None:
    """Equal numbers of one type and shape; NaN is NaN, and zeros have the same sign."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if expected.dtype == object or expected.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected)
        return
    one, other = wide(actual), wide(expected)
    np.testing.assert_array_equal(one, other)
    numbers = ~np.isnan(other)
    np.testing.assert_array_equal(np.signbit(one[numbers]), np.signbit(other[numbers]))


def assert_within(actual: Array, expected: Array, error: Any, dtype: Any) -> None:
    """Each element of `actual`, of type `dtype`, is `expected` rounded, give or take `error`.

    `expected` and `error` are float64. Where `expected` is not finite `actual` is the same; it may
    be infinite too where `expected` comes near the end of the range.
    """
    actual, expected = np.asarray(actual), np.asarray(expected, dtype=np.float64)
    assert actual.dtype == np.dtype(dtype)
    assert actual.shape == expected.shape
    error = np.broadcast_to(np.asarray(error, dtype=np.float64), expected.shape)
    info = ml_dtypes.finfo(actual.dtype)
    largest = float(info.max)
    with np.errstate(all="ignore"):
        found = wide(actual)
        error = error + np.finfo(np.float64).eps * 2 * np.abs(expected)  # of the reference
        error = np.where(np.isnan(error), np.inf, error)
        allowed = error + float(info.eps) / 2 * (np.abs(expected) + error)
        allowed = allowed + float(info.smallest_subnormal)
        finite = np.isfinite(expected)
        close = np.abs(found - expected) <= allowed
        overflow = np.isinf(found) & (np.abs(expected) + allowed >= largest)
        overflow &= np.signbit(found) == np.signbit(expected)
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        # A float64 reference of a narrower type does not overflow where the type does.
        near = np.isinf(expected) & (np.signbit(found) == np.signbit(expected))
        near &= np.isfinite(found) & (np.abs(found) + error >= largest) & np.isfinite(error)
    wrong = ~np.where(finite, close | overflow, same | near)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.size} elements differ, the first at {at}: "
            f"{found[at]!r}, expected {expected[at]!r} give or take {allowed[at]!r}"
        )


def wide(array: Array) -> Array:
    """The elements in float64; NaN of any kind without a warning."""
    with np.errstate(all="ignore"):
        return np.asarray(array).astype(np.float64)
