# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .beam_reference import BeamSearch
from .comparison import model_of, session
from .searches import Wishes, float32, int32
from .test_encoder_decoder_search import (
    FORCED,
    LENGTH,
    MODELS,
    PAD,
    attributes,
    check_beams,
    inputs_of,
)

MODEL = MODELS["whisper"]
TOKENS = {
    "translate_token_id": 5,
    "transcribe_token_id": 6,
    "start_of_lm_token_id": 7,
    "no_speech_token_id": 3,
    "no_timestamps_token_id": 8,
    "beginning_timestamp_token_id": 4,
}


@pytest.mark.parametrize("name", [name for name in MODELS if "whisper" in name])
@pytest.mark.parametrize("temperature", [None, 1.0, 0.5])
def test_whisper_beam_search(name: str, temperature: float | None) -> None:
    wishes = Wishes(2, 0, 1.3, 4, temperature=temperature or 1.0)
    search = BeamSearch(3, LENGTH, wishes, PAD, 2, early_stopping=True)
    made = attributes(MODELS[name], early_stopping=1, **TOKENS)
    last = None if temperature is None else float32(temperature)
    others = [None, None, None, FORCED, None, None, None, last]
    check_beams(search, MODELS[name], made, *others, op_type="WhisperBeamSearch")


@pytest.mark.parametrize(
    ("made", "count", "message"),
    [
        ({"decoder_output_cross_qk": 1}, 1, "decoder_output_cross_qk = 1"),
        ({"init_decoder": MODEL.decoder()}, 1, "attribute 'init_decoder'"),
        ({}, 4, "output 3"),
        ({}, 5, "output 3"),
    ],
)
def test_what_is_not_supported_is_named(made: dict[str, Any], count: int, message: str) -> None:
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODEL)
    model = model_of("WhisperBeamSearch", inputs, attributes(MODEL, **made), count)
    with pytest.raises(NotSupported, match=message):
        session(model)


@pytest.mark.parametrize(
    ("index", "name"),
    [(11, "logits_processor"), (12, "cross_qk_layer_head"), (13, "extra_decoding_ids")],
)
def test_inputs_that_are_not_supported(index: int, name: str) -> None:
    inputs = [*inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODEL), *[None] * 7]
    inputs[index] = int32(np.ones((1, 2)))[:, : 2 - (index == 11)]
    with pytest.raises(NotSupported, match=f"input '{name}'"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL)))


def test_wrong_numbers() -> None:
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODEL)
    with pytest.raises(InvalidGraph, match="'model_type' is 1, expected 2"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL, model_type=1)))
    inputs += [*[None] * 7, float32(0)]
    with pytest.raises(InvalidGraph, match=r"'temperature' is 0\.0"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL), constants=(14,)))
