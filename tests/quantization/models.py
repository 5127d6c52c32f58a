# SPDX-License-Identifier: Apache-2.0
"""Two small models to be quantized, sample inputs, and how far a quantized one is from its own."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bascule.quantization import CalibrationDataReader

CPU = ["CPUExecutionProvider"]


class Reader(CalibrationDataReader):
    """Gives inputs from a list."""

    def __init__(self, inputs: Iterable[dict[str, Any]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


def _model(
    nodes: list[Any], inputs: list[Any], weights: dict[str, Any], shape: list[Any]
) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "model", inputs, [output], constants)
    opsets = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def network() -> onnx.ModelProto:
    """A convolutional network: batch normalization, Relu, pools, a residual, Gemm."""
    random = np.random.default_rng(1)

    def weight(*shape: int) -> Any:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"], name="norm"),
        node("Relu", ["n1"], ["r1"], name="relu1"),
        node("MaxPool", ["r1"], ["m1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("Add", ["r2", "m1"], ["sum"], name="residual"),
        node("GlobalAveragePool", ["sum"], ["g"], name="mean"),
        node("Flatten", ["g"], ["f"], name="flat"),
        node("Gemm", ["f", "w3", "b3"], ["y"], name="gemm", transB=1),
    ]
    weights = {
        "w1": weight(8, 3, 3, 3),
        "b1": weight(8),
        "w2": weight(8, 8, 3, 3),
        "b2": weight(8),
        "w3": weight(10, 8),
        "b3": weight(10),
        "scale": 1 + 0.1 * weight(8),
        "shift": weight(8),
        "mean": weight(8),
        "var": np.abs(weight(8)) + 0.5,
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
    return _model(nodes, [x], weights, ["n", 10])


def attention() -> onnx.ModelProto:
    """Embedding, products with constants and with each other, softmax, normalization."""
    random = np.random.default_rng(2)

    def weight(*shape: int) -> Any:
        return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    node = helper.make_node
    nodes = [
        node("Gather", ["table", "i"], ["e"], name="embed"),
        node("MatMul", ["e", "wq"], ["q"], name="q"),
        node("MatMul", ["e", "wk"], ["k"], name="k"),
        node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"], name="scores"),
        node("Softmax", ["s"], ["p"], name="softmax", axis=-1),
        node("MatMul", ["p", "e"], ["o"], name="mix"),
        node("Constant", [], ["half"], name="constant", value_float=0.5),
        node("Mul", ["o", "half"], ["h"], name="halve"),
        node("Add", ["h", "bias"], ["y"], name="add"),
    ]
    weights = {"table": weight(50, 32) * 4, "wq": weight(32, 32), "wk": weight(32, 32)}
    weights["bias"] = weight(32)
    indices = helper.make_tensor_value_info("i", TensorProto.INT64, ["n", 7])
    return _model(nodes, [indices], weights, ["n", 7, 32])


def samples(proto: onnx.ModelProto, count: int = 4) -> list[dict[str, Any]]:
    random = np.random.default_rng(3)
    if proto.graph.input[0].name == "x":
        return [
            {"x": random.standard_normal((2, 3, 16, 16)).astype(np.float32)} for _ in range(count)
        ]
    return [{"i": random.integers(0, 50, (2, 7))} for _ in range(count)]


def run(runtime: str, path: Path | onnx.ModelProto, inputs: list[dict[str, Any]]) -> list[Any]:
    data = path.SerializeToString() if isinstance(path, onnx.ModelProto) else str(path)
    module = importlib.import_module(runtime)
    options = module.SessionOptions()
    options.log_severity_level = 3
    session = module.InferenceSession(data, options, providers=CPU)
    return [session.run(["y"], each)[0] for each in inputs]


def decibels(runtime: str, quantized: Path, proto: onnx.ModelProto) -> float:
    """How much greater the results are than their errors."""
    inputs = samples(proto)
    wanted = np.concatenate(run("bascule", proto, inputs))
    found = np.concatenate(run(runtime, quantized, inputs))
    ratio = np.linalg.norm(wanted) / max(float(np.linalg.norm(wanted - found)), 1e-9)
    return 20 * float(np.log10(ratio))


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]
