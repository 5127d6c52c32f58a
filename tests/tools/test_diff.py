# SPDX-License-Identifier: Apache-2.0
"""bascule.diff: another export of a model is the same, and of a change only the change is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule.cli import main
from bascule.tools.diff import ModelDiff, diff
from tests.api.models import linear, model, scaled, tensor
from tests.support.reexport import perturb, reexported, save_elsewhere

_DATA = Path(__file__).parents[1] / "models" / "data"
_NAMES = [
    "bert_torchscript", "clip", "convnext", "detr", "efficientnet", "gpt2", "llama", "lstm_tagger",
    "mobilenetv3_torchscript", "resnet", "segformer", "swin", "t5_decoder", "unet", "vit_float16",
    "wav2vec2", "whisper_decoder",
]  # fmt: skip


def changed_weights(found: ModelDiff) -> set[str]:
    return {each.new for each in found.weights}


# --- other exports of one model


@pytest.mark.parametrize("name", _NAMES)
def test_only_the_true_changes_of_a_network(name: str, tmp_path: Path) -> None:
    old = onnx.load(_DATA / f"{name}.onnx")
    new = reexported(old)
    save_elsewhere(new, tmp_path / "new.onnx")
    found = diff(_DATA / f"{name}.onnx", tmp_path / "new.onnx")
    assert found.same, found
    assert found.renamed and found.matched >= found.renamed
    few = perturb(new, 3)
    found = diff(old, new)
    assert changed_weights(found) == set(few) and not found.nodes and not found.model, found
    most = {*few, *perturb(new, 10_000, seed=1)}
    found = diff(old, new)
    assert changed_weights(found) == most and not found.nodes and not found.model, found


@pytest.mark.parametrize("name", ["bert_torchscript", "convnext", "gpt2", "resnet", "unet"])
def test_a_node_between_others_and_another_operator(name: str) -> None:
    old = onnx.load(_DATA / f"{name}.onnx")
    new = onnx.ModelProto()
    new.CopyFrom(old)
    nodes = new.graph.node
    place = next(
        i for i, node in enumerate(nodes) if i > len(nodes) // 3 and node.op_type in ("Add", "Conv")
    )
    output = nodes[place].output[0]
    readers = 0
    for node in nodes:
        readers += output in node.input
        node.input[:] = ["between" if each == output else each for each in node.input]
    nodes.insert(place + 1, helper.make_node("Neg", [output], ["between"], name="inserted"))
    other = [
        n for n in nodes if n.op_type in ("Relu", "Tanh", "Softmax", "Erf", "Sigmoid", "Gelu")
    ][-1]
    was = other.op_type
    other.op_type = "Softplus"
    del other.attribute[:]
    again = reexported(new, seed=3)
    weights = perturb(again, 10_000)
    found = diff(old, again)
    assert Counter(each.kind for each in found.nodes) == {"added": 1, "changed": readers + 1}, found
    assert [e.new_operator for e in found.nodes if e.kind == "added"] == ["Neg"]
    operators = [(e.old_operator, e.new_operator) for e in found.nodes]
    assert (was, "Softplus") in operators
    assert changed_weights(found) == set(weights)


def test_one_operator_for_another_everywhere() -> None:
    """Copies of one branch without weights, of which every second node is of another operator."""

    def made(op_type: str) -> onnx.ModelProto:
        nodes, value = [], "x"
        for layer in range(4):
            for branch in range(3):
                nodes.append(helper.make_node("Neg", [value], [f"n{layer}{branch}"]))
                nodes.append(
                    helper.make_node(op_type, [f"n{layer}{branch}"], [f"t{layer}{branch}"])
                )
                nodes.append(helper.make_node("Abs", [f"t{layer}{branch}"], [f"a{layer}{branch}"]))
            nodes.append(helper.make_node("Sum", [f"a{layer}{b}" for b in range(3)], [f"s{layer}"]))
            value = f"s{layer}"
        nodes.append(helper.make_node("Identity", [value], ["y"]))
        return model(nodes, [tensor("x")], [tensor("y")])

    found = diff(made("Sigmoid"), reexported(made("Tanh")))
    assert len(found.nodes) == 12 and found.matched == 41, found
    assert {(e.old_operator, e.new_operator) for e in found.nodes} == {("Sigmoid", "Tanh")}


def stack(weights: list[np.ndarray[Any, Any]]) -> onnx.ModelProto:
    """Layers of MatMul and Relu, which differ in nothing but their weights."""
    nodes, initializers, value = [], [], "x"
    for index, weight in enumerate(weights):
        initializers.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Relu", [f"m{index}"], [f"r{index}"]))
        value = f"r{index}"
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    return model(nodes, [tensor("x", shape=("n", 8))], [tensor("y", shape=None)], initializers)


def test_a_layer_in_the_middle_after_training() -> None:
    generator = np.random.default_rng(2)
    weights = [generator.standard_normal((8, 8)).astype(np.float32) for _ in range(7)]
    old = stack([w for i, w in enumerate(weights) if i != 3])
    trained = [w + 0.05 * generator.standard_normal((8, 8)).astype(np.float32) for w in weights]
    found = diff(old, reexported(stack(trained)))
    assert Counter(e.kind for e in found.nodes) == {"added": 2, "changed": 1}, found
    assert len(found.weights) == 6
    assert all(each.statistics.relative < 0.1 for each in found.weights if each.statistics)


def test_branches_that_only_weights_tell_apart() -> None:
    generator = np.random.default_rng(2)
    weights = [generator.standard_normal((3, 3)).astype(np.float32) for _ in range(4)]

    def made(order: list[int], noise: float) -> onnx.ModelProto:
        nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"b{i}"]) for i in order]
        nodes.append(helper.make_node("Sum", [f"b{i}" for i in range(4)], ["y"]))
        tensors = [
            numpy_helper.from_array((w + noise * (i % 2)).astype(np.float32), f"w{i}")
            for i, w in enumerate(weights)
        ]
        return model(nodes, [tensor("x")], [tensor("y")], tensors)

    found = diff(made([0, 1, 2, 3], 0), made([3, 1, 0, 2], 0.01))
    assert {(w.old, w.new) for w in found.weights} == {("w1", "w1"), ("w3", "w3")}
    assert not found.nodes


# --- what is told


def test_everything_about_the_model() -> None:
    old, new = linear(), linear()
    new.producer_name, new.producer_version, new.ir_version = "me", "2", 11
    new.metadata_props.add(key="author", value="me")
    old.metadata_props.add(key="gone", value="x")
    new.opset_import[0].version = 22
    new.opset_import.append(helper.make_opsetid("unused", 1))
    new.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    new.graph.output[1].name = "sum"
    new.graph.node[1].output[0] = new.graph.node[2].input[0] = "sum"
    found = diff(old, new)
    told = {(c.where, c.name): (c.old, c.new) for c in found.model}
    assert told == {
        ("producer", ""): (None, "me 2"),
        ("ir_version", ""): ("10", "11"),
        ("opset", "ai.onnx"): ("21", "22"),
        ("metadata", "author"): (None, "me"),
        ("metadata", "gone"): ("x", None),
        ("input", "x"): ("x: float[n,3]", "x: float[batch,3]"),
        ("output", "sum"): ("s: float[n,2]", "sum: float[n,2]"),
    }
    assert not found.nodes and not found.weights


def attribute(**attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm", **attributes)
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    return model([node], [tensor("x", shape=(3, 3))], [tensor("y", shape=(3, 3))], [weight])


def test_attributes() -> None:
    assert diff(attribute(), attribute(alpha=1.0, transA=0)).same
    (change,) = diff(attribute(transB=1), attribute(alpha=0.5)).nodes
    assert (change.kind, change.old, change.new_operator) == ("changed", "gemm", "Gemm")
    assert change.attributes == [("alpha", None, "0.5"), ("transB", "1", None)]


def test_statistics() -> None:
    old, new = stack([np.eye(8, dtype=np.float32)]), stack([np.eye(8, dtype=np.float32)])
    array = np.eye(8, dtype=np.float32)
    array[0, 0], array[1, 1], array[2, 2] = 3, 0, np.nan
    new.graph.initializer[0].raw_data = array.tobytes()
    (change,) = diff(old, new).weights
    found = change.statistics
    assert found is not None
    assert (change.old_type, change.node) == ("float[8,8]", "MatMul_0[1]")
    assert (found.elements, found.changed, found.nonfinite, found.max) == (64, 3, 1, 2.0)
    assert found.mean == pytest.approx(3 / 63)
    assert found.relative == pytest.approx(np.sqrt(5 / 7))
    assert found.old_mean == pytest.approx(7 / 63) and found.new_mean == pytest.approx(8 / 63)
    assert found.shift == pytest.approx(3 / 64)


@pytest.mark.parametrize(
    "dtype", ["FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "INT4", "UINT64", "BOOL", "COMPLEX64"]
)
def test_element_types(dtype: str) -> None:
    number = TensorProto.DataType.Value(dtype)
    array = np.zeros((3, 7), helper.tensor_dtype_to_np_dtype(number))
    other = array.copy()
    other[2, 6] = 1

    def made(weight: Any) -> onnx.ModelProto:
        node = helper.make_node("Identity", ["w"], ["y"])
        weights = [numpy_helper.from_array(weight, "w")]
        return model([node], [], [tensor("y", number, [3, 7])], weights, 13, 25)

    assert diff(made(array), made(array.copy())).same
    (change,) = diff(made(array), made(other)).weights
    assert change.statistics is not None
    assert (change.statistics.changed, change.statistics.max) == (1, 1.0)


def test_a_weight_of_another_type_or_shape() -> None:
    old = stack([np.eye(8, dtype=np.float32) * 1.001])
    half = stack([np.eye(8, dtype=np.float32)])
    half.graph.initializer[0].CopyFrom(
        numpy_helper.from_array((np.eye(8) * 1.001).astype(ml_dtypes.bfloat16), "w0")
    )
    half.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    (change,) = diff(old, half).weights
    assert (change.old_type, change.new_type) == ("float[8,8]", "bfloat16[8,8]")
    assert change.statistics is not None and change.statistics.max == pytest.approx(0.001, rel=1e-3)
    (change,) = diff(old, stack([np.ones((8, 4), np.float32)])).weights
    assert change.new_type == "float[8,4]" and change.statistics is None


def test_defaults_of_inputs() -> None:
    old, new = scaled(), scaled()
    new.graph.initializer[0].float_data[0] = 3
    (change,) = diff(old, new).weights
    assert (change.node, change.new) == ("(default)", "scale")


def choice(op_type: str, seed: int = 0) -> onnx.ModelProto:
    """A nested graph that reads an outer value, an outer weight and one of its own."""
    generator = np.random.default_rng(seed)
    own = numpy_helper.from_array(generator.standard_normal((3, 3)).astype(np.float32), "own")
    outer = numpy_helper.from_array(np.ones((3, 3), np.float32), "outer")
    body = helper.make_graph(
        [
            helper.make_node("Add", ["r", "outer"], ["t"], name="add"),
            helper.make_node("MatMul", ["t", "own"], ["u"], name="product"),
            helper.make_node(op_type, ["u"], ["z"], name="last"),
        ],
        "then",
        [],
        [tensor("z", shape=None)],
        [own],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z2"])], "else", [], [tensor("z2", shape=None)]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=body, else_branch=other),
    ]
    inputs = [tensor("x", shape=(3, 3)), tensor("c", TensorProto.BOOL, [])]
    return model(nodes, inputs, [tensor("y", shape=(3, 3))], [outer])


def test_nested_graphs() -> None:
    assert diff(choice("Neg"), reexported(choice("Neg"))).same
    found = diff(choice("Neg"), choice("Abs", seed=1))
    (node,) = found.nodes
    assert (node.inside, node.old_operator, node.new_operator) == ("if.then_branch/", "Neg", "Abs")
    (weight,) = found.weights
    assert (weight.new, weight.node) == ("own", "if.then_branch/product[1]")


def test_a_value_that_is_read_two_graphs_further_in() -> None:
    old = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x, bool c) => (float[3] y) {
          v = Relu (x)
          y = If (c) <
            then_branch = a () => (float[3] p) {
              p = If (c) <
                then_branch = b () => (float[3] q) { q = Sigmoid (v) },
                else_branch = d () => (float[3] r) { r = Exp (x) }>
            },
            else_branch = e () => (float[3] s) { s = Neg (v) }>
        }""")
    assert diff(old, old).same
    new = onnx.ModelProto.FromString(old.SerializeToString())
    inner = new.graph.node[1].attribute[0].g.node[0].attribute[0].g
    inner.node[0].input[0] = "x"
    (node,) = diff(old, new).nodes
    assert node.new_operator == "Sigmoid" and node.inputs == [(0, "v", "x")]


def call(inner: str, *names: str) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    functions = [
        helper.make_function(
            "my", name, ["a"], ["b"], [helper.make_node(inner, ["a"], ["b"])], imports[:1]
        )
        for name in names
    ]
    node = helper.make_node("f", ["x"], ["y"], domain="my", name="call")
    graph = helper.make_graph([node], "graph", [tensor("x")], [tensor("y")])
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)


def test_functions() -> None:
    found = diff(call("Relu", "f"), call("Abs", "f", "g"))
    assert [(c.where, c.name, c.old, c.new) for c in found.model] == [
        ("function", "my.g", None, "1 nodes")
    ]
    (node,) = found.nodes
    assert (node.inside, node.old_operator, node.new_operator) == ("my.f/", "Relu", "Abs")


def test_an_output_that_comes_from_elsewhere() -> None:
    old, new = linear(), linear()
    new.graph.output[1].name = "m"
    found = diff(old, new)
    assert ("output", "s (Add)") not in {(c.where, c.old) for c in found.model}
    assert {(c.old, c.new) for c in found.model} >= {("sum (Add)", "product (MatMul)")}


# --- running both


def test_outputs() -> None:
    old, new = linear(), linear()
    new.graph.input[0].name = "data"
    new.graph.node[0].input[0] = "data"
    new.graph.initializer[1].float_data[0] += 1
    found = diff(old, new, run=True, dims={"n": 4})
    assert found.outputs is not None
    assert [(o.new, o.same, o.new_type) for o in found.outputs] == [
        ("y", False, "float[4,2]"),
        ("s", False, "float[4,2]"),
    ]
    statistics = found.outputs[1].statistics
    assert statistics is not None
    assert statistics.changed == 4 and statistics.max == pytest.approx(1, rel=1e-4)
    x = np.full((1, 3), -100, np.float32)
    given = diff(old, new, run=True, feeds={"x": x}).outputs
    assert given is not None and given[0].same and not given[1].same
    with pytest.raises(bascule.capi.onnxruntime_pybind11_state.InvalidArgument, match="no inputs"):
        diff(old, new, run=True, feeds={"z": x})


# --- the command


def save(proto: onnx.ModelProto, path: Path) -> str:
    onnx.save(proto, path)
    return str(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = save(linear(), tmp_path / "old.onnx")
    changed = linear()
    changed.graph.node[2].op_type = "Abs"
    changed.graph.initializer[1].float_data[0] += 1
    new = save(changed, tmp_path / "new.onnx")
    assert main(["diff", old, old, "--run"]) == 0
    assert "same: 3 nodes in both" in capsys.readouterr().out
    assert main(["diff", old, new, "--run", "--dim", "n=2"]) == 1
    printed = capsys.readouterr().out
    assert "~ Relu → Abs relu" in printed and "50.00%" in printed
    assert main(["diff", old, new, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["same"] is False and record["nodes"][0]["new_operator"] == "Abs"
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3), np.float32))
    assert main(["diff", old, new, "-i", str(tmp_path / "x.npz"), "--json"]) == 1
    assert [o["same"] for o in json.loads(capsys.readouterr().out)["outputs"]] == [False, False]
    assert main(["diff", old]) == 2
    assert main(["diff", old, str(tmp_path / "none.onnx")]) == 1
    assert "File doesn't exist" in capsys.readouterr().err


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    names = "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"
    done = subprocess.run(
        ["git", *names, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_in_git(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", ".")
    (tmp_path / ".gitattributes").write_text("*.onnx diff=onnx\n")
    command = f'"{sys.executable}" -m bascule'
    git(tmp_path, "config", "diff.onnx.command", f"{command} diff --git")
    save_elsewhere(linear(), tmp_path / "m.onnx")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    changed = linear()
    changed.graph.node[2].op_type = "Abs"
    save_elsewhere(changed, tmp_path / "m.onnx")
    save(linear(), tmp_path / "added.onnx")
    git(tmp_path, "add", "added.onnx")
    printed = git(tmp_path, "diff", "HEAD")
    assert "bascule diff a/m.onnx b/m.onnx" in printed and "~ Relu → Abs relu" in printed
    assert "b/added.onnx\nnew model" in printed
    git(tmp_path, "config", "--unset", "diff.onnx.command")
    git(tmp_path, "config", "diff.onnx.textconv", f"{command} info --text")
    (tmp_path / "added.onnx").write_bytes(changed.SerializeToString())
    printed = git(tmp_path, "diff", "--", "added.onnx")
    assert "-  y: float[n,2] = Relu(s)  # relu" in printed
    assert "+  y: float[n,2] = Abs(s)  # relu" in printed


def test_the_listing_has_hashes_of_weights(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(_DATA / "resnet.onnx")
    assert main(["info", path, "--text"]) == 0
    printed = capsys.readouterr().out
    assert "opset: ai.onnx" in printed and re.search(r"= constant [0-9a-f]{16}\n", printed)
