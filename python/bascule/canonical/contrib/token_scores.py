# SPDX-License-Identifier: Apache-2.0
"""What searches do to the scores of the tokens that may follow, before they choose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.ngrams import block_repeated
from bascule.canonical.contrib.operator import ContribBuilder
from bascule.canonical.contrib.timestamps import Timestamps
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value

LOWEST = float(np.finfo(np.float32).min)
"""The score of a token that must not follow."""


@dataclass
class TokenScores:
    """The inputs and attributes of a search that say which tokens it likes.

    What does not change is computed before the loop, by `prepare`; `apply` is part of each step.
    """

    eos_token_id: int
    no_repeat_ngram_size: int = 0
    repetition_penalty: Value | None = None
    min_length: Value | None = None
    vocab_mask: Value | None = None
    prefix_vocab_mask: Value | None = None
    temperature: float | Value = 1.0
    timestamps: Timestamps | None = None
    end_of_sequence: Value | None = field(init=False, default=None)
    """Which of the tokens is the end, if there is a shortest length."""
    vocabulary: int = field(init=False, default=0)

    def prepare(self, build: ContribBuilder, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        if self.timestamps is not None:
            self.timestamps.check(build, vocabulary)
        if self.no_repeat_ngram_size < 0:
            raise build.invalid(
                f"attribute 'no_repeat_ngram_size' is {self.no_repeat_ngram_size}, "
                "expected no negative number"
            )
        if self.repetition_penalty is not None:
            self.repetition_penalty = _factor(build, "repetition_penalty", self.repetition_penalty)
        if isinstance(self.temperature, Value):
            self.temperature = _factor(build, "temperature", self.temperature) or 1.0
        shortest = known_constant(self.min_length)
        if self.min_length is not None and (shortest is None or shortest.max(initial=0) > 0):
            self.min_length = scalar(build, self.min_length)
            tokens = np.arange(vocabulary) == self.eos_token_id
            self.end_of_sequence = build.constant(tokens)
        zero = build.constant(np.array(0, dtype=np.int32))
        if self.vocab_mask is not None:
            build.expect_shape("vocab_mask", self.vocab_mask, (vocabulary,))
            self.vocab_mask = build.op("Equal", self.vocab_mask, zero)
        if self.prefix_vocab_mask is not None:
            build.expect_shape("prefix_vocab_mask", self.prefix_vocab_mask, (None, vocabulary))
            self.prefix_vocab_mask = build.op("Equal", self.prefix_vocab_mask, zero)

    def apply(
        self, build: ContribBuilder, scores: Value, sequences: Value, first: Value | bool
    ) -> Value:
        """`scores`, [rows, vocabulary], after `sequences`, [rows, length].

        `first` tells whether nothing was chosen yet, if need be by a scalar of the graph.
        """
        lowest = build.constant(np.array(LOWEST, dtype=np.float32))
        if self.repetition_penalty is not None:
            own = build.op("GatherElements", scores, sequences, axis=1)
            negative = build.op("Less", own, build.constant(np.array(0, dtype=np.float32)))
            own = build.op(
                "Where",
                negative,
                build.op("Mul", own, self.repetition_penalty),
                build.op("Div", own, self.repetition_penalty),
            )
            scores = build.op("ScatterElements", scores, sequences, own, axis=1)
        if self.no_repeat_ngram_size:
            scores = block_repeated(build, sequences, scores, self.no_repeat_ngram_size, lowest)
        blocked = self.vocab_mask
        if self.prefix_vocab_mask is not None and first is not False:
            prefix = self.prefix_vocab_mask
            if isinstance(first, Value):
                prefix = build.op("And", prefix, first)
            blocked = prefix if blocked is None else build.op("Or", blocked, prefix)
        if self.end_of_sequence is not None:
            length = build.op("Shape", sequences, start=1, end=2)
            early = build.op("And", self.end_of_sequence, build.op("Less", length, self.min_length))
            blocked = early if blocked is None else build.op("Or", blocked, early)
        if blocked is not None:
            scores = build.op("Where", blocked, lowest, scores)
        if self.temperature != 1:
            divisor = self.temperature
            if not isinstance(divisor, Value):
                divisor = build.constant(np.array(divisor, dtype=np.float32))
            scores = build.op("Div", scores, divisor)
        if self.timestamps is not None:
            scores = self.timestamps.apply(build, scores, sequences, lowest, self.vocabulary)
        return scores


def _factor(build: ContribBuilder, name: str, value: Value) -> Value | None:
    """A positive number that is an input, as float32 of rank 0; None where it changes nothing."""
    known = known_constant(value)
    if known is not None and known.size == 1:
        number = float(known.reshape(()))
        if number <= 0:
            raise build.invalid(f"input '{name}' is {number}, expected more than 0")
        if number == 1:
            return None
    return build.op("Reshape", build.op("Cast", value, to=int(DataType.FLOAT)), build.ints())


def scalar(build: ContribBuilder, value: Value) -> Value:
    """A number that is an input of a search, as int64 of rank 0."""
    known = known_constant(value)
    if known is not None and known.size != 1:
        raise build.invalid(f"'{value.name}' has shape {list(known.shape)}, expected one element")
    return build.op("Reshape", build.int64(value), build.ints())


def check_tokens(build: ContribBuilder, eos_token_id: int, pad_token_id: int) -> None:
    for name, token in (("eos_token_id", eos_token_id), ("pad_token_id", pad_token_id)):
        if token < 0:
            raise build.invalid(f"attribute '{name}' is {token}, expected no negative number")
