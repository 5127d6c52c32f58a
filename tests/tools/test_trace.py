# SPDX-License-Identifier: Apache-2.0
"""trace shows the values of a run to the bit, and halts at the first bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from bascule.cli import main
from bascule.errors import InvalidArgument
from bascule.tools.trace import statistics_of
from tests.tools.planted import ARCHITECTURES, cnn, feeds, transformer
from tests.tools.test_compare import NANS, OVERFLOWS, enlarge, spoil


def session(model: onnx.ModelProto, **arguments: Any) -> bascule.InferenceSession:
    return bascule.InferenceSession(model.SerializeToString(), **arguments)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("fused", [False, True])
def test_every_value_in_order(architecture: str, fused: bool) -> None:
    model = ARCHITECTURES[architecture]()
    made = session(model)
    given = feeds(architecture)
    values = list(made.trace(given, fused=fused))
    nodes = [node.name for node in model.graph.node]
    if fused:
        (expected,) = made.run(None, given)
        assert values[-1].array.tobytes() == expected.tobytes()
        assert any(len(value.sources) > 1 for value in values)
        assert all(name in nodes for value in values for name in value.sources)
    else:
        assert [value.node for value in values] == nodes
        assert [value.name for value in values] == [
            out for n in model.graph.node for out in n.output
        ][: len(values)]
    assert values[-1].name == "y"
    assert values[-1].shape == values[-1].array.shape
    assert values[-1].statistics.max == values[-1].array.max()


def test_only_what_is_asked_for() -> None:
    model = bascule.load(transformer())
    given = feeds("transformer")
    found = list(model.trace(given, nodes=["node_q", "attent*"]))
    assert [value.name for value in found] == ["q", "attention"]
    whole = {value.name: value.array for value in model.trace(given)}
    assert all(np.array_equal(value.array, whole[value.name]) for value in found)
    with pytest.raises(InvalidArgument, match="No node or value of the model is called nothing"):
        model.trace(given, nodes="nothing")
    with pytest.raises(InvalidArgument, match="none of nan, inf, overflow"):
        model.trace(given, stop_on="nan|zero")
    with pytest.raises(ValueError, match="x"):
        model.trace({})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_halts_at_an_overflow(architecture: str) -> None:
    name, node = OVERFLOWS[architecture]
    model = session(ARCHITECTURES[architecture](np.float16, enlarge(name)))
    *before, last = model.trace(feeds(architecture, np.float16), stop_on="overflow|nan")
    assert all(not value.alarm for value in before)
    assert (last.node, last.alarm) == (node, "overflow")
    assert last.statistics.inf > 0
    weight = next(each for each in last.inputs if each.name == name)
    assert weight.constant
    assert weight.statistics.max == 60000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_halts_at_a_nan(architecture: str) -> None:
    name, node = NANS[architecture]
    model = session(ARCHITECTURES[architecture](np.float32, spoil(name)))
    last = list(model.trace(feeds(architecture), stop_on="nan"))[-1]
    assert (last.node, last.alarm) == (node, "nan")
    assert {each.name: each.statistics.nan for each in last.inputs}[name] == 1
    *_, fused = model.trace(feeds(architecture), stop_on="nan", fused=True)
    assert fused.alarm == "nan"
    assert node in fused.sources


def test_largest_number_counts_as_overflow() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"], name="add")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2])],
    )
    model = session(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    )
    half = np.array([32752, 1], np.float16)  # half of the largest
    (value,) = model.trace({"x": half}, stop_on="overflow")
    assert value.alarm == "overflow"
    assert value.statistics.largest and not value.statistics.inf
    (value,) = model.trace({"x": half / 2}, stop_on="overflow")
    assert not value.alarm


def nested() -> onnx.ModelProto:
    """A loop with a branch and a sum over rows in it."""
    float_, int_, bool_ = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    info = helper.make_tensor_value_info
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["scaled"], [f"{name}_out"], name=name)],
            name,
            [],
            [info(f"{name}_out", float_, [2, 3])],
        )
        for name, op in (("up", "Exp"), ("down", "Neg"))
    ]
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "w"], ["scaled"], name="mul"),
            helper.make_node("Equal", ["i", "zero"], ["first"], name="equal"),
            helper.make_node(
                "If",
                ["first"],
                ["next"],
                name="if",
                then_branch=branches[0],
                else_branch=branches[1],
            ),
            helper.make_node("Identity", ["going"], ["go"], name="go"),
        ],
        "body",
        [info("i", int_, []), info("going", bool_, []), info("state", float_, [2, 3])],
        [info("go", bool_, []), info("next", float_, [2, 3])],
    )
    rows = helper.make_graph(
        [helper.make_node("Add", ["total", "row"], ["sum"], name="add")],
        "rows",
        [info("total", float_, [3]), info("row", float_, [3])],
        [info("sum", float_, [3])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Sqrt", ["x"], ["w"], name="sqrt"),
            helper.make_node("Loop", ["trips", "", "x"], ["looped"], name="loop", body=body),
            helper.make_node(
                "Scan",
                ["start", "looped"],
                ["y"],
                name="scan",
                body=rows,
                num_scan_inputs=1,
                scan_input_directions=[1],
            ),
        ],
        "g",
        [info("x", float_, [2, 3])],
        [info("y", float_, [3])],
        [
            helper.make_tensor("trips", int_, [], [2]),
            helper.make_tensor("zero", int_, [], [0]),
            helper.make_tensor("start", float_, [3], [0, 0, 0]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_nested_graphs() -> None:
    x = np.array([[1, 4, 9], [1, 1, 4]], np.float32)
    values = list(session(nested()).trace({"x": x}))
    found = [(value.inside, value.node) for value in values]
    assert ("loop.body[0]/if.then_branch/", "up") in found
    assert ("loop.body[1]/if.else_branch/", "down") in found
    assert ("loop.body[0]/if.else_branch/", "down") not in found
    assert found[-3:] == [("scan.body[0]/", "add"), ("scan.body[1]/", "add"), ("", "scan")]
    looped = next(value.array for value in values if value.name == "looped")
    last = [value.array for value in values if value.name in ("next", "down_out")][-1]
    assert np.array_equal(looped, last)
    sums = [value.array for value in values if value.name == "sum"]
    assert np.array_equal(sums[0], looped[1])  # backwards
    assert np.array_equal(sums[1], values[-1].array)


def test_tracing_leaves_the_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is traced runs the very Program, and another one is the same to the row."""
    given = feeds("cnn")
    made = session(cnn())
    program, before = made._program, made.explain().records()
    (expected,) = made.run(None, given)
    list(made.trace(given))
    list(made.trace(given, fused=True))
    assert made._program is program
    assert made.explain().records() == before
    assert made.run(None, given)[0].tobytes() == expected.tobytes()
    # Nothing of it is on the way of a session: no value is marked, nothing is checked.
    monkeypatch.setattr("bascule.tools.stepping.prepared.mark_origins", None)
    _, model = made._make()
    assert all(not v.origins for node in model.graph.walk_nodes() for v in node.outputs)


def test_statistics() -> None:
    array = np.array([[0, 1, -3], [np.nan, np.inf, 1e-40]], np.float32)
    found = statistics_of(array)
    assert found is not None
    assert (found.count, found.nan, found.inf, found.denormals) == (6, 1, 1, 1)
    assert (found.min, found.max) == (-3, np.inf)
    assert found.zeros == pytest.approx(1 / 6)
    assert found.mean == pytest.approx(np.mean([0, 1, -3, 0]))
    assert found.std == pytest.approx(np.std([0, 1, -3, 0]))
    big = np.random.default_rng(0).normal(100, 1e-3, 3_000_000)
    assert statistics_of(big).std == pytest.approx(big.std(), rel=1e-9)
    assert statistics_of(np.array([448], ml_dtypes.float8_e4m3fn)).largest
    assert statistics_of(np.array([True, False])).zeros == 0.5
    assert statistics_of(np.array(["a"], object)) is None
    assert statistics_of([array]) is None
    assert np.isnan(statistics_of(np.zeros((0, 2))).max)


# --- the command line


def test_trace_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(cnn(np.float16, enlarge("c3")), path)
    assert main(["trace", str(path), "-d", "batch=2", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert records[-1]["name"] == "y"
    assert main(["trace", str(path), "--stop-on", "overflow", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)[-1]
    assert (record["node"], record["alarm"]) == ("node_wide", "overflow")
    assert "c3" in [each["name"] for each in record["inputs"]]
    assert main(["trace", str(path), "--stop-on", "overflow", "--fused"]) == 1
    text = capsys.readouterr().out
    assert "Halted: overflow" in text and "node_wide" in text


def test_compare_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    onnx.save(cnn(), right)
    onnx.save(cnn(np.float32, spoil("c2")), wrong)
    assert main(["compare", str(right), "onnxruntime", "--all", "-d", "batch=2"]) == 0
    assert "All" in capsys.readouterr().out
    arguments = ["compare", str(right), str(wrong), "--a-on", "cpu:disabled"]
    arguments += ["--b-on", "cpu:disabled"]
    assert main([*arguments, "--json", "-o", str(tmp_path / "small")]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["guilty_nodes"] == ["node_inner"]
    assert len(onnx.load(record["written"][0]).graph.node) == 1
    assert main(arguments) == 1
    assert "node_inner" in capsys.readouterr().out
    assert main(["compare", str(right), "cpu", "--b-on", "cpu"]) == 1
    assert "is a backend already" in capsys.readouterr().err
