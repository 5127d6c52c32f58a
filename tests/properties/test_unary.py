# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of one operand, on every type that they take.

Oracle: NumPy in float64, or on exact Python integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import WORK, assert_exact, assert_within, wide
from tests.properties.integers import exactly, wrap
from tests.properties.running import run
from tests.properties.strategies import (
    BOOL,
    FLOATS,
    INTEGERS,
    Array,
    arrays,
    numbers,
    setups,
    shapes,
)
from tests.support.formulas import erf, gelu, gelu_tanh, hard_sigmoid, sigmoid, softplus

Reference = Callable[..., Array]


@dataclass(frozen=True)
class Unary:
    """An operator with its attributes. `error` is in units of the work type's epsilon."""

    op_type: str
    reference: Reference
    error: Reference | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    constant: dict[str, Any] = field(default_factory=dict)


def relative(units: float) -> Reference:
    return lambda x, y, **_: units * np.abs(y)


def near_line(slope: float, offset: float) -> Reference:
    """Of an expression that is clipped where |slope * x + offset| is far from small."""

    def error(x: Array, y: Array, **_: Any) -> Array:
        inner = slope * x + offset
        inside = (inner > -1) & (inner < 2)
        return np.where(inside, 2 * (np.abs(slope * x) + abs(offset)), 0)

    return error


def swish_error(x: Array, y: Array, alpha: float) -> Array:
    return np.abs(y) * (5 + np.abs(alpha * x))


def gelu_error(x: Array, y: Array, **_: Any) -> Array:
    return np.where(np.abs(x) < 16, 4 * np.abs(x), 2 * np.abs(y))


ALPHA, GAMMA = (float(np.float32(v)) for v in (1.67326319, 1.05070102))
FIFTH = float(np.float32(0.2))

UNARY = [
    # Rounded once, so exact.
    Unary("Abs", np.abs),
    Unary("Neg", np.negative),
    Unary("Sign", lambda x: np.where(x == 0, x, np.sign(x))),
    Unary("Ceil", np.ceil),
    Unary("Floor", np.floor),
    Unary("Round", np.round),
    Unary("Sqrt", np.sqrt),
    Unary("Reciprocal", np.reciprocal),
    Unary("Relu", lambda x: np.where(x < 0, 0, x)),
    Unary("LeakyRelu", lambda x, alpha: np.where(x < 0, alpha * x, x),
          attributes={"alpha": numbers()}),
    Unary("ThresholdedRelu", lambda x, alpha: np.where(x > alpha, x, 0),
          attributes={"alpha": numbers()}),
    Unary("Shrink", lambda x, lambd, bias: np.where(
              x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
          attributes={"lambd": numbers(0), "bias": numbers()}),
    # What simd/math.h says of its own functions, and two units for those of the C library.
    Unary("Exp", np.exp, relative(2)),
    Unary("Log", np.log, relative(2)),
    Unary("Sin", np.sin, relative(2)),
    Unary("Cos", np.cos, relative(2)),
    Unary("Tan", np.tan, relative(2)),
    Unary("Asin", np.arcsin, relative(2)),
    Unary("Acos", np.arccos, relative(2)),
    Unary("Atan", np.arctan, relative(2)),
    Unary("Sinh", np.sinh, relative(2)),
    Unary("Cosh", np.cosh, relative(2)),
    Unary("Tanh", np.tanh, relative(3)),
    Unary("Asinh", np.arcsinh, relative(3)),
    Unary("Acosh", np.arccosh, relative(3)),
    Unary("Atanh", np.arctanh, relative(3)),
    Unary("Erf", erf, relative(2)),
    Unary("Sigmoid", sigmoid, relative(3)),
    # Compositions: the errors of the steps, as far as they reach the result.
    Unary("Softplus", softplus, relative(4)),
    Unary("Softsign", lambda x: x / (1 + np.abs(x)), relative(2)),
    Unary("Elu", lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x), relative(3),
          {"alpha": numbers()}),
    Unary("Selu", lambda x: GAMMA * np.where(x < 0, ALPHA * np.expm1(x), x), relative(4)),
    Unary("Selu", lambda x, alpha, gamma: gamma * np.where(x < 0, alpha * np.expm1(x), x),
          relative(4), {"alpha": numbers(), "gamma": numbers()}),
    Unary("Celu", lambda x, alpha: np.where(x < 0, alpha * np.expm1(x / alpha), x), relative(5),
          {"alpha": numbers(0.125)}),
    Unary("HardSigmoid", lambda x: hard_sigmoid(x, FIFTH), near_line(FIFTH, 0.5)),
    Unary("HardSwish", lambda x: x * hard_sigmoid(x, 1 / 6),
          lambda x, y: np.abs(y) + np.abs(x) * near_line(1 / 6, 0.5)(x, y)),
    Unary("Gelu", gelu, gelu_error),
    Unary("Gelu", gelu_tanh, gelu_error, constant={"approximate": "tanh"}),
    Unary("Swish", lambda x, alpha: x * sigmoid(alpha * x), swish_error, {"alpha": numbers()}),
    Unary("Mish", lambda x: x * np.tanh(softplus(x)), relative(8)),
]  # fmt: skip


NOT_IN_THE_STANDARD = {("Celu", name) for name in ("float64", "float16", "bfloat16")}
NOT_IN_THE_STANDARD.add(("Shrink", "bfloat16"))


@pytest.mark.parametrize("unary", UNARY, ids=lambda u: u.op_type)
@given(st.data())
def test_floats(unary: Unary, data: st.DataObject) -> None:
    dtypes = [d for d in FLOATS if (unary.op_type, d.name) not in NOT_IN_THE_STANDARD]
    dtype = data.draw(st.sampled_from(dtypes))
    x = data.draw(arrays(dtype, data.draw(shapes())))
    attributes = {name: data.draw(value) for name, value in unary.attributes.items()}
    [y] = run(unary.op_type, [x], attributes | unary.constant, data.draw(setups(1)))
    with np.errstate(all="ignore"):
        x64 = wide(x)
        expected = np.asarray(unary.reference(x64, **attributes))
        if unary.error is None:
            assert_exact(y, expected.astype(dtype))
            return
        work = np.finfo(WORK[x.dtype.itemsize])
        error = float(work.eps) * unary.error(x64, expected, **attributes)
        # Factors that are subnormal are whole multiples of the smallest.
        error = error + 4 * (1 + np.abs(x64)) * float(work.smallest_subnormal)
    assert_within(y, expected, error, dtype)


def shrink(x: int, lambd: float, bias: float) -> int:
    if x < -lambd:
        return math.trunc(x + Fraction(bias))
    return math.trunc(x - Fraction(bias)) if x > lambd else 0


INTEGER_UNARY: list[tuple[str, Callable[..., int]]] = [
    ("Abs", abs),
    ("Neg", lambda x: -x),
    ("Sign", lambda x: (x > 0) - (x < 0)),
    ("Relu", lambda x: max(x, 0)),
    ("BitwiseNot", lambda x: ~x),
    ("Shrink", shrink),
]


def taken(op_type: str, dtype: Any) -> bool:
    """Whether the standard has the operator on this integer type."""
    return dtype.kind == "i" or op_type in ("Abs", "Sign", "BitwiseNot", "Shrink")


@pytest.mark.parametrize("op_type, function", INTEGER_UNARY)
@given(st.data())
def test_integers(op_type: str, function: Callable[..., int], data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([d for d in INTEGERS if taken(op_type, d)]))
    x = data.draw(arrays(dtype, data.draw(shapes())))
    attributes = {}
    if op_type == "Shrink":
        attributes = {"lambd": data.draw(numbers(0)), "bias": data.draw(numbers())}
    [y] = run(op_type, [x], attributes, data.draw(setups(1)))
    values = exactly(lambda v: function(v, **attributes), x)
    expected = wrap(values, dtype)
    if op_type == "Shrink":  # what does not fit may be anything
        y = np.where(values == expected, y, expected)
    assert_exact(y, expected)


@given(st.data())
def test_not(data: st.DataObject) -> None:
    x = data.draw(arrays(BOOL, data.draw(shapes())))
    assert_exact(run("Not", [x], {}, data.draw(setups(1)))[0], ~x)


FLOAT8 = tuple(
    np.dtype(t)
    for t in (
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
    )
)


@given(st.data())
def test_special_values_are_found(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS + FLOAT8))
    x = data.draw(arrays(dtype, data.draw(shapes())))
    x64 = wide(x)
    setup = data.draw(setups(1))
    assert_exact(run("IsNaN", [x], {}, setup)[0], np.isnan(x64))
    positive, negative = data.draw(st.booleans()), data.draw(st.booleans())
    [found] = run(
        "IsInf", [x], {"detect_positive": int(positive), "detect_negative": int(negative)}, setup
    )
    expected = (np.isposinf(x64) & positive) | (np.isneginf(x64) & negative)
    assert_exact(found, expected)
