# SPDX-License-Identifier: Apache-2.0
"""Faults planted at many places of exported models: compare names the place, whatever is fused."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bascule
from bascule.cli import main
from tests.tools.mutants import Mutant
from tests.tools.planted import ARCHITECTURES, feeds

_DATA = Path(__file__).parents[1] / "models" / "data"
Feeds = dict[str, np.ndarray[Any, Any]]


def exported(name: str) -> tuple[onnx.ModelProto, Feeds]:
    if name in ARCHITECTURES:
        return ARCHITECTURES[name](), feeds(name)
    prefix = "1/input/"
    with np.load(_DATA / f"{name}.npz") as file:
        keys = [key for key in file if key.startswith(prefix)]
        prefix = prefix if keys else "0/input/"
        given = {k.removeprefix(prefix): file[k] for k in file if k.startswith(prefix)}
    return onnx.load(_DATA / f"{name}.onnx"), given


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def readers(model: onnx.ModelProto, name: str) -> set[str]:
    return {node.name for g in graphs(model.graph) for node in g.node if name in node.input}


def chosen(places: list[str], count: int, seed: int) -> list[str]:
    """Some of the places, from the front, the middle and the back."""
    generator, size = random.Random(seed), len(places) / count
    return [places[int((part + generator.random()) * size)] for part in range(count)]


# --- a NaN weight


def with_nan(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A weight gets a NaN; of a table of embeddings each row does."""
    bad = onnx.ModelProto()
    bad.CopyFrom(model)
    is_table = any("Gather" in n.op_type for n in bad.graph.node if name in n.input)
    for tensor in (t for g in graphs(bad.graph) for t in g.initializer if t.name == name):
        array = numpy_helper.to_array(tensor).copy()
        if is_table:
            array[..., array.shape[-1] // 3] = np.nan
        else:
            array.reshape(-1)[array.size // 3] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(array, name))
    return bad


@pytest.mark.parametrize(
    "name, count",
    [
        *(("resnet", 3), ("cnn", 4), ("bert", 2), ("gpt2", 1), ("lstm_tagger", 4)),
        ("gru_tagger_torchscript", 3),
    ],
)
def test_nan_weights(name: str, count: int) -> None:
    model, given = exported(name)
    weights = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and readers(model, tensor.name)
    ]
    for number, weight in enumerate(chosen(weights, count, 1)):
        bad = with_nan(model, weight)
        expected = readers(model, weight)
        pair = bascule.compare((model, "cpu:disabled"), (bad, "cpu"), given)
        assert set(pair.guilty_nodes) <= expected and pair.guilty_nodes, (weight, pair)
        assert len(pair.reproduction.nodes) == 1
        other = ("onnxruntime", "cpu:disabled")[number % 2]
        alone = bascule.compare(bad, other, given)
        assert set(alone.guilty_nodes) <= expected and alone.guilty_nodes, (weight, alone)
        assert weight in alone.alarm.inputs


@pytest.mark.parametrize(
    "name, weight", [("loop_torchscript", "recurrent.bias"), ("branch", "module.right.weight")]
)
def test_nan_weights_in_bodies(
    name: str, weight: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, given = exported(name)
    bad = with_nan(model, weight)
    expected = readers(model, weight)
    pair = bascule.compare((model, "cpu"), (bad, "cpu"), given)
    assert set(pair.guilty_nodes) <= expected and pair.guilty_nodes
    assert "Gemm" in pair.origin.op_type
    alone = bascule.compare(bad, "onnxruntime", given)
    assert set(alone.guilty_nodes) <= expected and alone.guilty_nodes
    assert alone.alarm.inside
    for found in (pair, alone):
        path, inputs = found.write(tmp_path)
        assert len(onnx.load(path).graph.node) == 1
        assert main(["trace", str(path), "-i", str(inputs), "--stop-on", "nan"]) == 1
        assert found.guilty_nodes[0] in capsys.readouterr().out


def test_a_nan_of_which_nothing_comes() -> None:
    """A comparison with it is false: no value shows it, but the weight is told."""
    info = helper.make_tensor_value_info
    limit = numpy_helper.from_array(np.array([1, np.nan], np.float32), "limit")
    nodes = [
        helper.make_node("Abs", ["x"], ["size"], name="abs"),
        helper.make_node("Greater", ["size", "limit"], ["y"], name="greater"),
    ]
    x, y = info("x", onnx.TensorProto.FLOAT, [2]), info("y", onnx.TensorProto.BOOL, [2])
    graph = helper.make_graph(nodes, "g", [x], [y], [limit])
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    found = bascule.compare(model, "cpu:disabled")
    assert found.agrees
    assert found.guilty_nodes == ("greater",)
    assert found.alarm.inputs == ("limit",)


# --- an overflow of float16


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """All in float16, masks clipped to its range."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    for graph in graphs(half.graph):
        tensors = list(graph.initializer)
        for node in graph.node:
            tensors += [a.t for a in node.attribute if a.HasField("t")]
            for a in node.attribute:
                if a.name in ("to", "dtype") and a.i == onnx.TensorProto.FLOAT:
                    a.i = onnx.TensorProto.FLOAT16
        for tensor in tensors:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                array = numpy_helper.to_array(tensor).clip(-65504, 65504).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
                info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return half


def with_scales(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """The value is multiplied by `factor`, in node ``planted``, and divided by it again."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = list(made.graph.node)
    for node in nodes:
        node.input[:] = ["planted_back" if each == name else each for each in node.input]
    for key, number in (("up", factor), ("down", 1 / factor)):
        array = np.array(number, np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, f"planted_{key}"))
    new = [
        helper.make_node("Mul", [name, "planted_up"], ["planted_value"], name="planted"),
        helper.make_node("Mul", ["planted_value", "planted_down"], ["planted_back"], name="back"),
    ]
    place = next(index for index, node in enumerate(nodes) if name in node.output) + 1
    del made.graph.node[:]
    made.graph.node.extend([*nodes[:place], *new, *nodes[place:]])
    return made


@pytest.mark.parametrize(
    "name, count",
    [("resnet", 2), ("cnn", 3), ("transformer", 3), ("bert", 1), ("gpt2", 1), ("lstm", 3)],
)
def test_overflows(name: str, count: int) -> None:
    model, given = exported(name)
    session = bascule.InferenceSession(model.SerializeToString())
    ends = {info.name for info in model.graph.output}
    sizes = {
        value.name: float(np.abs(value.array).max())
        for value in session.trace(given)
        if value.dtype == "float32" and value.name not in ends
    }
    places = [key for key, size in sizes.items() if 1.2 < size < 1e6]
    half_feeds = {k: a.astype(np.float16) if a.dtype == np.float32 else a for k, a in given.items()}
    for number, place in enumerate(chosen(places, count, 5)):
        wide = with_scales(model, place, min(2e5 / sizes[place], 6e4))
        half = in_float16(wide)
        found = bascule.compare((wide, "cpu:disabled"), (half, "cpu:disabled"), given)
        assert found.guilty_nodes == ("planted",), (place, found)
        # The optimizer may take the two factors away: then nothing overflows, but it would.
        other = ("onnxruntime", "cpu:disabled")[number % 2]
        found = bascule.compare(half, other, half_feeds)
        assert found.guilty_nodes == ("planted",), (place, found)
        assert found.alarm.kind == "overflow"


def test_masks_are_no_difference() -> None:
    """The lowest float32 in a mask is the lowest float16 after conversion, or less low still."""
    model, given = exported("bert")
    half = in_float16(model)
    for found in (
        bascule.compare((model, "cpu:disabled"), (half, "cpu"), given),
        bascule.compare(half, "cpu:disabled", given),
    ):
        assert found.agrees, found
        assert found.alarm is None


# --- a wrong fusion

MUTANTS = {
    "cnn": [
        *(("fold_batch_normalization", 0), ("fuse_residual_add", 0), ("fuse_swish", 0)),
        *(("fuse_activation", 1), ("move_to_channels_last", 2), ("fuse_convolution_transpose", 0)),
    ],
    "transformer": [
        *(("fuse_attention", 0), ("fuse_gelu", 0), ("fuse_skip_layer_normalization", 0)),
        *(("fuse_activation", 0), ("fuse_residual_add", 0)),
    ],
    "lstm": [("fuse_matmul_bias", 0), ("fuse_activation", 0)],
}
CASES = [
    (name, wrong, place, ("factor", "shift", "drop")[number % 3])
    for name, places in MUTANTS.items()
    for number, (wrong, place) in enumerate(places)
]


@pytest.mark.parametrize("name, wrong, place, kind", CASES)
def test_wrong_fusions(
    name: str, wrong: str, place: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = exported(name)
    nodes = {node.name for node in model.graph.node}
    (right,) = bascule.InferenceSession(model.SerializeToString()).run(None, given)
    mutant = Mutant(wrong, place, kind)
    mutant.plant(monkeypatch)
    found = bascule.compare((model, "cpu:disabled"), "cpu", given)
    assert mutant.node
    assert found.guilty_pass == wrong, found
    assert found.guilty_nodes and set(found.guilty_nodes) <= nodes | {mutant.node}
    if mutant.node in nodes:
        assert found.guilty_nodes == (mutant.node,)
    assert found.reproduction is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verified = bascule.load(model, verify=True)
    assert any(f"'{wrong}'" in str(each.message) for each in caught)
    assert all(f"'{wrong}'" in str(each.message) for each in caught)
    got = verified(*given.values())
    np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)
