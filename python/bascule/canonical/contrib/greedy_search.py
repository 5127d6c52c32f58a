# SPDX-License-Identifier: Apache-2.0
"""Text generation by one token after the other, by a decoder that the node carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.decoders import DecodingLoop, all_of
from bascule.canonical.contrib.gpt_decoder import MATRIX, GptLoop, Prompt, int32, prompt
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.token_scores import TokenScores, check_tokens, scalar
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType


class Choice(Protocol):
    """How the next token is chosen."""

    def prepare(self, loop: DecodingLoop, told: Prompt, vocabulary: int) -> None:
        """Add what it needs before the loop, and what goes round."""

    def choose(self, loop: DecodingLoop, scores: Value) -> Value:
        """One token a row, int32 of ``[rows, 1]``, by scores of ``[rows, vocabulary]``."""


class Best:
    """The token of the highest score, the first of equal ones."""

    def prepare(self, loop: DecodingLoop, told: Prompt, vocabulary: int) -> None:
        pass

    def choose(self, loop: DecodingLoop, scores: Value) -> Value:
        best = loop.inside.op("ArgMax", scores, axis=1, keepdims=1)
        return loop.inside.op("Cast", best, to=int(DataType.INT32))


@dataclass
class Search:
    """What the inputs and attributes of a search say, but for how it chooses."""

    input_ids: Value
    max_length: Value
    scores: TokenScores
    attention_mask: Value | None
    pad_token_id: int
    vocab_size: int
    model_type: int
    other_graphs: dict[str, Graph | None] = field(default_factory=dict)

    def generate(self, build: ContribBuilder, choice: Choice) -> Value:
        """The prompt and what follows, until all rows have ended; the rest is padding."""
        check_decoder_only(build, self.model_type, self.other_graphs)
        eos_token_id = self.scores.eos_token_id
        check_tokens(build, eos_token_id, self.pad_token_id)
        build.expect_shape("input_ids", self.input_ids, (None, None))
        if self.attention_mask is not None:
            build.expect_shape("attention_mask", self.attention_mask, (None, None))
        decoding = GptLoop(build, self.vocab_size)
        self.scores.prepare(build, decoding.vocabulary)
        told = prompt(build, self.input_ids, self.attention_mask, self.pad_token_id, None)
        scores = decoding.start(told)
        loop, inside = decoding.loop, decoding.loop.inside
        sequences = loop.carry("sequences", self.input_ids, MATRIX)
        none = build.op("Less", told.lengths, int32(build, 0))
        ended = loop.carry("ended", none, TensorType(DataType.BOOL, (None, 1)))
        choice.prepare(loop, told, decoding.vocabulary)

        first = inside.op("Equal", loop.iteration, inside.int_scalar(0))
        scores = self.scores.apply(inside, scores, sequences, first)
        tokens = choice.choose(loop, scores)
        ends = inside.op("Or", ended, inside.op("Equal", tokens, int32(inside, eos_token_id)))
        tokens = inside.op("Where", ends, int32(inside, self.pad_token_id), tokens)
        loop.follow(sequences, inside.op("Concat", sequences, tokens, axis=1))
        loop.follow(ended, ends)
        decoding.go_on(tokens)
        steps = steps_to(build, self.max_length, self.input_ids)
        last = loop.finish(steps, None, inside.op("Not", all_of(inside, ends)))
        return padded(build, last[sequences], self.max_length, self.pad_token_id)


@operator("GreedySearch")
def greedy_search(
    build: ContribBuilder,
    input_ids: Value,
    max_length: Value,
    min_length: Value | None,
    repetition_penalty: Value | None,
    vocab_mask: Value | None,
    prefix_vocab_mask: Value | None,
    attention_mask: Value | None,
    *,
    decoder: Graph,
    eos_token_id: int,
    pad_token_id: int,
    decoder_start_token_id: int = -1,
    encoder: Graph | None = None,
    init_decoder: Graph | None = None,
    model_type: int = 0,
    no_repeat_ngram_size: int = 0,
    vocab_size: int = -1,
) -> Outputs:
    """`decoder_start_token_id` means something beside an encoder only."""
    scores = TokenScores(
        eos_token_id,
        no_repeat_ngram_size,
        repetition_penalty,
        min_length,
        vocab_mask,
        prefix_vocab_mask,
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
    return search.generate(build, Best())


def check_decoder_only(
    build: ContribBuilder, model_type: int, other_graphs: dict[str, Graph | None]
) -> None:
    if model_type != 0:
        raise build.not_supported(f"a model with an encoder (model_type = {model_type})")
    for name, graph in other_graphs.items():
        if graph is not None:
            raise build.not_supported(f"attribute '{name}'")


def steps_to(build: ContribBuilder, max_length: Value, prompt: Value) -> Value:
    """How many tokens may follow the prompt."""
    known, length = known_constant(max_length), build.known_dim(prompt, 1)
    if known is not None and known.size == 1 and length is not None and known.max() <= length:
        raise build.invalid(
            f"input 'max_length' is {int(known.max())}, expected more than the {length} "
            "tokens of the prompt"
        )
    length_now = build.op("Reshape", build.op("Shape", prompt, start=1, end=2), build.ints())
    return build.op("Sub", scalar(build, max_length), length_now)


def padded(build: ContribBuilder, sequences: Value, length: Value, pad_token_id: int) -> Value:
    """`sequences` of the length that was asked for."""
    wanted = build.op("Reshape", scalar(build, length), build.ints(1))
    missing = build.op("Sub", wanted, build.op("Shape", sequences, start=1, end=2))
    pads = build.op("Concat", build.ints(0, 0, 0), missing, axis=0)
    result = build.op("Pad", sequences, pads, int32(build, pad_token_id))
    return build.give_type(result, MATRIX)
