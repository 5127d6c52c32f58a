# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of two and more operands that broadcast, on every type.

Oracle: NumPy in float64, or exact Python integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import assert_exact, assert_within, epsilon, wide
from tests.properties.integers import exactly, modulo, power, quotient, remainder, wrap
from tests.properties.running import Setup, run
from tests.properties.strategies import (
    FLOATS,
    INTEGERS,
    SIGNED,
    TAME,
    UNSIGNED,
    Array,
    arrays,
    broadcast_shapes,
    setups,
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
    (a, b), setup = operands(data, bases, exponents)
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
