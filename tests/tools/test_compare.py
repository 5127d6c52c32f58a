# SPDX-License-Identifier: Apache-2.0
"""compare names what was planted: an overflow, a wrong fusion, a NaN weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

import bascule
from bascule.errors import InvalidArgument
from bascule.ir.graph import Value
from bascule.optimizer import stages
from bascule.optimizer.passes import Level, Stage
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Match, Reject, Rule, rule
from bascule.tools.compare.described import DescribedSession
from bascule.tools.compare.show import record
from tests.support.own_process import memory_of
from tests.tools.planted import ARCHITECTURES, cnn, feeds, lstm, transformer

x, w, b = values("x", "w", "b")


@rule(op.Softmax(op.Mul(x, w)))
def forget_scale(match: Match) -> Value:
    """Leaves the scale of attention out."""
    return match.build.Softmax(match[x], axis=-1)


@rule(op.Add(x, w))
def forget_residual(match: Match) -> Value | Reject:
    """Takes the residual of the convolutions for a bias that is zero."""
    if match.root.output.rank != 4:
        return Reject("not an image")
    return match.build.Identity(match[x])


@rule(op.Relu(x))
def relu_to_leaky_relu(match: Match) -> Value:
    return match.build.LeakyRelu(match[x], alpha=0.01)


WRONG = {
    "transformer": (forget_scale, "node_attention"),
    "cnn": (forget_residual, "node_residual"),
    "lstm": (relu_to_leaky_relu, "node_hidden"),
}


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rule], None]:
    """A function that puts a pass in front of all others."""

    def put(wrong: Rule) -> None:
        planted = Stage("planted", Level.BASIC, (wrong,))
        monkeypatch.setattr(stages, "STAGES", (planted, *stages.STAGES))

    return put


# --- nothing is wrong


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_right_models_agree(architecture: str, dtype: Any) -> None:
    model = ARCHITECTURES[architecture](dtype)
    given = feeds(architecture, dtype)
    for other in ("cpu:basic", "cpu:extended", "cpu", "onnxruntime", "reference"):
        found = bascule.compare((model, "cpu:disabled"), other, given)
        assert found.agrees, str(found)
        assert found.alarm is None
        assert not found.guilty_nodes and not found.guilty_pass and found.reproduction is None
        assert found.values[-1].name == "y"
    found = bascule.compare(ARCHITECTURES[architecture](), model, feeds(architecture))
    assert found.agrees, str(found)


# --- an overflow of float16

OVERFLOWS = {
    "transformer": ("up", "node_up_product"),
    "cnn": ("c3", "node_wide"),
    "lstm": ("m1", "node_product"),
}


def enlarge(name: str) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        weights[name] = np.sign(weights[name]) * np.float32(60000)

    return change


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("level", ["cpu:disabled", "cpu"])
def test_overflow(architecture: str, level: str) -> None:
    name, node = OVERFLOWS[architecture]
    make = ARCHITECTURES[architecture]
    wide, narrow = make(np.float32, enlarge(name)), make(np.float16, enlarge(name))
    found = bascule.compare((wide, "cpu:disabled"), (narrow, level), feeds(architecture))
    assert not found.agrees
    assert node in found.guilty_nodes
    assert np.isinf(found.first.judged.error)
    if level == "cpu:disabled":
        assert found.guilty_nodes == (node,)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_overflow_on_both_sides_is_an_alarm(architecture: str) -> None:
    name, node = OVERFLOWS[architecture]
    narrow = ARCHITECTURES[architecture](np.float16, enlarge(name))
    given = feeds(architecture, np.float16)
    found = bascule.compare((narrow, "cpu:disabled"), "onnxruntime", given)
    assert found.alarm is not None and found.alarm.kind == "overflow"
    assert found.guilty_nodes == (node,)


# --- a wrong fusion


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_wrong_fusion(architecture: str, plant: Callable[[Rule], None], tmp_path: Path) -> None:
    wrong, node = WRONG[architecture]
    plant(wrong)
    model, given = ARCHITECTURES[architecture](), feeds(architecture)
    found = bascule.compare((model, "cpu:disabled"), "cpu", given)
    assert found.guilty_pass == wrong.name
    assert node in found.guilty_nodes
    path, inputs = found.write(tmp_path)
    small = onnx.load(path)
    onnx.checker.check_model(small)
    assert node in [each.name for each in small.graph.node]
    assert len(small.graph.node) <= 2
    arrays = dict(np.load(inputs))
    again = bascule.compare((str(path), "cpu:disabled"), "cpu", arrays)
    assert again.guilty_pass == wrong.name
    assert wrong.name in str(found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_wrong_fusion_on_the_leading_side(architecture: str, plant: Callable[[Rule], None]) -> None:
    wrong, node = WRONG[architecture]
    plant(wrong)
    found = bascule.compare(ARCHITECTURES[architecture](), "onnxruntime", feeds(architecture))
    assert found.guilty_pass == wrong.name
    assert node in found.guilty_nodes


def test_disabled_passes(plant: Callable[[Rule], None]) -> None:
    plant(forget_scale)
    given = feeds("transformer")
    model = transformer()
    found = bascule.compare((model, "cpu:disabled"), "cpu", given, disabled=["forget_scale"])
    assert found.agrees


# --- a NaN weight

NANS = {
    "transformer": ("down", "node_down_product"),
    "cnn": ("c2", "node_inner"),
    "lstm": ("r", "node_states"),
}


def spoil(name: str) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        weights[name].reshape(-1)[5] = np.nan

    return change


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nan_weight(architecture: str) -> None:
    name, node = NANS[architecture]
    make = ARCHITECTURES[architecture]
    found = bascule.compare(
        (make(), "cpu:disabled"),
        (make(np.float32, spoil(name)), "cpu:disabled"),
        feeds(architecture),
    )
    assert found.guilty_nodes == (node,)
    found = bascule.compare(make(np.float32, spoil(name)), "onnxruntime", feeds(architecture))
    assert node in found.guilty_nodes
    assert found.alarm is not None
    assert found.alarm.kind == "nan"
    if architecture != "cnn":  # whose weight is folded with the normalization
        assert found.alarm.inputs == (name,)


# --- what is taken and refused


def test_a_constant_that_the_other_side_computes() -> None:
    """Its own roundings count: bias tables are as much as 16 sigmoids of sums of 512 terms."""
    numbers = np.random.default_rng(0)
    arrays = {
        "places": numbers.normal(size=(225, 2)),
        "rise": numbers.normal(size=(2, 512)),
        "fall": numbers.normal(size=(512, 2)) / 8,
        "most": np.array(16),
    }
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[225,2] x) => (float[225,2] z) {
          a = MatMul (places, rise) b = Relu (a) c = MatMul (b, fall) d = Sigmoid (c)
          bias = Mul (d, most) y = Add (x, bias) z = Neg (y) }""")
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f"), name))
    given = {"x": numbers.normal(size=(225, 2)).astype(np.float32)}
    found = bascule.compare(model, "reference", given)
    assert found.first is None and found.values
    assert all(0 < each.judged.error < 1e-5 for each in found.values)


def test_names_may_differ() -> None:
    model, renamed = lstm(), lstm()
    names = {out: f"v{index}" for index, n in enumerate(renamed.graph.node) for out in n.output}
    for node in renamed.graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    renamed.graph.output[0].name = names["y"]
    found = bascule.compare((model, "cpu:disabled"), (renamed, "cpu:disabled"), feeds("lstm"))
    assert found.agrees
    assert [value.name for value in found.values][-1] == "y"
    assert len(found.values) == len(model.graph.node)


def test_results_that_a_fused_node_of_the_leading_side_leaves_out() -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[2, 3, 8] x, float[2, 3, 8] r) => (float[2, 3, 8] y)
        <float[8] s = {1, 2, 3, 4, 5, 6, 7, 8}, float[8] b = {1, 1, 1, 1, 2, 2, 2, 2}>
        { t = Add(x, r) y = LayerNormalization<axis = -1>(t, s, b) }""")
    found = bascule.compare((model, "cpu"), "cpu:disabled")
    assert found.agrees
    assert [value.name for value in found.values] == ["y"]


def test_only_the_side_that_runs_in_one_piece_is_compiled_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    compiled = DescribedSession.compiled

    def note(session: DescribedSession) -> bascule.InferenceSession:
        made.append(session._options.graph_optimization_level.name)
        return compiled(session)

    monkeypatch.setattr(DescribedSession, "compiled", note)
    model = cnn()
    assert not bascule.compare((model, "cpu"), "cpu:disabled", outputs=False).outputs
    assert made == []
    assert bascule.compare((model, "cpu"), "cpu:disabled").outputs
    assert made == ["ORT_DISABLE_ALL"]


def test_weights_do_not_stay_in_memory(tmp_path: Path) -> None:
    size, count = 2048, 24
    nodes, tensors = [], []
    with open(tmp_path / "weights.bin", "wb") as file:
        file.truncate(4 * size * size * count)  # 400 MB of zeros, which take no place on the disk
    for number in range(count):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[size, size])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        tensor.external_data.add(key="offset", value=str(4 * size * size * number))
        tensors.append(tensor)
        nodes.append(helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"x{number + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name in ("x0", f"x{count}")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    imports = [helper.make_opsetid("", 17)]
    (tmp_path / "model.onnx").write_bytes(
        helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    )
    code = (
        "import bascule, sys\n"
        "result = bascule.compare(sys.argv[1], 'cpu:disabled', outputs=False)\n"
        "assert result.agrees and len(result.values) == 24, result\n"
    )
    _, nbytes = memory_of(code, tmp_path / "model.onnx", field="RssFile")
    assert nbytes < 150e6


def test_random_feeds_and_sessions() -> None:
    session = bascule.InferenceSession(cnn().SerializeToString())
    found = bascule.compare(session, "cpu:disabled", dims={"batch": 2})
    assert found.agrees
    assert found.values[-1].shape == (2, 5)
    assert bascule.compare(bascule.load(cnn()), "cpu:disabled", dims={"batch": 2}).agrees


def test_nested_graphs() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "w"], ["scaled"], name="mul"),
            helper.make_node("Tanh", ["scaled"], ["next"], name="tanh"),
            helper.make_node("Identity", ["going"], ["go"], name="go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [4]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Exp", ["x"], ["w"], name="exp"),
            helper.make_node("Loop", ["trips", "", "x"], ["y"], name="loop", body=body),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [helper.make_tensor("trips", TensorProto.INT64, [], [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = bascule.compare((model, "cpu:disabled"), "onnxruntime")
    assert found.agrees, str(found)
    assert [value.name for value in found.values] == ["w", "y"]


def test_what_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="one side must name a model"):
        bascule.compare("cpu", "onnxruntime")
    with pytest.raises(InvalidArgument, match="'tpu' is no backend"):
        bascule.compare((lstm(), "tpu"), "cpu")
    with pytest.raises(InvalidArgument, match="'cpu:fast' is no backend"):
        bascule.compare(lstm(), "cpu:fast")
    with pytest.raises(InvalidArgument, match="did you mean 'eliminate_identity'"):
        bascule.compare(lstm(), "cpu", disabled=["eliminate_identities"])
    found = bascule.compare(lstm(), "cpu:disabled", feeds("lstm"))
    with pytest.raises(InvalidArgument, match="nothing to reproduce"):
        found.write("nowhere")


def test_the_record_is_plain() -> None:
    import json

    name, node = OVERFLOWS["cnn"]
    wide, narrow = cnn(np.float32, enlarge(name)), cnn(np.float16, enlarge(name))
    found = record(bascule.compare((wide, "cpu:disabled"), (narrow, "cpu:disabled"), feeds("cnn")))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["guilty_nodes"] == [node]
