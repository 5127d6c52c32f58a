# SPDX-License-Identifier: Apache-2.0
"""Small models for the tests of the public interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, ValueInfoProto, helper

import bascule as ort

FLOAT = TensorProto.FLOAT


def tensor(name: str, dtype: int = FLOAT, shape: Sequence[Any] | None = ("n", 3)) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    ir_version: int = 10,
    opset: int = 21,
    domains: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid(*pair) for pair in [("", opset), *domains]]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def session(
    proto: onnx.ModelProto, options: ort.SessionOptions | None = None, **arguments: Any
) -> ort.InferenceSession:
    return ort.InferenceSession(proto.SerializeToString(), options, **arguments)


def single(
    op_type: str,
    inputs: Sequence[ValueInfoProto],
    output: ValueInfoProto,
    domain: str = "",
    **attributes: Any,
) -> ort.InferenceSession:
    """A session of one node with output ``y``."""
    node = helper.make_node(
        op_type, [v.name for v in inputs], [output.name], name="node", domain=domain, **attributes
    )
    domains = [(domain, 3)] if domain else []
    return session(model([node], inputs, [output], domains=domains))


def identity(dtype: int, shape: Sequence[Any] | None = None) -> ort.InferenceSession:
    return single("Identity", [tensor("x", dtype, shape)], tensor("y", dtype, shape))


def linear() -> onnx.ModelProto:
    """y = relu(x @ w + b) and s = x @ w + b, x of [n, 3]."""
    weight = helper.make_tensor("w", FLOAT, [3, 2], [float(i) for i in range(6)])
    bias = helper.make_tensor("b", FLOAT, [2], [0.5, -100.0])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Add", ["m", "b"], ["s"], name="sum"),
        helper.make_node("Relu", ["s"], ["y"], name="relu"),
    ]
    outputs = [tensor("y", shape=("n", 2)), tensor("s", shape=("n", 2))]
    return model(nodes, [tensor("x")], outputs, [weight, bias])


def scaled() -> onnx.ModelProto:
    """y = x * scale, where `scale` [1] is an input with the default 2."""
    scale = helper.make_tensor("scale", FLOAT, [1], [2.0])
    node = helper.make_node("Mul", ["x", "scale"], ["y"], name="scale it")
    return model([node], [tensor("x"), tensor("scale", shape=[1])], [tensor("y")], [scale])


def endless() -> onnx.ModelProto:
    """A Loop of 2**60 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "sum"], ["next"], name="inner"),
        ],
        "body",
        [
            tensor("round", TensorProto.INT64, []),
            tensor("go", TensorProto.BOOL, []),
            tensor("sum", FLOAT, [1]),
        ],
        [tensor("go_on", TensorProto.BOOL, []), tensor("next", FLOAT, [1])],
    )
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], name="loop", body=body)
    return model(
        [loop],
        [tensor("rounds", TensorProto.INT64, []), tensor("x", FLOAT, [1])],
        [tensor("y", FLOAT, [1])],
    )
