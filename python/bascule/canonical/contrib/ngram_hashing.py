# SPDX-License-Identifier: Apache-2.0
"""Numbers of n-grams of tokens, by which rows of large tables of embeddings are looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bascule.canonical.builder import INT64_MAX
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.packed_tokens import Packing, check_captures
from bascule.ir.graph import Value

_MOST = 64
"""Longer n-grams would make too many nodes."""


@dataclass(frozen=True)
class _Hashing:
    """What turns n-grams into numbers."""

    multipliers: Value
    vocab_sizes: Value
    head_offsets: Value | None
    orders: int
    heads: int


@operator("NGramHashMapping")
def ngram_hash_mapping(
    build: ContribBuilder,
    input_ids: Value,
    multipliers: Value,
    vocab_sizes: Value,
    past_ids: Value | None,
    head_offsets: Value | None,
    eos_token_id: Value | None,
    segment_ids: Value | None,
    *,
    max_ngram_size: int,
    n_head_per_ngram: int,
    pad_id: int,
    reset_on_eos: int = 0,
) -> Outputs:
    """Every row is a sequence; `past_ids` come before it, or padding."""
    before = _orders(build, max_ngram_size, n_head_per_ngram)
    padding = _padding(build, input_ids, eos_token_id, pad_id)
    if past_ids is None:
        rows = build.op("Concat", build.dim(input_ids, 0), build.ints(before), axis=0)
        past_ids = build.op("Expand", padding, rows)
    tokens = build.op("Concat", past_ids, input_ids, axis=1)

    def earlier(count: int) -> Value:
        return _columns(build, tokens, before - count, -count)

    changes: Callable[[int], Value] | None = None
    if segment_ids is not None:
        differs = _differs(build, segment_ids, before)

        def changes(count: int) -> Value:
            return _columns(build, differs, before + 1 - count, 1 - count)

    hashing = _Hashing(multipliers, vocab_sizes, head_offsets, before, n_head_per_ngram)
    eos = eos_token_id if reset_on_eos else None
    hashes = _hashes(build, hashing, earlier, padding, eos, changes)
    return hashes, _columns(build, tokens, -before, 0)


@operator("VarlenNGramHashMapping")
def varlen_ngram_hash_mapping(
    build: ContribBuilder,
    input_ids: Value,
    multipliers: Value,
    vocab_sizes: Value,
    cumulative_sequence_length: Value,
    past_ids: Value | None,
    head_offsets: Value | None,
    eos_token_id: Value | None,
    segment_ids: Value | None,
    past_segment_ids: Value | None,
    capture_count: Value | None,
    *,
    max_ngram_size: int,
    n_head_per_ngram: int,
    pad_id: int,
    reset_on_eos: int = 0,
    state_update_capacity: int = 0,
) -> Outputs:
    """All sequences one behind the other; each has its own row of `past_ids`."""
    before = _orders(build, max_ngram_size, n_head_per_ngram)
    check_captures(build, state_update_capacity, capture_count)
    if past_segment_ids is not None and segment_ids is None:
        raise build.invalid("input 'past_segment_ids' is there without 'segment_ids'")
    packed = _Packed(build, input_ids, cumulative_sequence_length, before)
    padding = _padding(build, input_ids, eos_token_id, pad_id)
    if past_ids is None:
        past_ids = build.op("Expand", padding, packed.rows)
    tokens = packed.table(input_ids, past_ids)

    def earlier(count: int) -> Value:
        return build.op("Gather", tokens, packed.before_each(count))

    changes: Callable[[int], Value] | None = None
    segments: Value | None = None
    if segment_ids is not None:
        if past_segment_ids is None:
            first = build.op("Gather", segment_ids, packed.starts)
            first = build.op("Unsqueeze", first, build.ints(1))
            past_segment_ids = build.op("Expand", first, packed.rows)
        segments = packed.table(segment_ids, past_segment_ids)
        found = [build.op("Gather", segments, packed.before_each(k)) for k in range(before + 1)]

        def changes(count: int) -> Value:
            return build.op("Not", build.op("Equal", found[count - 1], found[count]))

    hashing = _Hashing(multipliers, vocab_sizes, head_offsets, before, n_head_per_ngram)
    eos = eos_token_id if reset_on_eos else None
    hashes = _hashes(build, hashing, earlier, padding, eos, changes)
    present = present_segments = update = None
    if build.wants(1) or build.wants(2):
        last = packed.last()
        present = build.op("Gather", tokens, last)
        present_segments = None if segments is None else build.op("Gather", segments, last)
    if build.wants(3) and capture_count is not None:
        index, used = packed.first(state_update_capacity, capture_count)
        unused = build.op("CastLike", build.int_scalar(pad_id), input_ids)
        update = build.op("Where", used, build.op("Gather", tokens, index), unused)
    return hashes, present, present_segments, update


class _Packed:
    """Sequences one behind the other, each with a row of what came before it."""

    def __init__(self, build: ContribBuilder, ids: Value, bounds: Value, before: int) -> None:
        self.build = build
        self.before = before
        packing = Packing(build, bounds)
        self.starts, self._lengths, self._count = packing.begins, packing.lengths, packing.batch
        self.rows = build.op("Concat", self._count, build.ints(before), axis=0)
        """The shape of what came before."""
        self._total = build.dim(ids, 0)
        self._row = packing.sequences(self._total)
        """The sequence of each token."""
        places = build.numbers(self._total)
        self._place = build.op("Sub", places, build.op("Gather", self.starts, self._row))
        """Where in its sequence each token is."""

    def table(self, values: Value, past: Value) -> Value:
        """All values, and behind them all that came before."""
        build = self.build
        return build.op("Concat", values, build.op("Reshape", past, build.ints(-1)), axis=0)

    def before_each(self, count: int) -> Value:
        """The index in a table of what is so many places before each token."""
        return self._index(self._row, self.build.op("Sub", self._place, self.build.ints(count)))

    def last(self) -> Value:
        """The indices of the last values of each sequence."""
        build = self.build
        lengths = build.op("Unsqueeze", self._lengths, build.ints(1))
        return self._index(self._every(1), build.op("Add", lengths, self._back(0)))

    def first(self, capacity: int, counts: Value) -> tuple[Value, Value]:
        """The indices of the last values up to each of the first tokens, and which are asked for.

        Only so many as each count says, and as there are.
        """
        build = self.build
        steps = build.constant(np.arange(capacity).reshape(-1, 1))
        lengths = build.op("Unsqueeze", self._lengths, build.ints(1, 2))
        asked = build.op("Unsqueeze", build.int64(counts), build.ints(1, 2))
        used = build.op("Less", steps, build.op("Min", asked, lengths))
        known = build.op("Min", steps, build.op("Sub", lengths, build.ints(1)))
        return self._index(self._every(2), build.op("Add", known, self._back(1))), used

    def _back(self, end: int) -> Value:
        return self.build.constant(np.arange(end - self.before, end))

    def _every(self, trailing: int) -> Value:
        """The number of each sequence, with axes of one element behind."""
        build = self.build
        numbers = build.numbers(self._count)
        return build.op("Unsqueeze", numbers, build.ints(*range(1, trailing + 1)))

    def _index(self, row: Value, place: Value) -> Value:
        """Where in a table a place in a sequence is, a negative one being before it."""
        build = self.build
        there = build.op("Add", build.op("Gather", self.starts, row), place)
        past = build.op("Mul", build.op("Add", row, build.ints(1)), build.ints(self.before))
        past = build.op("Add", build.op("Add", past, place), self._total)
        return build.op("Where", build.op("Less", place, build.ints(0)), past, there)


def _orders(build: ContribBuilder, size: int, heads: int) -> int:
    """How many lengths of n-grams there are, and tokens before each that are looked at."""
    if size < 2 or heads < 1:
        raise build.invalid(
            f"attribute 'max_ngram_size' is {size} and 'n_head_per_ngram' is {heads}, expected "
            "at least 2 and 1"
        )
    if size > _MOST:
        raise build.not_supported(f"an n-gram of {size} tokens")
    return size - 1


def _padding(build: ContribBuilder, ids: Value, eos: Value | None, pad_id: int) -> Value:
    """What stands for a token that is not there, as a scalar."""
    if eos is not None:
        return build.op("Reshape", eos, build.ints())
    return build.op("CastLike", build.int_scalar(pad_id), ids)


def _differs(build: ContribBuilder, segments: Value, before: int) -> Value:
    """Where a segment begins within the rows, behind columns for tokens before them."""
    left, right = _columns(build, segments, 0, -1), _columns(build, segments, 1, 0)
    inside = build.op("Not", build.op("Equal", left, right))
    first = build.op("Concat", build.dim(segments, 0), build.ints(before + 1), axis=0)
    never = build.op("Expand", build.constant(np.array(False)), first)
    return build.op("Concat", never, inside, axis=1)


def _hashes(
    build: ContribBuilder,
    hashing: _Hashing,
    earlier: Callable[[int], Value],
    padding: Value,
    eos: Value | None,
    changes: Callable[[int], Value] | None,
) -> Value:
    """The numbers of all heads, in the last axis, the shortest n-grams first.

    `earlier` gives the tokens so many places before each, `changes` whether the token one place
    behind that one begins a segment. What lies behind the end of a text or a segment is padding.
    """
    factors = build.ops(
        "Split",
        build.op("Slice", hashing.multipliers, build.ints(0), build.ints(hashing.orders + 1)),
        outputs=hashing.orders + 1,
        num_outputs=hashing.orders + 1,
    )
    mixed = build.op("Mul", earlier(0), factors[0])
    hidden: Value | None = None
    mixes = []
    for count in range(1, hashing.orders + 1):
        tokens = earlier(count)
        marks = [hidden] if hidden is not None else []
        if eos is not None:
            marks.append(build.op("Equal", tokens, padding))
        if changes is not None:
            marks.append(changes(count))
        for mark in marks:
            hidden = mark if hidden is None or hidden is mark else build.op("Or", hidden, mark)
        if hidden is not None:
            tokens = build.op("Where", hidden, padding, tokens)
        mixed = build.op("BitwiseXor", mixed, build.op("Mul", tokens, factors[count]))
        mixes.append(build.op("Unsqueeze", mixed, build.ints(-1)))
    every = build.op("Unsqueeze", build.op("Concat", *mixes, axis=-1), build.ints(-1))
    sizes = build.op("Reshape", hashing.vocab_sizes, build.ints(hashing.orders, hashing.heads))
    numbers = build.op("Mod", every, sizes)
    front = build.op("Shape", mixed)
    shape = build.op("Concat", front, build.ints(hashing.orders * hashing.heads), axis=0)
    numbers = build.op("Reshape", numbers, shape, allowzero=1)
    return build.plus(numbers, hashing.head_offsets)


def _columns(build: ContribBuilder, x: Value, start: int, end: int) -> Value:
    """Columns from `start` to `end`, both from the end if negative; an `end` of 0 is the end."""
    last = build.ints(end if end else INT64_MAX)
    return build.op("Slice", x, build.ints(start), last, build.ints(1))
