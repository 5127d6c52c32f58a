# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, check, feeds_of, model_of, session


def reference(
    least: int, most: int, source: Array, current: Array, start: Array, predicted: Array | None
) -> list[Array]:
    tokens = current.tolist()
    words = source.tolist()
    if predicted is not None:
        said, rest = predicted.tolist(), words[int(start[0]) :]
        same = 0
        while same < len(rest) and said[same] == rest[same]:
            same += 1
        tokens += said[: same + 1]
    place = -1
    for size in range(least, most + 1):
        places = [
            index + size
            for index in range(len(words) - size + 1)
            if size <= len(tokens) and words[index : index + size] == tokens[-size:]
        ]
        if not places:
            break
        place = places[0] if len(places) == 1 else -1
        if places[0] >= len(words):
            break
    return [np.array(tokens, dtype=np.int64), np.array([place], dtype=np.int64)]


def inputs_of(seed: int, length: int, predicts: bool) -> list[Any]:
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 3, length)
    start = int(rng.integers(0, length + 1))
    predicted = np.append(source[start:], rng.integers(0, 3))
    if seed % 2:
        predicted[rng.integers(len(predicted))] = 2
    current = rng.integers(0, 3, seed % 4)
    return [source, current, np.array([start]), predicted if predicts else None]


@pytest.mark.parametrize("predicts", [False, True])
@pytest.mark.parametrize("length", [0, 1, 4, 9])
@pytest.mark.parametrize(("least", "most"), [(1, 3), (2, 2), (1, 1)])
def test_bifurcation_detector(least: int, most: int, length: int, predicts: bool) -> None:
    for seed in range(4):
        check(
            "BifurcationDetector",
            lambda *inputs: reference(least, most, *inputs),
            inputs_of(seed, length, predicts),
            {"min_ngram_size": least, "max_ngram_size": most},
            outputs=2,
            dtypes=[np.float32],
            shapes=["static", "unknown"] if seed % 2 else ["symbolic"],
        )


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_on_the_device() -> None:
    inputs = inputs_of(3, 9, predicts=True)
    content = model_of("BifurcationDetector", inputs, outputs=2).SerializeToString()
    expected = bascule.InferenceSession(content).run(None, feeds_of(inputs))
    found = EmulatedSession(content).run(None, feeds_of(inputs))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_sizes_are_refused() -> None:
    inputs = inputs_of(3, 9, predicts=True)
    for sizes in ({"min_ngram_size": 0}, {"min_ngram_size": 4}):
        with pytest.raises(InvalidGraph, match="min_ngram_size"):
            session(model_of("BifurcationDetector", inputs, sizes, 2))
    with pytest.raises(NotSupported, match="an n-gram of 65 tokens"):
        session(model_of("BifurcationDetector", inputs, {"max_ngram_size": 65}, 2))
