# SPDX-License-Identifier: Apache-2.0
"""bascule.convert to float16 and bfloat16: within the budget, and what stays is what has to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import bascule
from bascule import errors
from tests.tools.planted import ARCHITECTURES, feeds


def planted(architecture: str, change: Any = None) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(ARCHITECTURES[architecture](change=change))


BUDGETS = {"float16": 2e-3, "bfloat16": 2e-2}


def run(proto: onnx.ModelProto, fed: dict[str, Any]) -> list[Any]:
    session = bascule.InferenceSession(proto.SerializeToString())
    types = {each.name: each.type for each in session.get_inputs()}
    kinds = {"tensor(float16)": TensorProto.FLOAT16, "tensor(bfloat16)": TensorProto.BFLOAT16}
    cast = {
        name: array.astype(helper.tensor_dtype_to_np_dtype(kinds.get(types[name], 1)))
        if array.dtype == np.float32
        else array
        for name, array in fed.items()
    }
    return [np.asarray(each).astype(np.float64) for each in session.run(None, cast)]


def error(proto: onnx.ModelProto, made: onnx.ModelProto, fed: dict[str, Any]) -> float:
    pairs = zip(run(proto, fed), run(made, fed), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


@pytest.mark.parametrize("to", BUDGETS)
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_within_the_budget(architecture: str, kept: bool, to: str) -> None:
    proto, fed = planted(architecture), feeds(architecture)
    before = proto.SerializeToString()
    result = bascule.convert(proto, to=to, budget=BUDGETS[to], feeds=fed, keep_io_types=kept)
    assert proto.SerializeToString() == before
    made, found = result.proto(), result.precision
    onnx.checker.check_model(made, full_check=True)
    assert found is not None and found.to == to and found.error <= BUDGETS[to]
    assert error(proto, made, fed) <= found.error * 1.0001
    code = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[to]
    border = {v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)}
    assert border == ({TensorProto.FLOAT} if kept else {code})
    assert any(tensor.data_type == code for tensor in made.graph.initializer)
    names = {node.name for node in proto.graph.node}
    assert names <= {node.name for node in made.graph.node}
    assert f"{to}: " in str(result)


def grow(weights: dict[str, Any]) -> None:
    """Values that float16 cannot hold, which come back to size."""
    for up, down in (("up", "down"), ("c2", "c3"), ("m1", "m2")):
        if up in weights:
            weights[up] *= np.float32(1e6)
            weights[down] *= np.float32(1e-6)


@pytest.mark.parametrize(
    ("architecture", "guilty"),
    [("transformer", "node_up_product"), ("cnn", "node_inner"), ("lstm", "node_product")],
)
def test_nodes_that_overflow_stay_in_float32(architecture: str, guilty: str) -> None:
    proto, fed = planted(architecture, grow), feeds(architecture)
    result = bascule.convert(proto, to="float16", budget=5e-3, feeds=fed, keep_io_types=True)
    found = result.precision
    assert found is not None and error(proto, result.proto(), fed) <= 5e-3
    kept = {each.name: each for each in found.kept}
    assert guilty in kept and kept[guilty].reason == "overflow"
    assert "is more than 65504" in kept[guilty].text
    assert len(kept) <= 6
    assert "node_mixed" not in kept and "node_stem" not in kept and "node_embedded" not in kept
    onnx.checker.check_model(result.proto(), full_check=True)


def test_a_tight_budget_keeps_more() -> None:
    proto, fed = ARCHITECTURES["transformer"](), feeds("transformer")
    counts = []
    for budget in (1e-2, 5e-4, 1e-4):
        found = bascule.convert(
            proto, to="float16", budget=budget, feeds=fed, keep_io_types=True
        ).precision
        assert found is not None and found.error <= budget
        counts.append(len(found.kept))
    assert counts[0] == 0 < counts[1] < counts[2] < len(proto.graph.node)


def test_nodes_that_stay_exchange_float32() -> None:
    proto = parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        g (float[2, 4] x) => (float[2, 4] y)
        <float[1] big = {1e6}, float[1] small = {1e-6}> {
            a = Mul(x, big)
            b = Reshape(a, shape)
            c = Mul(b, small)
            y = Relu(c)
            shape = Constant <value_ints = [2, 4]> ()
        }
    """)
    proto.graph.node.insert(0, proto.graph.node.pop())
    fed = {"x": np.linspace(1, 2, 8, dtype=np.float32).reshape(2, 4)}
    result = bascule.convert(proto, to="float16", feeds=fed, keep_io_types=True)
    made = result.proto()
    assert [node.op_type for node in made.graph.node if node.op_type == "Cast"] == ["Cast"] * 2
    assert result.precision is not None
    reasons = [(each.op_type, each.reason) for each in result.precision.kept]
    assert reasons in (
        [("Mul", "overflow"), ("Reshape", "overflow"), ("Mul", "overflow")],
        [("Mul", "overflow"), ("Reshape", "between"), ("Mul", "overflow")],
    )


def test_budgets_that_cannot_be_met() -> None:
    proto, fed = ARCHITECTURES["cnn"](), feeds("cnn")
    with pytest.raises(errors.Fail, match=r"cannot be met.*keep_io_types"):
        bascule.convert(proto, to="bfloat16", budget=1e-6, feeds=fed)


def test_inputs_that_are_no_tensors_must_be_fed() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (seq(float[2]) s, int64 i) => (float[2] y) { a = SequenceAt(s, i) y = Relu(a) }
    """)
    with pytest.raises(errors.InvalidArgument, match=r"'s' is a seq.*feed it from Python"):
        bascule.convert(proto, to="float16")
    fed = {"s": [np.float32([1, 2]), np.float32([3, -4])], "i": np.array(1)}
    found = bascule.convert(proto, to="float16", feeds=fed).precision
    assert found is not None and [each.op_type for each in found.kept] == ["SequenceAt"]


def test_random_results_cannot_be_measured() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2, 4] x) => (float[2, 4] y) { r = RandomNormalLike(x) y = Add(x, r) }
    """)
    with pytest.raises(errors.Fail, match="are random"):
        bascule.convert(proto, to="float16", keep_io_types=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": "float8"},
        {"to": "float16", "budget": 0},
        {"to": "float16", "keep_io_types": ["nothing"]},
        {"to": "float16", "feeds": {"nothing": np.zeros(1)}},
        {"to": "float16", "feeds": []},
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        bascule.convert(ARCHITECTURES["cnn"](), **arguments)


def test_bfloat16_needs_opset_13() -> None:
    proto = parser.parse_model(
        '<ir_version: 7, opset_import: ["": 12]> g (float[4] x) => (float[4] y) { y = Relu(x) }'
    )
    with pytest.raises(errors.InvalidArgument, match="opset 13"):
        bascule.convert(proto, to="bfloat16")
    made = bascule.convert(proto, to="bfloat16", opset=13, budget=1e-2).proto()
    assert made.graph.output[0].type.tensor_type.elem_type == TensorProto.BFLOAT16


def test_operators_with_graphs_of_their_own() -> None:
    proto = parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        g (float[2, 4] x, float[4] shift) => (float[2, 4] y) {
            h = Add(x, shift)
            s = SequenceConstruct(h, h)
            m = SequenceMap (s) <body = b (float[2, 4] e) => (float[2, 4] f) { f = Mul(e, shift) }>
            zero = Constant <value_int = 0> ()
            t = SequenceAt(m, zero)
            y = Add(t, h)
        }
    """)
    fed = {"x": np.float32([[1, 2, 3, 4]] * 2), "shift": np.float32([0.5, 0.1, 2, 3])}
    made = bascule.convert(proto, to="float16", feeds=fed).proto()
    (mapped,) = (node for node in made.graph.node if node.op_type == "SequenceMap")
    assert mapped.attribute[0].g.node[0].input[1] == "shift_fp32"
    np.testing.assert_allclose(run(proto, fed)[0], run(made, fed)[0], rtol=2e-3)


def test_nested_graphs_sequences_and_rules() -> None:
    proto = parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17, "own": 1]>
        g (float[n, 4] x, bool c) => (float[n, 4] y, int64[n, 1] i, float[n, 4] z)
        <float[4] shift = {1, 2, 3, 4}, float[4] w = {0.5, 0.25, 0.5, 2}, int64[1] k = {1}> {
            p = own.Shift(x, shift)
            y = If (c) <then_branch = a () => (float[n, 4] u) { u = Add(p, w) },
                        else_branch = b () => (float[n, 4] v) {
                            h = Constant <value_float = 0.5> ()
                            v = Mul(p, h)
                        }>
            t, i = TopK(p, k)
            s = SequenceConstruct(x, p)
            zero = Constant <value_int = 0> ()
            z = SequenceAt(s, zero)
        }
        <domain: "own", opset_import: ["": 17]>
        Shift (a, b) => (r) { q = Mul(a, b) r = Add(q, b) }
    """)
    fed = [{"x": np.float32([[1, 2, 3, 4]]), "c": np.array(c)} for c in (True, False)]
    result = bascule.convert(proto, to="float16", feeds=fed)
    made, found = result.proto(), result.precision
    assert found is not None and found.inlined == 1 and not made.functions
    kept = {each.op_type: each for each in found.kept}
    assert set(kept) == {"TopK", "SequenceConstruct", "SequenceAt"}
    assert all(each.reason == "operator" for each in found.kept)
    for each in fed:
        for one, other in zip(run(proto, each), run(made, each), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3)


def test_random_feeds_and_integer_outputs() -> None:
    proto = ARCHITECTURES["cnn"]()
    proto.graph.node.append(helper.make_node("ArgMax", ["y"], ["best"], name="node_best", axis=1))
    proto.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, None))
    found = bascule.convert(proto, to="float16", dims={"batch": 3}, seed=5).precision
    assert found is not None and set(found.outputs) == {"y", "best"}
    assert found.outputs["best"] == 0


def test_documentation_and_large_weights(tmp_path: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product", doc_string="a product")
    node.metadata_props.add(key="who", value="me")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 64])],
        [helper.make_tensor_value_info("y", 1, ["n", 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    imports = [helper.make_opsetid("", 20)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10, doc_string="a model")
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    result = bascule.convert(tmp_path / "m.onnx", tmp_path / "h.onnx", to="float16")
    made = onnx.load(tmp_path / "h.onnx")
    assert made.doc_string == "a model" and made.graph.node[0].doc_string == "a product"
    assert made.graph.node[0].metadata_props[0].value == "me"
    np.testing.assert_array_equal(
        numpy_helper.to_array(made.graph.initializer[0]), weight.astype(np.float16)
    )
    assert (tmp_path / "h.onnx").stat().st_size < weight.nbytes
    assert result.written == [str(tmp_path / "h.onnx")]
