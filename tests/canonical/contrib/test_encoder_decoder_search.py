# SPDX-License-Identifier: Apache-2.0
"""BeamSearch of models with an encoder, in the forms of T5 and Whisper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession, floats_on_cpu
from tests.support.encoders import EncoderDecoder

from .beam_reference import BeamSearch
from .comparison import Array, Level, feeds_of, model_of, normal, run_elsewhere, session
from .searches import WAYS, Wishes, float32, int32

PAD, START, LENGTH = 10, 9, 8
WORDS = int32([[PAD, 2, 3, PAD], [4, 5, 6, 1], [PAD, PAD, 7, 8]])
SOUNDS = normal(3, 5, 4)
FORCED = int32([[9, 1, 2], [9, 3, 4], [9, 0, 1]])

MODELS = {
    "older": EncoderDecoder(),
    "older, with hidden states": EncoderDecoder(1, has_hidden=True),
    "newer": EncoderDecoder(2, is_older=False),
    "of whole sequences": EncoderDecoder(3, is_whole=True),
    "whisper": EncoderDecoder(4, is_whisper=True),
    "whisper, with hidden states": EncoderDecoder(5, is_whisper=True, has_hidden=True),
}


def attributes(model: EncoderDecoder, eos: int = 2, **others: Any) -> dict[str, Any]:
    return {
        "decoder": model.decoder(),
        "encoder": model.encoder(),
        "eos_token_id": eos,
        "pad_token_id": PAD,
        "decoder_start_token_id": START,
        "model_type": 2 if model.is_whisper else 1,
        **others,
    }


def inputs_of(search: BeamSearch, model: EncoderDecoder, *others: Array | None) -> list[Any]:
    wishes = search.wishes
    return [
        SOUNDS if model.is_whisper else WORDS,
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
    model: EncoderDecoder,
    made: dict[str, Any],
    *others: Array | None,
    op_type: str = "BeamSearch",
    ways: Sequence[tuple[str, Level]] = WAYS,
) -> None:
    """`others`: vocab_mask, prefix_vocab_mask, attention_mask, decoder_input_ids, ..."""
    _, first, mask, start = [*others, *[None] * 4][:4]
    inputs = inputs_of(search, model, *others)
    if mask is None:
        mask = np.cumsum(WORDS != PAD, 1) > 0
    if model.is_whisper:
        mask = np.ones((3, 4))
    if start is None:
        start = int32([[START]] * 3)
    sequences, scores, steps = [], [], []
    for sample in range(3):

        def score(rows: Array, sample: int = sample) -> Array:
            return model.scores(inputs[0][sample], mask[sample], rows)

        words = None if first is None else first[sample : sample + 1].repeat(search.beams, 0)
        own = replace(search, wishes=replace(search.wishes, first=words), kept=[], scores=[])
        found = own.run(start[sample], score)
        sequences.append(found[0])
        scores.append(found[1])
        with np.errstate(over="ignore"):  # what must not follow, by a temperature
            steps.append(np.stack(own.scores).astype(np.float32))
    feeds = feeds_of(inputs)
    for kind, level in ways:
        built = model_of(op_type, inputs, made, 3, kind)
        ours = session(built, level).run(None, feeds)
        np.testing.assert_array_equal(ours[0], sequences, err_msg=f"{kind} {level.name}")
        np.testing.assert_allclose(ours[1], scores, 1e-4, 1e-4)
        wanted = (search.length - start.shape[1], 3, search.beams, model.vocabulary)
        assert ours[2].shape == wanted
        for sample, each in enumerate(steps):
            np.testing.assert_allclose(ours[2][: len(each), sample], each, 1e-4, 1e-3)
    theirs = run_elsewhere(built, feeds)
    if theirs is not None:
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], 1e-4, 1e-4)
        made_by_all = min(map(len, steps))
        np.testing.assert_allclose(ours[2][:made_by_all], theirs[2][:made_by_all], 1e-4, 1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model = MODELS[name]
    for beams, returned, penalty in ((1, 1, 1.0), (3, 2, 2.0)):
        search = BeamSearch(beams, LENGTH, Wishes(2), PAD, returned, penalty, early_stopping=True)
        check_beams(search, model, attributes(model, early_stopping=1))


@pytest.mark.parametrize("name", MODELS)
def test_wishes(name: str) -> None:
    model = MODELS[name]
    words = int32([1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1])
    first = int32(np.random.default_rng(3).integers(0, 2, (3, 11)))
    mask = None if model.is_whisper else int32([[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]])
    wishes = Wishes(2, 2, 1.3, 6, words)
    search = BeamSearch(3, LENGTH, wishes, PAD, 2, early_stopping=True)
    made = attributes(model, early_stopping=1, no_repeat_ngram_size=2)
    check_beams(search, model, made, words, first, mask)


@pytest.mark.parametrize("name", [name for name in MODELS if "whisper" in name])
def test_tokens_that_are_given(name: str) -> None:
    search = BeamSearch(2, LENGTH, Wishes(2), PAD, 2, early_stopping=True)
    made = attributes(MODELS[name], early_stopping=1)
    check_beams(search, MODELS[name], made, None, None, None, FORCED)


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("name", ["newer", "whisper"])
def test_on_the_device(name: str) -> None:
    model = MODELS[name]
    inputs = inputs_of(BeamSearch(2, 6, Wishes(2), PAD, 2), model)
    content = model_of("BeamSearch", inputs, attributes(model), 3).SerializeToString()
    made = EmulatedSession(content)
    assert not floats_on_cpu(made)
    expected = bascule.InferenceSession(content).run(None, feeds_of(inputs))
    found = made.run(None, feeds_of(inputs))
    np.testing.assert_array_equal(found[0], expected[0])
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-4)


def refused(
    kind: type[Exception], message: str, made: dict[str, Any], inputs: Sequence[Any]
) -> None:
    with pytest.raises(kind, match=message):
        session(model_of("BeamSearch", inputs, made))


def test_wrong_attributes() -> None:
    model = MODELS["older"]
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), model)
    made = attributes(model)
    del made["encoder"]
    refused(InvalidGraph, "required attribute 'encoder' is missing", made, inputs)
    made = attributes(model, decoder_start_token_id=-1)
    refused(InvalidGraph, "'decoder_start_token_id' is -1", made, inputs)
    made = attributes(model, init_decoder=model.decoder())
    refused(NotSupported, "attribute 'init_decoder'", made, inputs)


def test_inputs_of_other_models() -> None:
    search, made = BeamSearch(2, LENGTH, Wishes(2), PAD), attributes(MODELS["older"])
    inputs = inputs_of(search, MODELS["older"], None, None, None, FORCED)
    refused(NotSupported, "input 'decoder_input_ids' with model_type = 1", made, inputs)
    inputs = inputs_of(search, MODELS["whisper"], None, None, WORDS)
    made = attributes(MODELS["whisper"])
    refused(NotSupported, "input 'attention_mask' of a Whisper model", made, inputs)


def without_output(graph: onnx.GraphProto) -> None:
    del graph.output[-1]


def with_length(graph: onnx.GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("past_sequence_length", 6, [1]))


def with_output(graph: onnx.GraphProto) -> None:
    graph.output.append(helper.make_tensor_value_info("weight", 1, None))


def of_int64(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


@pytest.mark.parametrize(
    ("name", "change", "kind", "message"),
    [
        ("decoder", without_output, InvalidGraph, "has 2 outputs, expected 3"),
        ("decoder", with_length, NotSupported, "input 'past_sequence_length'"),
        ("decoder", with_output, NotSupported, "output 'weight'"),
        ("decoder", of_int64, InvalidGraph, "must have input 'input_ids' of type int32"),
        ("encoder", without_output, InvalidGraph, "has 5 outputs"),
        ("encoder", of_int64, InvalidGraph, "must have input 'encoder_input_ids' of type int32"),
    ],
)
def test_wrong_graphs(name: str, change: Any, kind: Any, message: str) -> None:
    made = attributes(MODELS["older"])
    change(made[name])
    inputs = inputs_of(BeamSearch(2, LENGTH, Wishes(2), PAD), MODELS["older"])
    refused(kind, message, made, inputs)
