# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession, floats_on_cpu
from tests.support.decoders import Decoder

from .comparison import Array, feeds_of, model_of, session
from .searches import PROMPT, Wishes, check_search, float32, int32, one_by_one

PAD, EOS, LENGTH = 10, 9, 9
DECODER = Decoder(scale=0.3)
"""Its tokens are about equally probable."""

SETTINGS: list[dict[str, Any]] = [
    {"top_p": 0.5},
    {"top_p": 0.9, "temperature": 2.0},
    {"top_p": 0.2, "min_tokens_to_keep": 3},
    {"top_p": 0.8, "filter_value": -1.0},
    {"top_p": 0.9, "custom": 1},
    {"top_p": 0.3, "custom": 1, "no_repeat_ngram_size": 2},
]


class Drawing:
    """The draws of another runtime: two steps of a generator make a number of 53 bits."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.state = seed % (2**31 - 1) or 1
        self.top_p: float = settings["top_p"]
        self.kept: int = settings.get("min_tokens_to_keep", 0)
        self.filter: float = settings.get("filter_value", -1e20)
        self.custom = bool(settings.get("custom", 0))

    def uniform(self) -> float:
        total, factor = 0.0, 1.0
        for _ in range(2):
            self.state = self.state * 16807 % (2**31 - 1)
            total += (self.state - 1) * factor
            factor *= 2**31 - 2
        return total / factor

    def choose(self, scores: Array) -> Array:
        return np.array([self.token(row) for row in scores])

    def token(self, row: Array) -> int:
        order = np.argsort(row)
        if self.custom:
            order = order[::-1]
        weights = np.exp(row[order] - row.max())
        sums = np.cumsum(weights / weights.sum())
        if self.custom:
            dropped = order[1:][sums[:-1] > self.top_p]
        else:
            low = sums <= 1 - self.top_p
            dropped = order[: len(row) - self.kept][low[: len(row) - self.kept]]
        row = row.copy()
        row[dropped] = self.filter
        sums = np.cumsum(np.exp(row - row.max()))
        return int((sums <= self.uniform() * sums[-1]).sum())


def attributes(**others: Any) -> dict[str, Any]:
    return {
        "decoder": DECODER.graph(),
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "top_p": 0.7,
        **others,
    }


def inputs_of(seed: int | None, *others: Array | None) -> list[Any]:
    optional = [*others, *[None] * (6 - len(others))]
    last = [] if seed is None else [int32([seed])]
    return [PROMPT, int32([LENGTH]), *optional, *last]


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1])
@pytest.mark.parametrize("settings", SETTINGS)
def test_sampling(settings: dict[str, Any], seed: int) -> None:
    wishes = Wishes(
        EOS, settings.get("no_repeat_ngram_size", 0), temperature=settings.get("temperature", 1.0)
    )
    choose = Drawing(seed, **settings).choose
    expected = one_by_one(DECODER, PROMPT, LENGTH, wishes, PAD, choose=choose)
    check_search("Sampling", inputs_of(seed), attributes(**settings), expected)


def test_wishes_of_all_kinds() -> None:
    words, mask = int32([1] * 9 + [1, 0]), int32([[1, 0, 1], [1, 1, 1], [0, 1, 1]])
    first = int32([[1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]] * 3)
    wishes = Wishes(EOS, 0, 1.3, 7, words, first, 1.5)
    choose = Drawing(3, top_p=0.9).choose
    expected = one_by_one(DECODER, PROMPT, LENGTH, wishes, PAD, mask, choose)
    inputs = inputs_of(3, int32([7]), float32(1.3), words, first, mask)
    made = attributes(top_p=0.9, temperature=1.5)
    check_search("Sampling", inputs, made, expected, constants=(2, 8))


def test_without_a_seed_runs_differ() -> None:
    made = session(model_of("Sampling", inputs_of(None), attributes(top_p=0.99, temperature=9.0)))
    runs = {made.run(None, feeds_of(inputs_of(None)))[0].tobytes() for _ in range(8)}
    assert len(runs) > 1


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_on_the_device() -> None:
    content = model_of("Sampling", inputs_of(4), attributes()).SerializeToString()
    made = EmulatedSession(content)
    assert not floats_on_cpu(made)
    [expected] = bascule.InferenceSession(content).run(None, feeds_of(inputs_of(4)))
    [found] = made.run(None, feeds_of(inputs_of(4)))
    np.testing.assert_array_equal(found, expected)


def test_what_is_not_supported_is_named() -> None:
    inputs = [*inputs_of(4)[:7], int32(np.zeros((3, 11))), int32([4])]
    with pytest.raises(NotSupported, match=r"presence_penalty = 0\.5"):
        session(model_of("Sampling", inputs, attributes(presence_penalty=0.5)))
    session(model_of("Sampling", inputs, attributes()))
    with pytest.raises(NotSupported, match="filtered_logits"):
        session(model_of("Sampling", inputs_of(4), attributes(), 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "'temperature' is 0.0, expected more than 0"),
        ({"min_tokens_to_keep": -1}, "'min_tokens_to_keep' is -1"),
        ({"custom": 2}, "'custom' is 2"),
    ],
)
def test_wrong_attributes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("Sampling", inputs_of(4), attributes(**wrong)))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InvalidGraph, match="'seed' is -2"):
        session(model_of("Sampling", inputs_of(-2), attributes(), constants=(8,)))
