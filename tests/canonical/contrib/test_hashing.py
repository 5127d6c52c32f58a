# SPDX-License-Identifier: Apache-2.0
"""MurmurHash3, against the algorithm in Python's integers and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import Fail, InvalidGraph
from tests.support.cuda_session import EmulatedSession
from tests.support.native import run_node

from .comparison import Array, Level, model_of, run_elsewhere, session

_MASK = 0xFFFFFFFF


def _rotated(word: int, count: int) -> int:
    return (word << count | word >> 32 - count) & _MASK


def _scrambled(word: int) -> int:
    return _rotated(word * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK


def murmur_hash3(data: bytes, seed: int) -> int:
    whole = len(data) // 4 * 4
    state = seed
    for start in range(0, whole, 4):
        state ^= _scrambled(int.from_bytes(data[start : start + 4], "little"))
        state = (_rotated(state, 13) * 5 + 0xE6546B64) & _MASK
    state ^= _scrambled(int.from_bytes(data[whole:], "little")) ^ len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & _MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & _MASK
    return state ^ state >> 16


def _reference(x: Array, seed: int, positive: int) -> Array:
    data = [each.encode() if isinstance(each, str) else each.tobytes() for each in x.flat]
    hashes = np.array([murmur_hash3(each, seed) for each in data], np.uint32)
    return hashes.view(np.uint32 if positive else np.int32).reshape(x.shape)


def test_published_values() -> None:
    texts = np.array(["", "hello", "hello, world", "The quick brown fox jumps over the lazy dog"])
    (found,) = run_node("MurmurHash3", [texts.astype(object)], domain="com.microsoft")
    assert found.tolist() == [0, 0x248BFA47, 0x149BBB7F, 0x2E4FF723]


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", [0, 7, _MASK])
@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8", "f4", "f8", "object"])
def test_hashes(dtype: str, seed: int, positive: int) -> None:
    generator = np.random.default_rng(3)
    if dtype == "object":
        letters = list("aZ ß中😀")
        x = np.array(
            ["".join(generator.choice(letters, size)) for size in range(12)] * 2, object
        ).reshape(4, 6)
    else:
        x = generator.bytes(24 * np.dtype(dtype).itemsize)
        x = np.frombuffer(x, dtype).reshape(2, 3, 4)
    attributes = {"seed": seed, "positive": positive}
    expected = _reference(x, seed, positive)
    for shapes in ("static", "unknown"):
        model = model_of("MurmurHash3", [x], attributes, shapes=shapes)
        if shapes == "static":
            others = run_elsewhere(model, {"in0": x})
        runs = [session(model, level) for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL)]
        runs.append(EmulatedSession(model.SerializeToString()))
        for run in runs:
            (found,) = run.run(None, {"in0": x})
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
            assert run.get_outputs()[0].type == f"tensor({expected.dtype})"
    if others is not None:
        np.testing.assert_array_equal(others[0], expected)


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_of_a_scalar_and_of_nothing(shape: tuple[int, ...]) -> None:
    for x in (np.ones(shape, np.float32), np.full(shape, "word", object)):
        (found,) = session(model_of("MurmurHash3", [x])).run(None, {"in0": x})
        assert found.shape == shape
        np.testing.assert_array_equal(found, _reference(x, 0, 1))


def test_bad_nodes() -> None:
    x = np.ones(2, np.float32)
    cases: list[tuple[list[Any], dict[str, Any], str]] = [
        ([], {}, "input 0 is missing"),
        ([x, x], {}, "2 inputs are more than 1"),
        ([x], {"seed": 1.5}, "'seed' is not an integer"),
        ([x], {"other": 1}, "'other' is unknown"),
    ]
    for inputs, attributes, message in cases:
        with pytest.raises(InvalidGraph, match=message):
            session(model_of("MurmurHash3", inputs, attributes))
    bad = x.astype(np.float16)
    with pytest.raises(Fail, match="type float16; expected strings or numbers of 32 or 64 bits"):
        session(model_of("MurmurHash3", [bad])).run(None, {"in0": bad})
