# SPDX-License-Identifier: Apache-2.0
"""bascule.convert to another opset: the same results, and nothing else changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import bascule
from bascule import errors
from bascule.tools.convert import opset as opset_module
from tests.tools.planted import ARCHITECTURES, feeds


def version_of(proto: onnx.ModelProto) -> int:
    return next(each.version for each in proto.opset_import if each.domain == "")


def valid(proto: onnx.ModelProto) -> onnx.ModelProto:
    onnx.checker.check_model(proto)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    return proto


def run(proto: onnx.ModelProto, fed: dict[str, Any]) -> list[Any]:
    return list(bascule.InferenceSession(proto.SerializeToString()).run(None, fed))


@pytest.mark.parametrize("version", [13, 15, 17, 18, 23, 28])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_other_opsets(architecture: str, version: int) -> None:
    proto = onnx.shape_inference.infer_shapes(ARCHITECTURES[architecture]())
    fed = feeds(architecture)
    result = bascule.convert(proto, opset=version, feeds=fed)
    made = valid(result.proto())
    assert version_of(made) == version and result.opset is not None
    assert result.opset.checked in ("same bits", "within rounding")
    for one, other in zip(run(proto, fed), run(made, fed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    names = {node.name for node in proto.graph.node}
    assert names <= {node.name for node in made.graph.node}
    assert f"opset 21 to {version}" in str(result)


def test_what_is_the_same_is_not_touched() -> None:
    proto = ARCHITECTURES["cnn"]()
    proto.graph.node[0].doc_string = "the first"
    proto.graph.node[0].metadata_props.add(key="who", value="me")
    made = bascule.convert(proto, opset=23).proto()
    assert list(made.graph.node) == list(proto.graph.node)
    assert list(made.graph.initializer) == list(proto.graph.initializer)


OLD = """
    <ir_version: 4, opset_import: ["": 9]>
    g (float[2, 6] x, float[1, 1, 2, 2] image) => (float[2, 4] y, float[1, 1, 4, 4] big,
                                                   float[a, b] part, float[c, d] clipped)
    <float[4] scales = {1, 1, 2, 2}, float[4, 6] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2,
     3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[4] zeros = {0, 0, 0, 0}> {
        part = Slice <starts = [0, 1], ends = [2, 4], axes = [0, 1]> (x)
        sum = ReduceSum <axes = [1], keepdims = 1> (x)
        flat = Squeeze <axes = [1]> (sum)
        column = Unsqueeze <axes = [1]> (flat)
        scaled = Mul(x, column)
        clipped = Clip <min = -1.0, max = 0.5> (x)
        padded = Pad <pads = [0, 1, 0, 1], value = 0.5> (clipped)
        a, b = Split <axis = 1, split = [2, 6]> (padded)
        dropped = Dropout (b)
        soft = Softmax <axis = 1> (dropped)
        mixed = Add(scaled, soft)
        y = Gemm <transB = 1> (mixed, w, zeros)
        big = Upsample <mode = "nearest"> (image, scales)
        top, places = TopK <axis = 0, k = 2> (x)
    }
"""


@pytest.mark.parametrize("version", [10, 11, 13, 18, 28])
def test_attributes_become_inputs_and_back(version: int) -> None:
    proto = parser.parse_model(OLD)
    generator = np.random.default_rng(0)
    fed = {
        "x": generator.standard_normal((2, 6), np.float32),
        "image": generator.standard_normal((1, 1, 2, 2), np.float32),
    }
    made = valid(bascule.convert(proto, opset=version, feeds=fed).proto())
    for one, other in zip(run(proto, fed), run(made, fed), strict=True):
        np.testing.assert_array_equal(one, other)
    if version == 10:
        return
    del made.graph.output[1]  # Resize has no way back to Upsample
    gone = [each for each in made.graph.node if "big" in each.output or each.op_type == "Resize"]
    for node in gone:
        made.graph.node.remove(node)
    del made.graph.input[1]
    back = valid(bascule.convert(made, opset=10, feeds={"x": fed["x"]}).proto())
    wanted = [each for each in run(proto, fed) if each.ndim == 2]
    for one, other in zip(wanted, run(back, {"x": fed["x"]}), strict=True):
        np.testing.assert_array_equal(one, other)


def test_functions_of_the_standard_and_of_the_model() -> None:
    proto = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21, "own": 1]>
        g (float[2, 4] x) => (float[2, 4] y) {
            [call] p = own.Act(x)
            [gelu] y = Gelu <approximate = "tanh"> (p)
        }
        <domain: "own", opset_import: ["": 21]>
        Act (a) => (r) { q = Mish(a) r = HardSwish(q) }
    """)
    proto.graph.node[1].metadata_props.add(key="who", value="me")
    result = bascule.convert(proto, opset=13)
    made = valid(result.proto())
    assert result.opset is not None and result.opset.inlined == 1 and not made.functions
    by_name = {node.name: node for node in made.graph.node}
    assert by_name["gelu"].output[0] == "y" and by_name["gelu"].metadata_props[0].value == "me"
    assert "Gelu" not in {node.op_type for node in made.graph.node}


@pytest.mark.parametrize(
    ("node", "sizes"),
    [
        ("y = LayerNormalization(x, s)", "b, 2, 4"),
        ("y = Flatten<axis = -1>(x)", "p, 4"),
        ("y = Unsqueeze(x, last)", "b, 2, 4, 1"),
        ("t = ReduceMax(x, last) y = Squeeze(t, last)", "b, 2"),
    ],
)
def test_axes_are_counted_from_the_front_before_opset_11(node: str, sizes: str) -> None:
    proto = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 18]>
        g (float[b, 2, 4] x) => (float[{sizes}] y)
          <float[4] s = {{1, 2, 3, 4}}, int64[1] last = {{-1}}>
        {{ {node} }}""")
    valid(bascule.convert(proto, opset=9, dims={"b": 3}).proto())


def test_nested_graphs() -> None:
    proto = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2, 4] x, bool c) => (float[2, 4] y) {
            y = If (c) <then_branch = a () => (float[2, 4] u) { u = Gelu(x) },
                        else_branch = b () => (float[2, 4] v) {
                            axes = Constant <value_ints = [1]> ()
                            s = ReduceMean(x, axes)
                            v = Sub(x, s)
                        }>
        }
    """)
    fed = [{"x": np.float32([[1, 2, 3, 4]] * 2), "c": np.array(c)} for c in (True, False)]
    made = valid(bascule.convert(proto, opset=11, feeds=fed).proto())
    for each in fed:
        np.testing.assert_allclose(run(proto, each)[0], run(made, each)[0], rtol=1e-6)


@pytest.mark.parametrize("version", [9, 12, 28])
def test_softmax_means_something_else_since_opset_13(version: int) -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 13]>
        g (float[2, 3, 4] x) => (float[2, 3, 4] y, float[2, 3, 4] z) {
            y = Softmax <axis = 1> (x)
            z = Softmax (x)
        }
    """)
    fed = {"x": np.random.default_rng(1).standard_normal((2, 3, 4), np.float32)}
    made = valid(bascule.convert(proto, opset=version, feeds=fed).proto())
    for one, other in zip(run(proto, fed), run(made, fed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_names_of_nodes_stay_unique() -> None:
    proto = parser.parse_model("""<ir_version: 4, opset_import: ["": 11]>
        g (float[2, 3, 4] x) => (float[2, 3, 4] y)
        { [soft] s = Softmax<axis = 1>(x) [soft_Flatten] y = Neg(s) }""")
    made = bascule.convert(proto, opset=21).proto()
    names = [node.name for node in made.graph.node if node.name]
    assert len(set(names)) == len(names) > 2
    assert [node.op_type for node in made.graph.node if node.name == "soft"] == ["Softmax"]


def test_nodes_that_an_opset_cannot_say() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2, 4] x) => (float[2, 4] y) { [odd] y = GridThing(x) }
    """)
    proto.graph.node[0].op_type = "Det"
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    with pytest.raises(errors.Fail, match=r"'odd' cannot be said in opset 9.*op: Det"):
        bascule.convert(proto, opset=9)
    for version in (6, 99):
        with pytest.raises(errors.InvalidArgument, match="opset is"):
            bascule.convert(proto, opset=version)


def test_a_wrong_conversion_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = ARCHITECTURES["transformer"]()
    wrong = _along_another_axis(opset_module.relabel)
    monkeypatch.setattr(opset_module, "relabel", wrong)
    with pytest.raises(errors.Fail, match=r"differs is 'attention' of 'node_attention' "):
        bascule.convert(proto, opset=11, feeds=feeds("transformer"))
    unchecked = bascule.convert(proto, opset=11, check=False)
    assert unchecked.opset is not None and unchecked.opset.checked == "not asked for"


def _along_another_axis(original: Any) -> Any:
    def wrong(node: onnx.NodeProto, *others: Any, **more: Any) -> onnx.NodeProto | None:
        if node.op_type == "Softmax":
            made = onnx.NodeProto()
            made.CopyFrom(node)
            made.attribute[0].i = 1
            return made
        found: onnx.NodeProto | None = original(node, *others, **more)
        return found

    return wrong


def test_random_results_are_not_compared() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2, 4] x) => (float[2, 4] y) { r = RandomNormalLike(x) y = Add(x, r) }
    """)
    result = bascule.convert(proto, opset=22)
    assert result.opset is not None and "random" in result.opset.checked


def test_external_data_and_other_domains(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("FastGelu", ["p"], ["q"], name="gelu", domain="com.microsoft"),
        helper.make_node("ReduceMax", ["q", "axes"], ["y"], name="largest"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.int64([1]), "axes")],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=8)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    bascule.convert(tmp_path / "m.onnx", tmp_path / "n.onnx", opset=11, external_data="n.data")
    made = onnx.load(tmp_path / "n.onnx")
    assert [node.op_type for node in made.graph.node] == ["MatMul", "FastGelu", "ReduceMax"]
    assert made.graph.node[2].attribute[0].ints == [1]
    np.testing.assert_array_equal(numpy_helper.to_array(made.graph.initializer[0]), weight)
    assert (tmp_path / "n.onnx").stat().st_size < 2000
