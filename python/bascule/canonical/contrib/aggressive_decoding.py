# SPDX-License-Identifier: Apache-2.0
"""Predicting many tokens at once, as far as they are those of the source."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_MOST = 64
"""Longer n-grams would make too many nodes."""


@operator("BifurcationDetector")
def bifurcation_detector(
    build: ContribBuilder,
    src_tokens: Value,
    cur_tokens: Value,
    prev_suffix_match_idx: Value,
    pred_tokens: Value | None,
    *,
    max_ngram_size: int = 3,
    min_ngram_size: int = 1,
) -> Outputs:
    """The tokens with the predicted ones as far as they are those of the source, and one more; and
    where the source goes on behind their last n-gram, if that is there once."""
    if not 1 <= min_ngram_size <= max_ngram_size:
        raise build.invalid(
            f"min_ngram_size ({min_ngram_size}) must be positive, and max_ngram_size "
            f"({max_ngram_size}) no less"
        )
    if max_ngram_size > _MOST:
        raise build.not_supported(f"an n-gram of {max_ngram_size} tokens")
    length = build.op("Shape", src_tokens)
    tokens = cur_tokens
    if pred_tokens is not None:
        tokens = _joined(build, src_tokens, cur_tokens, prev_suffix_match_idx, pred_tokens, length)
    tokens = build.give_type(build.op("Identity", tokens), TensorType(DataType.INT64, (None,)))
    place = _suffix(build, src_tokens, tokens, length, min_ngram_size, max_ngram_size)
    shape = build.op("Shape", prev_suffix_match_idx)
    return tokens, build.op("Reshape", place, shape)


def _joined(
    build: ContribBuilder,
    source: Value,
    current: Value,
    start: Value,
    predicted: Value,
    length: Value,
) -> Value:
    start = build.op("Reshape", start, build.ints(1))
    rest = build.op("Slice", source, start, length, build.ints(0))
    count = build.op("Sub", length, start)
    same = build.op("Slice", predicted, build.ints(0), count, build.ints(0))
    differs = build.op("Not", build.op("Equal", rest, same))
    differs = build.op("Cast", differs, to=int(DataType.INT32))
    differs = build.op("Pad", differs, build.ints(0, 1), _one(build))
    first = build.op("ArgMax", differs, axis=0, keepdims=1)
    taken = build.op("Add", first, build.ints(1))
    return build.op(
        "Concat",
        current,
        build.op("Slice", predicted, build.ints(0), taken, build.ints(0)),
        axis=0,
    )


def _one(build: ContribBuilder) -> Value:
    return build.op("Cast", build.int_scalar(1), to=int(DataType.INT32))


def _suffix(
    build: ContribBuilder, source: Value, tokens: Value, length: Value, least: int, most: int
) -> Value:
    """Where the source goes on behind the last tokens, or -1, as a vector of one element."""
    said = build.op("Shape", tokens)
    longer = build.op("Pad", source, build.ints(0, most + 1))
    behind = build.op("Pad", tokens, build.ints(most, 0))
    numbers = build.numbers(build.op("Add", length, build.ints(1)))
    place, goes_on = build.ints(-1), None
    for size in range(least, most + 1):
        found = build.op("LessOrEqual", numbers, build.op("Sub", length, build.ints(size)))
        for index in range(size):
            ends = build.op("Add", length, build.ints(index + 1))
            there = build.op("Slice", longer, build.ints(index), ends, build.ints(0))
            last = build.op("Gather", behind, build.ints(index - size), axis=0)
            found = build.op("And", found, build.op("Equal", there, last))
        marks = build.op("Cast", found, to=int(DataType.INT64))
        count = build.op("ReduceSum", marks, keepdims=1)
        first = build.op("Add", build.op("ArgMax", marks, axis=0, keepdims=1), build.ints(size))
        matters = build.op(
            "And",
            build.op("GreaterOrEqual", said, build.ints(size)),
            build.op("Greater", count, build.ints(0)),
        )
        if goes_on is not None:
            matters = build.op("And", matters, goes_on)
        only = build.op("Where", build.op("Greater", count, build.ints(1)), build.ints(-1), first)
        place = build.op("Where", matters, only, place)
        goes_on = build.op("And", matters, build.op("Less", first, length))
    return place
