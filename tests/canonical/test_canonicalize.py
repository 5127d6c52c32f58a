# SPDX-License-Identifier: Apache-2.0
"""The walk over a model, and the public suite's models."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from bascule.canonical import canonicalize
from bascule.errors import InvalidGraph
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.types import TensorType

from .comparison import canonical, checked, model_of, normal, op_types

NEWEST = onnx.defs.onnx_opset_version()
DATA = Path(onnx.__file__).parent / "backend/test/data"
CONVERTED = sorted(DATA.glob("pytorch-*/*/model.onnx"))


def graph_of(node: Node, *inputs: Value) -> Graph:
    graph = Graph("g")
    for value in inputs:
        graph.add_input(value)
    graph.append(node)
    for value in node.outputs:
        graph.add_output(value)
    return graph


def test_opset_becomes_the_newest() -> None:
    model = canonical(model_of("Relu", [normal(2)], 6))
    assert model.opset_imports[""] == NEWEST


def test_node_keeps_name_and_output() -> None:
    model = canonical(model_of("Softmax", [normal(2, 3, 4)], 11))
    assert [value.name for value in model.graph.outputs] == ["out0"]
    node = model.graph.outputs[0].producer
    assert node is not None and (node.name, node.op_type) == ("node", "Reshape")


def test_types_are_inferred_for_rewrites_that_ask() -> None:
    proto = model_of("Softmax", [normal(2, 3)], 11, known_shapes=False)
    assert op_types(canonical(proto)) == ["Identity", "Softmax"]
    assert "Flatten" in op_types(canonical(proto, infer=False))


def test_node_with_an_opset_of_its_own() -> None:
    x = Value("x", TensorType(DataType.FLOAT, (2, 3)))
    node = Node("TopK", [x], 2, {"k": 2})
    node.opset = 1
    canonicalize(Model(graph_of(node, x), {"": NEWEST}))
    assert (len(node.inputs), node.attributes, node.opset) == (2, {}, None)


def test_other_domains_are_left_alone() -> None:
    x = Value("x")
    node = Node("Clip", [x], 1, {"min": 0.0}, domain="com.example")
    canonicalize(Model(graph_of(node, x), {"": 6, "com.example": 1}))
    assert node.attributes == {"min": 0.0}


def test_unknown_operator() -> None:
    x = Value("x")
    node = Node("Gelu", [x], name="late")
    with pytest.raises(InvalidGraph, match=r"opset 17 has no such operator.*late"):
        canonicalize(Model(graph_of(node, x), {"": 17}))


@pytest.mark.parametrize(
    "node, problem",
    [
        (Node("TopK", [Value("x")], 2, name="n"), "TopK version 1: required attribute 'k'"),
        (Node("Relu", [Value("x")], 1, {"axis": 1}, name="n"), "Relu version 6: attribute 'axis'"),
        (Node("Add", [Value("x")], name="n"), "Add version 7: 1 inputs"),
        (Node("Add", [Value("x"), Value("y")], 2, name="n"), "Add version 7: 2 outputs"),
    ],
)
def test_invalid_form(node: Node, problem: str) -> None:
    with pytest.raises(InvalidGraph, match=f"{problem}.*node: n"):
        canonicalize(Model(graph_of(node, *(v for v in node.inputs if v is not None)), {"": 9}))


def test_opset_that_is_not_known() -> None:
    x = Value("x")
    with pytest.raises(InvalidGraph, match=f"newest that the installed onnx knows is {NEWEST}"):
        canonicalize(Model(graph_of(Node("Relu", [x]), x), {"": NEWEST + 1}))


def test_twice_changes_nothing() -> None:
    model = canonical(model_of("Softmax", [normal(2, 3, 4)], 11, axis=1))
    before = checked(model).SerializeToString()
    canonicalize(model)
    assert checked(model).SerializeToString() == before


@pytest.mark.parametrize("path", CONVERTED, ids=[path.parent.name for path in CONVERTED])
def test_converted_models(path: Path) -> None:
    """Models of opset 6 to 9 with recorded results: rewritten, inferred, checked and run."""
    model = load_model(path)
    infer_types(model)
    canonicalize(model)
    infer_types(model)
    proto = checked(model)
    data = path.parent / "test_data_set_0"
    feeds = {
        info.name: read(data / f"input_{index}.pb")
        for index, info in enumerate(proto.graph.input)
        if (data / f"input_{index}.pb").exists()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ReferenceEvaluator(proto).run(None, feeds)
    for index, value in enumerate(found):
        np.testing.assert_allclose(value, read(data / f"output_{index}.pb"), 1e-3, 1e-5)


@pytest.mark.parametrize(
    "path", sorted(DATA.glob("simple/*/model.onnx")) + sorted(DATA.glob("light/*.onnx"))
)
def test_other_models(path: Path) -> None:
    model = load_model(path)
    canonicalize(model)
    infer_types(model)
    checked(model)
    assert model.opset_imports[""] == NEWEST


def test_node_cases() -> None:
    """The suite's single nodes, in every opset that it has them for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases[::7]:
        model = load_model(case.model)
        canonicalize(model)
        checked(model)


def read(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
