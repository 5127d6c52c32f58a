# SPDX-License-Identifier: Apache-2.0
"""Kernels of the CUDA provider, on the emulated device, beside those of the CPU provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tests.support import cuda_emulation, native

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
TOLERANCES: dict[Any, float] = {
    np.dtype(np.float32): 2e-5,
    np.dtype(np.float64): 1e-13,
    np.dtype(np.float16): 2e-3,
    np.dtype(ml_dtypes.bfloat16): 2e-2,
}


def assert_agrees(
    op_type: str,
    inputs: Sequence[np.ndarray[Any, Any] | None],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    output_dtypes: Sequence[Any] | None = None,
    constants: Sequence[int] = (),
    tolerance: float | None = None,
) -> list[Any]:
    """Both providers give the same outputs, which are returned."""
    expected = native.run_node(op_type, inputs, attributes, outputs, domain)
    actual = cuda_emulation.run_node(
        op_type, inputs, attributes, outputs, domain, output_dtypes, constants=constants
    )
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        assert_close(one, other, tolerance)
    return actual


def assert_close(actual: Any, expected: Any, tolerance: float | None = None) -> None:
    """Of the same type and shape, NaN and infinite in the same places, and close elsewhere."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype not in TOLERANCES:
        np.testing.assert_array_equal(actual, expected)
        return
    limit = TOLERANCES[actual.dtype] if tolerance is None else tolerance
    wide, reference = actual.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(wide, reference, rtol=limit, atol=limit)
