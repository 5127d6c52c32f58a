# SPDX-License-Identifier: Apache-2.0
"""compare and trace where values are no plain numbers: random, strings, sequences, bodies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule.cli import main
from tests.tools.planted import cnn, feeds
from tests.tools.test_trace import nested, session

info = helper.make_tensor_value_info
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
OTHERS = ("cpu:disabled", "onnxruntime", "reference")


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **constants: Any,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


# --- random numbers


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    "op_type, inputs, attributes",
    [
        ("RandomNormal", [], {"shape": [3, 4]}),
        ("RandomUniformLike", ["x"], {}),
        ("Bernoulli", ["u"], {}),
        ("Dropout", ["x", "ratio", "train"], {}),
    ],
)
def test_random_numbers_are_no_error(
    op_type: str, inputs: list[str], attributes: dict[str, Any], other: str
) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["u"], name="sigmoid"),
        helper.make_node(op_type, inputs, ["drawn"], name="draw", **attributes),
        helper.make_node("Add", ["drawn", "x"], ["y"], name="add"),
    ]
    ends = [info("y", FLOAT, [3, 4]), info("u", FLOAT, [3, 4])]
    constants = {"ratio": np.float32(0.5), "train": np.bool_(True)} if len(inputs) > 1 else {}
    made = model(nodes, [info("x", FLOAT, [3, 4])], ends, **constants)
    found = bascule.compare(made, other)
    assert found.agrees and not found.guilty_nodes, found
    assert "not judged: random" in [value.judged.note for value in found.values]
    assert {each.name: each.random for each in found.outputs} == {"y": True, "u": False}
    assert "and is random" in str(found)


def test_a_fault_beside_random_numbers_is_named() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["drawn"], name="draw", shape=[3, 4]),
        helper.make_node("Add", ["drawn", "x"], ["sum"], name="add"),
        helper.make_node("Mul", ["sum", "w"], ["y"], name="mul"),
    ]
    ends = [info("x", FLOAT, [3, 4])], [info("y", FLOAT, [3, 4])]
    good = model(nodes, *ends, w=np.ones(4, np.float32))
    bad = model(nodes, *ends, w=np.full(4, 1.1, np.float32))
    found = bascule.compare(good, bad)
    assert found.guilty_nodes == ("mul",)


# --- strings, sequences, optional values, booleans


@pytest.mark.parametrize("other", OTHERS)
def test_inputs_of_all_kinds(other: str) -> None:
    text = [info(name, TensorProto.STRING, ["n"]) for name in "ab"]
    node = helper.make_node("StringConcat", ["a", "b"], ["y"])
    assert bascule.compare(
        model([node], text, [info("y", TensorProto.STRING, ["n"])]), other
    ).agrees

    flags = [info(name, TensorProto.BOOL, ["n", 2]) for name in "ab"]
    node = helper.make_node("And", ["a", "b"], ["y"])
    made = model([node], flags, [info("y", TensorProto.BOOL, ["n", 2])])
    assert bascule.compare(made, other, dims={"n": 5}).values[0].shape == (5, 2)

    items = helper.make_tensor_sequence_value_info("s", FLOAT, ["n", 3])
    node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    made = model([node], [items], [info("y", FLOAT, [None, 3])])
    assert bascule.compare(made, other, dims={"n": 4}).values[0].shape == (8, 3)

    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    node = helper.make_node("OptionalHasElement", ["o"], ["y"])
    made = model([node], [helper.make_value_info("o", kind)], [info("y", TensorProto.BOOL, [])])
    for given in (None, {"o": None}, {"o": np.ones(2, np.float32)}):
        assert bascule.compare(made, other, given).agrees


def test_an_operator_that_the_other_runtime_lacks() -> None:
    nodes = [
        helper.make_node("Abs", ["x"], ["size"], name="abs"),
        helper.make_node("QuickGelu", ["size"], ["mid"], name="gelu", domain="com.microsoft"),
        helper.make_node("Neg", ["mid"], ["y"], name="neg"),
    ]
    made = model(nodes, [info("x", FLOAT, [4])], [info("y", FLOAT, [4])])
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = bascule.compare((made, "cpu:disabled"), "reference")
    assert found.agrees
    notes = {value.node: value.judged.note for value in found.values}
    assert "cannot run on reference" in notes["gelu"]
    assert not notes["neg"] and not notes["abs"]


def test_several_names_of_one_value() -> None:
    """A pass that lets one value stand for another wrongly is seen at the other."""
    nodes = [
        helper.make_node("Relu", ["x"], ["low"], name="relu"),
        helper.make_node("Add", ["low", "x"], ["y"], name="add"),
    ]
    made = model(nodes, [info("x", FLOAT, [4])], [info("y", FLOAT, [4])])
    a = (made, "cpu:disabled")
    for backend in ("cpu", "onnxruntime"):
        assert bascule.compare(a, backend).agrees


def test_names_may_differ_under_the_optimizer() -> None:
    good, bad = cnn(), cnn(np.float32, lambda weights: weights["c2"].__imul__(1.01))
    names = {out: f"v{index}" for index, n in enumerate(bad.graph.node) for out in n.output}
    for node in bad.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    bad.graph.output[0].name = names["y"]
    found = bascule.compare(good, bad, feeds("cnn"))
    assert found.guilty_nodes == ("node_inner",)


# --- watchpoints


def test_an_alarm_in_a_body_behind_the_nodes_asked_for() -> None:
    given = {"x": np.full((2, 3), 60, np.float32)}
    *_, last = session(nested()).trace(given, nodes="scan", stop_on="overflow|nan")
    assert (last.inside, last.node, last.alarm) == (
        "loop.body[0]/if.then_branch/",
        "up",
        "overflow",
    )


def test_an_alarm_in_a_sequence() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"], name="pack"),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], name="join", axis=0),
    ]
    made = session(model(nodes, [info("x", FLOAT, [2])], [info("y", FLOAT, [4])]))
    *_, last = made.trace({"x": np.array([1, np.nan], np.float32)}, stop_on="nan")
    assert (last.node, last.alarm) == ("pack", "nan")


def test_a_mask_that_was_fused_sets_nothing_off() -> None:
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["is_kept"], name="greater"),
        helper.make_node("Where", ["is_kept", "zero", "never"], ["mask"], name="where"),
        helper.make_node("Add", ["x", "mask"], ["sum"], name="add"),
        helper.make_node("Softmax", ["sum"], ["y"], name="softmax"),
    ]
    constants = {"zero": np.float32(0), "never": np.float32(-np.inf)}
    made = model(nodes, [info("x", FLOAT, [2, 4])], [info("y", FLOAT, [2, 4])], **constants)
    x = {"x": np.array([[1, -2, 3, 4], [5, 6, -7, 8]], np.float32)}
    for fused in (False, True):
        assert not list(session(made).trace(x, fused=fused, stop_on="overflow|nan"))[-1].alarm
    found = bascule.compare(made, "onnxruntime", x)
    assert found.agrees and found.alarm is None


# --- what is written


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_reproduction_runs_alone(
    dtype: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of element types that NumPy's files do not know."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    top = float(ml_dtypes.finfo(dtype).max)
    nodes = [
        helper.make_node("Relu", ["x"], ["low"], name="relu"),
        helper.make_node("Mul", ["low", "w"], ["big"], name="mul"),
        helper.make_node("Tanh", ["big"], ["y"], name="tanh"),
    ]
    made = model(nodes, [info("x", kind, [3])], [info("y", kind, [3])])
    made.graph.initializer.append(helper.make_tensor("w", kind, [], [top]))
    found = bascule.compare(made, "cpu:disabled", {"x": np.array([1, 2, 9], dtype)})
    assert found.guilty_nodes == ("mul",)
    path, inputs = found.write(tmp_path)
    assert [node.name for node in onnx.load(path).graph.node] == ["mul"]
    assert main(["trace", str(path), "-i", str(inputs), "--stop-on", "overflow"]) == 1
    assert "'mul'" in capsys.readouterr().out


def test_a_reproduction_of_external_weights(tmp_path: Path) -> None:
    paths = []
    for name, factor in (("good", 1), ("bad", np.nan)):
        made = cnn(np.float32, lambda weights, factor=factor: weights["c2"].__imul__(factor))
        paths.append(tmp_path / f"{name}.onnx")
        onnx.save(made, paths[-1], save_as_external_data=True, location=name, size_threshold=0)
    found = bascule.compare(*paths, feeds("cnn"))
    assert found.guilty_nodes == ("node_inner",)
    path, _ = found.write(tmp_path / "small")
    assert path.stat().st_size < 4000
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_a_reproduction_behind_a_sequence() -> None:
    """A sequence cannot be stored: the nodes that make it belong to the model."""
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"], name="pack"),
        helper.make_node("ConcatFromSequence", ["s"], ["joined"], name="join", axis=0),
        helper.make_node("Exp", ["joined"], ["y"], name="exp"),
    ]
    ends = [info("x", HALF, [2])], [info("y", HALF, [4])]
    made = model(nodes, *ends)
    found = bascule.compare(made, "cpu:disabled", {"x": np.array([1, 20], np.float16)})
    assert found.guilty_nodes == ("exp",)
    assert found.reproduction.nodes == ("exp",)


def test_a_reproduction_of_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What differs by a finite weight needs the part of the other model beside it."""
    bad = cnn(np.float32, lambda weights: weights["c2"].__imul__(1.01))
    found = bascule.compare(cnn(), bad, feeds("cnn"))
    assert found.guilty_nodes == ("node_inner",)
    path, inputs = found.write(tmp_path)
    other = str(tmp_path / "reproduction_a.onnx")
    assert main(["compare", other, str(path), "-i", str(inputs), "--json"]) == 1
    assert '"guilty_nodes": ["node_inner"]' in capsys.readouterr().out
    assert main(["compare", other, "onnxruntime", "-i", str(inputs)]) == 0
