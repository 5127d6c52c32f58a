# SPDX-License-Identifier: Apache-2.0
"""Sizes as polynomials compute what numbers would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bascule.optimizer.expressions import (
    Element,
    Polynomial,
    add,
    atom,
    divide,
    is_size,
    multiply,
    name_of,
    size,
    subtract,
)

_NUMBERS = {"batch": 3, "past": 5, "sequence": 7}

leaves = st.one_of(st.integers(-4, 9), st.sampled_from(sorted(_NUMBERS)).map(atom))
elements = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from([add, subtract, multiply]), inner, inner).map(
        lambda parts: parts[0](parts[1], parts[2])
    ),
    max_leaves=4,
)


def number(element: Element) -> int:
    if not isinstance(element, Polynomial):
        return element
    total = 0
    for monomial, factor in element.terms:
        for name in monomial:
            factor *= _NUMBERS[str(name)]
        total += factor
    return total


@given(elements, elements)
def test_arithmetic(a: Element, b: Element) -> None:
    assert number(add(a, b)) == number(a) + number(b)
    assert number(subtract(a, b)) == number(a) - number(b)
    assert number(multiply(a, b)) == number(a) * number(b)
    assert add(a, b) == add(b, a)
    assert multiply(a, b) == multiply(b, a)
    assert subtract(add(a, b), b) == a


@given(elements, elements)
def test_division_is_exact(a: Element, b: Element) -> None:
    quotient = divide(a, b)
    if quotient is not None and number(b):
        assert number(quotient) * number(b) == number(a)


@given(elements)
def test_names_are_read_back(a: Element) -> None:
    name = name_of(a)
    if isinstance(name, str):
        assert size(name) == a


def test_names() -> None:
    past, sequence = atom("past"), atom("sequence")
    assert size("past + sequence") == size("sequence + past") == add(past, sequence)
    assert size("2*past") == add(past, past)
    assert size("(past)//2") == atom("(past)//2")
    assert name_of(subtract(past, sequence)) is None
    assert is_size(add(past, 2))
    assert not is_size(subtract(past, 2))
