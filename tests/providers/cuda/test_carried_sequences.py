# SPDX-License-Identifier: Apache-2.0
"""Loops and branches that hand on sequences and optional values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import bascule
from tests.providers.cuda.against_cpu import normal
from tests.support import cuda_emulation
from tests.support.cuda_session import EmulatedSession, floats_on_cpu

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

GROWING = """
g (int64 trips, float[2,3] x, float[3] w) => (seq(float[2,3]) items, float[2,3] last) {
  none = SequenceEmpty()
  go = Constant<value = bool {1}>()
  items, last = Loop(trips, go, none, x) <body = b
    (int64 i, bool on, seq(float[2,3]) before, float[2,3] y) =>
    (bool again, seq(float[2,3]) after, float[2,3] z) {
      again = Identity(on)
      half = Mul(y, w)
      z = Add(half, y)
      shown = Tanh(z)
      after = SequenceInsert(before, shown)
    }>
}
"""
KEPT = """
g (int64 trips, seq(float[N]) given, bool front) => (float[M] y, int64 count) {
  go = Constant<value = bool {1}>()
  moved = Loop(trips, go, given) <body = b
    (int64 i, bool on, seq(float[N]) before) => (bool again, seq(float[N]) after) {
      again = Identity(on)
      zero = Constant<value = int64 {0}>()
      first = SequenceAt(before, zero)
      rest = SequenceErase(before, zero)
      twice = Add(first, first)
      after = If(front) <
        then_branch = t () => (seq(float[N]) a) { a = SequenceInsert(rest, twice, zero) },
        else_branch = e () => (seq(float[N]) a) { a = SequenceInsert(rest, twice) }>
    }>
  y = ConcatFromSequence<axis = 0>(moved)
  count = SequenceLength(moved)
}
"""
TEXT = """
g (int64 trips, string[N] words) => (seq(string[N]) items) {
  none = SequenceEmpty<dtype = 8>()
  go = Constant<value = bool {1}>()
  items = Loop(trips, go, none) <body = b
    (int64 i, bool on, seq(string[N]) before) => (bool again, seq(string[N]) after) {
      again = Identity(on)
      after = SequenceInsert(before, words)
    }>
}
"""
PERHAPS = """
g (bool given, float[N] x) => (float[N] y) {
  held = If(given) <
    then_branch = t () => (optional(float[N]) a) { s = Sqrt(x) a = Optional(s) },
    else_branch = e () => (optional(float[N]) a) { a = Optional<type = float[N]>() }>
  has = OptionalHasElement(held)
  y = If(has) <
    then_branch = u () => (float[N] b) { b = OptionalGetElement(held) },
    else_branch = f () => (float[N] b) { b = Neg(x) }>
}
"""


def sessions(text: str) -> tuple[EmulatedSession, bascule.InferenceSession]:
    source = f'<ir_version: 10, opset_import: ["" : 21]> {text}'
    data = onnx.parser.parse_model(source).SerializeToString()
    return EmulatedSession(data), bascule.InferenceSession(data)


def agree(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            agree(one, other)
    elif expected.dtype == np.float32:
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


def test_a_sequence_that_a_loop_fills() -> None:
    ours, cpu = sessions(GROWING)
    assert floats_on_cpu(ours) == []
    kept = []
    for seed, trips in enumerate((3, 3, 3, 5, 0, 3)):
        feeds = {
            "trips": np.array(trips),
            "x": normal(2, 3, seed=seed),
            "w": normal(3, seed=9 + seed),
        }
        kept.append((ours.run(None, feeds), cpu.run(None, feeds)))
    for found, expected in kept:  # nor did a later run change what an earlier one gave
        agree(found, expected)


def test_a_sequence_that_is_fed_and_changes_in_branches() -> None:
    ours, cpu = sessions(KEPT)
    assert floats_on_cpu(ours) == []
    for seed, front in enumerate((True, False, True, False)):
        items = [normal(size, seed=seed + size) for size in (4, 1, 3)]
        feeds = {"trips": np.array(4), "given": items, "front": np.array(front)}
        agree(ours.run(None, feeds), cpu.run(None, feeds))
        agree(feeds["given"], [normal(size, seed=seed + size) for size in (4, 1, 3)])


def test_text_in_a_sequence_that_a_loop_fills() -> None:
    ours, cpu = sessions(TEXT)
    for trips in (2, 0, 3):
        feeds = {"trips": np.array(trips), "words": np.array(["a", "bc"], object)}
        agree(ours.run(None, feeds), cpu.run(None, feeds))


def test_a_sequence_that_is_handed_on_belongs_to_the_caller() -> None:
    ours, _ = sessions("""g (int64 trips, seq(float[N]) given) => (
        seq(float[N]) given, seq(float[N]) moved, seq(float[N]) same) {
      go = Constant<value = bool {1}>()
      same = Identity(given)
      moved = Loop(trips, go, given) <body = b
        (int64 i, bool on, seq(float[N]) before) => (bool again, seq(float[N]) after) {
          again = Identity(on)
          after = SequenceErase(before) }>
    }""")
    given = [normal(2), normal(3)]
    results = ours.run(None, {"trips": np.array(0), "given": given})
    arrays = [each for result in (given, *results) for each in result]
    for index, one in enumerate(arrays):
        np.testing.assert_array_equal(one, given[index % 2])
        assert not any(np.shares_memory(one, other) for other in arrays[:index])


def test_an_optional_that_a_branch_gives() -> None:
    ours, cpu = sessions(PERHAPS)
    assert floats_on_cpu(ours) == []
    for given in (True, False, True):
        feeds = {"given": np.array(given), "x": np.abs(normal(5))}
        agree(ours.run(None, feeds), cpu.run(None, feeds))


def test_errors_in_a_loop_name_the_node() -> None:
    ours, _ = sessions(KEPT)
    feeds = {"trips": np.array(1), "given": [], "front": np.array(True)}
    with pytest.raises(Exception, match="Invalid sequence index"):
        ours.run(None, feeds)
    feeds["given"] = [normal(2)]
    assert ours.run(None, feeds)[1] == 1
