# SPDX-License-Identifier: Apache-2.0
"""BeamSearch of Whisper, with inputs and outputs for speech alone."""

from __future__ import annotations

from bascule.canonical.builder import known_constant
from bascule.canonical.contrib.beam_search import (
    WHISPER,
    check_other_graphs,
    of_encoder,
    typed_results,
)
from bascule.canonical.contrib.beams import Beams
from bascule.canonical.contrib.encoder_decoder import start_tokens
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.timestamps import Timestamps
from bascule.canonical.contrib.token_scores import TokenScores, scalar
from bascule.ir.graph import Graph, Value

_TIMESTAMPS = 1
"""The logits processor that knows timestamps."""


@operator("WhisperBeamSearch")
def whisper_beam_search(
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
    cross_qk_layer_head: Value | None,
    extra_decoding_ids: Value | None,
    temperature: Value | None,
    *,
    decoder: Graph,
    eos_token_id: int,
    pad_token_id: int,
    beginning_timestamp_token_id: int = -1,
    decoder_output_cross_qk: int = 0,
    decoder_start_token_id: int = -1,
    early_stopping: int = 0,
    encoder: Graph | None = None,
    init_decoder: Graph | None = None,
    model_type: int = 2,
    no_repeat_ngram_size: int = 0,
    no_speech_token_id: int = -1,
    no_timestamps_token_id: int = -1,
    start_of_lm_token_id: int = -1,
    transcribe_token_id: int = -1,
    translate_token_id: int = -1,
    vocab_size: int = -1,
) -> Outputs:
    """The tokens of tasks and timestamps mean something to a logits processor alone, the one of no
    speech to output 4: without these, they change nothing.
    """
    if model_type != WHISPER:
        raise build.invalid(f"attribute 'model_type' is {model_type}, expected {WHISPER}")
    if decoder_output_cross_qk:
        raise build.not_supported(f"decoder_output_cross_qk = {decoder_output_cross_qk}")
    for name, value in (
        ("cross_qk_layer_head", cross_qk_layer_head),
        ("extra_decoding_ids", extra_decoding_ids),
    ):
        if value is not None:
            raise build.not_supported(f"input '{name}'")
    for index, name in ((3, "cross_qk"), (4, "non_speech_probs")):
        if build.wants(index):
            raise build.not_supported(f"output {index} ({name})")
    tokens = {
        "decoder_start_token_id": decoder_start_token_id,
        "translate_token_id": translate_token_id,
        "transcribe_token_id": transcribe_token_id,
        "start_of_lm_token_id": start_of_lm_token_id,
        "no_timestamps_token_id": no_timestamps_token_id,
        "beginning_timestamp_token_id": beginning_timestamp_token_id,
    }
    wishes = TokenScores(
        eos_token_id,
        no_repeat_ngram_size,
        repetition_penalty,
        min_length,
        vocab_mask,
        prefix_vocab_mask,
        temperature or 1.0,
        _timestamps(build, logits_processor, eos_token_id, tokens),
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
    beams.check()
    check_other_graphs(build, encoder, init_decoder)
    start = decoder_input_ids or start_tokens(build, input_ids, decoder_start_token_id)
    results = of_encoder(build, beams, input_ids, attention_mask, start, WHISPER, vocab_size)
    return typed_results(build, results, length_penalty or repetition_penalty)


def _timestamps(
    build: ContribBuilder, logits_processor: Value | None, end: int, tokens: dict[str, int]
) -> Timestamps | None:
    """The rules that processor 1 stands for; any other number stands for none."""
    known = known_constant(logits_processor)
    if logits_processor is None or (known is not None and not (known == _TIMESTAMPS).all()):
        return None
    for name, token in tokens.items():
        if token < 0:
            raise build.invalid(f"input 'logits_processor' needs attribute '{name}'")
    wanted = None
    if known is None:
        number = scalar(build, logits_processor)
        wanted = build.op("Equal", number, build.int_scalar(_TIMESTAMPS))
    start, translate, transcribe, start_of_lm, none, first = tokens.values()
    return Timestamps(end, start, translate, transcribe, start_of_lm, none, first, wanted)
