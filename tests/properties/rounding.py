# SPDX-License-Identifier: Apache-2.0
"""Rounding once to any float type, written out; libraries round some of them in two steps."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]


def has_infinity(dtype: np.dtype[Any]) -> bool:
    return dtype.name in ("float16", "bfloat16", "float32", "float64", "float8_e5m2")


def has_nan(dtype: np.dtype[Any]) -> bool:
    return dtype.name not in ("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn")


def rounded(values: Array, dtype: np.dtype[Any], saturate: bool = False) -> Array:
    """To the nearest number of `dtype`, of two the even one, in float64.

    What is too large becomes the largest number or else infinite, or NaN without infinities.
    """
    info = ml_dtypes.finfo(dtype)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(values)[1] - 1, info.minexp)
        step = np.ldexp(np.ones_like(values), exponent - info.nmant)
        near = np.where(np.isfinite(values), np.rint(values / step) * step, values)
        largest = float(info.max)
        beyond = largest if saturate else np.inf if has_infinity(dtype) else np.nan
        near = np.where(np.abs(near) > largest, np.copysign(beyond, near), near)
        near = np.where(np.isnan(values), np.nan, near)
        if dtype.name.endswith("fnuz"):  # without a negative zero
            near = near + 0.0
    return near.astype(np.float64)
