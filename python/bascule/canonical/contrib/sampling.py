# SPDX-License-Identifier: Apache-2.0
"""Text generation by tokens drawn from the most probable ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.decoders import DecodingLoop
from bascule.canonical.contrib.gpt_decoder import Prompt
from bascule.canonical.contrib.greedy_search import Search
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.token_scores import TokenScores, scalar
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType

_MODULUS = (1 << 31) - 1
_MULTIPLIER = 16807


@operator("Sampling")
def sampling(
    build: ContribBuilder,
    input_ids: Value,
    max_length: Value,
    min_length: Value | None,
    repetition_penalty: Value | None,
    vocab_mask: Value | None,
    prefix_vocab_mask: Value | None,
    attention_mask: Value | None,
    presence_mask: Value | None,
    seed: Value | None,
    *,
    decoder: Graph,
    eos_token_id: int,
    pad_token_id: int,
    custom: int = 0,
    decoder_start_token_id: int = -1,
    encoder: Graph | None = None,
    filter_value: float = -1e20,
    init_decoder: Graph | None = None,
    min_tokens_to_keep: int = 0,
    model_type: int = 0,
    no_repeat_ngram_size: int = 0,
    presence_penalty: float = 0.0,
    temperature: float = 1.0,
    top_p: float = 0.0,
    vocab_size: int = -1,
) -> Outputs:
    """`presence_mask` means nothing where there is no penalty."""
    if presence_mask is not None and presence_penalty != 0:
        raise build.not_supported(f"presence_penalty = {presence_penalty}")
    if build.wants(1):
        raise build.not_supported("output 1 (filtered_logits)")
    if temperature <= 0:
        raise build.invalid(f"attribute 'temperature' is {temperature}, expected more than 0")
    if min_tokens_to_keep < 0:
        raise build.invalid(
            f"attribute 'min_tokens_to_keep' is {min_tokens_to_keep}, expected no negative number"
        )
    if custom not in (0, 1):
        raise build.invalid(f"attribute 'custom' is {custom}, expected 0 or 1")
    known = known_constant(seed)
    if known is not None and known.min(initial=0) < 0:
        raise build.invalid(f"input 'seed' is {known.min()}, expected no negative number")
    scores = TokenScores(
        eos_token_id,
        no_repeat_ngram_size,
        repetition_penalty,
        min_length,
        vocab_mask,
        prefix_vocab_mask,
        temperature,
    )
    graphs = {"encoder": encoder, "init_decoder": init_decoder}
    search = Search(
        input_ids,
        max_length,
        scores,
        attention_mask,
        pad_token_id,
        vocab_size,
        model_type,
        graphs,
    )
    drawn = Drawn(seed, top_p, filter_value, min_tokens_to_keep, bool(custom))
    return search.generate(build, drawn), None


@dataclass
class Drawn:
    """A token drawn by its probability; those that are not probable enough get `filter_value`.

    Two numbers a row and step of the generator x <- 16807 x mod 2^31 - 1 make a number of 53 bits:
    a seed gives the tokens that other runtimes draw.
    """

    seed: Value | None
    top_p: float
    filter_value: float
    min_tokens_to_keep: int
    is_custom: bool

    def prepare(self, loop: DecodingLoop, told: Prompt, vocabulary: int) -> None:
        build = loop.build
        self.vocabulary = vocabulary
        self.modulus = build.int_scalar(_MODULUS)
        start = build.op("Mod", self._first(build), self.modulus)
        zero, one = build.int_scalar(0), build.int_scalar(1)
        start = build.op("Where", build.op("Equal", start, zero), one, start)
        powers = self._powers(build, build.op("Mul", told.rows, build.ints(2)))
        state = build.op("Mod", build.op("Mul", start, powers), self.modulus)
        pairs = build.op("Reshape", state, build.ints(-1, 2))
        self.leap = build.op("Gather", powers, build.int_scalar(-1), axis=0)
        self.pairs = loop.carry("random_numbers", pairs, TensorType(DataType.INT64, (None, 2)))

    def _first(self, build: ContribBuilder) -> Value:
        if self.seed is not None:
            return scalar(build, self.seed)
        any_of = build.op("RandomUniform", shape=[], high=float(1 << 30))
        return build.op("Cast", any_of, to=int(DataType.INT64))

    def _powers(self, build: ContribBuilder, count: Value) -> Value:
        """The multiplier to the powers 1 to `count`, by the modulus."""
        inside = build.body("powers")
        number = TensorType(DataType.INT64, ())
        last, _ = (inside.parameter(name, number) for name in ("last", "index"))
        product = inside.op("Mul", last, inside.int_scalar(_MULTIPLIER))
        power = inside.op("Mod", product, inside.int_scalar(_MODULUS))
        for _ in range(2):
            inside.graph.add_output(inside.op("Identity", power))
        start, steps = build.int_scalar(1), build.numbers(count)
        return build.ops("Scan", start, steps, outputs=2, body=inside.graph, num_scan_inputs=1)[1]

    def choose(self, loop: DecodingLoop, scores: Value) -> Value:
        inside = loop.inside
        following = inside.op("Mod", inside.op("Mul", self.pairs, self.leap), self.modulus)
        loop.follow(self.pairs, following)
        wide = inside.op("Cast", self._filtered(inside, scores), to=int(DataType.DOUBLE))
        highest = inside.op("ReduceMax", wide, inside.ints(1), keepdims=1)
        weights = inside.op("Exp", inside.op("Sub", wide, highest))
        sums = inside.op("CumSum", weights, inside.int_scalar(1))
        total = inside.op("Slice", sums, inside.ints(-1), inside.ints(1 << 62), inside.ints(1))
        drawn = inside.op("Mul", self._uniform(inside), total)
        passed = inside.op("Cast", inside.op("LessOrEqual", sums, drawn), to=int(DataType.INT32))
        return inside.op("ReduceSum", passed, inside.ints(1), keepdims=1)

    def _uniform(self, inside: ContribBuilder) -> Value:
        """A double from 0 to 1 for each row."""
        low, high = (
            inside.op("Gather", self.pairs, inside.ints(column), axis=1) for column in (0, 1)
        )
        low, high = (
            inside.op("Cast", inside.op("Sub", each, inside.int_scalar(1)), to=int(DataType.DOUBLE))
            for each in (low, high)
        )
        numbers = float(_MODULUS - 1)
        both = inside.op("Add", low, inside.op("Mul", high, _double(inside, numbers)))
        return inside.op("Div", both, _double(inside, numbers * numbers))

    def _filtered(self, inside: ContribBuilder, scores: Value) -> Value:
        """Scores with `filter_value` for the tokens beyond those that make up `top_p`.

        The custom way keeps the most probable one at least, the other `min_tokens_to_keep`.
        """
        count = inside.ints(self.vocabulary)
        ordered, tokens = inside.ops(
            "TopK", scores, count, outputs=2, axis=1, largest=int(self.is_custom)
        )
        parts = inside.op("Softmax", ordered, axis=1)
        sums = inside.op("CumSum", parts, inside.int_scalar(1), exclusive=int(self.is_custom))
        places = np.arange(self.vocabulary)
        if self.is_custom:
            drops = inside.op("Greater", sums, _single(inside, self.top_p))
            may_drop = places > 0
        else:
            rest = float(np.float32(1) - np.float32(self.top_p))
            drops = inside.op("LessOrEqual", sums, _single(inside, rest))
            may_drop = (places < self.vocabulary - self.min_tokens_to_keep) | (places == 0)
        if not may_drop.all():
            drops = inside.op("And", drops, inside.constant(may_drop))
        kept = inside.op("Where", drops, _single(inside, self.filter_value), ordered)
        return inside.op("ScatterElements", scores, tokens, kept, axis=1)


def _single(build: ContribBuilder, number: float) -> Value:
    return build.constant(np.array(number, dtype=np.float32))


def _double(build: ContribBuilder, number: float) -> Value:
    return build.constant(np.array(number, dtype=np.float64))
