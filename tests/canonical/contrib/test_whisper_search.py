# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession, floats_on_cpu
from tests.support.encoders import EncoderDecoder

from .beam_reference import BeamSearch
from .comparison import Array, Level, feeds_of, model_of, run_elsewhere, session
from .searches import LOWEST, Wishes, float32, int32
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


TALKS = {
    "eos_token_id": 70,
    "translate_token_id": 71,
    "transcribe_token_id": 72,
    "start_of_lm_token_id": 73,
    "no_timestamps_token_id": 74,
    "beginning_timestamp_token_id": 75,
}


@pytest.mark.parametrize(
    ("name", "temperature"),
    [("whisper", None), ("whisper", 0.5), ("whisper, with hidden states", 1.0)],
)
def test_whisper_beam_search(name: str, temperature: float | None) -> None:
    wishes = Wishes(2, 0, 1.3, 4, temperature=temperature or 1.0)
    search = BeamSearch(3, LENGTH, wishes, PAD, 2, early_stopping=True)
    made = attributes(MODELS[name], early_stopping=1, **TOKENS)
    last = None if temperature is None else float32(temperature)
    others = [None, None, None, FORCED, None, None, None, last]
    # BeamSearch, which is built likewise, is run in every way.
    ways = [("symbolic", Level.ORT_ENABLE_ALL), ("static", Level.ORT_DISABLE_ALL)]
    check_beams(search, MODELS[name], made, *others, op_type="WhisperBeamSearch", ways=ways)


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
    [(12, "cross_qk_layer_head"), (13, "extra_decoding_ids")],
)
def test_inputs_that_are_not_supported(index: int, name: str) -> None:
    inputs = [*inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODEL), *[None] * 7]
    inputs[index] = int32([[1, 2]])
    with pytest.raises(NotSupported, match=f"input '{name}'"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL)))


def test_wrong_numbers() -> None:
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODEL)
    with pytest.raises(InvalidGraph, match="'model_type' is 1, expected 2"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL, model_type=1)))
    inputs += [*[None] * 7, float32(0)]
    with pytest.raises(InvalidGraph, match=r"'temperature' is 0\.0"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL), constants=(14,)))


@dataclass
class TimedWishes(Wishes):
    """Timestamps stand in pairs, and do not go back."""

    def apply(self, scores: Array, ids: Array, is_first: bool) -> Array:
        scores, first = super().apply(scores, ids, is_first), 75
        for own, row in zip(scores, ids):
            times = row >= first
            begins = not times.any() or times.argmax() + 1 == len(row)
            own[[73, 74]] = LOWEST
            if not begins:
                own[[9, 71, 72]] = LOWEST
            is_single = times[-1] and not (begins or times[-2])
            if is_single:
                own[: self.eos] = LOWEST
            elif times[-1]:
                own[first:] = LOWEST
            if times.any():
                own[first : row[times][-1] + (0 if is_single else 1)] = LOWEST
            if begins:
                own[first + 51 :] = LOWEST
            possible = own[first:][own[first:] > LOWEST]
            if len(possible) and np.log(np.exp(possible).sum()) > own[:first].max():
                own[:first] = LOWEST
        return scores


@pytest.mark.parametrize(("seed", "constants"), [(0, ()), (1, (11,)), (2, ()), (3, (11,))])
def test_timestamps(seed: int, constants: tuple[int, ...]) -> None:
    model = EncoderDecoder(seed, is_whisper=True, vocabulary=150, scale=0.3)
    start = FORCED.copy()
    start[:2, 2] = 75, 90
    search = BeamSearch(3, 10, TimedWishes(70), PAD, 2, early_stopping=True)
    inputs = [*inputs_of(search, model), None, None, None, start, int32([1])]
    talks = attributes(model, early_stopping=1, **TALKS)
    built = model_of("WhisperBeamSearch", inputs, talks, 2, "symbolic", constants)
    feeds = feeds_of(inputs, constants)
    made = session(built)
    found = made.run(None, feeds)
    for sample in range(3):
        own = replace(search, kept=[], scores=[])

        def score(rows: Array, sample: int = sample) -> Array:
            return model.scores(inputs[0][sample], np.ones(4), rows)

        sequences, scores = own.run(start[sample], score)
        np.testing.assert_array_equal(found[0][sample], sequences)
        np.testing.assert_allclose(found[1][sample], scores, 1e-4, 1e-4)
    others = run_elsewhere(built, feeds)
    if others is not None:
        np.testing.assert_array_equal(found[0], others[0])
    if not constants:  # which says that there is none
        feeds["in11"] = int32([0])
        others = run_elsewhere(built, feeds)
        if others is not None:
            np.testing.assert_array_equal(made.run(None, feeds)[0], others[0])


def test_timestamps_need_tokens() -> None:
    inputs = [*inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODEL), *[None] * 4, int32([1])]
    with pytest.raises(InvalidGraph, match="'logits_processor' needs attribute 'translate_token"):
        session(model_of("WhisperBeamSearch", inputs, attributes(MODEL)))
    made = attributes(MODEL, **{**TOKENS, "beginning_timestamp_token_id": 11})
    with pytest.raises(InvalidGraph, match="'beginning_timestamp_token_id' is 11"):
        session(model_of("WhisperBeamSearch", inputs, made))


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_timestamps_on_the_device() -> None:
    model = EncoderDecoder(1, is_whisper=True, vocabulary=150, scale=0.3)
    search = BeamSearch(2, 7, Wishes(70), PAD)
    inputs = [*inputs_of(search, model), None, None, None, FORCED, int32([1])]
    made = attributes(model, **TALKS)
    content = model_of("WhisperBeamSearch", inputs, made).SerializeToString()
    on_device = EmulatedSession(content)
    assert not floats_on_cpu(on_device)
    [expected] = bascule.InferenceSession(content).run(None, feeds_of(inputs))
    [found] = on_device.run(None, feeds_of(inputs))
    np.testing.assert_array_equal(found, expected)
