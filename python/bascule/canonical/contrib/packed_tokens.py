# SPDX-License-Identifier: Apache-2.0
"""Tokens of sequences that follow one another without padding, and the same ones side by side."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value

_MOST_CAPTURED = 8
"""How many tokens of each sequence may be captured."""


def check_captures(build: ContribBuilder, capacity: int, counts: Value | None) -> None:
    """Refuse a capacity without the number of tokens to capture, and the other way round."""
    check_capacity(build, capacity)
    if (counts is None) != (capacity == 0):
        raise build.invalid("input 'capture_count' and a 'state_update_capacity' need each other")


def check_capacity(build: ContribBuilder, capacity: int) -> None:
    if not 0 <= capacity <= _MOST_CAPTURED:
        raise build.invalid(
            f"attribute 'state_update_capacity' is {capacity}, expected 0 to {_MOST_CAPTURED}"
        )


class Packing:
    """Where sequences lie among packed tokens, by the sums of the lengths of those before each."""

    def __init__(self, build: ContribBuilder, sums: Value) -> None:
        """`sums` is a vector that begins with 0 and ends with the number of tokens."""
        wide = build.as_vector(build.int64(sums))
        self._build = build
        self.begins = build.op("Slice", wide, build.ints(0), build.ints(-1))
        self.ends = build.op("Slice", wide, build.ints(1), build.op("Shape", wide))
        self.lengths = build.op("Sub", self.ends, self.begins)
        self.batch = build.op("Sub", build.dim(sums, 0), build.ints(1))
        self.is_one = build.known_dim(sums, 0) == 2

    def sequences(self, tokens: Value) -> Value:
        """The number of the sequence of each of so many tokens, and of none beyond."""
        build = self._build
        steps = build.numbers(tokens)
        before = build.op("GreaterOrEqual", build.op("Unsqueeze", steps, build.ints(1)), self.ends)
        count = build.op(
            "ReduceSum", build.op("Cast", before, to=int(DataType.INT64)), build.ints(1), keepdims=0
        )
        last = build.op("Sub", self.batch, build.ints(1))
        return build.op("Min", count, last)


class SideBySide:
    """Sequences beside each other, ``[batch, tokens, ...]``, as long as the longest."""

    def __init__(self, build: ContribBuilder, packing: Packing, tokens: Value) -> None:
        self._build, self.batch = build, packing.batch
        self.lengths = None if packing.is_one else packing.lengths
        """Of each sequence, if there may be several."""
        longest = build.op("ReduceMax", packing.lengths, build.ints(0), keepdims=0)
        steps = build.numbers(longest)
        column = build.ints(1)
        places = build.op("Add", build.op("Unsqueeze", packing.begins, column), steps)
        last = build.op("Sub", tokens, build.ints(1))
        self._places = build.op("Min", places, last)
        self._is_token = build.op("Less", steps, build.op("Unsqueeze", packing.lengths, column))

    def spread(self, x: Value, padded: bool = True) -> Value:
        """``[tokens, heads, size]`` by sequences, with zeros behind the end of each if `padded`."""
        build = self._build
        spread = build.op("Gather", x, self._places, axis=0)
        if not padded:
            return spread
        mask = build.op("Unsqueeze", self._is_token, build.ints(2, 3))
        return build.op("Where", mask, spread, build.like(0.0, x))

    def packed(self, x: Value) -> Value:
        """``[batch, tokens, heads, size]`` as ``[tokens, heads, size]`` again."""
        build = self._build
        flat = build.op("Reshape", self._is_token, build.ints(-1))
        tokens = build.op("Squeeze", build.op("NonZero", flat), build.ints(0))
        shape = build.op("Concat", build.ints(-1), build.op("Shape", x, start=2), axis=0)
        return build.op("Gather", build.op("Reshape", x, shape), tokens, axis=0)
