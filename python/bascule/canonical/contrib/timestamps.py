# SPDX-License-Identifier: Apache-2.0
"""When Whisper may say a timestamp, and when it must."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value

_MOST_AT_FIRST = 50
"""The first timestamp is no later than that many steps."""


@dataclass(frozen=True)
class Timestamps:
    """The tokens that the rules speak of: timestamps are those from `first` on."""

    end: int
    start: int
    translate: int
    transcribe: int
    start_of_lm: int
    none: int
    first: int
    wanted: Value | None = None
    """A scalar that tells whether the rules apply; they do if there is none."""

    def check(self, build: ContribBuilder, vocabulary: int) -> None:
        if not 0 < self.first < vocabulary:
            raise build.invalid(
                f"attribute 'beginning_timestamp_token_id' is {self.first}, expected one of the "
                f"{vocabulary} tokens, and not the first"
            )

    def apply(
        self,
        build: ContribBuilder,
        scores: Value,
        sequences: Value,
        lowest: Value,
        vocabulary: int,
    ) -> Value:
        """`scores`, ``[rows, vocabulary]``, of what follows `sequences`, ``[rows, length]``.

        `lowest` is the score of a token that must not follow.
        """
        blocked = self._blocked(build, sequences, vocabulary)
        ruled = build.op("Where", blocked, lowest, scores)
        # A timestamp follows where all of them together are more probable than any text.
        start, end, axis = build.ints(0), build.ints(self.first), build.ints(1)
        text = build.op("Slice", ruled, start, end, axis)
        times = build.op("Slice", ruled, end, build.ints(vocabulary), axis)
        highest = build.op("ReduceMax", times, axis, keepdims=1)
        parts = build.op("Exp", build.op("Sub", times, highest))
        zero = build.constant(np.array(0, dtype=np.float32))
        parts = build.op("Where", build.op("Greater", times, lowest), parts, zero)
        total = build.op("ReduceSum", parts, axis, keepdims=1)
        together = build.op("Add", build.op("Log", total), highest)
        together = build.op("Where", build.op("Greater", total, zero), together, lowest)
        wins = build.op("Greater", together, build.op("ReduceMax", text, axis, keepdims=1))
        is_text = build.constant(np.arange(vocabulary) < self.first)
        ruled = build.op("Where", build.op("And", wins, is_text), lowest, ruled)
        return ruled if self.wanted is None else build.op("Where", self.wanted, ruled, scores)

    def _blocked(self, build: ContribBuilder, sequences: Value, vocabulary: int) -> Value:
        """The tokens that must not follow."""
        tokens = np.arange(vocabulary)
        is_time, is_text = tokens >= self.first, tokens < self.end
        length = build.op("Shape", sequences, start=1, end=2)
        first_time = build.constant(np.array(self.first, dtype=np.int32))
        times = build.op("GreaterOrEqual", sequences, first_time)
        marks = build.op("Cast", times, to=int(DataType.INT32))
        has_time = build.op(
            "Cast", build.op("ReduceMax", marks, build.ints(1), keepdims=1), to=int(DataType.BOOL)
        )
        begin = build.op("ArgMax", marks, axis=1, keepdims=1)
        begin = build.op("Add", begin, build.ints(1))
        # Behind the first timestamp there is something else.
        goes_on = build.op("And", has_time, build.op("Less", begin, length))
        begins = build.op("Not", goes_on)
        before = build.op("Max", build.op("Sub", length, build.ints(2)), build.ints(0))
        last = build.op("Gather", times, build.ints(-1), axis=1)
        before_last = build.op("Or", begins, build.op("Gather", times, before, axis=1))
        is_pair = build.op("And", last, before_last)
        is_single = build.op("And", last, build.op("Not", before_last))
        place = build.op("ArgMax", marks, axis=1, keepdims=1, select_last_index=1)
        latest = build.op("GatherElements", sequences, place, axis=1)
        next_one = build.op("Cast", build.op("Not", is_single), to=int(DataType.INT32))
        least = build.op("Add", latest, next_one)
        past = build.op("Less", build.constant(tokens.astype(np.int32)), least)
        past = build.op("And", past, build.op("And", has_time, build.constant(is_time)))
        never = np.isin(tokens, [self.none, self.start_of_lm])
        tasks = np.isin(tokens, [self.start, self.translate, self.transcribe])
        blocked = build.op("Or", past, build.constant(never))
        for where, which in (
            (goes_on, tasks),
            (is_pair, is_time),
            (is_single, is_text),
            (begins, tokens > self.first + _MOST_AT_FIRST),
        ):
            blocked = build.op("Or", blocked, build.op("And", where, build.constant(which)))
        return blocked
