# SPDX-License-Identifier: Apache-2.0
"""Float attributes hold float32: less than some tensors."""

from __future__ import annotations

import math

import numpy as np

from bascule.ir.dtype import DataType


def fits_attribute(number: float, dtype: DataType | None) -> bool:
    """True when a float attribute holds a number as exactly as a tensor of `dtype` does."""
    if dtype is not DataType.DOUBLE or not math.isfinite(number):
        return True
    return float(np.float32(number)) == number
