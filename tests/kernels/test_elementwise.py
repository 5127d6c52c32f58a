# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.support.formulas import erf, gelu, gelu_tanh, hard_sigmoid, sigmoid, softplus
from tests.support.native import run_node

RANDOM = np.random.default_rng(11)
SIZES = (0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 100)  # a tail at every vector width
SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 88.9, -104.5])


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


# Attributes are float32.
ALPHA, GAMMA, FIFTH = (float(np.float32(v)) for v in (1.67326319, 1.05070102, 0.2))
UNARY: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
    ("Abs", {}, np.abs),
    ("Neg", {}, np.negative),
    ("Sign", {}, np.sign),
    ("Ceil", {}, np.ceil),
    ("Floor", {}, np.floor),
    ("Round", {}, np.round),
    ("Sqrt", {}, np.sqrt),
    ("Reciprocal", {}, np.reciprocal),
    ("Exp", {}, np.exp),
    ("Log", {}, np.log),
    ("Sin", {}, np.sin),
    ("Cos", {}, np.cos),
    ("Tan", {}, np.tan),
    ("Asin", {}, np.arcsin),
    ("Acos", {}, np.arccos),
    ("Atan", {}, np.arctan),
    ("Sinh", {}, np.sinh),
    ("Cosh", {}, np.cosh),
    ("Tanh", {}, np.tanh),
    ("Asinh", {}, np.arcsinh),
    ("Acosh", {}, np.arccosh),
    ("Atanh", {}, np.arctanh),
    ("Erf", {}, erf),
    ("Sigmoid", {}, sigmoid),
    ("Softplus", {}, softplus),
    ("Softsign", {}, lambda x: x / (1 + np.abs(x))),
    ("Relu", {}, lambda x: np.maximum(x, 0)),
    ("LeakyRelu", {"alpha": 0.25}, lambda x: np.where(x < 0, 0.25 * x, x)),
    ("Elu", {"alpha": 1.5}, lambda x: np.where(x < 0, 1.5 * np.expm1(x), x)),
    ("Selu", {}, lambda x: GAMMA * np.where(x < 0, ALPHA * np.expm1(x), x)),
    ("Celu", {"alpha": 2.0}, lambda x: np.where(x < 0, 2 * np.expm1(x / 2), x)),
    ("ThresholdedRelu", {"alpha": 0.5}, lambda x: np.where(x > 0.5, x, 0)),
    ("HardSigmoid", {}, lambda x: hard_sigmoid(x, FIFTH)),
    ("HardSwish", {}, lambda x: x * hard_sigmoid(x, 1 / 6, 0.5)),
    ("Gelu", {}, gelu),
    ("Gelu", {"approximate": "tanh"}, gelu_tanh),
    ("Swish", {"alpha": 1.5}, lambda x: x * sigmoid(1.5 * x)),
    ("Mish", {}, lambda x: x * np.tanh(softplus(x))),
    ("Shrink", {"lambd": 0.5, "bias": 0.25}, lambda x: np.where(
        x < -0.5, x + 0.25, np.where(x > 0.5, x - 0.25, 0))),
]  # fmt: skip
FINITE_ONLY = {"Softsign", "HardSwish", "Gelu", "Swish", "Mish", "Shrink", "HardSigmoid",
               "ThresholdedRelu", "LeakyRelu", "Elu", "Selu", "Celu", "Tan"}  # fmt: skip


@pytest.mark.parametrize("op_type, attributes, function", UNARY)
@pytest.mark.parametrize(
    "dtype, rtol, atol",
    [
        (np.float32, 2e-6, 1e-6),
        (np.float64, 1e-12, 1e-12),
        (np.float16, 2e-3, 1e-4),
        (ml_dtypes.bfloat16, 1e-2, 1e-3),
    ],
)
def test_unary(
    op_type: str, attributes: dict[str, Any], function: Any, dtype: Any, rtol: float, atol: float
) -> None:
    for size in SIZES:
        x = (normal(size, dtype=np.float64) * 3).astype(dtype)
        if op_type not in FINITE_ONLY and size > 16:
            with np.errstate(all="ignore"):
                x[: len(SPECIAL)] = SPECIAL.astype(dtype)
        with np.errstate(all="ignore"):
            expected = function(x.astype(np.float64))
            # What does not fit the type is infinite.
            expected = expected.astype(dtype).astype(np.float64)
        [actual] = run_node(op_type, [x], attributes, runs=2)
        assert actual.dtype == x.dtype
        np.testing.assert_allclose(actual.astype(np.float64), expected, rtol, atol)


def test_swish_of_large_numbers() -> None:
    finite = np.array([1e-40, -1e-40, 12, -12, -60, -87, 89, -89, -2e2, 2e2, 3e38, -3e38, 0])
    x = np.append(finite, [np.inf, np.nan]).astype(np.float32)
    [y] = run_node("Swish", [x], {"alpha": 1.0})
    with np.errstate(all="ignore"):
        expected = x / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(y, expected, rtol=8e-6, atol=1e-36)
    assert np.signbit(y[[1, 3, 7, 8]]).all()
    for alpha in (-2.0, 0.0, 1e30):
        [y] = run_node("Swish", [x[:-2]], {"alpha": alpha})
        with np.errstate(all="ignore"):
            expected = finite / (1 + np.exp(np.float64(-alpha) * x[:-2]))
        np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-36)


def test_sine_of_large_numbers() -> None:
    x = np.array([4000.5, 5000.25, 1e6, 3e7, -1e10, 1e30], np.float32)
    np.testing.assert_allclose(run_node("Sin", [x])[0], np.sin(x.astype(np.float64)), 1e-6, 1e-7)
    np.testing.assert_allclose(run_node("Cos", [x])[0], np.cos(x.astype(np.float64)), 1e-6, 1e-7)


def test_inverse_trigonometry_at_the_ends() -> None:
    outside = np.array([1, np.inf, np.nan, 2, 3e38, 1 + 2**-23], np.float32)
    x = np.concatenate([outside, -outside, [0, -0.0, 1e-45, -1e-45]]).astype(np.float32)
    for op_type, function in (("Asin", np.arcsin), ("Acos", np.arccos), ("Atan", np.arctan)):
        with np.errstate(invalid="ignore"):
            expected = function(x.astype(np.float64)).astype(np.float32)
        [actual] = run_node(op_type, [x])
        np.testing.assert_allclose(actual, expected, 2e-7)
        numbers = ~np.isnan(expected)
        assert (np.signbit(actual) == np.signbit(expected))[numbers].all()


SHAPES = [
    ((5,), (5,)),
    ((0, 3), (3,)),
    ((), (4, 3)),
    ((33,), (1,)),
    ((1,), (33,)),
    ((4, 65), (65,)),
    ((65, 4), (65, 1)),
    ((40, 33), (40, 1)),
    ((3, 1, 5), (1, 4, 1)),
    ((2, 3, 4, 5), (3, 1, 5)),
    ((600, 2), (2,)),
    ((1, 1, 700), (2, 1, 1)),
]


@pytest.mark.parametrize("op_type, function", [
    ("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide),
    ("Max", np.maximum), ("Min", np.minimum), ("PRelu", lambda a, b: np.where(a < 0, a * b, a)),
    ("Sum", np.add), ("Mean", lambda a, b: (a + b) / 2),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_binary_broadcasts(op_type: str, function: Any, dtype: Any) -> None:
    tolerance = {2: 1e-2, 4: 1e-6, 8: 1e-14}[np.dtype(dtype).itemsize]
    for left, right in SHAPES:
        a, b = normal(*left, dtype=dtype), normal(*right, dtype=dtype)
        expected = function(a.astype(np.float64), b.astype(np.float64))
        [actual] = run_node(op_type, [a, b], runs=2)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance / 100)


INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_around(dtype: Any) -> None:
    info = np.iinfo(dtype)
    a = RANDOM.integers(info.min, info.max, (7, 50), dtype, endpoint=True)
    b = RANDOM.integers(info.min, info.max, (50,), dtype, endpoint=True)
    small = RANDOM.integers(1, 7, (50,), dtype)
    with np.errstate(all="ignore"):
        for op_type, function in [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply),
                                  ("Max", np.maximum), ("Min", np.minimum),
                                  ("BitwiseAnd", np.bitwise_and), ("BitwiseOr", np.bitwise_or),
                                  ("BitwiseXor", np.bitwise_xor)]:  # fmt: skip
            np.testing.assert_array_equal(run_node(op_type, [a, b])[0], function(a, b), op_type)
        np.testing.assert_array_equal(run_node("Mod", [a, small])[0], np.mod(a, small))
        np.testing.assert_array_equal(
            run_node("Mod", [a, small], {"fmod": 1})[0], np.fmod(a, small)
        )
        np.testing.assert_array_equal(run_node("Abs", [a])[0], np.abs(a))
        np.testing.assert_array_equal(run_node("BitwiseNot", [a])[0], ~a)
    exact = [
        [abs(int(x)) // int(y) * (1 if x >= 0 else -1) for x, y in zip(row, small)] for row in a
    ]
    np.testing.assert_array_equal(run_node("Div", [a, small])[0], np.array(exact, dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_division_that_no_integer_can_hold(dtype: Any) -> None:
    low = np.iinfo(dtype).min
    a, b = np.array([low, 5, low], dtype), np.array([-1, 0, 0], dtype)
    np.testing.assert_array_equal(run_node("Div", [a, b])[0], [low, 0, 0])
    for fmod in (0, 1):
        np.testing.assert_array_equal(run_node("Mod", [a, b], {"fmod": fmod})[0], [0, 0, 0])


def test_mod_of_floats() -> None:
    a = np.array([5.5, -5.5, 5.5, -5.5, 0.0, -0.0, np.inf, 1.0, 1.0], np.float32)
    b = np.array([2.0, 2.0, -2.0, -2.0, -3.0, 3.0, 2.0, np.inf, 0.0], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run_node("Mod", [a, b])[0], np.mod(a, b))
        np.testing.assert_allclose(run_node("Mod", [a, b], {"fmod": 1})[0], np.fmod(a, b))


def test_bit_shift() -> None:
    a = np.array([1, -4, 7, -128], np.int8)
    by = np.array([1, 1, 9, -1], np.int8)
    left = run_node("BitShift", [a, by], {"direction": "LEFT"})[0]
    right = run_node("BitShift", [a, by], {"direction": "RIGHT"})[0]
    np.testing.assert_array_equal(left, np.array([2, -8, 0, 0], np.int8))
    np.testing.assert_array_equal(right, np.array([0, -2, 0, -1], np.int8))


@pytest.mark.parametrize("op_type, function", [
    ("Equal", np.equal), ("Less", np.less), ("LessOrEqual", np.less_equal),
    ("Greater", np.greater), ("GreaterOrEqual", np.greater_equal),
])  # fmt: skip
def test_comparisons(op_type: str, function: Any) -> None:
    for dtype in [np.float32, np.float64, np.float16, *INTEGERS]:
        for left, right in SHAPES:
            a = RANDOM.integers(0, 3, left).astype(dtype)
            b = RANDOM.integers(0, 3, right).astype(dtype)
            np.testing.assert_array_equal(run_node(op_type, [a, b])[0], function(a, b))
    nan = np.array([np.nan, 1.0], np.float32)
    np.testing.assert_array_equal(run_node(op_type, [nan, nan])[0], function(nan, nan))


@pytest.mark.parametrize("op_type, function", [
    ("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor), ("Equal", np.equal),
])  # fmt: skip
def test_logic(op_type: str, function: Any) -> None:
    for left, right in SHAPES:
        a, b = RANDOM.random(left) < 0.5, RANDOM.random(right) < 0.5
        np.testing.assert_array_equal(run_node(op_type, [a, b])[0], function(a, b))
    np.testing.assert_array_equal(run_node("Not", [a])[0], ~np.asarray(a))


def test_strings() -> None:
    a = np.array([["x", "long enough to be on the heap"], ["", "y"]], dtype=object)
    b = np.array(["x", "y"], dtype=object)
    np.testing.assert_array_equal(run_node("Equal", [a, b])[0], a == b)
    keep = np.array([[True], [False]])
    np.testing.assert_array_equal(run_node("Where", [keep, a, b])[0], np.where(keep, a, b))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.bool_, np.complex128,
                                   *INTEGERS])  # fmt: skip
def test_where(dtype: Any) -> None:
    for shape in [(5, 40), (5, 1), (40,), (1,), ()]:
        condition = RANDOM.random((5, 40)) < 0.5
        a = RANDOM.integers(0, 9, shape).astype(dtype)
        b = RANDOM.integers(0, 9, (5, 1)).astype(dtype)
        np.testing.assert_array_equal(run_node("Where", [condition, a, b])[0],
                                      np.where(condition, a, b))  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8,
                                   np.int64, np.uint16])  # fmt: skip
def test_clip(dtype: Any) -> None:
    x = RANDOM.integers(0, 100, 700).astype(dtype)
    least, largest = np.asarray(20, dtype), np.asarray(60, dtype)
    for bounds in [(least, largest), (None, largest), (least, None), (None, None)]:
        expected = x
        if bounds[0] is not None:
            expected = np.maximum(expected, bounds[0])
        if bounds[1] is not None:
            expected = np.minimum(expected, bounds[1])
        np.testing.assert_array_equal(run_node("Clip", [x, *bounds])[0], expected)
    np.testing.assert_array_equal(run_node("Clip", [x, largest, least])[0], np.full_like(x, 20))


def test_clip_keeps_nan() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.5], np.float32)
    one = np.asarray(1, np.float32)
    np.testing.assert_array_equal(run_node("Clip", [x, -one, one])[0], [np.nan, 1, -1, 0.5])


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_variadic(op_type: str, count: int) -> None:
    shapes = [(4, 300), (300,), (4, 1), ()][:count]
    arrays = [normal(*shape) for shape in shapes]
    wide = np.stack(np.broadcast_arrays(*arrays)).astype(np.float64)
    function = {"Max": np.max, "Min": np.min, "Sum": np.sum, "Mean": np.mean}[op_type]
    np.testing.assert_allclose(run_node(op_type, arrays)[0], function(wide, 0), 1e-5, 1e-6)


def test_pow() -> None:
    base = np.abs(normal(6, 33)) + 0.1
    for exponent in [2.0, 3.0, 0.5, -1.0, 1.7]:
        number = np.asarray(exponent, np.float32)
        expected = base.astype(np.float64) ** exponent
        np.testing.assert_allclose(run_node("Pow", [base, number])[0], expected, 1e-6)
        column = np.full((6, 1), exponent, np.float32)
        np.testing.assert_array_equal(
            run_node("Pow", [base, column])[0], run_node("Pow", [base, number])[0]
        )
    whole = np.array([3, -2, 1, -1, 7], np.int64)
    by = np.array([4, 3, -5, -3, 0], np.int32)
    np.testing.assert_array_equal(run_node("Pow", [whole, by])[0], [81, -8, 1, -1, 1])
    two = np.asarray(2, np.int64)
    np.testing.assert_allclose(run_node("Pow", [base, two])[0], base**2, 1e-6)
    half = np.asarray(0.5, np.float32)
    np.testing.assert_array_equal(run_node("Pow", [np.array([16], np.int32), half])[0], [4])


def test_pow_of_an_exponent_past_the_signed_range() -> None:
    base, exponent = np.array([3, -1, 0], np.int64), np.array([2**63 + 1] * 3, np.uint64)
    third = pow(3, 2**63 + 1, 2**64)
    expected = [third - 2**64 if third >= 2**63 else third, -1, 0]
    assert run_node("Pow", [base, exponent])[0].tolist() == expected


def test_shrink_of_integers_that_no_float_holds() -> None:
    x = np.array([2**62 + 1, -(2**62) - 1, 3, -3, 0], np.int64)
    [y] = run_node("Shrink", [x], {"lambd": 1.0, "bias": 0.5})
    assert y.tolist() == [2**62, -(2**62), 2, -2, 0]


def test_elu_keeps_the_smallest_numbers() -> None:
    x = np.array([-1e-45, -1e-40, -0.0, -1e-20], np.float32)
    [y] = run_node("Elu", [x])
    assert y.tobytes() == x.tobytes()


def test_is_nan_and_is_inf() -> None:
    for dtype in [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]:
        x = np.array([1, np.nan, np.inf, -np.inf], dtype)
        assert run_node("IsNaN", [x])[0].tolist() == [False, True, False, False]
        assert run_node("IsInf", [x])[0].tolist() == [False, False, True, True]
        only = run_node("IsInf", [x], {"detect_negative": 0})[0]
        assert only.tolist() == [False, False, True, False]


def test_bits_do_not_depend_on_threads_or_place() -> None:
    x, y = normal(90, 1000), normal(1000)
    for op_type, inputs in [("Tanh", [x]), ("Mul", [x, y]), ("Pow", [np.abs(x), y])]:
        one = run_node(op_type, inputs)[0]
        assert run_node(op_type, inputs, threads=4)[0].tobytes() == one.tobytes()
        row = run_node(op_type, [inputs[0][17:18], *inputs[1:]])[0]
        assert row.tobytes() == one[17:18].tobytes()


@pytest.mark.parametrize("op_type, function, ulps", [
    ("Exp", np.exp, 1.5), ("Log", np.log, 1.5), ("Tanh", np.tanh, 3), ("Sigmoid", sigmoid, 3),
    ("Erf", erf, 2), ("Sin", np.sin, 2), ("Cos", np.cos, 2),
    ("Asin", np.arcsin, 2.5), ("Acos", np.arccos, 1.5), ("Atan", np.arctan, 2.5),
])  # fmt: skip
def test_errors_in_units_in_the_last_place(op_type: str, function: Any, ulps: float) -> None:
    bits = RANDOM.integers(0, 2**32, 20_000, np.uint64).astype(np.uint32)
    x = np.concatenate([bits.view(np.float32), normal(5000), normal(5000) * 20])
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
        [actual] = run_node(op_type, [x])
        rounded = exact.astype(np.float32)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(rounded))
        error = np.abs(actual.astype(np.float64) - exact) / np.spacing(np.abs(rounded))
    assert error[finite].max() < ulps
