# SPDX-License-Identifier: Apache-2.0
"""Integers of which some are only names: polynomials in normal form.

An element is a number, or a `Polynomial` over atoms: sizes, and whatever else is not a number, each
equal only to itself. Elements that compare equal certainly are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Union

Monomial = tuple[Hashable, ...]
"""Atoms that are multiplied, sorted by their text; none for 1."""


@dataclass(frozen=True)
class Polynomial:
    """Monomials and their factors, which are not 0; at least one monomial has atoms."""

    terms: frozenset[tuple[Monomial, int]]


Element = Union[int, Polynomial]

_FORMULA = re.compile(r"\w+(\*\w+)*( \+ \w+(\*\w+)*)*")
_LIMIT = 16
"""Polynomials with more terms become atoms."""


def atom(name: Hashable) -> Polynomial:
    return Polynomial(frozenset([((name,), 1)]))


@functools.lru_cache(maxsize=1024)
def size(name: str) -> Element:
    """A size by its name; exporters give results names like ``2*batch`` and ``past + sequence``."""
    if not _FORMULA.fullmatch(name):
        return atom(name)
    return add(*(multiply(*map(_factor, part.split("*"))) for part in name.split(" + ")))


def _factor(name: str) -> Element:
    return int(name) if name.isdigit() else atom(name)


def name_of(element: Element) -> int | str | None:
    """A number, or a name that `size` reads as this element; None if there is none."""
    if isinstance(element, int):
        return element
    parts = []
    for monomial, factor in sorted(element.terms, key=repr):
        if factor < 0 or not all(isinstance(each, str) for each in monomial):
            return None
        factors = [str(factor)] if factor != 1 or not monomial else []
        parts.append("*".join(factors + [str(each) for each in monomial]))
    name = " + ".join(parts)
    return name if size(name) == element else None


def add(*elements: Element) -> Element:
    return _collect(term for element in elements for term in _terms(element))


def subtract(a: Element, b: Element) -> Element:
    return add(a, multiply(-1, b))


def multiply(*elements: Element) -> Element:
    product: Element = 1
    for element in elements:
        product = _collect(
            (tuple(sorted(left + right, key=repr)), i * j)
            for left, i in _terms(product)
            for right, j in _terms(element)
        )
    return product


def divide(a: Element, b: Element) -> Element | None:
    """``a / b`` if it certainly leaves no remainder; sizes are taken to be other than 0."""
    if a == b and a != 0:
        return 1
    divisor = _terms(b)
    if len(divisor) != 1:
        return None
    ((atoms, factor),) = divisor
    quotient = []
    for monomial, own in _terms(a):
        rest = list(monomial)
        for each in atoms:
            if each not in rest:
                return None
            rest.remove(each)
        if own % factor:
            return None
        quotient.append((tuple(rest), own // factor))
    return _collect(quotient)


def is_size(element: Element) -> bool:
    """True for sums and products of sizes, which are not negative."""
    return all(factor > 0 and all(map(_is_size, atoms)) for atoms, factor in _terms(element))


def _is_size(name: Hashable) -> bool:
    return isinstance(name, str) or (isinstance(name, tuple) and name[0] == "size")


def _terms(element: Element) -> list[tuple[Monomial, int]]:
    if isinstance(element, int):
        return [((), element)] if element else []
    return list(element.terms)


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Element:
    factors: dict[Monomial, int] = {}
    for monomial, factor in terms:
        factors[monomial] = factors.get(monomial, 0) + factor
    kept = frozenset((monomial, factor) for monomial, factor in factors.items() if factor)
    if not kept:
        return 0
    if len(kept) == 1:
        ((monomial, factor),) = kept
        if not monomial:
            return factor
    return Polynomial(kept) if len(kept) <= _LIMIT else atom(("polynomial", kept))
