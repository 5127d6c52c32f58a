# SPDX-License-Identifier: Apache-2.0
"""Text generation by the most probable of several sequences."""

from __future__ import annotations

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.beams import Beams
from bascule.canonical.contrib.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderSearch,
    encoder_mask,
    start_tokens,
)
from bascule.canonical.contrib.gpt_decoder import GptLoop, prompt, repeat
from bascule.canonical.contrib.greedy_search import (
    check_decoder_only,
    steps_to,
)
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.token_scores import TokenScores
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import TensorType

_T5, WHISPER = 1, 2


@operator("BeamSearch")
def beam_search(
    build: ContribBuilder,
    input_ids: Value,
    max_length: Value,
    min_length: Value | None,
    num_beams: Value,
    num_return_sequences: Value,
    length_penalty: Value | None,
    repetition_penalty: Value | None,
    vocab_mask: Value | None,
    prefix_vocab_mask: Value | None,
    attention_mask: Value | None,
    decoder_input_ids: Value | None,
    logits_processor: Value | None,
    *,
    decoder: Graph,
    eos_token_id: int,
    pad_token_id: int,
    decoder_start_token_id: int = -1,
    early_stopping: int = 0,
    encoder: Graph | None = None,
    init_decoder: Graph | None = None,
    model_type: int = 0,
    no_repeat_ngram_size: int = 0,
    vocab_size: int = -1,
) -> Outputs:
    wishes = TokenScores(
        eos_token_id,
        no_repeat_ngram_size,
        repetition_penalty,
        min_length,
        vocab_mask,
        prefix_vocab_mask,
    )
    beams = Beams(
        build,
        wishes,
        num_beams,
        num_return_sequences,
        max_length,
        length_penalty,
        early_stopping,
        pad_token_id,
    )
    check_no_processor(build, logits_processor)
    beams.check()
    if model_type != WHISPER and decoder_input_ids is not None:
        raise build.not_supported(f"input 'decoder_input_ids' with model_type = {model_type}")
    if model_type in (_T5, WHISPER):
        check_other_graphs(build, encoder, init_decoder)
        start = decoder_input_ids or start_tokens(build, input_ids, decoder_start_token_id)
        results = of_encoder(build, beams, input_ids, attention_mask, start, model_type, vocab_size)
    else:
        check_decoder_only(build, model_type, {"encoder": encoder, "init_decoder": init_decoder})
        results = of_decoder(build, beams, input_ids, attention_mask, vocab_size)
    return typed_results(build, results, length_penalty or repetition_penalty)


def check_other_graphs(
    build: ContribBuilder, encoder: Graph | None, init_decoder: Graph | None
) -> None:
    if encoder is None:
        raise build.invalid("required attribute 'encoder' is missing")
    if init_decoder is not None:
        raise build.not_supported("attribute 'init_decoder'")


def of_encoder(
    build: ContribBuilder,
    beams: Beams,
    inputs: Value,
    mask: Value | None,
    start: Value,
    model_type: int,
    vocab_size: int,
) -> tuple[Value, Value, Value | None]:
    """The search by an encoder and a decoder."""
    if model_type == WHISPER and mask is not None:
        raise build.not_supported("input 'attention_mask' of a Whisper model")
    graphs = EncoderDecoder(build, vocab_size, has_mask=model_type == _T5)
    if model_type == _T5:
        build.expect_shape("input_ids", inputs, (None, None))
        mask = encoder_mask(build, inputs, mask, beams.pad_token_id)
    prepare(build, beams, graphs.vocabulary)
    steps = steps_to(build, beams.max_length, start)
    last, collected = EncoderDecoderSearch(graphs, beams).run(inputs, mask, start)
    scores = all_scores(build, beams, collected, steps) if collected else None
    return (*beams.finish(last), scores)


def of_decoder(
    build: ContribBuilder,
    beams: Beams,
    input_ids: Value,
    attention_mask: Value | None,
    vocab_size: int,
) -> tuple[Value, Value, Value | None]:
    """The search by a decoder alone: sequences, their scores, and those of all tokens."""
    build.expect_shape("input_ids", input_ids, (None, None))
    if attention_mask is not None:
        build.expect_shape("attention_mask", attention_mask, (None, None))
    decoding = GptLoop(build, vocab_size)
    told = prompt(build, input_ids, attention_mask, beams.pad_token_id, beams.beams)
    prepare(build, beams, decoding.vocabulary)
    batch = build.op("Shape", input_ids, start=0, end=1)
    start = beams.start(batch, told.ids, decoding.vocabulary)
    logits = decoding.start(told)
    loop, inside = decoding.loop, decoding.loop.inside
    state = start.carried(loop)
    first = inside.op("Equal", loop.iteration, inside.int_scalar(0))
    step = beams.step(inside, state, logits, first)
    state.go_on(loop, step.state)
    decoding.go_on(step.tokens, step.rows)
    goes_on = inside.op("Not", beams.all_done(inside, step.state))
    steps = steps_to(build, beams.max_length, input_ids)
    collected = [step.scores] if build.wants(2) else []
    last = loop.finish(steps, None, goes_on, collected)
    scores = all_scores(build, beams, loop.collected, steps) if collected else None
    return (*beams.finish(state.last(last)), scores)


def prepare(build: ContribBuilder, beams: Beams, vocabulary: int) -> None:
    """Of the wishes, what is one for each sample becomes one for each beam."""
    beams.wishes.prepare(build, vocabulary)
    prefix = beams.wishes.prefix_vocab_mask
    if prefix is not None:
        beams.wishes.prefix_vocab_mask = repeat(build, prefix, beams.beams)


def all_scores(build: ContribBuilder, beams: Beams, collected: list[Value], steps: Value) -> Value:
    """``[steps, batch, beams, vocabulary]``, with 0 for steps that were not made."""
    scores = collected[0] if len(collected) == 1 else build.op("Concat", *collected, axis=0)
    wanted = build.op("Reshape", steps, build.ints(1))
    missing = build.op("Sub", wanted, build.op("Shape", scores, start=0, end=1))
    pads = build.op("Concat", build.ints(0, 0, 0), missing, build.ints(0, 0), axis=0)
    scores = build.op("Pad", scores, pads)
    sizes = (wanted, beams.by_beam, build.ints(beams.vocabulary))
    return build.op("Reshape", scores, build.op("Concat", *sizes, axis=0))


def check_no_processor(build: ContribBuilder, logits_processor: Value | None) -> None:
    if logits_processor is None:
        return
    known = known_constant(logits_processor)
    if known is None or known.any():
        raise build.not_supported("input 'logits_processor' other than a constant 0")


def typed_results(
    build: ContribBuilder, results: tuple[Value, Value, Value | None], penalty: Value | None
) -> Outputs:
    """Scores have the type of the penalties."""
    sequences, scores, every = results
    dtype = (penalty and build.typed(penalty).dtype) or DataType.FLOAT
    scores = build.give_type(scores, TensorType(DataType.FLOAT, (None, None)))
    if every is not None:
        every = build.give_type(every, TensorType(DataType.FLOAT, (None, None, None, None)))
        every = build.cast(every, dtype)
    sequences = build.give_type(sequences, TensorType(DataType.INT32, (None, None, None)))
    return sequences, build.cast(scores, dtype), every
