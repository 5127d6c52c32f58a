# SPDX-License-Identifier: Apache-2.0
"""Scores of tokens that would repeat what was said."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value

_MOST = 64
"""Longer n-grams would make too many nodes."""


@operator("NGramRepeatBlock")
def ngram_repeat_block(
    build: ContribBuilder, input_ids: Value, scores: Value, *, ngram_size: int
) -> Outputs:
    """A token that would complete an n-gram that is there already gets a score of -inf."""
    if ngram_size < 1:
        raise build.invalid(f"attribute 'ngram_size' is {ngram_size}, expected a positive number")
    blocked = build.like(float("-inf"), build.typed(scores))
    return block_repeated(build, input_ids, scores, ngram_size, blocked)


def block_repeated(
    build: ContribBuilder, ids: Value, scores: Value, size: int, blocked: Value
) -> Value:
    """`scores` in which a token that would complete an n-gram of `ids` has `blocked` at most."""
    if size > _MOST:
        raise build.not_supported(f"an n-gram of {size} tokens")
    before = size - 1
    repeated: Value | None = None
    for index in range(before):
        # Of each n-gram and of the last tokens, the token at one place.
        there = _columns(build, ids, index, index - before)
        last = _columns(build, ids, index - before, index - before + 1)
        equal = build.op("Equal", there, last)
        repeated = equal if repeated is None else build.op("And", repeated, equal)
    tokens = _columns(build, ids, before, 0)
    own = build.op("GatherElements", scores, tokens, axis=1)
    if repeated is not None:
        blocked = build.op("Where", repeated, blocked, own)
    else:
        blocked = build.op("Expand", blocked, build.op("Shape", tokens))
    return build.op("ScatterElements", scores, tokens, blocked, axis=1, reduction="min")


def _columns(build: ContribBuilder, x: Value, start: int, end: int) -> Value:
    """Columns from `start` to `end`, both from the end if negative; 0 is the end itself."""
    ends = build.ints(end) if end else build.op("Shape", x, start=1, end=2)
    return build.op("Slice", x, build.ints(start), ends, build.ints(1))
