# SPDX-License-Identifier: Apache-2.0
"""Tokenizer of domain com.microsoft, against answers of onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import Fail, InvalidGraph
from tests.support.native import run_node

BASE = {"mark": 0, "mincharnum": 1, "pad_value": "#"}
TEXTS = np.array(["the cat", "ä b  c", ""], object)


def tokens(texts: Any, **attributes: Any) -> np.ndarray:
    result: np.ndarray = run_node(
        "Tokenizer", [np.asarray(texts, object)], {**BASE, **attributes}, domain="com.microsoft"
    )[0]
    return result


def test_separators() -> None:
    assert tokens(TEXTS, separators=[" "]).tolist() == [
        ["the", "cat", "#"],
        ["ä", "b", "c"],
        ["#", "#", "#"],
    ]
    assert tokens(TEXTS[:1], separators=[" ", "t"]).tolist() == [["he", "ca"]]
    assert tokens(["a.b;c", "x"], separators=[";", "\\."]).tolist() == [
        ["a", "b", "c"],
        ["x", "#", "#"],
    ]


def test_characters() -> None:
    expected = [["t", "h", "e"], ["ä", "#", "#"]]
    assert tokens(["the", "ä"], separators=[""]).tolist() == expected
    assert tokens(["the", "ä"], tokenexp=".").tolist() == expected


def test_expression() -> None:
    assert tokens(TEXTS, tokenexp="[a-z]+").tolist() == [["the", "cat"], ["b", "c"], ["#", "#"]]
    assert tokens([["a b", ""]], tokenexp="\\w").tolist() == [[["a", "b"], ["#", "#"]]]
    assert tokens(["abcab"], tokenexp="a|ab|abc").tolist() == [["abc", "ab"]]


@pytest.mark.parametrize(
    "expression", ["[a-zA-Z0-9_]+", r"\w+", r"\w\w+", r"\d\d", "[a-cx][a-cx]+", r"[\d_]+", "[_\\w]"]
)
def test_usual_expressions_mean_what_they_mean_to_re2(expression: str) -> None:
    letters = [*"abcxyzABC019__  .-äß日\n", "\udc80"]
    texts = ["".join(text) for text in np.random.default_rng(1).choice(letters, (40, 30))]
    expected = tokens(texts, tokenexp=f"(?:{expression})")  # too unusual to be seen through
    np.testing.assert_array_equal(tokens(texts, tokenexp=expression), expected)


@pytest.mark.parametrize("separator", [" ", "--", "ab", "\t", "ä"])
def test_literal_separators_mean_what_they_mean_to_re2(separator: str) -> None:
    letters = [*"ab  --\tä.", "\udc80"]
    texts = ["".join(text) for text in np.random.default_rng(2).choice(letters, (40, 30))]
    expected = tokens(texts, separators=[f"(?:{separator})"])
    np.testing.assert_array_equal(tokens(texts, separators=[separator]), expected)


def test_marks_and_short_tokens() -> None:
    assert tokens(TEXTS[[0, 2]], separators=[" "], mark=1).tolist() == [
        ["\x02", "the", "cat", "\x03"],
        ["\x02", "\x03", "#", "#"],
    ]
    assert tokens(TEXTS, separators=[" "], mincharnum=2).tolist() == [
        ["the", "cat"],
        ["#", "#"],
        ["#", "#"],
    ]


def test_nothing() -> None:
    assert tokens(["", ""], tokenexp="x", mark=1).shape == (2, 0)
    assert tokens([], tokenexp="x").shape == (0,)


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"tokenexp": "["}, "no regular expression"),
        ({"tokenexp": "a", "separators": ["b"]}, "one of the attributes"),
        ({}, "one of the attributes"),
        ({"separators": ["a", ""]}, "empty"),
    ],
)
def test_refuses(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        tokens(TEXTS, **attributes)


def test_refuses_three_axes() -> None:
    with pytest.raises(Fail, match=r"shape \[1, 1, 1\]"):
        tokens([[["a"]]], tokenexp="a")
