# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft.nchwc, which onnxruntime's optimizer for CPUs makes."""

from __future__ import annotations

import functools

from tests.support.operators.contrib_case import contrib
from tests.support.typed import numbers

_nchwc = functools.partial(contrib, domain="com.microsoft.nchwc", T="float")

_IMAGE = numbers(1, 16, 6, 6)

CASES = [
    _nchwc("Conv", "T T T", _IMAGE, numbers(32, 16, 3, 3), numbers(32), activation="Relu"),
    _nchwc("MaxPool", "T", _IMAGE, kernel_shape=[2, 2]),
    _nchwc("AveragePool", "T", _IMAGE, kernel_shape=[2, 2]),
    _nchwc("GlobalMaxPool", "T", _IMAGE),
    _nchwc("GlobalAveragePool", "T", _IMAGE),
    _nchwc("ReorderInput", "T", _IMAGE),
    _nchwc("ReorderOutput", "T", _IMAGE, channels=12),
    _nchwc("Upsample", "T", _IMAGE, scales=[1, 1, 2, 2]),
]
