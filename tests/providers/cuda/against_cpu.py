# SPDX-License-Identifier: Apache-2.0
"""One node on the emulated device, compared with the CPU provider's kernel."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tests.support import cuda_emulation, native

_TOLERANCE = {"float64": 1e-12, "float32": 5e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def last(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Channels first to channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def agree(
    op_type: str,
    inputs: Sequence[Any],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    constants: Collection[int] = (),
    tolerance: float | None = None,
    output_dtypes: Sequence[Any] | None = None,
) -> list[Any]:
    """The results on the device, which must be those of the CPU."""
    expected = native.run_node(op_type, inputs, attributes, outputs, domain, constants=constants)
    actual = cuda_emulation.run_node(
        op_type, inputs, attributes, outputs, domain, output_dtypes, constants=constants
    )
    for ours, theirs in zip(actual, expected, strict=True):
        same(ours, theirs, tolerance)
    return actual


def same(actual: Any, expected: Any, tolerance: float | None = None) -> None:
    """Of one type and shape, and equal but for rounding."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    name = expected.dtype.name
    if expected.dtype.kind == "c":
        same(actual.real, expected.real, tolerance)
        same(actual.imag, expected.imag, tolerance)
        return
    if name not in _TOLERANCE and tolerance is None:
        np.testing.assert_array_equal(actual, expected)
        return
    wide = np.float64
    if expected.dtype == ml_dtypes.bfloat16:
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    finite = np.abs(expected.astype(wide))[np.isfinite(expected)]
    scale = max(1.0, float(finite.max(initial=0)))
    allowed = _TOLERANCE[name] if tolerance is None else tolerance
    np.testing.assert_allclose(
        actual.astype(wide), expected.astype(wide), rtol=allowed, atol=allowed * scale
    )
