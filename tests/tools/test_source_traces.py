# SPDX-License-Identifier: Apache-2.0
"""Nodes keep the line of the program that an exporter wrote into them, through every rewrite."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule import errors
from bascule.ir.load import load_model
from bascule.ir.source_trace import line_of, scope_of, source_of, source_text

STACK = """\
File "/home/me/run.py", line 3, in <module>
    model(x)
  File "/home/me/net.py", line {line}, in forward
    {code}
    ~~^~~
  File "/usr/lib/python3.12/site-packages/torch/nn/modules/linear.py", line 134, in forward
    return F.linear(input, self.weight, self.bias)
"""

OLD_STACK = (
    "/usr/lib/python3.12/site-packages/torch/nn/modules/linear.py(134): forward\n"
    "/usr/lib/python3.12/site-packages/torch/nn/modules/module.py(1773): _slow_forward\n"
    "/home/me/net.py(6): forward\n"
    "/home/me/run.py(13): <module>\n"
)


def traced(
    op: str, inputs: str, output: str, line: int, code: str, scopes: str = ""
) -> onnx.NodeProto:
    node = helper.make_node(op, inputs.split(), [output], name=f"node_{output}")
    stack = STACK.format(line=line, code=code)
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=stack)
    if scopes:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    return node


def model(nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]]) -> bytes:
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.arange(16, dtype=np.float32)),
        helper.make_tensor("b", TensorProto.FLOAT, [4], np.ones(4, np.float32)),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        weights,
    )
    imports = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())


def layer() -> bytes:
    return model(
        [
            traced(
                "MatMul", "x w", "t", 11, "t = self.proj(x)", "['', 'net', 'net.proj', 'linear']"
            ),
            traced("Add", "t b", "u", 11, "t = self.proj(x)", "['', 'net', 'net.proj', 'linear']"),
            traced("Relu", "u", "v", 12, "v = relu(t)", "['', 'net', 'relu']"),
            traced("Exp", "v", "y", 13, "return exp(v)", "['', 'net', 'exp']"),
        ],
        {"x": ["batch", 4]},
    )


# --- reading what exporters write


def test_innermost_line_of_the_user() -> None:
    line = line_of("", {"pkg.torch.onnx.stack_trace": STACK.format(line=7, code="y = self.p(x)")})
    assert str(line) == "net.py:7 in forward: y = self.p(x)"
    assert line is not None and line.path == "/home/me/net.py"


def test_doc_string_of_the_older_exporter() -> None:
    assert str(line_of(OLD_STACK, {})) == "net.py:6 in forward"


def test_other_exporters() -> None:
    assert str(line_of("", {"pkg.jax2onnx.callsite": "block:41"})) == ":41 in block"
    stack = STACK.format(line=7, code="y = x")
    assert "net.py:7" in str(line_of("", {"pkg.jax2onnx.stacktrace": stack}))


def test_stack_of_the_framework_alone() -> None:
    stack = 'File "/lib/python3.12/site-packages/torch/nn/functional.py", line 9, in f\n  g(x)\n'
    assert str(line_of("", {"pkg.torch.onnx.stack_trace": stack})) == "functional.py:9 in f: g(x)"


@pytest.mark.parametrize("doc", ["", "A node.", "f(x): y", 'File "', "a(99999999999999999999): b"])
def test_text_that_is_no_stack(doc: str) -> None:
    assert line_of(doc, {"pkg.torch.onnx.stack_trace": doc, "pkg.jax2onnx.callsite": doc}) is None


def test_long_lines_are_cut() -> None:
    stack = STACK.format(line=1, code="x" * 5000)
    assert len(str(line_of("", {"pkg.torch.onnx.stack_trace": stack}))) < 150


def test_text_in_short() -> None:
    assert source_text([]) == ""
    assert source_text(["a"]) == "a"
    assert source_text(["a", "b"]) == "a (+1 more line)"
    assert source_text(["a", "b", "c"]) == "a (+2 more lines)"


def test_modules() -> None:
    nodes = load_model(layer()).graph.nodes
    assert [scope_of(node) for node in nodes] == [("net", "proj")] * 2 + [("net",)] * 2
    node = helper.make_node("Relu", ["x"], ["y"], name="/layers.0/proj/Relu")
    assert scope_of(load_model(model([node], {"x": [2]})).graph.nodes[0]) == ("layers.0", "proj")
    text = ": m.Net/layers.0: m.Block/layers.0.proj: torch.nn.Linear/linear: aten.linear"
    node.metadata_props.add(key="namespace", value=text)
    assert scope_of(load_model(model([node], {"x": [2]})).graph.nodes[0]) == ("layers.0", "proj")


# --- through the optimizer


def test_a_fused_node_has_the_sources_of_all_nodes() -> None:
    rows = bascule.InferenceSession(layer()).explain().rows
    assert len(rows) < 4
    assert sorted(name for row in rows for name in row.replaced) == [
        "node_t",
        "node_u",
        "node_v",
        "node_y",
    ]
    lines = {line for row in rows for line in row.sources}
    assert lines == {
        "net.py:11 in forward: t = self.proj(x)",
        "net.py:12 in forward: v = relu(t)",
        "net.py:13 in forward: return exp(v)",
    }
    assert rows[0].source.startswith("net.py:11 in forward: t = self.proj(x) (+")
    assert rows[0].module == "net.proj"


def test_a_change_of_layout_brings_no_sources_of_what_it_is_behind() -> None:
    names = ["x", "c", "d", "e", "f", "y"]
    nodes = []
    for line, (before, after) in enumerate(itertools.pairwise(names)):
        op = "Relu" if line % 2 else "Conv"
        nodes.append(traced(op, before if line % 2 else f"{before} k", after, line, op))
        if op == "Conv":
            nodes[-1].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    proto = onnx.load_from_string(model(nodes, {"x": [1, 4, 8, 8]}))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "k"))
    rows = bascule.InferenceSession(proto.SerializeToString()).explain().rows
    assert [row.replaced for row in rows if row.op_type == "Conv"] == [
        ["node_c", "node_d"],
        ["node_e", "node_f"],
        ["node_y"],
    ]


@pytest.mark.parametrize("opset", [7, 20])
def test_canonical_nodes_keep_their_source(opset: int) -> None:
    proto = onnx.load_from_string(
        model([traced("Softmax", "x", "y", 5, "return softmax(x)")], {"x": [2, 3, 4]})
    )
    proto.opset_import[0].version = opset
    rows = bascule.InferenceSession(proto.SerializeToString()).explain().rows
    assert rows and all(row.source == "net.py:5 in forward: return softmax(x)" for row in rows)
    assert {name for row in rows for name in row.replaced} == {"node_y"}


def test_nodes_of_functions_have_the_source_of_the_call() -> None:
    proto = onnx.load_from_string(model([traced("F", "x", "y", 5, "return f(x)")], {"x": [2]}))
    proto.graph.node[0].domain = "own"
    proto.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Sin", ["a"], ["b"], name="sine")]
    proto.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    )
    (row,) = bascule.InferenceSession(proto.SerializeToString()).explain().rows
    assert row.source == "net.py:5 in forward: return f(x)"


@pytest.mark.parametrize("kind", ["stacks", "documents", "call sites", "one line"])
def test_saved_models_keep_the_sources_of_fused_nodes(tmp_path: Path, kind: str) -> None:
    proto = onnx.load_from_string(layer())
    for line, node in enumerate(proto.graph.node, 5):
        if kind == "documents":
            del node.metadata_props[:]
            node.doc_string = f"/home/me/net.py({line}): forward\n"
        elif kind == "call sites":
            del node.metadata_props[:]
            node.metadata_props.add(key="pkg.jax2onnx.callsite", value=f"block:{line}")
        elif kind == "one line" and line > 5:
            del node.metadata_props[:]
    options = bascule.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    first = bascule.InferenceSession(proto.SerializeToString(), options).explain().rows
    assert any(row.sources for row in first) and len(first) < 4
    again = bascule.InferenceSession(tmp_path / "optimized.onnx").explain().rows
    assert [row.sources for row in again] == [row.sources for row in first]
    assert [row.source for row in again] == [row.source for row in first]
    assert [row.scope for row in again] == [row.scope for row in first]


def test_explain_shows_sources(tmp_path: Path) -> None:
    explanation = bascule.InferenceSession(layer()).explain()
    assert "net.py:11 in forward" in str(explanation)
    assert explanation.records()[0]["module"] == "net.proj"
    plain = helper.make_node("Relu", ["x"], ["y"])
    bare = bascule.InferenceSession(model([plain], {"x": [2]})).explain()
    assert "source" not in str(bare) and "source" not in bare.records()[0]


def test_plans_keep_sources(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(layer())
    options = bascule.SessionOptions()
    options.add_session_config_entry("session.cache_dir", str(tmp_path / "cache"))
    first = bascule.InferenceSession(path, options).explain()
    second = bascule.InferenceSession(path, options).explain()
    assert second.plan_cache.startswith("read") and second.rows == first.rows


# --- in errors


def failing() -> bytes:
    nodes = [
        traced("Add", "x z", "t", 21, "t = x + z", "['', 'net.sum', 'add']"),
        helper.make_node("Softmax", ["t"], ["y"]),
    ]
    return model(nodes, {"x": ["batch", "n"], "z": ["batch", "m"]})


def test_error_of_a_run() -> None:
    session = bascule.InferenceSession(failing())
    feeds = {"x": np.ones((2, 3), np.float32), "z": np.ones((2, 4), np.float32)}
    for run in (
        lambda: session.run(None, feeds),
        lambda: session.run_with_ort_values(
            None, {k: bascule.OrtValue.ortvalue_from_numpy(v) for k, v in feeds.items()}
        ),
    ):
        with pytest.raises(errors.Fail) as caught:
            run()
        text = str(caught.value)
        assert "Non-zero status code returned while running Add node. Name:'node_t'" in text
        assert "[inputs: float{2,3}, float{2,4}]" in text
        assert "source: net.py:21 in forward: t = x + z" in text
        assert "module: net.sum" in text
        assert "reads: x float[batch,n], z float[batch,m]" in text
        assert "sizes: batch=2, n=3, m=4" in text


@pytest.mark.parametrize(
    ("op", "inputs", "shapes"),
    [
        ("MatMul", "x w", {"x": [2, 3]}),  # inference
        ("Add", "x", {"x": [2, 3]}),  # the schema
        ("And", "x x", {"x": [2, 3]}),  # types
    ],
)
def test_error_of_loading(op: str, inputs: str, shapes: dict[str, list[int | str]]) -> None:
    with pytest.raises(errors.ALL) as caught:
        bascule.InferenceSession(model([traced(op, inputs, "y", 9, "y = f(x)")], shapes))
    assert "source: net.py:9 in forward: y = f(x)" in str(caught.value)


def test_error_of_a_feed_shows_the_signature() -> None:
    session = bascule.InferenceSession(failing())
    feeds = {"x": np.ones((2, 3)), "z": np.ones((2, 3), np.float32)}
    with pytest.raises(errors.InvalidArgument) as caught:
        session.run(None, feeds)
    assert "signature: x float[batch,n], z float[batch,m]" in str(caught.value)


def test_traced_values_show_the_source() -> None:
    session = bascule.InferenceSession(layer())
    values = list(session.trace({"x": np.ones((1, 4), np.float32)}))
    assert values[0].line == "net.py:11 in forward: t = self.proj(x)"


def test_every_node_of_a_graph_can_be_asked() -> None:
    for node in load_model(layer()).graph:
        assert source_of(node).startswith("net.py:1")
