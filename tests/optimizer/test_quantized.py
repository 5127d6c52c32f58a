# SPDX-License-Identifier: Apache-2.0
"""Products between DequantizeLinear and QuantizeLinear give onnxruntime's integers, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bascule
from bascule import GraphOptimizationLevel as Level
from tests.support.exact_peer import exact_peer

Array = np.ndarray[Any, Any]
BYTES = [np.uint8, np.int8]


class QuantizedGraph:
    """One operator on dequantized inputs, whose result may be quantized."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.infos: list[onnx.ValueInfoProto] = []
        self.feeds: dict[str, Array] = {}

    def constant(self, name: str, array: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def integers(self, dtype: Any, *shape: int) -> Array:
        info = np.iinfo(dtype)
        return self.generator.integers(info.min, info.max + 1, shape).astype(dtype)

    def dequantized(
        self, name: str, array: Array, scale: Any, zero: Any, axis: int = 0, feed: bool = False
    ) -> str:
        if feed:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            self.infos.append(helper.make_tensor_value_info(name, kind, array.shape))
            self.feeds[name] = array
        else:
            self.constant(name, array)
        self.constant(f"{name}_scale", np.asarray(scale, np.float32))
        self.constant(f"{name}_zero", np.asarray(zero).astype(array.dtype))
        inputs = [name, f"{name}_scale", f"{name}_zero"]
        attributes = {"axis": axis} if np.ndim(scale) else {}
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [f"{name}_real"], **attributes)
        )
        return f"{name}_real"

    def model(self, y: str, dtype: Any = None, scale: float = 1.0, zero: int = 0) -> bytes:
        kind = onnx.TensorProto.FLOAT
        if dtype is not None:
            self.constant("y_scale", np.float32(scale))
            self.constant("y_zero", dtype(zero))
            self.nodes.append(
                helper.make_node("QuantizeLinear", [y, "y_scale", "y_zero"], ["quantized"])
            )
            y, kind = "quantized", helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        shown = [helper.make_tensor_value_info(y, kind, None)]
        graph = helper.make_graph(self.nodes, "g", self.infos, shown, self.initializers)
        imports = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def run(model: bytes, feeds: dict[str, Array], level: Level) -> tuple[list[str], Array]:
    options = bascule.SessionOptions()
    options.graph_optimization_level = level
    session = bascule.InferenceSession(model, options)
    return [row.op_type for row in session.explain().rows], session.run(None, feeds)[0]


def check(model: bytes, feeds: dict[str, Array], expected: list[str]) -> None:
    """Which operators run from EXTENDED up, and that below it only roundings may differ."""
    theirs = exact_peer(model).run(None, feeds)[0]
    for level in (Level.ORT_ENABLE_EXTENDED, Level.ORT_ENABLE_ALL):
        ran, y = run(model, feeds, level)
        if level == Level.ORT_ENABLE_ALL and "QLinearConv" in expected:
            ran = [op for op in ran if op != "Transpose"]  # to channels last and back
        assert ran == expected
        assert y.dtype == theirs.dtype
        if y.dtype == np.float32:
            np.testing.assert_allclose(y, theirs, rtol=1e-6)
        else:
            np.testing.assert_array_equal(y, theirs)
            assert len(np.unique(y)) > 20
    _, y = run(model, feeds, Level.ORT_ENABLE_BASIC)
    if y.dtype == np.float32:
        np.testing.assert_allclose(y, theirs, rtol=1e-4, atol=1e-3)
    else:
        assert np.abs(y.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("x_type, w_type", [(np.uint8, np.int8), (np.uint8, np.uint8)])
def test_convolution(x_type: Any, w_type: Any, by_channel: bool, bias: bool) -> None:
    g = QuantizedGraph(1)
    scales = g.generator.uniform(0.001, 0.004, 8) if by_channel else 0.003
    zeros = np.full(8, 3 if w_type is np.uint8 else 0) if by_channel else 3
    inputs = [
        g.dequantized("x", g.integers(x_type, 2, 6, 9, 10), 0.5, 100, feed=True),
        g.dequantized("w", g.integers(w_type, 8, 6, 3, 3), scales, zeros),
    ]
    if bias:
        b = g.generator.integers(-5000, 5000, 8).astype(np.int32)
        scale = np.float32(0.5) * np.asarray(scales, np.float32)
        inputs.append(g.dequantized("b", b, scale, np.zeros(np.shape(scale))))
    g.nodes.append(helper.make_node("Conv", inputs, ["c"], pads=[1, 1, 0, 1], strides=[1, 2]))
    check(g.model("c", x_type, 0.6, 120), g.feeds, ["QLinearConv"])


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("b_type", BYTES)
@pytest.mark.parametrize("quantizes", [False, True])
def test_matmul(quantizes: bool, b_type: Any, by_column: bool) -> None:
    g = QuantizedGraph(2)
    scales = g.generator.uniform(0.001, 0.004, 33) if by_column else 0.003
    inputs = [
        g.dequantized("a", g.integers(np.uint8, 2, 7, 40), 0.5, 100, feed=True),
        g.dequantized("b", g.integers(b_type, 40, 33), scales, np.zeros(np.shape(scales)), 1),
    ]
    g.nodes.append(helper.make_node("MatMul", inputs, ["c"]))
    if quantizes:
        check(g.model("c", np.uint8, 0.6, 120), g.feeds, ["QLinearMatMul"])
    else:
        check(g.model("c"), g.feeds, ["MatMulInteger", "Elementwise"])


def test_matmul_of_two_results() -> None:
    g = QuantizedGraph(3)
    inputs = [
        g.dequantized("a", g.integers(np.uint8, 2, 3, 7, 20), 0.05, 100, feed=True),
        g.dequantized("b", g.integers(np.uint8, 2, 3, 20, 9), 0.03, 130, feed=True),
    ]
    g.nodes.append(helper.make_node("MatMul", inputs, ["c"]))
    check(g.model("c", np.uint8, 0.6, 120), g.feeds, ["QLinearMatMul"])


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("quantizes", [False, True])
def test_gemm(quantizes: bool, transposed: int, bias: bool, by_column: bool) -> None:
    g = QuantizedGraph(4)
    scales = g.generator.uniform(0.001, 0.004, 33) if by_column else 0.003
    b = g.integers(np.int8, *((33, 40) if transposed else (40, 33)))
    inputs = [
        g.dequantized("a", g.integers(np.uint8, 7, 40), 0.5, 100, feed=True),
        g.dequantized("b", b, scales, np.zeros(np.shape(scales)), 1 - transposed),
    ]
    if bias:
        c = g.generator.integers(-5000, 5000, 33).astype(np.int32)
        scale = np.float32(0.5) * np.asarray(scales, np.float32)
        inputs.append(g.dequantized("c", c, scale, np.zeros(np.shape(scale))))
    g.nodes.append(helper.make_node("Gemm", inputs, ["y"], transB=transposed))
    model = g.model("y", np.uint8, 0.6, 120) if quantizes else g.model("y")
    check(model, g.feeds, ["MatMulInteger", "Elementwise"])


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("steps", [(0.03, 0.04, 0.05), (0.5, 0.25, 0.25)], ids=str)
def test_add(steps: tuple[float, ...], dtype: Any) -> None:
    """With steps of like size most sums are ties."""
    g = QuantizedGraph(8)
    inputs = [
        g.dequantized(name, g.integers(dtype, *shape), step, zero, feed=True)
        for name, shape, step, zero in zip("ab", [(5, 7, 43), (7, 1)], steps, (3, 9))
    ]
    g.nodes.append(helper.make_node("Add", inputs, ["y"]))
    check(g.model("y", dtype, steps[2], 17), g.feeds, ["QLinearAdd"])


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("op_type", ["Mul", "Gelu", "Sigmoid"])
def test_elementwise_operators(op_type: str, dtype: Any) -> None:
    """One pass over memory, with the same bits as node by node."""
    g = QuantizedGraph(7)
    names = "ab" if op_type == "Mul" else "a"
    inputs = [
        g.dequantized(name, g.integers(dtype, 5, 7, 43), 0.03 + i / 100, 3 - i, feed=True)
        for i, name in enumerate(names)
    ]
    g.nodes.append(helper.make_node(op_type, inputs, ["y"]))
    model = onnx.load_from_string(g.model("y", dtype, 0.04, 9))
    model.opset_import[0].version = 20
    data = model.SerializeToString()
    ran, y = run(data, g.feeds, Level.ORT_ENABLE_ALL)
    assert ran == ["Elementwise"]
    _, expected = run(data, g.feeds, Level.ORT_DISABLE_ALL)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("level", [Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_BASIC])
def test_lower_levels_compute_in_floats(level: Level) -> None:
    g = QuantizedGraph(5)
    inputs = [
        g.dequantized("x", g.integers(np.uint8, 1, 3, 6, 6), 0.5, 100, feed=True),
        g.dequantized("w", g.integers(np.int8, 4, 3, 3, 3), 0.003, 0),
    ]
    g.nodes.append(helper.make_node("Conv", inputs, ["c"]))
    ran, _ = run(g.model("c", np.uint8, 0.6, 120), g.feeds, level)
    assert "QLinearConv" not in ran


@pytest.mark.parametrize(
    "change",
    ["bias in floats", "bias of another scale", "scale that is fed", "16 bits", "two readers"],
)
def test_what_stays_in_floats(change: str) -> None:
    g = QuantizedGraph(6)
    x_type: Any = np.uint16 if change == "16 bits" else np.uint8
    inputs = [
        g.dequantized("x", g.integers(x_type, 1, 3, 6, 6), 0.5, 100, feed=True),
        g.dequantized("w", g.integers(np.int8, 4, 3, 3, 3), 0.003, 0),
    ]
    if change == "bias in floats":
        inputs.append(g.constant("b", g.generator.normal(size=4).astype(np.float32)))
    if change == "bias of another scale":
        b = g.generator.integers(-5000, 5000, 4).astype(np.int32)
        inputs.append(g.dequantized("b", b, 0.002, 0))
    if change == "scale that is fed":
        g.infos.append(helper.make_tensor_value_info("x_scale", onnx.TensorProto.FLOAT, ()))
        g.feeds["x_scale"] = np.array(0.25, np.float32)
    g.nodes.append(helper.make_node("Conv", inputs, ["c"]))
    if change == "two readers":
        g.nodes.append(helper.make_node("Relu", ["c"], ["r"]))
        g.nodes.append(helper.make_node("Add", ["c", "r"], ["s"]))
    model = onnx.load_from_string(g.model("c", np.uint8, 0.6, 120))
    if change == "two readers":
        model.graph.output.append(helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, None))
    model.opset_import[0].version, model.ir_version = 21, 10
    assert "QLinearConv" not in run(model.SerializeToString(), g.feeds, Level.ORT_ENABLE_ALL)[0]
