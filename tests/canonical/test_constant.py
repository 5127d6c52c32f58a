# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bascule.errors import InvalidGraph

from .comparison import Array, assert_same, canonical, checked, run


def constant_model(opset: int = 13, read: bool = True, **value: Any) -> onnx.ModelProto:
    """A model whose output is a constant, or what an Identity makes of one."""
    nodes = [helper.make_node("Constant", [], ["c" if read else "out0"], name="node", **value)]
    if read:
        nodes.append(helper.make_node("Identity", ["c"], ["out0"]))
    outputs = [onnx.ValueInfoProto(name="out0")]
    return helper.make_model(
        helper.make_graph(nodes, "g", [], outputs),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


FORMS: list[tuple[dict[str, Any], Array]] = [
    ({"value": numpy_helper.from_array(np.eye(2))}, np.eye(2)),
    ({"value_float": 1.5}, np.array(1.5, dtype=np.float32)),
    ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2.0], dtype=np.float32)),
    ({"value_int": 7}, np.array(7)),
    ({"value_ints": [7, -1]}, np.array([7, -1])),
    ({"value_string": "a"}, np.array("a", dtype=object)),
    ({"value_strings": ["a", "bc"]}, np.array(["a", "bc"], dtype=object)),
]


@pytest.mark.parametrize("value, expected", FORMS, ids=[next(iter(form)) for form, _ in FORMS])
def test_forms(value: dict[str, Any], expected: Array) -> None:
    model = canonical(constant_model(**value))
    (node,) = model.graph
    assert node.op_type == "Identity"
    constant = model.graph.initializers["c"].constant
    assert constant is not None
    assert_same([constant.numpy()], [expected])


def test_graph_output_keeps_its_name() -> None:
    model = canonical(constant_model(read=False, value_float=1.5))
    assert [output.name for output in model.graph.outputs] == ["out0"]
    assert_same(run(checked(model), []), [np.array(1.5, dtype=np.float32)])


@pytest.mark.parametrize("indices", [np.array([1, 3]), np.array([[0, 1], [1, 0]])])
def test_sparse(indices: Array) -> None:
    values = numpy_helper.from_array(np.array([1.5, 2.0], dtype=np.float32))
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(indices), [2, 3])
    model = canonical(constant_model(sparse_value=sparse))
    found = model.graph.initializers["c"].constant
    assert found is not None
    assert_same([found.numpy()], [np.array([[0, 1.5, 0], [2, 0, 0]], dtype=np.float32)])


def test_two_values() -> None:
    with pytest.raises(InvalidGraph, match="exactly one"):
        canonical(constant_model(value_float=1.5, value_int=1))


def test_no_value() -> None:
    with pytest.raises(InvalidGraph, match="exactly one"):
        canonical(constant_model())


def test_in_nested_graph() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 13]>
        g (bool in0) => (float out0) {
            out0 = If (in0) <
                then_branch = then () => (float a) { a = Constant <value_float = 1.5> () },
                else_branch = otherwise () => (float b) {
                    c = Constant <value_float = 3.0> ()
                    b = Neg (c)
                }
            >
        }""")
    model = canonical(proto)
    assert not [node for node in model.graph.walk_nodes() if node.op_type == "Constant"]
    for condition, expected in ((True, 1.5), (False, -3.0)):
        found = run(checked(model), [np.array(condition)])
        assert_same(found, [np.array(expected, dtype=np.float32)])
