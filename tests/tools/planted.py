# SPDX-License-Identifier: Apache-2.0
"""Three small architectures, in which tests plant faults: a transformer block, a CNN, an LSTM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET = 21


class Builder:
    """Nodes and weights of a model in one float type; the node of value ``v`` is ``node_v``."""

    def __init__(self, dtype: Any, seed: int) -> None:
        self.dtype = np.dtype(dtype)
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        size = scale if scale is not None else 1 / np.sqrt(np.prod(shape[1:]) or 1)
        self.weights[name] = self._rng.standard_normal(shape, np.float32) * np.float32(size)
        return name

    def constant(self, name: str, values: Any, dtype: Any = None) -> str:
        self.weights[name] = np.asarray(values, dtype or np.float32)
        return name

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(op_type, inputs, [output], name=f"node_{output}", **attributes)
        self._nodes.append(node)
        return output

    def model(self, shape: list[Any], output: str) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        initializers = [
            numpy_helper.from_array(w.astype(self.dtype) if w.dtype == np.float32 else w, name)
            for name, w in self.weights.items()
        ]
        graph = helper.make_graph(
            self._nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(output, kind, None)],
            initializers,
        )
        imports = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


Change = Callable[[dict[str, Array]], None]


def transformer(dtype: Any = np.float32, change: Change | None = None) -> onnx.ModelProto:
    """Attention with one head and a feed-forward network with Gelu; input [batch, 8, 16]."""
    b = Builder(dtype, 1)
    b.add("MatMul", ["x", b.weight("wq", 16, 16)], "q")
    b.add("MatMul", ["x", b.weight("wk", 16, 16)], "k")
    b.add("MatMul", ["x", b.weight("wv", 16, 16)], "v")
    b.add("Transpose", ["k"], "kt", perm=[0, 2, 1])
    b.add("MatMul", ["q", "kt"], "scores")
    b.add("Mul", ["scores", b.constant("scale", 0.25)], "scaled")
    b.add("Softmax", ["scaled"], "attention", axis=-1)
    b.add("MatMul", ["attention", "v"], "mixed")
    b.add("Add", ["mixed", "x"], "residual")
    b.weight("gain", 16, scale=1.0)
    b.weight("shift", 16, scale=0.1)
    b.add("LayerNormalization", ["residual", "gain", "shift"], "normal", axis=-1, epsilon=1e-5)
    b.add("MatMul", ["normal", b.weight("up", 16, 32)], "up_product")
    b.add("Add", ["up_product", b.weight("up_bias", 32, scale=0.5)], "up_sum")
    b.add("Div", ["up_sum", b.constant("root", np.sqrt(2))], "g0")
    b.add("Erf", ["g0"], "g1")
    b.add("Add", ["g1", b.constant("one", 1.0)], "g2")
    b.add("Mul", ["up_sum", "g2"], "g3")
    b.add("Mul", ["g3", b.constant("half", 0.5)], "gelu")
    b.add("MatMul", ["gelu", b.weight("down", 32, 16)], "down_product")
    b.add("Add", ["down_product", "residual"], "y")
    return _finish(b, change, ["batch", 8, 16])


def cnn(dtype: Any = np.float32, change: Change | None = None) -> onnx.ModelProto:
    """Convolutions with a residual, a pooling and a linear layer; input [batch, 3, 12, 12]."""
    b = Builder(dtype, 2)
    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    b.weight("c1_bias", 8, scale=0.1)
    b.add("Conv", ["x", b.weight("c1", 8, 3, 3, 3), "c1_bias"], "stem", **same)
    b.add("Relu", ["stem"], "stem_relu")
    b.add("Conv", ["stem_relu", b.weight("c2", 8, 8, 3, 3)], "inner", **same)
    b.weight("bias", 8, scale=0.5)
    b.weight("mean", 8, scale=0.2)
    b.weight("gain", 8, scale=1.0)
    b.constant("variance", np.linspace(0.5, 2, 8))
    normal = ["inner", "gain", "bias", "mean", "variance"]
    b.add("BatchNormalization", normal, "normal", epsilon=1e-3)
    b.add("Add", ["normal", "stem_relu"], "residual")
    b.add("Relu", ["residual"], "residual_relu")
    b.add("Conv", ["residual_relu", b.weight("c3", 12, 8, 1, 1)], "wide", kernel_shape=[1, 1])
    b.add("Sigmoid", ["wide"], "gate")
    b.add("Mul", ["wide", "gate"], "swish")
    b.add("GlobalAveragePool", ["swish"], "pooled")
    b.add("Flatten", ["pooled"], "flat", axis=1)
    b.weight("head_bias", 5, scale=0.1)
    b.add("Gemm", ["flat", b.weight("head", 12, 5), "head_bias"], "y")
    return _finish(b, change, ["batch", 3, 12, 12])


def lstm(dtype: Any = np.float32, change: Change | None = None) -> onnx.ModelProto:
    """A linear layer, an LSTM over six steps and a perceptron; input [6, batch, 10]."""
    b = Builder(dtype, 3)
    b.add("MatMul", ["x", b.weight("embed", 10, 12)], "embedded")
    b.add("Tanh", ["embedded"], "squashed")
    weights = [b.weight("w", 1, 32, 12, scale=0.3), b.weight("r", 1, 32, 8, scale=0.3)]
    b.weight("lstm_bias", 1, 64, scale=0.1)
    b.add("LSTM", ["squashed", *weights, "lstm_bias"], "states", hidden_size=8)
    b.add("Squeeze", ["states", b.constant("axes", [1], np.int64)], "sequence")
    b.add("MatMul", ["sequence", b.weight("m1", 8, 16)], "product")
    b.add("Add", ["product", b.weight("m1_bias", 16, scale=0.5)], "total")
    b.add("Relu", ["total"], "hidden")
    b.add("ReduceMean", ["hidden", b.constant("first", [0], np.int64)], "average", keepdims=0)
    b.weight("m2_bias", 4, scale=0.1)
    b.add("Gemm", ["average", b.weight("m2", 16, 4), "m2_bias"], "y")
    return _finish(b, change, [6, "batch", 10])


ARCHITECTURES = {"transformer": transformer, "cnn": cnn, "lstm": lstm}


def feeds(architecture: str, dtype: Any = np.float32) -> dict[str, Array]:
    shape = {"transformer": (2, 8, 16), "cnn": (2, 3, 12, 12), "lstm": (6, 2, 10)}[architecture]
    return {"x": np.random.default_rng(7).standard_normal(shape, np.float32).astype(dtype)}


def _finish(b: Builder, change: Change | None, shape: list[Any]) -> onnx.ModelProto:
    if change is not None:
        change(b.weights)
    return b.model(shape, "y")
