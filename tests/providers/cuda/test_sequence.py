# SPDX-License-Identifier: Apache-2.0
"""Operators on sequences, on the emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.providers.cuda.test_movement import normal
from tests.support import cuda_emulation
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

ITEMS = [normal(2, 3), normal(4, 3), normal(1, 3)]


def check(found: Any, expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert np.array_equal(a, b)


def test_construct() -> None:
    check(run_node("SequenceConstruct", ITEMS)[0], ITEMS)
    assert run_node("SequenceEmpty", [])[0] == []


def test_insert_and_erase() -> None:
    new = normal(5)
    for position in (None, 0, 3, -1):
        at = 3 if position is None else position
        expected = [*ITEMS]
        expected.insert(at, new)
        given = None if position is None else np.array(position)
        check(run_node("SequenceInsert", [ITEMS, new, given])[0], expected)
    check(run_node("SequenceErase", [ITEMS, np.array(-3)])[0], ITEMS[1:])
    check(run_node("SequenceErase", [ITEMS])[0], ITEMS[:2])


def test_access() -> None:
    check(run_node("SequenceAt", [ITEMS, np.array(-2)]), ITEMS[1:2])
    assert run_node("SequenceLength", [ITEMS])[0] == 3
    with pytest.raises(Exception, match="sequence of size"):
        run_node("SequenceAt", [ITEMS, np.array(3)])


def test_split_and_concat() -> None:
    x = normal(4, 5)
    check(
        run_node("SplitToSequence", [x, np.array(2)], {"axis": 1})[0],
        [x[:, :2], x[:, 2:4], x[:, 4:]],
    )
    check(run_node("SplitToSequence", [x, np.array([1, 3])], {"axis": 0})[0], [x[:1], x[1:]])
    check(run_node("SplitToSequence", [x], {"axis": 0, "keepdims": 0})[0], list(x))
    check(run_node("ConcatFromSequence", [ITEMS], {"axis": 0}), [np.concatenate(ITEMS)])
    same_size = [normal(2, 3) for _ in range(3)]
    stacked = run_node("ConcatFromSequence", [same_size], {"axis": -1, "new_axis": 1})
    check(stacked, [np.stack(same_size, -1)])


def test_optional() -> None:
    assert run_node("OptionalHasElement", [ITEMS[0]])[0]
    check(run_node("OptionalGetElement", [ITEMS[0]]), ITEMS[:1])


def test_strings_stay_on_the_host() -> None:
    words = [np.array(["a", "b"], object)]
    with pytest.raises(NotImplementedError, match="strings"):
        run_node("SequenceAt", [words, np.array(0)])
