# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession, floats_on_cpu
from tests.support.decoders import Decoder

from .beam_reference import BeamSearch
from .comparison import Array, Level, feeds_of, model_of, run_elsewhere, session
from .searches import PROMPT, WAYS, Told, Wishes, float32, int32, kept_session

PAD, LENGTH = 10, 9
DECODER = Decoder(scale=0.3)
MASK = int32([[1, 0, 1], [1, 1, 1], [0, 1, 1]])


def expected_of(
    search: BeamSearch,
    ids: Array,
    decoder: Decoder = DECODER,
    mask: Array | None = None,
    first: Array | None = None,
) -> tuple[Array, Array, list[Array]]:
    """Sequences, their scores, and those of the tokens in each step."""
    sequences, scores, steps = [], [], []
    for sample, prompt in enumerate(ids):

        def score(rows: Array, sample: int = sample, prompt: Array = prompt) -> Array:
            attended = None if mask is None else mask[sample : sample + 1]
            told = Told(prompt[None], PAD, attended)
            told.ids, told.positions, told.mask = (
                np.repeat(each, len(rows), 0) for each in (told.ids, told.positions, told.mask)
            )
            told.lengths = np.repeat(told.lengths, len(rows))
            for column in range(len(prompt), rows.shape[1]):
                told.follow(rows[:, column])
            return decoder.scores(rows, told.positions, told.mask)

        words = None if first is None else first[sample : sample + 1].repeat(search.beams, 0)
        wishes = replace(search.wishes, first=words)
        own = replace(search, wishes=wishes, kept=[], scores=[])
        found = own.run(prompt, score)
        sequences.append(found[0])
        scores.append(found[1])
        steps.append(np.stack(own.scores))
    return np.stack(sequences), np.stack(scores), steps


def attributes(eos: int = 2, decoder: Decoder = DECODER, **others: Any) -> dict[str, Any]:
    return {"decoder": decoder.graph(), "eos_token_id": eos, "pad_token_id": PAD, **others}


def inputs_of(search: BeamSearch, ids: Array = PROMPT, *others: Array | None) -> list[Any]:
    wishes = search.wishes
    return [
        ids,
        int32([search.length]),
        int32([wishes.shortest]),
        int32([search.beams]),
        int32([search.returned]),
        float32(search.length_penalty),
        float32(wishes.penalty),
        *others,
    ]


def check_beams(
    search: BeamSearch,
    made: dict[str, Any],
    ids: Array = PROMPT,
    *others: Array | None,
    decoder: Decoder = DECODER,
    constants: Sequence[int] = (),
    elsewhere: bool = True,
    ways: Sequence[tuple[str, Level]] = WAYS,
) -> None:
    words = [*others, None, None, None]
    sequences, scores, steps = expected_of(search, ids, decoder, words[2], words[1])
    inputs = inputs_of(search, ids, *others)
    feeds = feeds_of(inputs, constants)
    for kind, level in ways:
        model = model_of("BeamSearch", inputs, made, 3, kind, constants)
        found = kept_session(model.SerializeToString(), level).run(None, feeds)
        np.testing.assert_array_equal(found[0], sequences, err_msg=f"{kind} {level.name}")
        np.testing.assert_allclose(found[1], scores, 1e-4, 1e-4)
        wanted = (search.length - ids.shape[1], len(ids), search.beams, decoder.vocabulary)
        assert found[2].shape == wanted
        for sample, own in enumerate(steps):
            np.testing.assert_allclose(found[2][: len(own), sample], own, 1e-4, 1e-3)
    others_found = run_elsewhere(model, feeds) if elsewhere else None
    if others_found is not None:
        np.testing.assert_array_equal(sequences, others_found[0])
        np.testing.assert_allclose(scores, others_found[1], 1e-4, 1e-4)
        made_by_all = min(map(len, steps))
        first = others_found[2][:made_by_all]
        np.testing.assert_allclose(found[2][:made_by_all], first, 1e-4, 1e-3)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("beams", "returned"), [(1, 1), (2, 1), (4, 3)])
def test_early_stopping(beams: int, returned: int, penalty: float) -> None:
    search = BeamSearch(beams, LENGTH, Wishes(2), PAD, returned, penalty, early_stopping=True)
    check_beams(search, attributes(early_stopping=1))


@pytest.mark.parametrize("penalty", [0.5, 2.0])
@pytest.mark.parametrize("sample", range(3))
def test_until_nothing_better_can_come(sample: int, penalty: float) -> None:
    search = BeamSearch(3, LENGTH, Wishes(2), PAD, 3, penalty)
    check_beams(search, attributes(), PROMPT[sample : sample + 1])


def test_a_sample_does_not_depend_on_the_others() -> None:
    """Elsewhere the best score of one sample may decide that another goes on."""
    for seed in range(3):
        decoder = Decoder(seed, scale=0.3)
        search = BeamSearch(2, LENGTH, Wishes(2), PAD, 2, 2.0)
        made = attributes(decoder=decoder)
        ways = [("symbolic", Level.ORT_ENABLE_ALL)]
        check_beams(search, made, decoder=decoder, elsewhere=False, ways=ways)


@pytest.mark.parametrize("constants", [(), (1, 2, 3, 4, 5, 6)])
def test_wishes(constants: tuple[int, ...]) -> None:
    words = int32([1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1])
    first = int32(np.random.default_rng(3).integers(0, 2, (3, 11)))
    wishes = Wishes(2, 2, 1.3, 6, words)
    search = BeamSearch(3, LENGTH, wishes, PAD, 2, 1.0, early_stopping=True)
    made = attributes(early_stopping=1, no_repeat_ngram_size=2)
    check_beams(search, made, PROMPT, words, first, MASK, constants=constants)


def test_optional_inputs() -> None:
    search = BeamSearch(2, LENGTH, Wishes(2), PAD, 2, early_stopping=True)
    inputs = inputs_of(search)
    inputs[2] = inputs[5] = inputs[6] = None
    model = model_of("BeamSearch", inputs, attributes(early_stopping=1))
    [found] = session(model).run(None, feeds_of(inputs))
    np.testing.assert_array_equal(found, expected_of(search, PROMPT)[0])


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_on_the_device() -> None:
    inputs = inputs_of(BeamSearch(2, 6, Wishes(2), PAD, 2))
    content = model_of("BeamSearch", inputs, attributes(), 3).SerializeToString()
    made = EmulatedSession(content)
    assert not floats_on_cpu(made)
    expected = bascule.InferenceSession(content).run(None, feeds_of(inputs))
    found = made.run(None, feeds_of(inputs))
    np.testing.assert_array_equal(found[0], expected[0])
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model_type": 3}, "model_type = 3"),
        ({"init_decoder": DECODER.graph()}, "attribute 'init_decoder'"),
    ],
)
def test_what_is_not_supported_is_named(wrong: dict[str, Any], message: str) -> None:
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD))
    with pytest.raises(NotSupported, match=message):
        session(model_of("BeamSearch", inputs, attributes(**wrong)))


@pytest.mark.parametrize("index", [10, 11])
def test_inputs_of_other_models_are_refused(index: int) -> None:
    inputs = [*inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD)), *[None] * 5]
    inputs[index] = int32([[1]]) if index == 10 else int32([1])
    name = "decoder_input_ids" if index == 10 else "logits_processor"
    with pytest.raises(NotSupported, match=f"input '{name}'"):
        session(model_of("BeamSearch", inputs, attributes()))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (BeamSearch(0, LENGTH, Wishes(2), PAD), "'num_beams' is 0"),
        (BeamSearch(2, LENGTH, Wishes(2), PAD, 3), "'num_return_sequences' is 3, more than the 2"),
        (BeamSearch(2, 3, Wishes(2), PAD), "'max_length' is 3"),
    ],
)
def test_wrong_numbers(search: BeamSearch, message: str) -> None:
    model = model_of("BeamSearch", inputs_of(search), attributes(), constants=(1, 3, 4))
    with pytest.raises(InvalidGraph, match=message):
        session(model)


def test_wrong_attributes() -> None:
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD))
    with pytest.raises(InvalidGraph, match="'early_stopping' is 2"):
        session(model_of("BeamSearch", inputs, attributes(early_stopping=2)))
