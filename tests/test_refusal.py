# SPDX-License-Identifier: Apache-2.0
"""A model with nodes that cannot run is refused with one report of them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from bascule import errors
from bascule.ir.load import load_model

OPSET = onnx.defs.onnx_opset_version()


def node(op_type: str, inputs: str, outputs: str, **more: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), **more)


def body(nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", [], [onnx.ValueInfoProto(name=output)])


def report(
    nodes: Sequence[onnx.NodeProto],
    output: str = "y",
    opsets: Sequence[tuple[str, int]] = (("", OPSET), ("my.domain", 3)),
    functions: Sequence[onnx.FunctionProto] = (),
) -> tuple[type[Exception], str]:
    """The refusal of a model of these nodes on a float `x` and a bool `c`."""
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, "n"]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=output)])
    imports = [helper.make_opsetid(*each) for each in opsets]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)
    with pytest.raises(Exception, match="cannot run") as caught:
        bascule.InferenceSession(proto.SerializeToString())
    return caught.type, str(caught.value)


def test_one_report_for_all_domains_graphs_and_functions() -> None:
    function = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [node("Inside", "a", "b", name="in_function", domain="my.domain")],
        [helper.make_opsetid("", OPSET), helper.make_opsetid("my.domain", 3)],
    )
    branch = body([node("Mystery", "x", "t", name="in_branch")], "t")
    other = body([node("Neg", "x", "e")], "e")
    kind, text = report(
        [
            node("Frobnicate", "x", "a", name="first", domain="my.domain"),
            node("Neg", "a", "b", name="fine"),
            node("Riddle", "b", "d", name="second", domain="com.microsoft"),
            node("If", "c", "i", then_branch=branch, else_branch=other, name="choice"),
            node("Twice", "d", "f", name="call", domain="own"),
            node("Frobnicate", "f i", "unused", name="third", domain="my.domain"),
            node("Add", "f i", "y"),
        ],
        opsets=[("", OPSET), ("my.domain", 3), ("com.microsoft", 1), ("own", 1)],
        functions=[function],
    )
    assert kind is errors.Fail
    head = "Fatal error: my.domain:Frobnicate(-1) is not a registered function/op"
    assert head in text.splitlines()[0]
    assert "5 nodes cannot run" in text
    for line in (
        "my.domain.Frobnicate of opset 3: no such operator is known",
        "'first' (tensor(float))",
        "com.microsoft.Riddle of opset 1",
        f"Mystery of opset {OPSET}",
        "'in_branch' (tensor(float))",
        "'in_function' (?) in function own.Twice",
        "'third'",
    ):
        assert line in text
    assert text.count("Frobnicate of") == 1  # nodes of one operator stand together
    assert "'fine'" not in text
    assert "'choice'" not in text


@pytest.mark.parametrize(
    ("op_type", "opset", "advice"),
    [
        ("Swish", 17, "It came with opset 24: export the model for that opset or a later one."),
        ("LayerNormalisation", OPSET, "Is LayerNormalization meant?"),
        ("TreeEnsembleRegressor", OPSET, "There is one in domain 'ai.onnx.ml'"),
        ("Mystery", OPSET, "Add a function of this name, made of standard operators"),
    ],
)
def test_advice(op_type: str, opset: int, advice: str) -> None:
    kind, text = report([node(op_type, "x", "y", name="n")], opsets=[("", opset)])
    assert kind is errors.InvalidGraph
    assert f"No Op registered for {op_type} with domain_version of {opset}" in text
    assert "1 node cannot run" in text
    assert advice in text


def test_advice_on_an_old_opset_of_another_domain() -> None:
    _, text = report(
        [node("TreeEnsemble", "x", "y", name="n", domain="ai.onnx.ml")],
        opsets=[("", OPSET), ("ai.onnx.ml", 3)],
    )
    assert "ai.onnx.ml.TreeEnsemble of opset 3: this opset has no such operator" in text
    assert "It came with opset 5" in text


def test_domains_that_are_not_imported() -> None:
    kind, text = report(
        [
            node("Mystery", "x", "a", name="first", domain="one"),
            node("Neg", "a", "b", name="fine"),
            node("Riddle", "b", "d", name="second", domain="other"),
            node("Scaler", "x", "e", name="third", domain="ai.onnx.ml"),
            node("Add", "d e", "y", name="sum"),
        ],
        opsets=[("", OPSET)],
    )
    assert kind is errors.InvalidGraph
    assert "('first', Mystery, 'one', -1)" in text.splitlines()[0]
    assert "No opset import for domain 'one'" in text.splitlines()[0]
    assert "3 nodes cannot run" in text
    assert "other.Riddle: the model imports no opset of this domain" in text
    assert "Import the opset of 'ai.onnx.ml' that the model was made for." in text


def test_types_without_a_kernel() -> None:
    """All are told, with the opset that the model imports and not that of the canonical form."""
    branch = body([node("RandomUniformLike", "u", "t", name="in_branch")], "t")
    other = body([node("Identity", "u", "e")], "e")
    kind, text = report(
        [
            node("Cast", "x", "u", to=TensorProto.UINT16),
            node("RandomUniformLike", "u", "r", name="first"),
            node("If", "c", "i", then_branch=branch, else_branch=other, name="choice"),
            node("Equal", "r i", "y"),
        ],
        opsets=[("", 17)],
    )
    assert kind is errors.NotImplemented
    assert "2 nodes cannot run" in text
    assert "RandomUniformLike of opset 17" in text
    assert "'first' (tensor(uint16))" in text
    assert "'in_branch' (tensor(uint16))" in text
    assert "Cast its inputs to a type that there is a kernel for" in text


def test_source_lines_of_the_exporter() -> None:
    mystery = node("Mystery", "x", "y", name="n")
    mystery.metadata_props.add(key="namespace", value="model.layers.3: Attention")
    trace = 'File "run.py", line 3, in <module>\n  model(x)\nFile "model.py", line 12, in forward\n'
    mystery.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    origin = "from model.py:12 in forward, module model.layers.3"
    assert origin in report([mystery])[1]


def test_many_nodes() -> None:
    names = ["x", *(f"t{index}" for index in range(199)), "y"]
    nodes = [
        node("Mystery", names[index], names[index + 1], name=f"n{index}") for index in range(200)
    ]
    _, text = report(nodes)
    assert "200 nodes cannot run" in text
    assert "and 160 more: 'n40', 'n41'" in text
    assert all(f"'n{index}'" in text for index in range(200))
    assert len(text.splitlines()) < 50


def test_nodes_without_a_kernel_are_told_with_those_that_are_unknown() -> None:
    nodes = [
        node("Mystery", "x", "a", name="unknown"),
        node("Riddle", "x", "b", name="other", domain="com.microsoft"),
        node("Add", "a b", "y", name="sum"),
    ]
    _, text = report(nodes, opsets=[("", OPSET), ("com.microsoft", 1)])
    assert "2 nodes cannot run" in text
    assert "'unknown' (tensor(float))" in text
    assert "'other' (tensor(float))" in text


def test_a_loaded_model_may_have_them() -> None:
    """What looks at a model or changes it need not run it."""
    head = '< ir_version: 10, opset_import: ["" : 21, "my" : 1] >'
    proto = onnx.parser.parse_model(head + " g (float[2] x) => (float[2] y) { y = my.Op(x) }")
    (only,) = load_model(proto).graph
    assert (only.domain, only.op_type) == ("my", "Op")


def test_it_runs_once_a_function_says_what_it_is() -> None:
    function = helper.make_function(
        "my.domain",
        "Frobnicate",
        ["a"],
        ["b"],
        [node("Neg", "a", "b")],
        [helper.make_opsetid("", OPSET)],
    )
    graph = helper.make_graph(
        [node("Frobnicate", "x", "y", domain="my.domain")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [onnx.ValueInfoProto(name="y")],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("my.domain", 3)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[function])
    session = bascule.InferenceSession(proto.SerializeToString())
    x = np.array([1.5, -2], np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], -x)


def test_sizes_that_do_not_go_together_are_told_where_they_meet() -> None:
    """Nodes after them have no types; they are not at fault."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 5], [0.0] * 20)
    nodes = [
        node("MatMul", "x w", "p", name="product"),
        node("Add", "p p", "s"),
        node("Relu", "s", "y"),
    ]
    nodes[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "net.py", line 3, in forward\n  y = x @ w'
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name="y")], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    text = r"Node \(product\) Op \(MatMul\) \[ShapeInferenceError\] Incompatible dimensions"
    with pytest.raises(errors.Fail, match=text + r".*x float\[n,3\], w float\[4,5\].*net.py:3"):
        bascule.InferenceSession(proto.SerializeToString())
