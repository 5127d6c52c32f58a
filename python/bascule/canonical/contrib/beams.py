# SPDX-License-Identifier: Apache-2.0
"""What a beam search keeps: for each sample its beams, and the best sequences that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.decoders import DecodingLoop, all_of
from bascule.canonical.contrib.gpt_decoder import int32
from bascule.canonical.contrib.operator import ContribBuilder
from bascule.canonical.contrib.token_scores import LOWEST, TokenScores, check_tokens, scalar
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_UNLIKELY = -1e9
"""The score of all beams but the first, at first: they must not say the same."""


@dataclass(frozen=True)
class BeamState:
    """What changes from step to step."""

    sequences: Value
    """``[batch * beams, length]``"""
    totals: Value
    """The sums of the logarithms of probabilities, ``[batch, beams]``."""
    kept: Value
    """Sequences that have ended, the best ones first, ``[batch, beams, max_length]``."""
    kept_scores: Value
    """Theirs, by length; -inf where there is none yet."""
    done: Value
    """Whether a sample goes no further, ``[batch, 1]``."""

    def carried(self, loop: DecodingLoop) -> BeamState:
        """What it is in the body of a loop that begins with it."""
        return BeamState(
            **{name: loop.carry(name, getattr(self, name), _TYPES[name]) for name in _TYPES}
        )

    def go_on(self, loop: DecodingLoop, following: BeamState) -> None:
        """Say what it is in the next step."""
        for name in _TYPES:
            loop.follow(getattr(self, name), getattr(following, name))

    def last(self, values: Mapping[Value, Value]) -> BeamState:
        """What it is behind the loop, by what that says of the values in its body."""
        return BeamState(**{name: values[getattr(self, name)] for name in _TYPES})


_TYPES = {
    "sequences": TensorType(DataType.INT32, (None, None)),
    "totals": TensorType(DataType.FLOAT, (None, None)),
    "kept": TensorType(DataType.INT32, (None, None, None)),
    "kept_scores": TensorType(DataType.FLOAT, (None, None)),
    "done": TensorType(DataType.BOOL, (None, 1)),
}


@dataclass(frozen=True)
class Step:
    """What a step makes."""

    state: BeamState
    tokens: Value
    """The next of each beam, int32 of ``[batch * beams, 1]``."""
    rows: Value
    """The beams that they follow, a vector."""
    scores: Value
    """Of all tokens, ``[batch * beams, vocabulary]``."""


@dataclass
class Beams:
    """The settings of a beam search, and its steps."""

    build: ContribBuilder
    wishes: TokenScores
    num_beams: Value
    num_return_sequences: Value
    max_length: Value
    length_penalty: Value | None
    early_stopping: int
    pad_token_id: int
    vocabulary: int = 0
    batch: Value = field(init=False)
    """The number of samples, as a vector of one element, like all sizes here."""
    beams: Value = field(init=False)

    def check(self) -> None:
        """Refuse numbers that are known to be wrong; make vectors of them."""
        check_tokens(self.build, self.wishes.eos_token_id, self.pad_token_id)
        if self.early_stopping not in (0, 1):
            raise self.build.invalid(
                f"attribute 'early_stopping' is {self.early_stopping}, expected 0 or 1"
            )
        numbers = {
            "num_beams": self.num_beams,
            "num_return_sequences": self.num_return_sequences,
            "max_length": self.max_length,
        }
        known: dict[str, int] = {}
        for name, value in numbers.items():
            constant = known_constant(value)
            if constant is not None and constant.size == 1:
                known[name] = number = int(constant.max())
                if number < 1:
                    raise self.build.invalid(
                        f"input '{name}' is {number}, expected a positive number"
                    )
        beams = known.get("num_beams")
        if beams is not None and known.get("num_return_sequences", 1) > beams:
            raise self.build.invalid(
                f"input 'num_return_sequences' is {known['num_return_sequences']}, more than "
                f"the {beams} of 'num_beams'"
            )
        self.beams, self.returned, self.longest = (
            self.build.op("Reshape", scalar(self.build, value), self.build.ints(1))
            for value in numbers.values()
        )

    def start(self, batch: Value, sequences: Value, vocabulary: int) -> BeamState:
        """With `sequences` of all beams, before the loop; `batch` is the number of samples."""
        build = self.build
        self.batch, self.vocabulary = batch, vocabulary
        zero = build.int_scalar(0)
        self.twice = build.op("Mul", self.beams, build.ints(2))
        self.by_beam = build.op("Concat", batch, self.beams, axis=0)
        self.by_sample = build.op(
            "Concat", batch, build.op("Mul", self.beams, build.ints(vocabulary)), axis=0
        )
        samples = build.numbers(batch)
        samples = build.op("Unsqueeze", samples, build.ints(1))
        self.first_rows = build.op("Mul", samples, self.beams)
        self.first_kept = build.op("Mul", samples, self.twice)
        self.numbers = build.numbers(self.twice)
        penalty = self.length_penalty
        if penalty is None:
            self.exponent = build.constant(np.array(1, dtype=np.float32))
        else:
            penalty = build.op("Cast", penalty, to=int(DataType.FLOAT))
            self.exponent = build.op("Reshape", penalty, build.ints())
        beam = build.numbers(self.beams)
        totals = build.op(
            "Where", build.op("Equal", beam, zero), _float(build, 0), _float(build, _UNLIKELY)
        )
        of_kept = build.op("Concat", self.by_beam, self.longest, axis=0)
        nothing = build.op("Concat", batch, build.ints(1), axis=0)
        return BeamState(
            sequences,
            build.op("Expand", totals, self.by_beam),
            build.op("Expand", int32(build, self.pad_token_id), of_kept),
            build.op("Expand", _float(build, -np.inf), self.by_beam),
            build.op("Expand", build.constant(np.array(False)), nothing),
        )

    def step(
        self, build: ContribBuilder, before: BeamState, logits: Value, first: Value | bool
    ) -> Step:
        """Choose by `logits`, ``[batch * beams, vocabulary]``, which follow the state `before`."""
        scores = build.op("LogSoftmax", logits, axis=1)
        scores = self.wishes.apply(build, scores, before.sequences, first)
        totals = build.op("Reshape", before.totals, build.ints(-1, 1))
        scores = build.op("Add", scores, totals)
        by_sample = build.op("Reshape", scores, self.by_sample)
        best, places = build.ops("TopK", by_sample, self.twice, outputs=2, axis=1)
        beams = build.op("Div", places, build.int_scalar(self.vocabulary))
        tokens = build.op("Mod", places, build.int_scalar(self.vocabulary))
        ends = build.op("Equal", tokens, build.int_scalar(self.wishes.eos_token_id))
        # Of those that do not end a sequence, as many as there are beams.
        behind = build.op("Add", self.numbers, self.twice)
        order = build.op("Where", ends, behind, self.numbers)
        chosen = build.ops("TopK", order, self.beams, outputs=2, axis=1, largest=0)[1]
        going, going_tokens, going_beams = (
            build.op("GatherElements", each, chosen, axis=1) for each in (best, tokens, beams)
        )
        divisor = self._divisor(build, before.sequences)
        kept, kept_scores = self._keep(build, before, best, ends, beams, divisor)
        done = self._done(build, before.done, best, kept_scores, divisor)
        zero = build.int_scalar(0)
        going = build.op("Where", before.done, _float(build, 0), going)
        pad = build.int_scalar(self.pad_token_id)
        going_tokens = build.op("Where", before.done, pad, going_tokens)
        going_beams = build.op("Where", before.done, zero, going_beams)
        rows = build.op("Add", going_beams, self.first_rows)
        rows = build.op("Reshape", rows, build.ints(-1))
        column = build.op("Reshape", going_tokens, build.ints(-1, 1))
        column = build.op("Cast", column, to=int(DataType.INT32))
        sequences = build.op("Gather", before.sequences, rows, axis=0)
        sequences = build.op("Concat", sequences, column, axis=1)
        return Step(BeamState(sequences, going, kept, kept_scores, done), column, rows, scores)

    def _divisor(self, build: ContribBuilder, sequences: Value) -> Value:
        length = build.op("Shape", sequences, start=1, end=2)
        return build.op("Pow", build.op("Cast", length, to=int(DataType.FLOAT)), self.exponent)

    def _keep(
        self,
        build: ContribBuilder,
        before: BeamState,
        best: Value,
        ends: Value,
        beams: Value,
        divisor: Value,
    ) -> tuple[Value, Value]:
        """Keep what ends among as many candidates as there are beams."""
        best, ends, beams = (
            build.op("Slice", each, build.ints(0), self.beams, build.ints(1))
            for each in (best, ends, beams)
        )
        is_new = build.op("And", ends, build.op("Not", before.done))
        rows = build.op("Add", beams, self.first_rows)
        return self._merge(build, before, is_new, best, rows, divisor)

    def _merge(
        self,
        build: ContribBuilder,
        before: BeamState,
        is_new: Value,
        totals: Value,
        rows: Value,
        divisor: Value,
    ) -> tuple[Value, Value]:
        """The best of what is kept and of the sequences `rows` that are new."""
        scores = build.op("Max", build.op("Div", totals, divisor), _float(build, LOWEST))
        scores = build.op("Where", is_new, scores, _float(build, -np.inf))
        sequences = build.op("Gather", before.sequences, rows, axis=0)
        missing = build.op("Sub", self.longest, build.op("Shape", sequences, start=2))
        pads = build.op("Concat", build.ints(0, 0, 0, 0, 0), missing, axis=0)
        sequences = build.op("Pad", sequences, pads, int32(build, self.pad_token_id))
        scores = build.op("Concat", before.kept_scores, scores, axis=1)
        sequences = build.op("Concat", before.kept, sequences, axis=1)
        best, places = build.ops("TopK", scores, self.beams, outputs=2, axis=1)
        every = build.op("Concat", build.ints(-1), self.longest, axis=0)
        every_sequence = build.op("Reshape", sequences, every)
        places = build.op("Add", places, self.first_kept)
        return build.op("Gather", every_sequence, places, axis=0), best

    def _done(
        self, build: ContribBuilder, before: Value, best: Value, kept_scores: Value, divisor: Value
    ) -> Value:
        """Whether enough is kept, and nothing better can come."""
        worst = build.op("ReduceMin", kept_scores, build.ints(1), keepdims=1)
        enough = build.op("Greater", worst, _float(build, -np.inf))
        if not self.early_stopping:
            highest = build.op("ReduceMax", best, build.ints(1), keepdims=1)
            hope = build.op("Less", worst, build.op("Div", highest, divisor))
            enough = build.op("And", enough, build.op("Not", hope))
        return build.op("Or", before, enough)

    def all_done(self, build: ContribBuilder, state: BeamState) -> Value:
        return all_of(build, state.done)

    def finish(self, last: BeamState) -> tuple[Value, Value]:
        """The best sequences, ``[batch, returned, max_length]``, and their scores."""
        build = self.build
        rows = build.numbers(build.op("Mul", self.batch, self.beams))
        rows = build.op("Reshape", rows, self.by_beam)
        is_new = build.op("Not", last.done)
        divisor = self._divisor(build, last.sequences)
        kept, scores = self._merge(build, last, is_new, last.totals, rows, divisor)
        kept, scores = (
            build.op("Slice", each, build.ints(0), self.returned, build.ints(1))
            for each in (kept, scores)
        )
        return kept, scores


def _float(build: ContribBuilder, number: float) -> Value:
    return build.constant(np.array(number, dtype=np.float32))
