# SPDX-License-Identifier: Apache-2.0
"""Searches over a tiny decoder, run in every way, against one that NumPy computes in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.support.decoders import Decoder

from .comparison import Array, Level, feeds_of, model_of, run_elsewhere, session

LOWEST = np.finfo(np.float32).min


WAYS = (
    *((kind, Level.ORT_ENABLE_ALL) for kind in ("static", "symbolic", "unknown")),
    *((kind, Level.ORT_DISABLE_ALL) for kind in ("static", "symbolic")),
)


@functools.lru_cache(maxsize=len(WAYS))
def kept_session(content: bytes, level: Level) -> Any:
    """A session for all cases in a row that only feed their model other numbers."""
    return session(onnx.ModelProto.FromString(content), level)


def int32(values: Any) -> Array:
    return np.array(values, dtype=np.int32)


def float32(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


PROMPT = int32([[1, 2, 3], [4, 5, 10], [10, 10, 7]])
"""With padding, token 10, at either end."""


@dataclass
class Told:
    """What a decoder is told of tokens, padding included."""

    ids: Array
    pad: int
    mask: Array | None = None
    positions: Array = field(init=False)
    steps: int = 0

    def __post_init__(self) -> None:
        is_token = self.ids != self.pad
        self.positions = np.where(is_token, np.cumsum(is_token, 1) - 1, 0)
        self.lengths = is_token.sum(1)
        if self.mask is None:
            self.mask = is_token.astype(int)

    def follow(self, tokens: Array, rows: Array | slice = slice(None)) -> None:
        assert self.mask is not None
        last = (self.lengths + self.steps)[:, None]
        self.ids = np.hstack([self.ids[rows], tokens[:, None]])
        self.positions = np.hstack([self.positions[rows], last])
        self.mask = np.hstack([self.mask[rows], np.ones_like(last)])
        self.steps += 1


@dataclass
class Wishes:
    """What the inputs and attributes say of scores."""

    eos: int
    ngram: int = 0
    penalty: float = 1.0
    shortest: int = 0
    vocabulary: Array | None = None
    first: Array | None = None
    temperature: float = 1.0

    def apply(self, scores: Array, ids: Array, is_first: bool) -> Array:
        scores = scores.copy()
        for own, row in zip(scores, ids):
            said = np.unique(row)
            own[said] *= np.where(own[said] < 0, self.penalty, 1 / self.penalty)
            if self.ngram:
                last = row[len(row) - self.ngram + 1 :].tolist()
                for start in range(len(row) - self.ngram + 1):
                    *head, end = row[start : start + self.ngram].tolist()
                    own[end] = LOWEST if head == last else own[end]
        if self.vocabulary is not None:
            scores[:, self.vocabulary == 0] = LOWEST
        if self.first is not None and is_first:
            scores[self.first == 0] = LOWEST
        if ids.shape[1] < self.shortest:
            scores[:, self.eos] = LOWEST
        return scores / self.temperature


Choose = Callable[[Array], Array]


def one_by_one(
    decoder: Decoder,
    ids: Array,
    length: int,
    wishes: Wishes,
    pad: int,
    mask: Array | None = None,
    choose: Choose = lambda scores: scores.argmax(1),
) -> Array:
    told, ended = Told(ids, pad, mask), np.zeros(len(ids), bool)
    while told.ids.shape[1] < length and not ended.all():
        scores = decoder.scores(told.ids, told.positions, told.mask)
        tokens = choose(wishes.apply(scores, told.ids, not told.steps))
        ended |= tokens == wishes.eos
        told.follow(np.where(ended, pad, tokens))
    missing = length - told.ids.shape[1]
    return int32(np.pad(told.ids, ((0, 0), (0, missing)), constant_values=pad))


def check_search(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: dict[str, Any],
    expected: Array,
    constants: Sequence[int] = (),
    written: int | None = None,
) -> None:
    """Every way to run the search gives `expected`; the other runtime does in `written` columns.

    What it has behind the column in which the last row ends was never written.
    """
    feeds = feeds_of(inputs, constants)
    for kind, level in WAYS:
        model = model_of(op_type, inputs, attributes, shapes=kind, constants=constants)
        [found] = kept_session(model.SerializeToString(), level).run(None, feeds)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected, err_msg=f"{kind} {level.name}")
    others = run_elsewhere(model, feeds)
    if others is not None:
        np.testing.assert_array_equal(expected[..., :written], others[0][..., :written])
