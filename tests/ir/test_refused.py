# SPDX-License-Identifier: Apache-2.0
"""What onnx's checker refuses is refused, by an error that names node, operator and rule."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import AttributeProto, TensorProto, helper

import bascule
from bascule import errors

Change = Callable[[onnx.ModelProto], None]

TEXT = """
<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
g (float[2,3] x, bool c) => (float[2,3] y) <float[3] w = {1, 2, 3}>
{
    t = Add(x, w)
    u = Softmax<axis = 1>(t)
    v = If(c) <then_branch = p () => (float[2,3] a) { a = Relu(u) },
               else_branch = q () => (float[2,3] b) { b = Concat<axis = 0>(u) }>
    y = own.Twice(v)
}
<opset_import: ["" : 21], domain: "own">
Twice (i) => (o) { o = Add(i, i) }
"""


def whole() -> onnx.ModelProto:
    """A valid model whose nodes are called n_<operator>."""
    model = onnx.parser.parse_model(TEXT)
    branches = [attribute.g.node for attribute in model.graph.node[2].attribute]
    for nodes in (model.graph.node, model.functions[0].node, *branches):
        for node in nodes:
            node.name = f"n_{node.op_type}"
    return model


def node(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    branches = [attribute.g.node for attribute in model.graph.node[2].attribute]
    nodes = [each for nodes in (model.graph.node, *branches) for each in nodes]
    return next(each for each in nodes if each.op_type == op_type)


def constant(**attributes: TensorProto | onnx.SparseTensorProto) -> Change:
    """Make the weight by a Constant instead."""

    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[:]
        made = helper.make_node("Constant", [], ["w"], name="n_Constant", **attributes)
        model.graph.node.insert(0, made)

    return change


def attribute(model: onnx.ModelProto, op_type: str, **changes: object) -> None:
    proto = node(model, op_type).attribute[0]
    for name, value in changes.items():
        if value is None:
            proto.ClearField(name)
        elif isinstance(value, list):
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)


def tensor(**changes: object) -> TensorProto:
    proto = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    proto.MergeFrom(TensorProto(**changes))
    return proto


def sparse(places: list[int]) -> onnx.SparseTensorProto:
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("", TensorProto.INT64, [len(places)], places)
    return helper.make_sparse_tensor(values, indices, [3])


def set_input_type(model: onnx.ModelProto, elem_type: int, dims: list[int] | None = None) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", elem_type, dims or [2, 3]))


BROKEN: dict[str, tuple[Change, str, str]] = {
    "no input": (lambda m: node(m, "Softmax").input.pop(), "Softmax", "input size 0 not in range"),
    "too many inputs": (
        lambda m: node(m, "Relu").input.extend("xx"),
        "Relu",
        "input size 3 not in range",
    ),
    "input left out": (
        lambda m: node(m, "Add").input.__setitem__(0, ""),
        "Add",
        "input 0 is marked single but has an empty string",
    ),
    "too many outputs": (
        lambda m: node(m, "Softmax").output.append("more"),
        "Softmax",
        "output size 2 not in range",
    ),
    "no output": (lambda m: node(m, "Softmax").output.pop(), "Softmax", "output size 0 not in"),
    "required attribute": (
        lambda m: node(m, "Concat").attribute.pop(),
        "Concat",
        "Required attribute 'axis' is missing",
    ),
    "unknown attribute": (
        lambda m: node(m, "Softmax").attribute.append(helper.make_attribute("axes", 1)),
        "Softmax",
        "Unrecognized attribute: axes",
    ),
    "attribute of another type": (
        lambda m: node(m, "Softmax").attribute[0].CopyFrom(helper.make_attribute("axis", 1.5)),
        "Softmax",
        "'axis' is expected to be kept in 'i', and is in 'f'",
    ),
    "attribute with two values": (
        lambda m: attribute(m, "Softmax", f=1.5),
        "Softmax",
        "'axis' .* must keep its value in 'i' alone",
    ),
    "attribute without type": (
        lambda m: attribute(m, "Softmax", type=None),
        "Softmax",
        "Field 'type' of 'attr' is required but missing",
    ),
    "attribute of unknown type": (
        lambda m: attribute(m, "Softmax", type=AttributeProto.INTS, ints=[1]),
        "Softmax",
        "'axis' .* must keep its value in 'ints' alone",
    ),
    "attribute without name": (
        lambda m: attribute(m, "Softmax", name=""),
        "Softmax",
        "Unrecognized attribute",
    ),
    "graph without value": (
        lambda m: attribute(m, "If", g=None),
        "If",
        "must keep its value in 'g' alone",
    ),
    "no domain": (
        lambda m: setattr(node(m, "Softmax"), "domain", "foreign"),
        "Softmax",
        "No opset import for domain 'foreign'",
    ),
    "unknown operator": (
        lambda m: setattr(node(m, "Relu"), "op_type", "Rehlu"),
        "Relu",
        "No Op registered for Rehlu with domain_version of 21",
    ),
    "later operator": (
        lambda m: setattr(node(m, "Relu"), "op_type", "Swish"),
        "Relu",
        "No Op registered for Swish with domain_version of 21",
    ),
    "undefined input": (
        lambda m: node(m, "Softmax").input.__setitem__(0, "nowhere"),
        "Softmax",
        "input 'nowhere' is not a graph input, initializer, or output of a previous node",
    ),
    "undefined input in a branch": (
        lambda m: node(m, "Relu").input.__setitem__(0, "nowhere"),
        "Relu",
        "input 'nowhere' is not a graph input, initializer, or output of a previous node",
    ),
    "type that the operator does not take": (
        lambda m: set_input_type(m, TensorProto.STRING),
        "Add",
        r"Type 'tensor\(string\)' of input parameter \(x\)",
    ),
    "two types for one parameter": (
        lambda m: set_input_type(m, TensorProto.DOUBLE),
        "Add",
        r"Type parameter \(T\) .* bound to different types",
    ),
    "condition that is none": (
        lambda m: m.graph.input[1].type.tensor_type.__setattr__("elem_type", TensorProto.FLOAT),
        "If",
        r"Type 'tensor\(float\)' of input parameter \(c\)",
    ),
    "shapes that do not fit": (
        lambda m: set_input_type(m, TensorProto.FLOAT, [2, 4]),
        "Add",
        r"x \[2, 4\], w \[3\]",
    ),
    "axis out of range": (
        lambda m: attribute(m, "Softmax", i=7),
        "Softmax",
        "'axis' must be in",
    ),
    "wrong declared type": (
        lambda m: m.graph.value_info.append(
            helper.make_tensor_value_info("u", TensorProto.INT64, [2, 3])
        ),
        "Softmax",
        r"Type .* of output arg \(u\) .* does not match expected type",
    ),
    "size of a constant": (
        constant(value=tensor(dims=[2])),
        "Constant",
        r"shape \[3, 2\] and type float has 12 bytes of data; expected 24",
    ),
    "two payloads": (
        constant(value=tensor(raw_data=bytes(12))),
        "Constant",
        "stores its elements twice",
    ),
    "wrong field": (
        constant(value=tensor(data_type=TensorProto.INT32)),
        "Constant",
        "keeps int32 elements in float_data",
    ),
    "sparse index": (
        constant(sparse_value=sparse([0, 3])),
        "Constant",
        "index out of bounds",
    ),
    "sparse order": (
        constant(sparse_value=sparse([1, 0])),
        "Constant",
        "indices that do not ascend",
    ),
    "sparse repetition": (
        constant(sparse_value=sparse([1, 1])),
        "Constant",
        "indices that do not ascend",
    ),
    "name made twice": (
        lambda m: node(m, "Softmax").output.__setitem__(0, "t"),
        "Softmax",
        r"Duplicate definition of name \(t\)",
    ),
}


def test_the_whole_model_runs() -> None:
    model = whole()
    onnx.checker.check_model(model, full_check=True)
    session = bascule.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    (y,) = session.run(None, {"x": x, "c": np.array(True)})
    e = np.exp(x + np.array([1, 2, 3], np.float32))
    np.testing.assert_allclose(y, 2 * e / e.sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    change, op_type, rule = BROKEN[name]
    model = whole()
    change(model)
    data = model.SerializeToString()
    with pytest.raises(Exception):  # noqa: B017, PT011  (of onnx, several kinds)
        onnx.checker.check_model(data, full_check=True)
    with pytest.raises(errors.ALL, match=re.compile(rule, re.DOTALL)) as caught:
        bascule.InferenceSession(data)
    text = str(caught.value)
    assert f"n_{op_type}" in text  # the node
    assert re.search(rf"(?<!n_)\b({op_type}|Rehlu|Swish)\b", text)


def test_a_node_without_operator() -> None:
    model = whole()
    node(model, "Relu").op_type = ""
    with pytest.raises(errors.InvalidGraph, match="'n_Relu' has no operator type"):
        bascule.InferenceSession(model.SerializeToString())
