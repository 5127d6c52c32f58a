# SPDX-License-Identifier: Apache-2.0
"""The decoder of models without an encoder, in the form of GPT-2.

Its inputs are `input_ids`, `position_ids`, `attention_mask` and `past_0`, `past_1`, ... of shape
``[2, batch, heads, length, size]``; its outputs `logits`, ``[batch, length, vocabulary]``, and
`present_0`, `present_1`, ...
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.canonical.contrib.decoders import Carried, DecodingLoop
from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_FIXED = ("input_ids", "position_ids", "attention_mask")

MATRIX = TensorType(DataType.INT32, (None, None))
"""Of tokens."""


@dataclass(frozen=True)
class Prompt:
    """What a decoder is told first; the rows are those of the search, its beams included."""

    ids: Value
    positions: Value
    mask: Value
    lengths: Value
    """How many tokens are no padding, ``[rows, 1]``."""
    rows: Value
    """The number of rows, as a vector of one element."""


def prompt(
    build: ContribBuilder, ids: Value, mask: Value | None, pad_token_id: int, beams: Value | None
) -> Prompt:
    """Padding has position 0, and is not attended to unless the `mask` says so."""
    is_token = build.op("Not", build.op("Equal", ids, int32(build, pad_token_id)))
    marks = build.cast(is_token, DataType.INT32)
    counts = build.op("CumSum", marks, build.int_scalar(1))
    positions = build.op("Where", is_token, build.op("Sub", counts, int32(build, 1)), marks)
    lengths = build.op("ReduceSum", marks, build.ints(1), keepdims=1)
    if mask is not None:
        marks = build.op("Reshape", mask, build.op("Shape", ids))  # which checks its size
    ids, positions, marks, lengths = (
        repeat(build, each, beams) for each in (ids, positions, marks, lengths)
    )
    return Prompt(ids, positions, marks, lengths, build.op("Shape", ids, start=0, end=1))


def repeat(build: ContribBuilder, value: Value, times: Value | None) -> Value:
    """Each row as many times as the int64 vector of one element says, one after the other."""
    if times is None:
        return value
    rows = build.op("Shape", value, start=0, end=1)
    numbers = build.numbers(build.op("Mul", rows, times))
    return build.op("Gather", value, build.op("Div", numbers, times), axis=0)


def int32(build: ContribBuilder, number: int) -> Value:
    return build.constant(np.array(number, dtype=np.int32))


def last_scores(build: ContribBuilder, logits: Value, vocabulary: int, found: int) -> Value:
    """The logits behind the last token, in float32; those that only pad the vocabulary left out."""
    if logits.dtype is not DataType.FLOAT:
        logits = build.op("Cast", logits, to=int(DataType.FLOAT))
    scores = build.op("Gather", logits, build.int_scalar(-1), axis=1)
    if vocabulary == found:
        return scores
    return build.op("Slice", scores, build.ints(0), build.ints(vocabulary), build.ints(1))


class GptLoop:
    """The loop over the decoder, which is fed with one token a row after the prompt."""

    def __init__(self, build: ContribBuilder, vocab_size: int) -> None:
        self.build = build
        decoder = Carried(build, "decoder")
        decoder.expect((*_FIXED, "past_0"), ("logits", "present_0"))
        layers = len(decoder.outputs) - 1
        more = decoder.inputs[len(_FIXED) + layers :]
        if more:
            raise decoder.not_supported(f"input '{more[0]}'")
        if len(decoder.inputs) < len(_FIXED) + layers:
            raise decoder.invalid(f"has {layers} outputs of layers, but fewer inputs")
        decoder.expect_int32(_FIXED)
        past = decoder.graph.inputs[len(_FIXED)]
        self.heads, self.head_size = (decoder.size(past, "past_0", 5, axis) for axis in (2, 4))
        self.found, self.vocabulary = decoder.logits(vocab_size)
        self.loop = DecodingLoop(decoder)
        self.layers = layers

    def start(self, prompt: Prompt) -> Value:
        """Feed the prompt; returns, in the body, the scores of the next token."""
        loop, build = self.loop, self.build
        self.ids = loop.feed(0, prompt.ids, "rows", "length")
        self.positions = loop.feed(1, prompt.positions, "rows", "length")
        self.mask = loop.feed(2, prompt.mask, "rows", "total")
        self.prompt = prompt
        sizes = (build.ints(2), prompt.rows, build.ints(self.heads, 0, self.head_size))
        shape = build.op("Concat", *sizes, axis=0)
        self.past = []
        for layer in range(self.layers):
            formal = loop.formal[len(_FIXED) + layer]
            empty = loop.decoder.zeros(formal, f"past_{layer}", shape)
            sizes_then = (2, "rows", self.heads, f"before_{layer}", self.head_size)
            self.past.append(loop.feed(len(_FIXED) + layer, empty, *sizes_then))
        return last_scores(loop.inside, loop.results[0], self.vocabulary, self.found)

    def go_on(self, tokens: Value, beams: Value | None = None) -> None:
        """Feed `tokens`, ``[rows, 1]``, which follow those rows that `beams` names."""
        loop, inside = self.loop, self.loop.inside
        ones = self.build.op(
            "Expand",
            int32(self.build, 1),
            self.build.op("Concat", self.prompt.rows, self.build.ints(1), axis=0),
        )
        steps = inside.op("Cast", loop.iteration, to=int(DataType.INT32))
        loop.follow(self.ids, tokens)
        loop.follow(self.positions, inside.op("Add", self.prompt.lengths, steps))
        loop.follow(self.mask, inside.op("Concat", self.mask, ones, axis=1))
        for past, present in zip(self.past, loop.results[1:]):
            if beams is not None:
                present = inside.op("Gather", present, beams, axis=1)
            loop.follow(past, present)
