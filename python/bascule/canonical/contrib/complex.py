# SPDX-License-Identifier: Apache-2.0
"""Complex numbers, real and imaginary part on the last axis, and Fourier transforms."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("ComplexMul")
def complex_mul(build: ContribBuilder, A: Value, B: Value) -> Outputs:
    return _product(build, A, B, "Sub", "Add")


@operator("ComplexMulConj")
def complex_mul_conj(build: ContribBuilder, A: Value, B: Value) -> Outputs:
    """With the conjugate of B."""
    return _product(build, A, B, "Add", "Sub")


def _product(build: ContribBuilder, a: Value, b: Value, real: str, imaginary: str) -> Value:
    parts = [build.ops("Split", x, outputs=2, axis=-1, num_outputs=2) for x in (a, b)]
    (a_real, a_imaginary), (b_real, b_imaginary) = parts
    product = build.op(
        real, build.op("Mul", a_real, b_real), build.op("Mul", a_imaginary, b_imaginary)
    )
    cross = build.op(
        imaginary, build.op("Mul", a_imaginary, b_real), build.op("Mul", a_real, b_imaginary)
    )
    return build.op("Concat", product, cross, axis=-1)


@operator("Rfft")
def rfft(
    build: ContribBuilder, X: Value, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1
) -> Outputs:
    """Of real numbers along the last axes; the last of all keeps one side."""
    _check(build, normalized, onesided, signal_ndim)
    y = build.op("Unsqueeze", X, build.ints(-1))
    y = build.op("DFT", y, None, build.int_scalar(-2), onesided=1)
    for axis in range(-3, -2 - signal_ndim, -1):
        y = build.op("DFT", y, None, build.int_scalar(axis))
    return y


@operator("Irfft")
def irfft(
    build: ContribBuilder, X: Value, *, signal_ndim: int, normalized: int = 0, onesided: int = 1
) -> Outputs:
    """The reverse, for a last axis that was of even length.

    The side that is missing mirrors the one that is there, conjugated, the ends left out.
    """
    _check(build, normalized, onesided, signal_ndim)
    y = X
    for axis in range(-1 - signal_ndim, -2):
        y = build.op("DFT", y, None, build.int_scalar(axis), inverse=1)
    bounds = (build.ints(index) for index in (-2, 0, -2, -1))
    mirrored = build.op("Slice", y, *bounds)
    sign = build.op("CastLike", build.constant(np.array([1, -1], dtype=np.float32)), y)
    whole = build.op("Concat", y, build.op("Mul", mirrored, sign), axis=-2)
    y = build.op("DFT", whole, None, build.int_scalar(-2), inverse=1)
    return build.op("Gather", y, build.int_scalar(0), axis=-1)


def _check(build: ContribBuilder, normalized: int, onesided: int, signal_ndim: int) -> None:
    if normalized or not onesided:
        raise build.invalid("attribute 'normalized' must be 0 and 'onesided' 1")
    if not 1 <= signal_ndim <= 3:
        raise build.invalid(f"attribute 'signal_ndim' is {signal_ndim}, expected 1, 2 or 3")
