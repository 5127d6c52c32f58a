# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

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
from tests.support.decoders import Decoder

from .comparison import Array, feeds_of, model_of, session
from .searches import PROMPT, Wishes, check_search, float32, int32, one_by_one

PAD = 10
DECODER = Decoder()
MASK = int32([[1, 0, 1], [1, 1, 1], [0, 1, 1]])
WORDS = int32([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1])
FIRST_WORDS = int32(np.random.default_rng(3).integers(0, 2, (3, 11)))


def attributes(eos: int = 9, decoder: Decoder = DECODER, **others: Any) -> dict[str, Any]:
    return {"decoder": decoder.graph(), "eos_token_id": eos, "pad_token_id": PAD, **others}


def inputs_of(length: int = 12, ids: Array = PROMPT, *others: Array | None) -> list[Any]:
    return [ids, int32([length]), *others]


@pytest.mark.parametrize("eos", [9, 1, 2, 3, 8])
def test_rows_end_at_different_times(eos: int) -> None:
    expected = one_by_one(DECODER, PROMPT, 12, Wishes(eos), PAD)
    written = {1: 6, 2: 5}.get(eos)  # before the limit all rows have ended
    check_search("GreedySearch", inputs_of(), attributes(eos), expected, written=written)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ngrams_are_not_repeated(size: int) -> None:
    expected = one_by_one(DECODER, PROMPT, 9, Wishes(9, ngram=size), PAD)
    check_search("GreedySearch", inputs_of(9), attributes(no_repeat_ngram_size=size), expected)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("constants", [(), (1, 2, 3)])
def test_penalty_and_shortest_length(penalty: float, constants: tuple[int, ...]) -> None:
    wishes = Wishes(2, penalty=penalty, shortest=8)
    expected = one_by_one(DECODER, PROMPT, 12, wishes, PAD)
    inputs = inputs_of(12, PROMPT, int32([8]), float32(penalty))
    written = int((expected != PAD).any(0).nonzero()[0].max()) + 2
    check_search("GreedySearch", inputs, attributes(2), expected, constants, written)


def test_a_search_in_functions() -> None:
    """Inlining gives the decoder's inputs and outputs other names."""
    model = model_of("GreedySearch", inputs_of(), attributes())
    inside = [*model.graph.node]
    imports = [*model.opset_import, helper.make_opsetid("local", 1)]
    for name in ("inner", "outer"):
        body = helper.make_function("local", name, ["in0", "in1"], ["out0"], inside, imports)
        model.functions.append(body)
        inside = [helper.make_node(name, ["in0", "in1"], ["out0"], name, domain="local")]
    model.graph.ClearField("node")
    model.graph.node.extend(inside)
    model.opset_import.append(imports[-1])
    expected = one_by_one(DECODER, PROMPT, 12, Wishes(9), PAD)
    [found] = session(model).run(None, feeds_of(inputs_of()))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("use", ["words", "first words", "both", "attention"])
def test_masks(use: str) -> None:
    words = WORDS if use in ("words", "both") else None
    first = FIRST_WORDS if use in ("first words", "both") else None
    mask = MASK if use == "attention" else None
    wishes = Wishes(9, vocabulary=words, first=first)
    expected = one_by_one(DECODER, PROMPT, 9, wishes, PAD, mask)
    inputs = inputs_of(9, PROMPT, None, None, words, first, mask)
    check_search("GreedySearch", inputs, attributes(), expected)


@pytest.mark.parametrize("seed", range(6))
def test_everything_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    decoder, ids = Decoder(seed, scale=0.5), int32(rng.integers(0, 11, (seed % 3 + 1, 4)))
    words, mask = int32(rng.random(11) < 0.8), int32(rng.random(ids.shape) < 0.8)
    first = int32(rng.random((len(ids), 11)) < 0.7)
    wishes = Wishes(4, 2, 1.2, 7, words, first)
    expected = one_by_one(decoder, ids, 11, wishes, PAD, mask)
    inputs = inputs_of(11, ids, int32([7]), float32(1.2), words, first, mask)
    ended = (expected == PAD).all(0)[7:]
    written = 7 + int(ended.argmax()) if ended.any() else None
    made = attributes(4, decoder, no_repeat_ngram_size=2)
    check_search("GreedySearch", inputs, made, expected, written=written)


def test_weights_of_the_graph_around_it() -> None:
    """As converters leave them, with a decoder that calls a value as the model does."""
    model = model_of("GreedySearch", inputs_of(), attributes())
    del model.graph.node[0].attribute[:]
    for name, value in {**attributes(), "decoder": DECODER.graph(shared=True)}.items():
        model.graph.node[0].attribute.append(helper.make_attribute(name, value))
    model.graph.initializer.extend(DECODER.initializers())
    model.graph.input[0].name = model.graph.node[0].input[0] = "input_ids"
    [found] = session(model).run(None, {"input_ids": PROMPT, "in1": int32([12])})
    np.testing.assert_array_equal(found, one_by_one(DECODER, PROMPT, 12, Wishes(9), PAD))


def test_two_searches_in_a_model() -> None:
    model = model_of("GreedySearch", inputs_of(), attributes())
    second = onnx.NodeProto()
    second.CopyFrom(model.graph.node[0])
    second.output[0], second.name = "again", ""
    model.graph.node.append(second)
    model.graph.output.append(onnx.ValueInfoProto(name="again"))
    first, again = session(model).run(None, feeds_of(inputs_of()))
    np.testing.assert_array_equal(first, again)


def test_a_vocabulary_with_padding() -> None:
    """Logits beyond the vocabulary take no part."""
    made = attributes(vocab_size=6)
    wishes = Wishes(9, vocabulary=int32([1] * 6 + [0] * 5))
    ids = PROMPT % 6
    [found] = session(model_of("GreedySearch", inputs_of(9, ids), made)).run(
        None, feeds_of(inputs_of(9, ids))
    )
    np.testing.assert_array_equal(found, one_by_one(DECODER, ids, 9, wishes, PAD))


def test_logits_of_float16() -> None:
    graph = DECODER.graph()
    graph.node[-1].output[0] = "wide"
    graph.node.append(helper.make_node("Cast", ["wide"], ["logits"], to=TensorProto.FLOAT16))
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    model = model_of("GreedySearch", inputs_of(), {**attributes(), "decoder": graph})
    [found] = session(model).run(None, feeds_of(inputs_of()))
    np.testing.assert_array_equal(found, one_by_one(DECODER, PROMPT, 12, Wishes(9), PAD))


def test_the_decoder_is_optimized() -> None:
    made = session(model_of("GreedySearch", inputs_of(), attributes()))
    assert "Attention" in {row.op_type for row in made.explain().rows}


def test_a_decoder_with_operators_of_the_same_domain() -> None:
    graph = DECODER.graph()
    [triangle] = [node for node in graph.node if node.op_type == "Trilu"]
    triangle.domain = "com.microsoft"
    model = model_of("GreedySearch", inputs_of(), {**attributes(), "decoder": graph})
    [found] = session(model).run(None, feeds_of(inputs_of()))
    np.testing.assert_array_equal(found, one_by_one(DECODER, PROMPT, 12, Wishes(9), PAD))


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_on_the_device() -> None:
    inputs = inputs_of(9, PROMPT, int32([5]), float32(1.2), WORDS, FIRST_WORDS)
    content = model_of(
        "GreedySearch", inputs, attributes(no_repeat_ngram_size=2)
    ).SerializeToString()
    made = EmulatedSession(content)
    assert not floats_on_cpu(made)
    [expected] = bascule.InferenceSession(content).run(None, feeds_of(inputs))
    [found] = made.run(None, feeds_of(inputs))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model_type": 1}, "model_type = 1"),
        ({"encoder": DECODER.graph()}, "attribute 'encoder'"),
        ({"init_decoder": DECODER.graph()}, "attribute 'init_decoder'"),
        ({"no_repeat_ngram_size": 65}, "an n-gram of 65 tokens"),
    ],
)
def test_what_is_not_supported_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(NotSupported, match=message):
        session(model_of("GreedySearch", inputs_of(), attributes(**wrong)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eos_token_id": -1}, "'eos_token_id' is -1"),
        ({"pad_token_id": -1}, "'pad_token_id' is -1"),
        ({"no_repeat_ngram_size": -1}, "'no_repeat_ngram_size' is -1"),
        ({"vocab_size": 12}, "'vocab_size' is 12, but there are 11 logits"),
    ],
)
def test_wrong_attributes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("GreedySearch", inputs_of(), {**attributes(), **wrong}))


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, int32([1, 2]), r"'input_ids' has shape \[2\]"),
        (1, int32([3]), "'max_length' is 3, expected more than the 3 tokens"),
        (1, int32([8, 9]), r"has shape \[2\], expected one element"),
        (3, float32(-1), "'repetition_penalty' is -1.0"),
        (4, int32([1, 1]), r"'vocab_mask' has shape \[2\], expected \[11\]"),
        (5, int32([[1, 1]]), r"'prefix_vocab_mask' has shape \[1, 2\]"),
        (6, int32([1, 1]), r"'attention_mask' has shape \[2\]"),
    ],
)
def test_wrong_inputs(index: int, value: Array, message: str) -> None:
    inputs = [*inputs_of(), None, None, None, None, None]
    inputs[index] = value
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("GreedySearch", inputs, attributes(), constants=(1, 3)))


def rename(graph: onnx.GraphProto) -> None:
    graph.input[1].name = graph.node[1].input[1] = "position"


def retype(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def drop_output(graph: onnx.GraphProto) -> None:
    del graph.output[1]


def drop_shape(graph: onnx.GraphProto) -> None:
    graph.output[0].type.tensor_type.ClearField("shape")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "calls input 1 'position', expected 'position_ids'"),
        (retype, "must have input 'input_ids' of type int32"),
        (drop_output, "has no output 'present_0'"),
        (drop_shape, "must state the shape of 'logits', of rank 3"),
    ],
)
def test_wrong_decoders(change: Any, message: str) -> None:
    graph = DECODER.graph()
    change(graph)
    with pytest.raises(InvalidGraph, match=f"attribute 'decoder' {message}"):
        session(model_of("GreedySearch", inputs_of(), {**attributes(), "decoder": graph}))


def test_a_cache_of_fixed_size_is_refused() -> None:
    graph = DECODER.graph()
    graph.input.append(helper.make_tensor_value_info("past_sequence_length", 6, [1]))
    with pytest.raises(NotSupported, match="input 'past_sequence_length'"):
        session(model_of("GreedySearch", inputs_of(), {**attributes(), "decoder": graph}))
