# SPDX-License-Identifier: Apache-2.0
"""bascule.merge_models and bascule.chain_models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bascule.errors import InvalidArgument
from bascule.tools.edit import chain_models, edit, merge_models
from tests.support.edited import assert_near, feeds_for, halves, results

_DATA = Path(__file__).parents[1] / "models" / "data"


def parsed(body: str, opset: int = 21, ir_version: int = 10, more: str = "") -> onnx.ModelProto:
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}{more}]>\n'
    return onnx.parser.parse_model(header + body)


def before() -> onnx.ModelProto:
    return parsed(
        """g (uint8[n, h, w, 3] image) => (float[n, 3, h, w] pixels)
        <float scale = {0.0039215}> {
            real = Cast<to = 1>(image)
            scaled = Mul(real, scale)
            pixels = Transpose<perm = [0, 3, 1, 2]>(scaled)
        }"""
    )


def network(opset: int = 21) -> onnx.ModelProto:
    model = parsed(
        """net (float[batch, 3, 8, 8] x) => (float[batch, 3] logits)
        <float scale = {2}> {
            scaled = Mul(x, scale)
            pooled = GlobalAveragePool(scaled)
            logits = Flatten(pooled)
        }""",
        opset,
    )
    model.metadata_props.add(key="author", value="me")
    return model


def after() -> onnx.ModelProto:
    return parsed(
        """post (float[n, classes] scores) => (float[n, classes] probability, int64[n] best) {
            probability = Softmax<axis = 1>(scores)
            best = ArgMax<axis = 1, keepdims = 0>(probability)
        }"""
    )


IMAGE = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3)).astype(np.uint8)


def test_preprocessing_model_postprocessing() -> None:
    editor = chain_models(before(), network(), after())
    assert editor.inputs == ("image",) and editor.outputs == ("probability", "best")
    pixels = (IMAGE * np.float32(0.0039215)).transpose(0, 3, 1, 2)
    logits = 2 * pixels.mean((2, 3))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = results(editor, {"image": IMAGE})
    assert_near(found["probability"], expected)
    model = editor.to_proto()
    # What the network takes no other size of is fixed in what comes before it as well.
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["n", 8, 8, 3]
    assert {t.name for t in model.graph.initializer} == {"scale", "net_scale"}
    assert "size 'h' is 8, as what it is connected to takes no other" in editor.notes
    assert [(e.key, e.value) for e in model.metadata_props] == [("author", "me")]


def test_connections_are_named_and_kept() -> None:
    editor = edit(before()).chain(network(), connect={"pixels": "x"}, keep=["pixels"])
    assert editor.outputs == ("logits", "pixels")
    found = results(editor, {"image": IMAGE})
    assert_near(found["logits"], 2 * found["pixels"].mean((2, 3)))
    for connect, message in (
        ({"pixel": "x"}, "no output 'pixel'; did you mean 'pixels'"),
        ({"pixels": "y"}, "no input 'y'"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            edit(before()).chain(network(), connect=connect)
    with pytest.raises(InvalidArgument, match="for one model more"):
        edit(before()).chain(network(), after(), connect={"pixels": "x"})


def test_what_does_not_fit_is_told() -> None:
    model = before()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(
        InvalidArgument, match=r"'pixels' is double.*'x' takes float.*insert a Cast"
    ):
        edit(model).chain(network())
    model = before()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    with pytest.raises(InvalidArgument, match=r"'pixels' is float\[n, 4, h, w\]"):
        edit(model).chain(network())
    two = parsed("g (float[n] p, float[n] q) => (float[n] r) { r = Add(p, q) }")
    with pytest.raises(InvalidArgument, match="say so by `connect`"):
        edit(network()).chain(two)


def test_an_output_may_feed_two_inputs_and_an_input_may_stay() -> None:
    add = parsed("g (float[n, 3] a, float[n, 3] b, float[n, 3] c) => (float[n, 3] d)"
                 " { t = Mul(a, b) d = Add(t, c) }")  # fmt: skip
    editor = edit(network()).chain(add, connect=[("logits", "a"), ("logits", "b")])
    assert editor.inputs == ("x", "c")
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    c = np.ones((2, 3), np.float32)
    assert_near(results(editor, {"x": x, "c": c})["d"], (2 * x.mean((2, 3))) ** 2 + 1)


def test_an_input_that_is_an_output_keeps_its_name() -> None:
    through = parsed("g (float[n, 3] v) => (float[n, 3] v, float[n, 3] u) { u = Neg(v) }")
    editor = edit(network()).chain(through)
    x = np.ones((1, 3, 8, 8), np.float32)
    assert editor.outputs == ("v_output", "u")
    assert_near(results(editor, {"x": x})["v_output"], np.full((1, 3), 2, np.float32))


def test_side_by_side_with_the_same_names() -> None:
    editor = merge_models(network(), network(), network(), prefixes=["b/", "c/"])
    assert editor.inputs == ("x", "b/x", "c/x")
    assert editor.outputs == ("logits", "b/logits", "c/logits")
    sizes = [i.type.tensor_type.shape.dim[0].dim_param for i in editor.to_proto().graph.input]
    assert len(set(sizes)) == 3
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal((i + 1, 3, 8, 8), np.float32)
             for i, n in enumerate(editor.inputs)}  # fmt: skip
    found = results(editor, feeds)
    for source, made in zip(editor.inputs, editor.outputs):
        assert_near(found[made], 2 * feeds[source].mean((2, 3)))
    editor = merge_models(network(), network())
    assert editor.inputs == ("x", "net_x")
    assert "'x' of the second model is called 'net_x'" in editor.notes
    other = network()
    other.metadata_props[0].value = "you"
    metadata = merge_models(network(), other).to_proto().metadata_props
    assert [(e.key, e.value) for e in metadata] == [("author", "me"), ("net_author", "you")]


def test_training_annotations_and_unknown_fields_are_joined() -> None:
    def trained() -> onnx.ModelProto:
        model = network()
        training = model.training_info.add()
        training.algorithm.name = "a"
        training.algorithm.node.append(helper.make_node("Neg", ["scale"], ["scale_new"]))
        training.algorithm.output.append(helper.make_tensor_value_info("scale_new", 1, []))
        training.update_binding.add(key="scale", value="scale_new")
        model.graph.quantization_annotation.add(tensor_name="scaled")
        model.doc_string = "a model"
        model.graph.MergeFromString(b"\xa2\x06\x05later")
        return model

    joined = merge_models(trained(), trained()).to_proto()
    assert [info.update_binding[0].key for info in joined.training_info] == ["scale", "net_scale"]
    second = joined.training_info[1]
    assert second.algorithm.node[0].input[0] == "net_scale"
    assert second.update_binding[0].value == second.algorithm.node[0].output[0]
    names = [each.tensor_name for each in joined.graph.quantization_annotation]
    assert names == ["scaled", "net_scaled"]
    assert joined.doc_string == "a model"
    assert joined.graph.SerializeToString().count(b"later") == 2


def test_merging_is_one_step() -> None:
    editor = edit(network())
    data = editor.to_bytes()
    editor.merge(before(), after())
    assert editor.history == ("merge 2 models",)
    assert editor.undo().to_bytes() == data
    assert edit(editor).merge(editor).inputs == ("x", "net_x")


def test_nested_graphs_and_nodes_get_other_names() -> None:
    text = """g (float[n] x, bool c) => (float[n] y) {
        [first] a = Neg(x)
        [second] y = If(c) <then_branch = t () => (float[n] p) { p = Abs(a) },
                   else_branch = e () => (float[n] q) { q = Exp(a) }>
    }"""
    editor = merge_models(parsed(text), parsed(text))
    x = np.arange(3, dtype=np.float32)
    feeds = {"x": x, "c": np.array(True), "g_x": x[:2], "g_c": np.array(False)}
    found = results(editor, feeds)
    assert_near(found["y"], x)
    assert_near(found["g_y"], np.exp(-x[:2]))
    names = [node.name for node in editor.to_proto().graph.node]
    assert names == ["first", "second", "g_first", "g_second"]


def test_functions_of_one_name() -> None:
    def calling(op: str) -> onnx.ModelProto:
        return parsed(
            f"""g (float[n] x) => (float[n] y) {{ y = f.act(x) }}
            <domain: "f", opset_import: ["" : 21, "f" : 1]> act (v) => (w) {{ w = f.inner(v) }}
            <domain: "f", opset_import: ["" : 21]> inner (v) => (w) {{ w = {op}(v) }}""",
            more=', "f" : 1',
        )

    editor = merge_models(calling("Neg"), calling("Exp"))
    names = [function.name for function in editor.to_proto().functions]
    assert names == ["act", "inner", "g_act", "g_inner"]
    x = np.arange(3, dtype=np.float32)
    found = results(editor, {"x": x, "g_x": x})
    assert_near(found["y"], -x)
    assert_near(found["g_y"], np.exp(x))
    assert len(merge_models(calling("Neg"), calling("Neg")).to_proto().functions) == 2
    plain = parsed("g (float[n] x) => (float[n] y) { y = f.act(x) }", more=', "f" : 1')
    with pytest.raises(InvalidArgument, match="'act' of domain 'f' is a function of the second"):
        merge_models(plain, calling("Neg"))


# --- opsets and IR versions


def old_squeeze() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["u"], name="up", axes=[1], doc_string="kept"),
        helper.make_node("Softmax", ["u"], ["s"], name="soft"),
        helper.make_node("ReduceSum", ["s"], ["r"], name="sum", axes=[2], keepdims=1),
        helper.make_node("Clip", ["r"], ["c"], name="clip", min=0.1, max=0.9),
        helper.make_node("Squeeze", ["c"], ["y"], name="down", axes=[1]),
    ]
    nodes[0].metadata_props.add(key="trace", value="a.py")
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info("x", 1, ["n", 3, 4])],
        [helper.make_tensor_value_info("y", 1, ["n", 1, 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


@pytest.mark.parametrize("old_first", [True, False])
def test_opsets_are_brought_to_the_newest(old_first: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    expected = results(old_squeeze(), {"x": x})["y"]
    models = (old_squeeze(), network()) if old_first else (network(), old_squeeze())
    editor = merge_models(*models)
    assert "nodes converted from opset 9 to 21: 5" in editor.notes
    feeds = feeds_for(editor.to_proto())
    name = "x" if old_first else "old_x"
    feeds[name] = x
    assert_near(results(editor, feeds)["y"], expected)
    nodes = {node.name: node for node in editor.to_proto().graph.node}
    assert nodes["up"].doc_string == "kept" and nodes["up"].metadata_props[0].value == "a.py"
    assert editor.to_proto().opset_import[0].version == 21


def test_a_node_that_cannot_be_converted_is_named() -> None:
    model = parsed(
        """g (float[n, 3] x) => (float[n, 3] y) { y = f.soft(x) }
        <domain: "f", opset_import: ["" : 11]> soft (v) => (w) { w = Softmax(v) }""",
        opset=11,
        more=', "f" : 1',
    )
    with pytest.raises(InvalidArgument, match="of function 'soft' means something else"):
        merge_models(model, network())
    old = parsed("g (float[n, 3] x) => (float[n, 3] y) { [odd] y = Scan<num_scan_inputs = 1, body ="
                 " b (float[3] i) => (float[3] o) { o = Neg(i) }>(, x) }", opset=8)  # fmt: skip
    with pytest.raises(InvalidArgument, match="Scan node 'odd' means something else in opset 21"):
        merge_models(old, network())


def test_initializers_of_old_models_stay_constants() -> None:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "old",
        [helper.make_tensor_value_info(n, 1, [3]) for n in ("x", "w")],
        [helper.make_tensor_value_info("y", 1, [3])],
        [numpy_helper.from_array(np.float32([1, 2, 3]), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)
    editor = merge_models(model, network())
    assert editor.inputs == ("x", "net_x")
    feeds: dict[str, Any] = {"x": np.ones(3, np.float32), "net_x": np.ones((1, 3, 8, 8), "f")}
    assert_near(results(editor, feeds)["y"], np.float32([1, 2, 3]))


@pytest.mark.parametrize("name", ["resnet", "bert_torchscript", "convnext", "unet"])
def test_a_network_cut_and_chained_again_is_the_same(name: str) -> None:
    model = onnx.load(_DATA / f"{name}.onnx")
    feeds = feeds_for(model)
    expected = results(model, feeds)
    head, tail = halves(model, len(model.graph.node) // 2)
    values = results(head, {name: feeds[name] for name in head.inputs})
    parts = results(tail, {name: {**feeds, **values}[name] for name in tail.inputs})
    chained = chain_models(head, tail, prefixes=["again_"])
    again = {f"again_{name}": array for name, array in feeds.items()}
    whole = results(chained, {name: {**feeds, **again}[name] for name in chained.inputs})
    for key in tail.outputs:
        np.testing.assert_allclose(parts[key], expected[key], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(whole[f"again_{key}"], expected[key], rtol=1e-3, atol=1e-4)
