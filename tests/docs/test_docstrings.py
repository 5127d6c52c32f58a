# SPDX-License-Identifier: Apache-2.0
"""Docstrings say what the code does: arguments, arrays, units, defaults, errors and sources."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import bascule
from tests.api.test_public_names import public_names
from tests.support.docstrings import Name, complaints, members_of
from tests.support.reference import directives, resolve

_ALGORITHMS = (
    "compare",
    "diff",
    "grad",
    "tools.digest.digest",
    "quantization.CalibrationMethod.Entropy",
    "quantization.matmul_bnb4_quantizer.MatMulBnb4Quantizer.NF4",
)


def _names() -> Iterator[Name]:
    """Everything on the reference pages, the members of classes and modules included."""
    for path, _, _ in directives():
        item = resolve(path)
        inner = [Name(path, item)]
        if inspect.ismodule(item):
            inner = [
                Name(f"{path}.{name}", value)
                for name, value in vars(item).items()
                if getattr(value, "__module__", "") == item.__name__ and not name.startswith("_")
            ]
        for name in inner:
            yield name
            if inspect.isclass(name.item):
                for member in members_of(name.item):
                    yield Name(f"{name.path}.{member.last}", member.item, member.owner)


def test_every_docstring_has_substance() -> None:
    found = [f"{name.path} {what}" for name in _names() for what in complaints(name)]
    assert not found, "\n".join(found)


def test_every_public_member_is_among_them() -> None:
    """Of the names that tests/api/public_names.txt lists, those of classes included."""
    paths = {name.path for name in _names()}
    missing = [
        name
        for name in public_names()
        if not name.startswith("capi") and f"bascule.{name}" not in paths
    ]
    assert not missing


@pytest.mark.parametrize("name", _ALGORITHMS)
def test_algorithms_name_their_source(name: str) -> None:
    path = f"bascule.{name}"
    text = next(each.text for each in _names() if each.path == path)
    assert "Source:" in text or any(str(year) in text for year in range(1960, 2030))


# --- what the checks catch


def _weak(x: bascule.values.Array, scale: float, seconds: float) -> None:
    """Do what it does."""
    raise ValueError(x)


def _strong(x: bascule.values.Array, scale: float, seconds: float) -> None:
    """Do what it does.

    Args:
        x: float32 [n].
        scale: what it is multiplied by.
        seconds: how many seconds.

    Raises:
        ValueError: always.
    """
    raise ValueError(x)


def _wrong(x: int) -> None:
    """Do what it does.

    Args:
        y: another.
    """


class _Thing:
    """A thing.

    Attributes:
        first, second: two of them.
        level: how much (default 3).
        seconds: how long.
    """

    _fields: ClassVar[dict[str, tuple[type, Any]]] = {"level": (int, 3), "depth": (int, 4)}

    first: int
    second: int
    seconds: float
    third: int
    fourth: int
    """With a string below it."""
    depth: int
    """How deep."""


def test_what_is_missing_is_told() -> None:
    assert list(complaints(Name("weak", _weak))) == [
        "has no Args and does not tell of `x`",
        "has no Args and does not tell of `scale`",
        "has no Args and does not tell of `seconds`",
        "tells neither shape nor element type of the array `x`",
        "does not say that it raises ValueError",
    ]
    assert list(complaints(Name("wrong", _wrong))) == [
        "does not say what `x` is",
        "tells of `y`, which is no parameter",
    ]
    assert not list(complaints(Name("strong", _strong)))
    assert list(complaints(Name("lambda", lambda: None))) == ["says nothing"]


def test_attributes_have_texts_units_and_defaults() -> None:
    assert {each.last: list(complaints(each)) for each in members_of(_Thing)} == {
        "first": [],
        "second": [],
        "level": [],
        "depth": ["does not say its default, 4"],
        "seconds": ["does not say that `seconds` counts seconds"],
        "third": ["says nothing"],
        "fourth": [],
    }
