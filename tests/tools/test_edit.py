# SPDX-License-Identifier: Apache-2.0
"""bascule.edit: parts, nodes, names and weights changed, and all else as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule.errors import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
from bascule.tools.edit import Editor, edit
from tests.support.edited import assert_near, by_name, feeds_for, results

_DATA = Path(__file__).parents[1] / "models" / "data"
F = TensorProto.FLOAT


def value(name: str, shape: Any = ("n", 4), dtype: int = F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def small(ir_version: int = 10) -> onnx.ModelProto:
    """x -> Mul(x, w) -> Relu -> Add(b) -> y; and z = Tanh of the Relu."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"], name="scale", doc_string="why"),
        helper.make_node("Relu", ["scaled"], ["positive"], name="relu"),
        helper.make_node("Constant", [], ["b"], name="bias",
                         value=numpy_helper.from_array(np.ones(4, np.float32))),
        helper.make_node("Add", ["positive", "b"], ["y"], name="add"),
        helper.make_node("Tanh", ["positive"], ["z"], name="tanh"),
    ]  # fmt: skip
    weight = numpy_helper.from_array(rng.standard_normal((4,)).astype(np.float32), "w")
    inputs = [value("x")] + ([value("w", [4])] if ir_version < 4 else [])
    graph = helper.make_graph(nodes, "g", inputs, [value("y"), value("z")], [weight])
    for name in ("scaled", "positive"):
        graph.value_info.append(value(name))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version
    )
    model.graph.node[1].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File x.py")
    return model


X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
W = numpy_helper.to_array(small().graph.initializer[0])
POSITIVE = np.maximum(X * W, 0)


# --- cutting


def test_a_part_between_named_values() -> None:
    editor = edit(small()).cut(["positive"], ["y"])
    assert editor.inputs == ("positive",) and editor.outputs == ("y",)
    assert_near(results(editor, {"positive": POSITIVE})["y"], POSITIVE + 1)
    assert len(editor.to_proto().graph.node) == 2 and not editor.to_proto().graph.initializer


def test_cut_defaults_and_values_that_are_inputs() -> None:
    assert edit(small()).cut(outputs=["scaled"]).inputs == ("x",)
    editor = edit(small()).cut(["w", "x"], ["scaled", "x"])
    assert editor.inputs == ("w", "x") and "initializer 'w' is an input now" in editor.notes
    found = results(editor, {"w": W, "x": X})
    assert_near(found["scaled"], X * W)
    assert_near(found["x"], X)
    assert edit(small()).cut(["scaled"]).outputs == ("y", "z")


def test_cut_without_declared_types() -> None:
    model = small()
    del model.graph.value_info[:]
    editor = edit(model).cut(["scaled"], ["positive"])
    found = editor.to_proto().graph.input[0].type.tensor_type
    assert found.elem_type == F and len(found.shape.dim) == 2
    assert_near(results(editor, {"scaled": X * W})["positive"], POSITIVE)


def test_cut_where_no_type_can_be_inferred() -> None:
    model = small()
    del model.graph.value_info[:]
    model.graph.node[1].domain = "own"
    model.opset_import.add(domain="own", version=1)
    with pytest.raises(InvalidArgument, match="type of value 'positive' is not declared"):
        edit(model).cut(["positive"], ["y"])
    editor = edit(model).cut(["positive"], ["y"], types={"positive": "float32[rows, 4]"})
    assert editor.to_proto().graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"
    results(editor, {"positive": POSITIVE})


def test_cut_where_no_rank_can_be_inferred() -> None:
    """An input or output without a rank is no valid ONNX."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2, 4] x, int64 n) => (float[2, 4] y) {
            t = Loop (n, , x) <body = b (int64 i, bool c, float[] v) => (bool d, float[] w) {
                d = Identity (c) w = Tanh (v)
            }>
            y = Relu (t)
        }""")
    for info in (
        model.graph.node[0].attribute[0].g.input[2],
        model.graph.node[0].attribute[0].g.output[1],
    ):
        info.type.tensor_type.ClearField("shape")
    for ends in ({"outputs": ["t"]}, {"inputs": ["t"]}):
        with pytest.raises(InvalidArgument, match="rank of value 't' is not declared"):
            edit(model).cut(**ends)
        editor = edit(model).cut(**ends, types={"t": "float32[rows, 4]"})
        onnx.checker.check_model(editor.to_proto(), full_check=True)


def test_cut_at_one_of_several_results() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[4, 4] x) => (float[2, 4] y) {
            a, b = Split <num_outputs = 2> (x)
            y = Sub (a, b)
        }""")
    editor = edit(model).cut(["b", "x"], ["y"])
    onnx.checker.check_model(editor.to_proto(), full_check=True)
    x, b = np.ones((4, 4), np.float32), np.full((2, 4), 3, np.float32)
    assert_near(results(editor, {"b": b, "x": x})["y"], x[:2] - b)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (["w"], ["y"], "Input 'x' is needed as well, which Mul node 'scale' reads"),
        (["x", "y"], ["z"], "Input 'y' is not needed for 'z'"),
        (["positve"], ["y"], "no value 'positve'; did you mean 'positive'"),
        (["x"], ["nothing"], "no value 'nothing'"),
    ],
)  # fmt: skip
def test_cuts_that_cannot_be(inputs: list[str], outputs: list[str], message: str) -> None:
    editor = edit(small())
    before = editor.to_bytes()
    with pytest.raises(InvalidArgument, match=message):
        editor.cut(inputs, outputs)
    assert editor.to_bytes() == before and editor.history == ()


def test_cut_keeps_functions_and_captured_values() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
    g (float[n] x, bool c) => (float[n] y) {
        a = f.twice(x)
        b = Neg(a)
        y = If(c) <then_branch = t () => (float[n] p) { p = Add(b, a) },
                   else_branch = e () => (float[n] q) { q = Identity(b) }>
    }
    <domain: "f", opset_import: ["" : 21]> twice (v) => (w) { w = Add(v, v) }
    <domain: "f", opset_import: ["" : 21]> other (v) => (w) { w = Neg(v) }"""
    model = onnx.parser.parse_model(text)
    x = np.arange(3, dtype=np.float32)
    editor = edit(model).cut(["a", "c"], ["y"])
    assert not editor.to_proto().functions
    assert_near(results(editor, {"a": x, "c": np.array(True)})["y"], x * 0)
    with pytest.raises(InvalidArgument, match="'x' is needed as well"):
        edit(model).cut(["b", "c"], ["y"])
    editor = edit(model).cut(["x"], ["b"])
    assert [f.name for f in editor.to_proto().functions] == ["twice"]
    with pytest.raises(InvalidArgument, match="inside a nested graph"):
        edit(model).cut(["x"], ["p"])


# --- nodes


def test_insert_before_readers_and_outputs() -> None:
    editor = edit(small()).insert("positive", "Neg", name="minus")
    found = results(editor, {"x": X})
    assert_near(found["y"], 1 - POSITIVE)
    editor = edit(small()).insert("y", "Mul", inputs=["y", "two"], constants={"two": np.float32(2)})
    found = results(editor, {"x": X})
    assert_near(found["y"], 2 * (POSITIVE + 1))
    assert editor.outputs == ("y", "z") and editor.history == ("insert Mul on 'y'",)
    editor = edit(small()).insert("positive", "Neg", readers=["tanh"])
    found = results(editor, {"x": X})
    assert_near(found["z"], np.tanh(-POSITIVE))
    assert_near(found["y"], POSITIVE + 1)


def test_insert_reads_what_comes_later() -> None:
    model = small()
    editor = edit(model).insert("scaled", "Max", inputs=["scaled", "b"], output="high")
    assert_near(results(editor, {"x": X})["y"], np.maximum(X * W, 1) + 1)
    with pytest.raises(InvalidArgument, match="would read its own result"):
        edit(model).insert("scaled", "Max", inputs=["scaled", "z"])


def test_insert_changes_the_declared_types() -> None:
    editor = edit(small()).insert("z", "Cast", attributes={"to": TensorProto.FLOAT16})
    model = editor.to_proto()
    assert model.graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT16
    assert model.graph.output[1].type.tensor_type.shape.dim[0].dim_param == "n"
    assert results(editor, {"x": X})["z"].dtype == np.float16
    with pytest.raises(Fail, match="add"):
        edit(small()).insert("positive", "Cast", attributes={"to": 10}, readers=["add"])


def test_insert_with_attributes_of_the_schema() -> None:
    editor = edit(small()).insert("positive", "LeakyRelu", attributes={"alpha": 1})
    editor.insert("z", "Softmax", attributes={"axis": np.int64(1)})
    results(editor, {"x": X})
    editor.insert("x", "Clip", inputs=["x", "", "top"], constants={"top": np.float32(0.5)})
    results(editor, {"x": X})
    for attributes, message in (
        ({"alhpa": 1.0}, "did you mean 'alpha'"),
        ({"alpha": "x"}, "float"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            editor.insert("scaled", "LeakyRelu", attributes=attributes)
    with pytest.raises(InvalidArgument, match="Nothing reads 'unread'"):
        editor.set_initializer("unread", np.float32(1)).insert("unread", "Neg")


def test_insert_of_another_domain() -> None:
    editor = edit(small()).insert("z", "Gelu", domain="com.microsoft")
    assert "domain 'com.microsoft' is imported" in editor.notes[0]
    assert ("com.microsoft", 1) in {(o.domain, o.version) for o in editor.to_proto().opset_import}


def test_replace_keeps_the_rest_of_the_node() -> None:
    editor = edit(small()).replace("relu", "Elu", attributes={"alpha": 0.5})
    node = editor.to_proto().graph.node[1]
    assert node.name == "relu" and node.metadata_props[0].value == "File x.py"
    scaled = X * W
    expected = np.where(scaled > 0, scaled, 0.5 * (np.exp(scaled) - 1)) + 1
    assert_near(results(editor, {"x": X})["y"], expected)
    editor.replace("relu", "Relu")
    assert "attribute 'alpha', which Relu does not have, was removed" in editor.notes
    assert_near(results(editor, {"x": X})["y"], POSITIVE + 1)
    editor.replace("add", "Mul", inputs=["positive", "scaled"])
    assert "which nothing reads any more, was removed" in editor.notes[0]
    assert_near(results(editor, {"x": X})["y"], POSITIVE * X * W)


def test_replace_by_other_nodes() -> None:
    nodes = [
        helper.make_node("Neg", ["scaled"], ["below"]),
        helper.make_node("Exp", ["below"], ["positive"], name="exp"),
    ]
    editor = edit(small()).replace("relu", nodes=nodes)
    assert_near(results(editor, {"x": X})["z"], np.tanh(np.exp(-X * W)))
    with pytest.raises(InvalidArgument, match="do not make 'positive', which is read"):
        edit(small()).replace("relu", nodes=nodes[:1])
    with pytest.raises(InvalidArgument, match="no value 'gone'"):
        edit(small()).replace("relu", nodes=[helper.make_node("Neg", ["gone"], ["positive"])])


def test_a_node_that_is_not_valid_is_refused() -> None:
    editor = edit(small())
    before = editor.to_bytes()
    with pytest.raises(InvalidGraph, match="relu"):
        editor.replace("relu", "Add")
    with pytest.raises(InvalidArgument, match="did you mean 'relu'"):
        editor.replace("rellu", "Elu")
    for unknown, domain in ("Gelu", ""), ("Reluu", ""), ("Relu", "ai.onnx.ml"):  # opset 17
        with pytest.raises(InvalidGraph, match=f"No Op registered for {unknown}"):
            editor.replace("relu", unknown, domain=domain)
    assert editor.to_bytes() == before


def test_delete_joins_input_and_output() -> None:
    editor = edit(small()).delete("relu")
    assert_near(results(editor, {"x": X})["y"], X * W + 1)
    editor = edit(small()).delete("scale")
    assert "initializer 'w', which nothing reads any more, was removed" in editor.notes
    assert_near(results(editor, {"x": X})["y"], np.maximum(X, 0) + 1)
    editor = edit(small()).delete("add")  # an output; its input is read by another node as well
    assert_near(results(editor, {"x": X})["y"], POSITIVE)
    assert "value 'positive' is now called 'y'" in editor.notes[0]
    editor.delete("tanh")
    assert "an Identity stands in its place" in editor.notes[0]
    assert_near(results(editor, {"x": X})["z"], POSITIVE)


def test_delete_asks_which_input() -> None:
    editor = edit(small()).replace("add", inputs=["positive", "scaled"])
    with pytest.raises(InvalidArgument, match=r"say which of .* by `join`"):
        editor.delete("add")
    with pytest.raises(InvalidArgument, match="no input 7"):
        editor.delete("add", join=7)
    assert_near(results(editor.delete("add", join="scaled"), {"x": X})["y"], X * W)
    with pytest.raises(InvalidArgument, match="no input that could be joined"):
        edit(small()).delete("bias")


# --- names


def test_rename_everything_that_has_a_name() -> None:
    editor = edit(small()).rename({"x": "image", "relu": "act", "w": "weight", "y": "z", "z": "y"})
    assert editor.outputs == ("z", "y")
    model = editor.to_proto()
    assert model.graph.node[1].name == "act" and model.graph.initializer[0].name == "weight"
    assert_near(results(editor, {"image": X})["z"], POSITIVE + 1)
    editor.rename("n", "batch")
    assert editor.to_proto().graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    editor.rename("positive", "act", kind="value")
    with pytest.raises(InvalidArgument, match="a node and of a value: say which"):
        editor.rename("act", "b")
    for names, message in (
        ({"image": "weight"}, "there is such a value"),
        ({"imag": "a"}, "did you mean 'image'"),
        ({"image": "q", "weight": "q"}, "there is such a value"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            editor.rename(names)


def test_rename_in_nested_graphs() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[n] x, bool c) => (float[n] y) {
        a = Neg(x)
        y = If(c) <then_branch = t () => (float[n] p) { i = Abs(a) p = Neg(i) },
                   else_branch = e () => (float[n] q) { i = Exp(a) q = Add(i, a) }>
    }"""
    editor = edit(onnx.parser.parse_model(text)).rename("a", "b")
    x = np.arange(3, dtype=np.float32)
    assert_near(results(editor, {"x": x, "c": np.array(False)})["y"], np.exp(-x) - x)
    editor.rename("p", "r").insert("b", "Neg")
    assert_near(results(editor, {"x": x, "c": np.array(False)})["y"], np.exp(x) + x)
    editor.replace("q", "Sub").delete("r")
    assert_near(results(editor, {"x": x, "c": np.array(True)})["y"], x)
    assert_near(results(editor, {"x": x, "c": np.array(False)})["y"], np.exp(x) - x)
    with pytest.raises(InvalidArgument, match="2 nested graphs have a value 'i'"):
        edit(onnx.parser.parse_model(text)).rename("i", "j")


# --- weights


def test_set_an_initializer() -> None:
    editor = edit(small()).set_initializer("w", np.full(4, 2, np.float32))
    assert_near(results(editor, {"x": X})["y"], np.maximum(2 * X, 0) + 1)
    editor.set_initializer("b", np.float32([1, 2, 3, 4]))  # a Constant node
    assert_near(results(editor, {"x": X})["y"], np.maximum(2 * X, 0) + np.float32([1, 2, 3, 4]))
    for name, array, error, message in (
        ("w", np.float64([1]), Fail, "scale"),
        ("w", np.zeros(3, np.float32), Fail, "scale"),
        ("scaled", X, InvalidArgument, "is made by a Mul"),
        ("x", X, InvalidArgument, "is an input"),
        ("w", np.zeros(2, "M8[s]"), InvalidArgument, "no ONNX element type"),
    ):
        with pytest.raises(error, match=message):
            editor.set_initializer(name, array)
    half = np.ones(4, ml_dtypes.bfloat16)
    assert numpy_helper.to_array(
        editor.set_initializer("new", half).to_proto().graph.initializer[1]
    ).dtype == ml_dtypes.bfloat16  # fmt: skip


def test_initializers_and_inputs() -> None:
    editor = edit(small()).initializer_to_input("w")
    assert editor.inputs == ("x", "w") and not editor.to_proto().graph.initializer
    assert_near(results(editor, {"x": X, "w": W})["y"], POSITIVE + 1)
    editor.input_to_initializer("w", W)
    assert_near(results(editor, {"x": X})["y"], POSITIVE + 1)
    editor.initializer_to_input("w", keep_default=True)
    assert_near(results(editor, {"x": X})["y"], POSITIVE + 1)
    assert_near(results(editor, {"x": X, "w": W * 0})["y"], POSITIVE * 0 + 1)
    editor.input_to_initializer("w")
    assert editor.inputs == ("x",)
    editor.input_to_initializer("x", X)
    assert_near(results(editor, {})["y"], POSITIVE + 1)
    for name, array, message in (
        ("x", np.float64(X), r"is float\[n, 4\], and the array double\[3, 4\]"),
        ("x", X[:, :3], r"float\[3, 3\]"),
        ("x", None, "has no default"),
        ("w", W, "no input 'w'"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            edit(small()).input_to_initializer(name, array)
    with pytest.raises(InvalidArgument, match="no initializer 'x'"):
        edit(small()).initializer_to_input("x")


def test_old_models_list_initializers_as_inputs() -> None:
    editor = edit(small(ir_version=3)).set_initializer("w", np.full(4, 2, np.float32))
    editor.insert("y", "Mul", inputs=["y", "two"], constants={"two": np.float32([2])})
    assert editor.inputs == ("x", "w", "two")
    assert_near(results(editor, {"x": X})["y"], 2 * (np.maximum(2 * X, 0) + 1))
    editor.initializer_to_input("w")
    assert_near(results(editor, {"x": X, "w": W})["y"], 2 * (POSITIVE + 1))
    editor = edit(small(ir_version=3)).cut(outputs=["positive"])
    assert_near(results(editor, {"x": X})["positive"], POSITIVE)


# --- steps


def test_undo_and_redo() -> None:
    editor = edit(small())
    states = [editor.to_bytes()]
    editor.rename("x", "a")
    states.append(editor.to_bytes())
    editor.delete("relu")
    states.append(editor.to_bytes())
    assert editor.history == ("rename 'x' to 'a'", "delete 'relu'")
    assert editor.undo().to_bytes() == states[1]
    assert editor.undo().to_bytes() == states[0]
    with pytest.raises(InvalidArgument, match="There are 0 edits to undo"):
        editor.undo()
    assert editor.redo(2).to_bytes() == states[2]
    assert editor.undo(2).rename("x", "c").history == ("rename 'x' to 'c'",)
    with pytest.raises(InvalidArgument, match="0 edits to redo"):
        editor.redo()
    few = Editor(small(), history=1)
    assert few.rename("x", "a").rename("a", "c").history == ("rename 'a' to 'c'",)


def test_a_step_is_one_edit_and_all_or_nothing() -> None:
    editor = edit(small())
    before = editor.to_bytes()
    with editor.step("in half precision"):
        editor.insert("x", "Cast", attributes={"to": TensorProto.FLOAT16})
        editor.insert("y", "Cast", attributes={"to": F}).insert("z", "Cast", attributes={"to": F})
        editor.set_initializer("w", W.astype(np.float16))
        editor.set_initializer("b", np.ones(4, np.float16))
    assert editor.history == ("in half precision",)
    found = bascule.load(editor.to_bytes())(X)
    assert np.abs(found["y"] - POSITIVE - 1).max() < 0.02
    assert editor.undo().to_bytes() == before
    with pytest.raises(RuntimeError), editor.step("fails"):
        editor.delete("relu")
        raise RuntimeError
    assert editor.to_bytes() == before
    with editor.step("goes on after an error"):
        editor.delete("relu")
        with pytest.raises(InvalidArgument):
            editor.insert("y", "Mul", inputs=["y", "nothing"], constants={"c": np.float32(1)})
    assert_near(results(editor, {"x": X})["y"], X * W + 1)
    assert len(editor.to_proto().graph.initializer) == 1
    with editor.step("undo"), pytest.raises(InvalidArgument, match="part of a step"):
        editor.undo()


def test_a_model_that_is_not_valid_can_be_mended() -> None:
    model = small()
    model.graph.node[1].op_type = "Add"
    editor = edit(model)
    editor.rename("x", "image")  # still not valid
    editor.replace("relu", "Relu")
    assert_near(results(editor, {"image": X})["y"], POSITIVE + 1)
    with pytest.raises(InvalidGraph):
        editor.replace("relu", "Add")


# --- what is not edited


@pytest.mark.parametrize("name", ["bert", "gpt2_torchscript", "llama", "detr", "unet"])
def test_nothing_else_changes(name: str) -> None:
    data = (_DATA / f"{name}.onnx").read_bytes()
    assert edit(data).to_bytes() == data
    model = onnx.load_from_string(data)
    before = by_name(model)
    target = next(n for n in model.graph.node if n.op_type in ("Add", "MatMul", "Conv", "Gemm"))
    edited = edit(data).insert(target.output[0], "Identity").to_proto()
    after = by_name(edited)
    changed = {key for key in before if before[key] != after.get(key)}
    readers = {n.output[0] for n in model.graph.node if target.output[0] in n.input}
    assert changed <= readers | {target.output[0]} and len(after) == len(before) + 1
    assert edited.graph.initializer == model.graph.initializer
    assert list(edited.graph.value_info) == list(model.graph.value_info)
    assert edited.metadata_props == model.metadata_props
    assert edited.functions == model.functions


def test_unknown_fields_training_and_details_survive() -> None:
    model = small()
    model.producer_name, model.doc_string = "maker", "text"
    unknown = b"\xa2\x06\x05later"  # field 100, of some later version
    node = model.graph.node[1]
    node.MergeFromString(unknown)
    tensor = model.graph.initializer[0]
    tensor.doc_string = "a weight"
    tensor.ClearField("raw_data")
    tensor.float_data.extend(W.tolist())
    tensor.MergeFromString(unknown)
    model.graph.quantization_annotation.add(tensor_name="scaled").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    model.graph.input[0].type.denotation = "TENSOR"
    training = model.training_info.add()
    training.algorithm.node.append(helper.make_node("Add", ["w", "step"], ["w_new"]))
    training.algorithm.initializer.append(numpy_helper.from_array(np.float32(1), "step"))
    training.algorithm.output.append(value("w_new", [4]))
    training.algorithm.name = "a"
    training.update_binding.add(key="w", value="w_new")
    data = model.SerializeToString()
    assert edit(data).to_bytes() == data
    editor = edit(data).rename({"scaled": "s", "w": "weight"}).insert("z", "Neg")
    edited = editor.to_proto()
    assert unknown in edited.graph.node[1].SerializeToString()
    found = edited.graph.initializer[0]
    assert unknown in found.SerializeToString() and found.doc_string == "a weight"
    assert list(found.float_data) == W.tolist() and not found.raw_data
    assert edited.producer_name == "maker" and edited.doc_string == "text"
    assert edited.graph.input[0] == model.graph.input[0]
    annotation = edited.graph.quantization_annotation[0]
    assert annotation.tensor_name == "s"
    assert annotation.quant_parameter_tensor_names[0].value == "weight"
    info = edited.training_info[0]
    assert info.algorithm.node[0].input[0] == info.update_binding[0].key == "weight"
    assert len(edit(data).cut(["x"], ["scaled"]).to_proto().training_info) == 1
    editor = edit(data).cut(["positive"], ["y"])
    assert "training_info was left out" in editor.notes[0]


def test_damaged_models_are_refused_and_not_worse() -> None:
    """Whatever is in a file, an edit works or says why not."""
    rng = np.random.default_rng(0)
    data = small().SerializeToString()
    kinds = set()
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        try:
            editor = edit(bytes(damaged))
            editor.rename("scaled", "s", kind="value").insert("positive", "Neg").to_bytes()
        except Exception as error:
            kinds.add(type(error).__module__)
    assert kinds == {"bascule.errors"}
    broken = small()
    broken.graph.node[1].name = "name"
    text = broken.SerializeToString().replace(b"name", b"\xff\xfe\xfd\xfc")
    with pytest.raises(InvalidProtobuf, match="not UTF-8"):
        edit(text)


def test_of_a_loaded_model(tmp_path: Path) -> None:
    data = small().SerializeToString()
    assert edit(bascule.load(data)).to_bytes() == data
    assert edit(bascule.InferenceSession(data)).to_bytes() == data
    onnx.save(small(), tmp_path / "m.onnx")
    assert edit(bascule.load(tmp_path / "m.onnx")).delete("relu").history == ("delete 'relu'",)
    assert repr(edit(data)) == "<Editor of 'g': 5 nodes, 1 inputs, 2 outputs, 0 edits>"


def test_a_cut_of_a_network_computes_the_same() -> None:
    model = onnx.load(_DATA / "resnet.onnx")
    graph = model.graph
    middle = next(n for n in graph.node if n.op_type == "MaxPool").output[0]
    feeds = feeds_for(model)
    head = results(edit(model).cut(outputs=[middle]), feeds)
    whole = results(model, feeds)
    rest = results(edit(model).cut([middle]), head)
    for name, array in whole.items():
        np.testing.assert_allclose(rest[name], array, rtol=1e-5, atol=1e-5)
