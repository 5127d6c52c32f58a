# SPDX-License-Identifier: Apache-2.0
"""Operators on strings, against Python's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidArgument
from tests.support.native import run_node


def text(*values: Any) -> np.ndarray:
    return np.array(values, dtype=object)


def test_concat_broadcasts() -> None:
    a, b = text("a", "ä", "").reshape(3, 1), text("x", "yz")
    actual = run_node("StringConcat", [a, b])[0]
    assert actual.tolist() == [["ax", "ayz"], ["äx", "äyz"], ["x", "yz"]]


@pytest.mark.parametrize("delimiter", [None, "", ",", "--"])
@pytest.mark.parametrize("most", [None, 0, 1, 2])
def test_split_as_python_does(delimiter: str | None, most: int | None) -> None:
    texts = ["a,b,,c", "", "  a  b c  ", "a--b---c", " ", "--", "ä ö,ü"]
    attributes: dict[str, Any] = {}
    if delimiter is not None:
        attributes["delimiter"] = delimiter
    if most is not None:
        attributes["maxsplit"] = most
    parts, counts = run_node("StringSplit", [text(*texts)], attributes, outputs=2)
    limit = -1 if most is None else most
    expected = [t.split(delimiter or None, limit) if t else [] for t in texts]
    assert counts.tolist() == [len(row) for row in expected]
    for row, wanted in zip(parts.tolist(), expected):
        assert row == wanted + [""] * (parts.shape[1] - len(wanted))


def test_normalizer() -> None:
    words = text("Monday", "ÄRGER", "monday", "Σήμερα", "ёлка")
    lower = run_node("StringNormalizer", [words], {"case_change_action": "LOWER"})[0]
    assert lower.tolist() == [w.lower() for w in words]
    upper = run_node("StringNormalizer", [words], {"case_change_action": "UPPER"})[0]
    assert upper.tolist() == [w.upper() for w in words]
    kept = run_node("StringNormalizer", [words], {"stopwords": ["monday"], "is_case_sensitive": 1})[
        0
    ]
    assert kept.tolist() == ["Monday", "ÄRGER", "Σήμερα", "ёлка"]
    kept = run_node("StringNormalizer", [words[None, :3]], {"stopwords": ["MONDAY", "ärger"]})[0]
    assert kept.tolist() == [[""]]
    with pytest.raises(InvalidArgument):
        run_node("StringNormalizer", [words[None].repeat(2, 0)])
