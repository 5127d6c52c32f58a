# SPDX-License-Identifier: Apache-2.0
"""TfIdfVectorizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.native import run_node

POOL = [2, 3, 5, 2, 3, 3, 5, 2, 5, 2, 3, 5]
BASE: dict[str, Any] = {
    "mode": "TF",
    "min_gram_length": 1,
    "max_gram_length": 3,
    "max_skip_count": 0,
    "ngram_counts": [0, 3, 9],
    "ngram_indexes": [6, 5, 4, 3, 2, 1, 0],
    "pool_int64s": POOL,
}
TOKENS = [2, 3, 5, 9, 2, 5, 3]


def expected_counts(tokens: list[int], attributes: dict[str, Any]) -> np.ndarray:
    pool, starts = attributes["pool_int64s"], [*attributes["ngram_counts"], len(POOL)]
    grams = []
    for length in range(1, len(starts)):
        begin, end = starts[length - 1], starts[length]
        grams += [tuple(pool[i : i + length]) for i in range(begin, end, length)]
    counts = np.zeros(7, np.float32)
    for gram, index in zip(grams, attributes["ngram_indexes"]):
        length = len(gram)
        if not attributes["min_gram_length"] <= length <= attributes["max_gram_length"]:
            continue
        skips = attributes["max_skip_count"] + 1 if length > 1 else 1
        for distance in range(1, skips + 1):
            for start in range(len(tokens) - (length - 1) * distance):
                found = tuple(tokens[start : start + (length - 1) * distance + 1 : distance])
                counts[index] += found == gram
    return counts


@pytest.mark.parametrize("skips", [0, 1, 5])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 2), (1, 3), (3, 3)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_counts(skips: int, lengths: tuple[int, int], dtype: Any) -> None:
    attributes = {
        **BASE,
        "max_skip_count": skips,
        "min_gram_length": lengths[0],
        "max_gram_length": lengths[1],
    }
    (y,) = run_node("TfIdfVectorizer", [np.array(TOKENS, dtype)], attributes)
    np.testing.assert_array_equal(y, expected_counts(TOKENS, attributes))
    rows = np.array([TOKENS, TOKENS[::-1]], dtype)
    (y,) = run_node("TfIdfVectorizer", [rows], attributes)
    assert y.shape == (2, 7)
    np.testing.assert_array_equal(y[1], expected_counts(TOKENS[::-1], attributes))


def test_weights() -> None:
    weights = [0.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    counts = expected_counts([2, 3, 2, 3], BASE)
    tokens = np.array([2, 3, 2, 3], np.int64)
    (y,) = run_node("TfIdfVectorizer", [tokens], {**BASE, "mode": "TFIDF", "weights": weights})
    np.testing.assert_array_equal(y, counts * weights)
    (y,) = run_node("TfIdfVectorizer", [tokens], {**BASE, "mode": "IDF", "weights": weights})
    np.testing.assert_array_equal(y, (counts > 0) * weights)


def test_strings() -> None:
    attributes = {k: v for k, v in BASE.items() if k != "pool_int64s"}
    attributes["pool_strings"] = [f"t{token}" for token in POOL]
    tokens = np.array([f"t{token}" for token in TOKENS], object)
    (y,) = run_node("TfIdfVectorizer", [tokens], attributes)
    np.testing.assert_array_equal(y, expected_counts(TOKENS, BASE))


def test_empty_and_wrong_pools() -> None:
    (y,) = run_node("TfIdfVectorizer", [np.zeros((2, 0), np.int64)], BASE)
    np.testing.assert_array_equal(y, np.zeros((2, 7)))
    for wrong in [{"ngram_counts": [0, 3, 8]}, {"ngram_indexes": [0]}, {"mode": "TI"}]:
        with pytest.raises(Exception, match=r"ngram_counts|ngram_indexes|mode"):
            run_node("TfIdfVectorizer", [np.array(TOKENS)], {**BASE, **wrong})


@pytest.mark.parametrize("index", [2**63 - 1, 2**63 - 2, 2**48])
def test_indexes_that_no_result_has(index: int) -> None:
    """The number of elements, one more, was 0 by overflow, and counts went past the end."""
    indexes = [*BASE["ngram_indexes"][:-1], index]
    with pytest.raises(Exception, match="ngram_indexes"):
        run_node("TfIdfVectorizer", [np.array(TOKENS)], {**BASE, "ngram_indexes": indexes})


def test_any_number_of_skips() -> None:
    many = {**BASE, "max_skip_count": 2**63 - 1}
    (y,) = run_node("TfIdfVectorizer", [np.array(TOKENS)], many)
    (expected,) = run_node("TfIdfVectorizer", [np.array(TOKENS)], {**BASE, "max_skip_count": 1000})
    np.testing.assert_array_equal(y, expected)
