# SPDX-License-Identifier: Apache-2.0
"""Exact Python integers as the oracle of integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def wrap(values: Array, dtype: Any) -> Array:
    """An array of Python integers, cut down to the bits of `dtype`."""
    dtype = np.dtype(dtype)
    mask = (1 << 8 * dtype.itemsize) - 1
    unsigned = np.asarray(values & mask, dtype=f"u{dtype.itemsize}")
    return unsigned.view(dtype)


def exactly(function: Callable[..., int], *operands: Array) -> Array:
    """`function` of Python integers on each element of operands that broadcast."""
    apply = np.frompyfunc(function, len(operands), 1)
    return np.asarray(apply(*(np.asarray(each).astype(object) for each in operands)), dtype=object)


def quotient(a: int, b: int) -> int:
    """Rounded toward zero; what divides by zero is zero."""
    if b == 0:
        return 0
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    """With the sign of the dividend, as in C."""
    return a - quotient(a, b) * b if b else 0


def modulo(a: int, b: int) -> int:
    """With the sign of the divisor, as in Python."""
    return a % b if b else 0


def power(base: int, exponent: int) -> int:
    """Modulo 2^64; what has a fraction loses it, and dividing by zero gives zero."""
    if exponent >= 0:
        return pow(base, exponent, 1 << 64) if base or exponent else 1
    if abs(base) != 1:
        return 0
    return base if exponent % 2 else 1
