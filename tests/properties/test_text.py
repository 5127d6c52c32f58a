# SPDX-License-Identifier: Apache-2.0
"""Operators on strings of any letters.

Oracle: Python's strings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import assert_exact
from tests.properties.running import run
from tests.properties.strategies import Array, Shape, broadcast_shapes, setups, shapes

LETTERS = "aBzÄéñΩдЖ日😀 ,-"
"""Each with one lower and one upper case at most."""
WORDS = st.one_of(
    st.text(LETTERS, max_size=6),
    st.sampled_from(["", " ", "a rather long text that is on the heap, no doubt", "a--b---c"]),
)


@st.composite
def texts(draw: st.DrawFn, shape: Shape, words: Any = WORDS) -> Array:
    count = int(np.prod(shape))
    pool = draw(st.lists(words, min_size=1, max_size=6))
    chosen = [pool[draw(st.integers(0, len(pool) - 1))] for _ in range(min(count, 8))]
    array = np.empty(count, object)
    for index in range(count):
        array[index] = chosen[index % len(chosen)]
    return array.reshape(shape)


@given(st.data())
def test_concat(data: st.DataObject) -> None:
    one, other = data.draw(broadcast_shapes(2, limit=60))
    a, b = data.draw(texts(one)), data.draw(texts(other))
    [y] = run("StringConcat", [a, b], {}, data.draw(setups(2)))
    assert_exact(y, np.asarray(a + b, dtype=object))


@given(st.data())
def test_split(data: st.DataObject) -> None:
    x = data.draw(texts(data.draw(shapes(most=4, limit=40))))
    delimiter = data.draw(st.sampled_from([None, "", " ", ",", "--", "a", "日"]))
    most = data.draw(st.sampled_from([None, 0, 1, 2, 7]))
    attributes: dict[str, Any] = {"delimiter": delimiter, "maxsplit": most}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    parts, counts = run("StringSplit", [x], attributes, data.draw(setups(1)), (True, True))
    limit = -1 if most is None else most
    split = [t.split(delimiter or None, limit) if t else [] for t in x.reshape(-1)]
    width = max(map(len, split), default=0)
    expected = np.empty((len(split), width), object)
    for row, words in zip(expected, split):
        row[:] = words + [""] * (width - len(words))
    assert_exact(parts, expected.reshape(*x.shape, width))
    assert_exact(counts, np.array([len(words) for words in split], np.int64).reshape(x.shape))


CASES = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


@given(st.data(), st.sampled_from(sorted(CASES)), st.booleans(), st.lists(WORDS, max_size=3))
def test_normalizer(
    data: st.DataObject, action: str, sensitive: bool, stopwords: list[str]
) -> None:
    count = data.draw(st.integers(0, 12))
    row = data.draw(st.booleans())
    x = data.draw(texts((1, count) if row else (count,)))
    if count and data.draw(st.booleans()):
        stopwords = [*stopwords, x.reshape(-1)[0].swapcase()]
    attributes: dict[str, Any] = {"case_change_action": action}
    attributes["is_case_sensitive"] = int(sensitive)
    if stopwords:
        attributes["stopwords"] = stopwords
    [y] = run("StringNormalizer", [x], attributes, data.draw(setups(1)))
    same = str if sensitive else str.lower
    stops = {same(word) for word in stopwords}
    kept = [CASES[action](word) for word in x.reshape(-1) if same(word) not in stops] or [""]
    expected = np.empty(len(kept), object)
    expected[:] = kept
    assert_exact(y, expected[None] if row else expected)


@st.composite
def gram_pools(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], dict[str, Any]]:
    """Different n-grams of the numbers 0 to 3, in order of length, and the attributes."""
    longest = draw(st.integers(1, 3))
    grams, starts, pool = [], [], []
    for length in range(1, longest + 1):
        starts.append(len(pool))
        gram = st.tuples(*[st.integers(0, 3)] * length)
        for one in draw(st.lists(gram, max_size=4, unique=True, min_size=length == longest)):
            grams.append(one)
            pool += one
    least = draw(st.integers(1, longest))
    places = list(draw(st.permutations(range(len(grams)))))
    attributes: dict[str, Any] = {
        "min_gram_length": least,
        "max_gram_length": draw(st.integers(least, longest)),
        "max_skip_count": draw(st.sampled_from([0, 1, 5])),
        "mode": draw(st.sampled_from(["TF", "IDF", "TFIDF"])),
        "ngram_counts": starts,
        "ngram_indexes": places,
        "pool": pool,
    }
    if draw(st.booleans()):
        attributes["weights"] = [0.5 + place for place in range(len(grams))]
    return grams, attributes


def scores(tokens: list[int], grams: list[tuple[int, ...]], attributes: dict[str, Any]) -> Array:
    """Of one row."""
    counts = np.zeros(max(attributes["ngram_indexes"]) + 1, np.float32)
    # Weights are those of columns, as runtimes and converters have it.
    weights = np.array(attributes.get("weights", np.ones_like(counts)), np.float32)
    for place, index in enumerate(attributes["ngram_indexes"]):
        gram, length = grams[place], len(grams[place])
        if not attributes["min_gram_length"] <= length <= attributes["max_gram_length"]:
            continue
        farthest = attributes["max_skip_count"] + 1 if length > 1 else 1
        for step in range(1, farthest + 1):
            for start in range(len(tokens) - (length - 1) * step):
                found = tokens[start : start + (length - 1) * step + 1 : step]
                counts[index] += tuple(found) == gram
    if attributes["mode"] == "TF":
        return counts
    return weights * (counts > 0) if attributes["mode"] == "IDF" else weights * counts


@given(gram_pools(), st.sampled_from([np.int64, np.int32, object]), st.data())
def test_tf_idf(
    drawn: tuple[list[tuple[int, ...]], dict[str, Any]], dtype: Any, data: st.DataObject
) -> None:
    grams, attributes = drawn
    count = data.draw(st.integers(0, 9))
    rows = data.draw(st.sampled_from([None, 1, 3]))
    shape = (count,) if rows is None else (rows, count)
    seed = data.draw(st.integers(0, 999))
    tokens = np.random.default_rng(seed).integers(0, 4, shape)
    told = {name: value for name, value in attributes.items() if name != "pool"}
    if dtype is object:
        words = np.array(["ä", "b", "", "a long word that is on the heap"], object)
        x, told["pool_strings"] = words[tokens], [words[one] for one in attributes["pool"]]
    else:
        x, told["pool_int64s"] = tokens.astype(dtype), attributes["pool"]
    [y] = run("TfIdfVectorizer", [x], told, data.draw(setups(1)))
    lines = [scores(list(line), grams, attributes) for line in tokens.reshape(rows or 1, count)]
    assert_exact(y, np.array(lines[0] if rows is None else lines, np.float32))
