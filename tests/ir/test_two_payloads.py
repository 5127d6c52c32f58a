# SPDX-License-Identifier: Apache-2.0
"""A tensor that stores its elements twice is refused wherever it stands: two readers of such a file
may see two different models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bascule.errors import InvalidGraph
from bascule.ir.load import load_model


def twice(name: str, dtype: Any = np.float32) -> TensorProto:
    tensor = numpy_helper.from_array(np.array([0, 1], dtype), name)
    field = tensor.float_data if dtype == np.float32 else tensor.int64_data
    field.extend([0, 1])
    return tensor


def sparse(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[2])


ONCE = numpy_helper.from_array(np.array([0.5, 1], np.float32), "w")
PLACES = numpy_helper.from_array(np.array([0, 1]), "places")
ADD = helper.make_node("Add", ["x", "w"], ["y"])
NEG = helper.make_node("Neg", ["x"], ["y"])


def constant(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["w"], **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[TensorProto] = (),
    sparse_initializers: Sequence[onnx.SparseTensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [onnx.ValueInfoProto(name="y")],
        initializers,
        sparse_initializer=sparse_initializers,
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)


def branches() -> onnx.NodeProto:
    output = [onnx.ValueInfoProto(name="t")]
    bodies = [
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["t"])], "b", [], output, [initializer]
        )
        for initializer in (ONCE, twice("w"))
    ]
    return helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1])


def function(nodes: Sequence[onnx.NodeProto], **more: Any) -> onnx.FunctionProto:
    return helper.make_function(
        "own", "F", ["x"], ["y"], nodes, [helper.make_opsetid("", 21)], **more
    )


def function_with_default() -> onnx.FunctionProto:
    node = constant()
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="v")
    return function([node, ADD], attribute_protos=[helper.make_attribute("v", twice("v"))])


CALL = helper.make_node("F", ["x"], ["y"], domain="own")
SPARSE_VALUES = sparse(twice("w"), PLACES)
SPARSE_INDICES = sparse(ONCE, twice("places", np.int64))
CONDITION = numpy_helper.from_array(np.array(True), "c")
MODELS = {
    "initializer": model([ADD], [twice("w")]),
    "unused initializer": model([NEG], [twice("w")]),
    "constant": model([constant(value=twice("w")), ADD]),
    "list of tensors": model(
        [helper.make_node("Op", ["x"], ["y"], domain="own", tensors=[ONCE, twice("w")])]
    ),
    "sparse values": model([ADD], sparse_initializers=[SPARSE_VALUES]),
    "sparse indices": model([ADD], sparse_initializers=[SPARSE_INDICES]),
    "sparse constant": model([constant(sparse_value=SPARSE_VALUES), ADD]),
    "nested graph": model([branches()], [CONDITION]),
    "function": model([CALL], functions=[function([constant(value=twice("w")), ADD])]),
    "function that nobody calls": model(
        [NEG], functions=[function([constant(value=twice("w")), ADD])]
    ),
    "default of a function": model([CALL], functions=[function_with_default()]),
}


@pytest.mark.parametrize("name", MODELS)
def test_two_payloads(name: str) -> None:
    with pytest.raises(InvalidGraph, match="stores its elements twice"):
        load_model(MODELS[name].SerializeToString())


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"float_data": [1, 2], "int64_data": [1]}, "stores its elements twice"),
        ({"raw_data": bytes(8), "int32_data": [1]}, "stores its elements twice"),
        ({"int32_data": [1, 2]}, "keeps float elements in int32_data"),
        ({"raw_data": bytes(7)}, "has 7 bytes of data; expected 8"),
        ({"float_data": [1, 2, 3]}, "has 12 bytes of data; expected 8"),
        ({}, "expected 8"),
    ],
)
def test_payloads_that_do_not_fit(kept: dict[str, Any], message: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], **kept)
    with pytest.raises(InvalidGraph, match=message):
        load_model(model([ADD], [tensor]).SerializeToString())
