# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from bascule.errors import InvalidGraph
from bascule.ir.graph import Graph, Model
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_call, inline_functions, schema_function
from bascule.ir.load import load_model
from bascule.ir.save import to_bytes
from bascule.ir.text import parse_graph

HEADER = '<ir_version: 10, opset_import: ["" : 21, "l" : 1]>\n'
IMPORTS = '<opset_import: ["" : 21, "l" : 1], domain: "l">'
X = np.array([[-1.0, 2.0, -3.0], [4.0, -5.0, 6.0]], np.float32)


def load(text: str) -> Model:
    return load_model(onnx.parser.parse_model(HEADER + text))


def run(model: Model) -> list[np.ndarray]:
    data = to_bytes(model)
    onnx.checker.check_model(data)
    names = [value.name for value in model.graph.inputs]
    return ReferenceEvaluator(onnx.load_from_string(data)).run(None, dict.fromkeys(names, X))


NESTED = f"""g (float[2,3] a) => (float[2,3] y, float[2,3] z) {{
    t, y = l.two<alpha = 0.5>(a) z = l.one(t) }}
<opset_import: ["" : 18], domain: "l"> one <beta: float = 0.25> (x) => (y)
    {{ y = LeakyRelu<alpha: float = @beta>(x) }}
{IMPORTS} two <alpha> (x) => (y, x) {{
    c = Constant<value_float: float = @alpha>() d = CastLike(c, x)
    w = l.one<beta: float = @alpha>(x) y = Mul(w, d) }}"""


def test_nested_calls_with_attributes() -> None:
    model = load(NESTED)
    inline_functions(model)
    assert not model.functions
    assert {node.domain for node in model.graph} == {""}
    y, z = run(model)
    np.testing.assert_array_equal(y, X)
    t = np.where(X < 0, X * np.float32(0.5), X) * np.float32(0.5)
    np.testing.assert_array_equal(z, np.where(t < 0, t * np.float32(0.25), t))
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_names_say_where_a_node_comes_from_and_opsets_what_it_means() -> None:
    model = load(NESTED)
    model.graph.nodes[0].metadata["source"] = "model.py:7"
    inline_functions(model)
    node = next(n for n in model.graph if n.op_type == "LeakyRelu")
    assert node.name.startswith("two_0/one_2/")
    assert node.opset == 18
    assert node.metadata["source"] == "model.py:7"
    assert next(n for n in model.graph if n.op_type == "Mul").opset is None


def test_calls_in_nested_graphs_and_nested_graphs_in_bodies() -> None:
    model = load(
        f"""g (float[2,3] a) => (float[2,3] y) {{
        c = Constant<value = bool {{1}}>()
        y = If(c) <then_branch = p () => (u) {{ u = l.f<k = 2.0>(a) }},
                   else_branch = q () => (v) {{ v = Neg(a) }}> }}
        {IMPORTS} f <k> (x) => (y) {{
        c = Constant<value = bool {{1}}>()
        y = If(c) <then_branch = r () => (s) {{ f = Constant<value_float: float = @k>()
                       s = Mul(x, f) }},
                   else_branch = t () => (w) {{ w = Neg(x) }}> }}"""
    )
    inline_functions(model)
    (actual,) = run(model)
    np.testing.assert_array_equal(actual, X * 2)
    inner = model.graph.nodes[-1].attributes["then_branch"]
    assert isinstance(inner, Graph)
    assert inner.nodes[-1].op_type == "If"


def test_the_same_function_twice_gets_fresh_names() -> None:
    model = load(
        f"""g (float[2,3] a) => (float[2,3] y) {{ t = l.f(a) u = l.f(t) y = Add(t, u) }}
        {IMPORTS} f (x) => (y) {{ t = Abs(x) y = Neg(t) }}"""
    )
    inline_functions(model)
    names = [value.name for node in model.graph for value in node.outputs]
    assert len(set(names)) == len(names)
    (actual,) = run(model)
    np.testing.assert_array_equal(actual, -2 * np.abs(X))


def test_absent_inputs_and_passed_inputs() -> None:
    model = load(
        f"""g (float[2,3] a) => (float[2,3] y) {{ t, u = l.f(a) y = Add(t, u) }}
        {IMPORTS} f (x, low) => (y, x) {{ y = Clip(x, low) }}"""
    )
    inline_functions(model)
    clip = next(n for n in model.graph if n.op_type == "Clip")
    assert clip.input(1) is None
    (actual,) = run(model)
    np.testing.assert_array_equal(actual, X * 2)


def test_too_many_inputs_are_refused() -> None:
    model = load(
        f"""g (float[2,3] a) => (float[2,3] y) {{ y = l.f(a, a) }}
        {IMPORTS} f (x) => (y) {{ y = Neg(x) }}"""
    )
    with pytest.raises(InvalidGraph, match="2 inputs"):
        inline_functions(model)


def test_fused_functions_may_stay() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "bascule" : 1]>
        g (float[2,3] a) => (float[2,3] y) { t = bascule.Kept(a) y = bascule.Gone(t) }
        <opset_import: ["" : 21], domain: "bascule"> Kept (x) => (y) { y = Neg(x) }
        <opset_import: ["" : 21], domain: "bascule"> Gone (x) => (y) { y = Abs(x) }"""
    model = load_model(onnx.parser.parse_model(text))
    inline_functions(model, keep=lambda name: name == "Kept")
    assert [node.op_type for node in model.graph] == ["Kept", "Abs"]
    assert list(model.functions) == [("bascule", "Kept", "")]


@pytest.mark.parametrize(
    "call", ["Gelu(a)", "Softmax<axis = 1>(a)", "HardSwish(a)", "Elu<alpha = 0.5>(a)", "Mish(a)"]
)
def test_functions_of_operator_schemas(call: str) -> None:
    model = load(f"g (float[2,3] a) => (float[2,3] y) {{ y = {call} }}")
    expected = run(model)
    infer_types(model)
    (node,) = model.graph.nodes
    function = schema_function(node, 21)
    assert function is not None
    inline_call(node, function, model.opset_imports)
    assert node.op_type not in {n.op_type for n in model.graph}
    infer_types(model, check=False)
    np.testing.assert_allclose(run(model)[0], expected[0], rtol=1e-5, atol=1e-6)


def test_a_function_of_a_schema_whose_result_nobody_reads() -> None:
    model = load("""g (float[2,3] a) => (float[2,3] y) {
        y = Exp(a) s = SequenceConstruct(a, y)
        unread = SequenceMap <body = b (float[2,3] v) => (float[2,3] w) { w = Neg(v) }> (s) }""")
    expected = run(model)
    infer_types(model)
    node = model.graph.nodes[2]
    function = schema_function(node, 21)
    assert function is not None
    inline_call(node, function, model.opset_imports)
    infer_types(model, check=False)
    assert "SequenceMap" not in {n.op_type for n in model.graph}
    np.testing.assert_array_equal(run(model)[0], expected[0])


def test_operators_without_a_function() -> None:
    model = parse_graph("g (float[2] a) => (float[2] y) { y = Exp(a) }")
    assert schema_function(model.graph.nodes[0], 21) is None
