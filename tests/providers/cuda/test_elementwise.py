# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of the CUDA provider agree with the CPU provider's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.providers.cuda.elementwise_bodies import Body
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

RANDOM = np.random.default_rng(5)
HALVES = [np.float16, ml_dtypes.bfloat16]
FLOATS = [np.float32, np.float64, *HALVES]
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
TOLERANCES = {
    np.float32: (3e-6, 1e-6),
    np.float64: (1e-13, 1e-13),
    np.float16: (2e-3, 1e-6),
    ml_dtypes.bfloat16: (1.6e-2, 1e-30),
}
SPECIAL = [0.0, -0.0, 0.5, 1.5, -2.5, 2.0, -1.0, 1.0, 30.0, -30.0, np.inf, -np.inf, np.nan, 6e-8]


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.asarray(RANDOM.standard_normal(shape)).astype(dtype)


def integers(dtype: Any, *shape: int) -> np.ndarray:
    """Of the whole range, the ends and small ones more often."""
    limits = np.iinfo(dtype)
    x = RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    small = RANDOM.integers(0, 5, shape).astype(dtype)
    x = np.where(RANDOM.random(shape) < 0.5, x, small)
    x.flat[:3] = limits.min, limits.max, limits.max
    return x


# fmt: off
OF_FLOATS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in (
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf",
        "Exp", "Floor", "HardSwish", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round",
        "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "Celu",
        "Elu", "Gelu", "HardSigmoid", "LeakyRelu", "Selu", "Shrink", "Swish", "ThresholdedRelu",
    )),
    ("Gelu", {"approximate": "tanh"}),
    ("Celu", {"alpha": 1.5}),
    ("Elu", {"alpha": 0.75}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.6}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}),
    ("Shrink", {"lambd": 0.25, "bias": 0.125}),
    ("Swish", {"alpha": 1.5}),
    ("ThresholdedRelu", {"alpha": 0.3}),
]
# fmt: on


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_floats(dtype: Any) -> None:
    x = np.concatenate([normal(40) * 3, RANDOM.random(40), SPECIAL]).astype(dtype)
    body = Body(x)
    (operand,) = body.inputs
    for op_type, attributes in OF_FLOATS:
        body.output(op_type, operand, **attributes)
    body.output("IsNaN", operand, dtype=np.bool_)
    body.output("IsInf", operand, dtype=np.bool_)
    body.output("IsInf", operand, dtype=np.bool_, detect_negative=0)
    body.output("IsInf", operand, dtype=np.bool_, detect_positive=0)
    with np.errstate(all="ignore"):
        body.check(*TOLERANCES[dtype])
