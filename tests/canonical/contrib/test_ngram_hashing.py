# SPDX-License-Identifier: Apache-2.0
"""Numbers of n-grams, token by token in Python's integers, and beside onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, Level, model_of, run_elsewhere, session


def _wrapped(number: int, bits: int) -> int:
    return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def _of_one(
    tokens: list[int], past: list[int] | None, segments: list[int] | None, given: dict[str, Any]
) -> list[list[int]]:
    """The numbers of one sequence; `segments` go with the past and the tokens."""
    bits, size, heads = given["bits"], given["max_ngram_size"], given["n_head_per_ngram"]
    eos = given["eos"]
    fill = given["pad_id"] if eos is None else eos
    before = size - 1
    row = (past or [fill] * before) + tokens
    rows = []
    for place in range(before, len(row)):
        seen, hidden = [row[place]], False
        for back in range(1, size):
            token = row[place - back]
            hidden |= bool(given["reset_on_eos"]) and eos is not None and token == eos
            hidden |= segments is not None and segments[place - back] != segments[place - back + 1]
            seen.append(fill if hidden else token)
        mix, numbers = 0, []
        for index, token in enumerate(seen):
            mix ^= _wrapped(token * given["multipliers"][index], bits)
            for head in range(heads) if index else ():
                place_of_head = (index - 1) * heads + head
                number = mix % given["sizes"][place_of_head] + given["offsets"][place_of_head]
                numbers.append(_wrapped(number, bits))
        rows.append(numbers)
    return rows


def _material(seed: int, dtype: str) -> tuple[np.random.Generator, dict[str, Any], int, int]:
    generator = np.random.default_rng(seed)
    size, heads = (int(each) for each in generator.integers((2, 1), (6, 4)))
    bits = np.dtype(dtype).itemsize * 8
    count = (size - 1) * heads
    given: dict[str, Any] = {
        "bits": bits,
        "max_ngram_size": size,
        "n_head_per_ngram": heads,
        "pad_id": int(generator.integers(-1, 4)),
        "reset_on_eos": int(generator.integers(0, 2)),
        "eos": 3 if seed % 3 else None,
        "multipliers": generator.integers(-(2 ** (bits - 2)), 2 ** (bits - 2), size).tolist(),
        "sizes": generator.integers(1, 50, count).tolist(),
        "offsets": generator.integers(0, 99, count).tolist() if seed % 2 else [0] * count,
    }
    return generator, given, size, count


def _check(op_type: str, inputs: list[Any], given: dict[str, Any], expected: list[Any]) -> None:
    attributes = {
        name: given[name] for name in ("max_ngram_size", "n_head_per_ngram", "pad_id")
    } | {name: given[name] for name in ("reset_on_eos", "state_update_capacity") if name in given}
    while inputs[-1] is None:
        inputs.pop()
    feeds = {f"in{index}": value for index, value in enumerate(inputs) if value is not None}
    for shapes in ("static", "unknown"):
        model = model_of(op_type, inputs, attributes, len(expected), shapes)
        runs = [session(model, level) for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL)]
        found = [each.run(None, feeds) for each in runs]
        if shapes == "static":
            found.append(EmulatedSession(model.SerializeToString()).run(None, feeds))
            others = run_elsewhere(model, feeds)
            found += [] if others is None else [others]
        for outputs in found:
            for array, wanted in zip(outputs, expected, strict=True):
                assert array.dtype == wanted.dtype
                np.testing.assert_array_equal(array, wanted)


def _common(given: dict[str, Any], dtype: str) -> tuple[Array, Array, Array | None, Any]:
    offsets = np.array(given["offsets"], dtype) if any(given["offsets"]) else None
    eos = None if given["eos"] is None else np.array(given["eos"], dtype)
    return np.array(given["multipliers"], dtype), np.array(given["sizes"], dtype), offsets, eos


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("seed", range(6))
def test_rows(seed: int, dtype: str) -> None:
    generator, given, size, _count = _material(seed, dtype)
    ids = generator.integers(-3, 6, (2, 7)).astype(dtype)
    past = generator.integers(0, 6, (2, size - 1)).astype(dtype) if seed % 4 > 1 else None
    segments = np.sort(generator.integers(0, 3, (2, 7)), axis=1) if seed % 2 else None
    rows = []
    for index, tokens in enumerate(ids.tolist()):
        own = None if past is None else past[index].tolist()
        kinds = None
        if segments is not None:
            kinds = [int(segments[index, 0])] * (size - 1) + segments[index].tolist()
        rows.append(_of_one(tokens, own, kinds, given))
    fill = given["pad_id"] if given["eos"] is None else given["eos"]
    before = np.full((2, size - 1), fill, dtype) if past is None else past
    present = np.concatenate([before, ids], axis=1)[:, 1 - size :]
    multipliers, sizes, offsets, eos = _common(given, dtype)
    kinds_of = None if segments is None else segments.astype(np.int32)
    inputs = [ids, multipliers, sizes, past, offsets, eos, kinds_of]
    _check("NGramHashMapping", inputs, given, [np.array(rows, dtype), present])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("seed", range(8))
def test_packed(seed: int, dtype: str) -> None:
    generator, given, size, _ = _material(seed, dtype)
    before, lengths = size - 1, generator.integers(1, 7, 3)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = generator.integers(-3, 6, bounds[-1]).astype(dtype)
    past = generator.integers(0, 6, (3, before)).astype(dtype) if seed % 4 > 1 else None
    segments = generator.integers(0, 2, bounds[-1]).astype(np.int32) if seed > 2 else None
    past_segments = None
    if segments is not None and seed % 2:
        past_segments = generator.integers(0, 2, (3, before)).astype(np.int32)
    capacity = 4 if seed > 4 else 0
    counts = np.array([2, 9, -1], np.int32) if capacity else None
    given["state_update_capacity"] = capacity
    fill = given["pad_id"] if given["eos"] is None else given["eos"]
    hashes, present, present_segments = [], [], []
    updates = np.full((3, capacity, before), given["pad_id"], dtype)
    for index, (start, end) in enumerate(itertools.pairwise(bounds)):
        tokens = ids[start:end].tolist()
        own = None if past is None else past[index].tolist()
        kinds = None
        if segments is not None:
            kinds = segments[start:end].tolist()
            own_kinds = None if past_segments is None else past_segments[index].tolist()
            kinds = (own_kinds or kinds[:1] * before) + kinds
            present_segments.append(kinds[-before:])
        hashes += _of_one(tokens, own, kinds, given)
        row = (own or [fill] * before) + tokens
        present.append(row[-before:])
        for step in range(
            min(int(counts[index]), len(tokens), capacity) if counts is not None else 0
        ):
            updates[index, step] = row[step + 1 : step + size]
    expected = [np.array(hashes, dtype), np.array(present, dtype)]
    expected += [np.array(present_segments, np.int32)] if segments is not None else []
    expected += [updates] if capacity else []
    multipliers, sizes, offsets, eos = _common(given, dtype)
    inputs = [ids, multipliers, sizes, bounds, past, offsets, eos]
    inputs += [segments, past_segments, counts]
    _check("VarlenNGramHashMapping", inputs, given, expected)


def test_bad_nodes() -> None:
    numbers = np.array([3, 5])
    rows = [np.array([[1, 2]]), numbers, numbers[:1]]
    good = {"max_ngram_size": 2, "n_head_per_ngram": 1, "pad_id": 0}
    for name, value, message in (
        ("max_ngram_size", 1, "'max_ngram_size' is 1"),
        ("n_head_per_ngram", 0, "'n_head_per_ngram' is 0"),
    ):
        with pytest.raises(InvalidGraph, match=message):
            session(model_of("NGramHashMapping", rows, {**good, name: value}, 2))
    with pytest.raises(NotSupported, match="n-gram of 99 tokens"):
        session(model_of("NGramHashMapping", rows, {**good, "max_ngram_size": 99}, 2))
    packed = [rows[0][0], numbers, numbers[:1], np.array([0, 2], np.int32)]
    with pytest.raises(InvalidGraph, match="'capture_count' and a 'state_up"):
        session(model_of("VarlenNGramHashMapping", packed, {**good, "state_update_capacity": 2}))
    with pytest.raises(InvalidGraph, match="'state_update_capacity' is 9"):
        session(model_of("VarlenNGramHashMapping", packed, {**good, "state_update_capacity": 9}))
    with pytest.raises(InvalidGraph, match="'past_segment_ids' is there without"):
        extra = [None, None, None, None, np.zeros((1, 1), np.int32)]
        session(model_of("VarlenNGramHashMapping", [*packed, *extra], good))
