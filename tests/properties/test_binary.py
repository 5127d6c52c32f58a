# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of two and more operands that broadcast, on every type.

Oracle: NumPy in float64, or exact Python integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import assert_exact, assert_within, epsilon, wide
from tests.properties.integers import exactly, modulo, power, quotient, remainder, wrap
from tests.properties.running import Setup, assert_same_bits, run
from tests.properties.strategies import (
    BOOL,
    FINITE,
    FLOATS,
    INTEGERS,
    NUMBERS,
    SIGNED,
    TAME,
    UNSIGNED,
    Array,
    arrays,
    broadcast_shapes,
    setups,
    shapes,
)


def operands(data: st.DataObject, *dtypes: Any, **options: Any) -> tuple[list[Array], Setup]:
    """Arrays that broadcast against each other, and how they get to the node."""
    shapes = data.draw(broadcast_shapes(len(dtypes)))
    drawn = [data.draw(arrays(dtype, s, **options)) for dtype, s in zip(dtypes, shapes)]
    return drawn, data.draw(setups(len(dtypes)))


def slope_for(data: st.DataObject, dtype: Any) -> tuple[list[Array], Setup]:
    """Operands of PRelu: the second broadcasts to the shape of the first."""
    shapes = data.draw(broadcast_shapes(2))
    whole = np.broadcast_shapes(*shapes)
    x, slope = data.draw(arrays(dtype, whole)), data.draw(arrays(dtype, shapes[1]))
    return [x, slope], data.draw(setups(2))


FLOAT_BINARY: list[tuple[str, dict[str, Any], Callable[..., Array]]] = [
    ("Add", {}, np.add),
    ("Sub", {}, np.subtract),
    ("Mul", {}, np.multiply),
    ("Div", {}, np.divide),
    ("Max", {}, np.maximum),
    ("Min", {}, np.minimum),
    ("Sum", {}, np.add),
    ("PRelu", {}, lambda x, slope: np.where(x < 0, slope * x, x)),
    ("Mod", {"fmod": 1}, np.fmod),
]
"""One operation, rounded once: exact, in 16-bit types too."""


@pytest.mark.parametrize(
    "op_type, attributes, function", FLOAT_BINARY, ids=[b[0] for b in FLOAT_BINARY]
)
@given(st.data())
def test_floats(
    op_type: str,
    attributes: dict[str, Any],
    function: Callable[..., Array],
    data: st.DataObject,
) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    drawn = slope_for(data, dtype) if op_type == "PRelu" else operands(data, dtype, dtype)
    (a, b), setup = drawn
    with np.errstate(all="ignore"):
        expected = np.asarray(function(wide(a), wide(b))).astype(dtype)
        [y] = run(op_type, [a, b], attributes, setup)
        if op_type in ("Max", "Min"):  # of two zeros either may be taken
            zero = np.zeros((), dtype)
            y, expected = y + zero, expected + zero
    assert_exact(y, expected)


INTEGER_BINARY: list[tuple[str, dict[str, Any], Callable[[int, int], int], Any]] = [
    ("Add", {}, lambda a, b: a + b, INTEGERS),
    ("Sub", {}, lambda a, b: a - b, INTEGERS),
    ("Mul", {}, lambda a, b: a * b, INTEGERS),
    ("Div", {}, quotient, INTEGERS),
    ("Max", {}, max, INTEGERS),
    ("Min", {}, min, INTEGERS),
    ("Mod", {}, modulo, INTEGERS),
    ("Mod", {"fmod": 1}, remainder, INTEGERS),
    ("PRelu", {}, lambda x, slope: x * slope if x < 0 else x, SIGNED[2:] + UNSIGNED[2:]),
    ("BitwiseAnd", {}, lambda a, b: a & b, INTEGERS),
    ("BitwiseOr", {}, lambda a, b: a | b, INTEGERS),
    ("BitwiseXor", {}, lambda a, b: a ^ b, INTEGERS),
    ("BitShift", {"direction": "LEFT"}, lambda a, by: a << min(by, 64), UNSIGNED),
    ("BitShift", {"direction": "RIGHT"}, lambda a, by: a >> min(by, 64), UNSIGNED),
]


@pytest.mark.parametrize(
    "op_type, attributes, function, dtypes", INTEGER_BINARY, ids=lambda v: str(v)[:12]
)
@given(st.data())
def test_integers(
    op_type: str,
    attributes: dict[str, Any],
    function: Callable[[int, int], int],
    dtypes: tuple[Any, ...],
    data: st.DataObject,
) -> None:
    dtype = data.draw(st.sampled_from(dtypes))
    drawn = slope_for(data, dtype) if op_type == "PRelu" else operands(data, dtype, dtype)
    (a, b), setup = drawn
    [y] = run(op_type, [a, b], attributes, setup)
    assert_exact(y, wrap(exactly(function, a, b), dtype))


@pytest.mark.parametrize("op_type", ["Sum", "Mean", "Max", "Min"])
@given(st.data())
def test_any_number_of_floats(op_type: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    count = data.draw(st.integers(1, 5))
    xs, setup = operands(data, *[dtype] * count, flavours=TAME)
    stack = np.stack(np.broadcast_arrays(*map(wide, xs)))
    [y] = run(op_type, xs, {}, setup)
    if op_type in ("Max", "Min"):
        expected = (np.max if op_type == "Max" else np.min)(stack, axis=0)
        assert_exact(y + np.zeros((), dtype), np.asarray(expected + 0.0).astype(dtype))
        return
    expected = (np.sum if op_type == "Sum" else np.mean)(stack, axis=0)
    # Each addition, and the division, rounds something no larger than the sum of magnitudes.
    magnitude = np.abs(stack).sum(axis=0) / (1 if op_type == "Sum" else count)
    assert_within(y, expected, epsilon(dtype) * (count + 1) * magnitude, dtype)


@given(st.data())
def test_any_number_of_integers(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(INTEGERS))
    xs, setup = operands(data, *[dtype] * data.draw(st.integers(1, 4)))
    for op_type, function in (("Max", max), ("Min", min)):
        expected = exactly(lambda *v, f=function: f(v), *xs)
        assert_exact(run(op_type, xs, {}, setup)[0], wrap(expected, dtype))


def c_power(a: Array, b: Array) -> Array:
    """As in C: NumPy takes square roots where 0.5 is the only exponent, and they differ at -inf."""
    base, exponent = np.broadcast_arrays(a, b)
    powers = np.power(np.append(base, 1.0), np.append(exponent, 3.0))
    return np.asarray(powers[:-1].reshape(base.shape))


@pytest.mark.parametrize("bases", [*FLOATS, *SIGNED[2:]], ids=str)
@given(st.data())
def test_pow(bases: Any, data: st.DataObject) -> None:
    exponents = data.draw(st.sampled_from([*FLOATS, *INTEGERS]))
    # No arbitrary bits: a signalling NaN to the power of 0 may be NaN.
    (a, b), setup = operands(data, bases, exponents, flavours=(*FINITE, "special"))
    [y] = run("Pow", [a, b], {}, setup)
    if bases.kind == "i" and exponents.kind in "iu":
        assert_exact(y, wrap(exactly(power, a, b), bases))
        return
    with np.errstate(all="ignore"):
        expected = c_power(wide(a), wide(b))
    if bases.kind == "i":  # what is too large for the type may be anything
        assert y.dtype == bases
        near = np.abs(expected) < 2**31 - 1
        exact = np.where(near, expected, 0)
        slack = 4 * np.finfo(np.float64).eps * np.abs(exact)
        difference = np.abs(np.where(near, wide(y), 0) - np.trunc(exact))
        assert (difference <= (np.trunc(exact + slack) != np.trunc(exact - slack))).all()
        return
    assert_within(y, expected, 2 * epsilon(bases) * np.abs(expected), bases)


COMPARISONS: list[tuple[str, Callable[..., Array]]] = [
    ("Equal", np.equal),
    ("Less", np.less),
    ("LessOrEqual", np.less_equal),
    ("Greater", np.greater),
    ("GreaterOrEqual", np.greater_equal),
]


@pytest.mark.parametrize("op_type, function", COMPARISONS, ids=[c[0] for c in COMPARISONS])
@given(st.data())
def test_comparisons(op_type: str, function: Callable[..., Array], data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(NUMBERS))
    (a, b), setup = operands(data, dtype, dtype)
    exact = (a, b) if dtype.kind in "iu" else (wide(a), wide(b))
    assert_exact(run(op_type, [a, b], {}, setup)[0], np.asarray(function(*exact)))


LOGICAL: list[tuple[str, Callable[..., Array]]] = [
    ("And", np.logical_and),
    ("Or", np.logical_or),
    ("Xor", np.logical_xor),
    ("Equal", np.equal),
]


@pytest.mark.parametrize("op_type, function", LOGICAL, ids=[c[0] for c in LOGICAL])
@given(st.data())
def test_logic(op_type: str, function: Callable[..., Array], data: st.DataObject) -> None:
    (a, b), setup = operands(data, BOOL, BOOL)
    assert_exact(run(op_type, [a, b], {}, setup)[0], np.asarray(function(a, b)))


@given(st.data())
def test_equal_strings(data: st.DataObject) -> None:
    (a, b), setup = operands(data, object, object)
    [y] = run("Equal", [a, b], {}, setup)
    assert_exact(y, np.asarray(np.equal(a, b), dtype=bool))


WHERE = (*NUMBERS, BOOL, np.dtype(object), np.dtype(np.complex64), np.dtype(np.complex128))


@given(st.data())
def test_where(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(WHERE))
    if dtype.kind == "c":
        real = np.dtype(f"f{dtype.itemsize // 2}")
        (condition, x, y), setup = operands(data, BOOL, real, real, flavours=FINITE)
        with np.errstate(all="ignore"):
            x, y = x * dtype.type(1 - 2j), y * dtype.type(3j)
    else:
        (condition, x, y), setup = operands(data, BOOL, dtype, dtype)
    [z] = run("Where", [condition, x, y], {}, setup)
    assert_same_bits(z, np.where(condition, x, y))


@given(st.data())
def test_clip(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(NUMBERS))
    x = data.draw(arrays(dtype, data.draw(shapes())))
    low, high = (
        data.draw(st.one_of(st.none(), arrays(dtype, (), flavours=FINITE))) for _ in range(2)
    )
    expected = x if dtype.kind in "iu" else wide(x)
    if low is not None:
        expected = np.maximum(expected, low)
    if high is not None:
        expected = np.minimum(expected, high)
    bounds = frozenset(i for i in (1, 2) if data.draw(st.booleans()))
    setup = replace(data.draw(setups(1)), constants=bounds)
    [y] = run("Clip", [x, low, high], {}, setup)
    zero = np.zeros((), dtype)  # of two zeros either may be taken
    with np.errstate(all="ignore"):
        assert_exact(y + zero, np.asarray(expected).astype(dtype) + zero)
