# SPDX-License-Identifier: Apache-2.0
"""Weights in 8 bits, activations quantized by what each run computes.

MatMul, Gemm and Conv with constant weights become DynamicQuantizeLinear and MatMulInteger or
ConvInteger; the table of a Gather is kept in 8 bits and its rows are dequantized.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from bascule.quantization.onnx_model import FLOATS, ONNXModel, attribute
from bascule.quantization.quant_utils import QuantType, quantize_weight
from bascule.quantization.settings import Settings

OPERATORS = ("MatMul", "Gemm", "Conv", "Gather")
"""What is quantized."""


class DynamicQuantizer:
    """Rewrites the main graph of a model."""

    def __init__(self, model: ONNXModel, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self._types = model.element_types()
        self._nodes: list[onnx.NodeProto] = []
        self._activations: dict[str, tuple[str, str, str]] = {}

    def quantize(self) -> None:
        """Rewrite what can be rewritten, in place."""
        self.model.raise_opset(11)
        rewrites = {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Conv": self._conv,
            "Gather": self._gather,
        }
        for node in list(self.model.graph.node):
            rewrite = rewrites.get(node.op_type) if self.settings.takes(node) else None
            if node.domain not in ("", "ai.onnx") or rewrite is None or not rewrite(node):
                self._nodes.append(node)
        self.model.set_nodes(self._nodes)
        self.model.remove_unused()

    # --- pieces

    def _node(self, op_type: str, inputs: list[str], stem: str, count: int = 1, **more: Any) -> Any:
        names = [self.model.unique(f"{stem}_{op_type}_{i}") for i in range(count)]
        name = self.model.unique(f"{stem}_{op_type}")
        self._nodes.append(helper.make_node(op_type, inputs, names, name=name, **more))
        return names[0] if count == 1 else names

    def _float_constant(self, name: str, rank: int | None = None) -> Any:
        array = self.model.array(name)
        if array is None or self._types.get(name) not in FLOATS:
            return None
        return array if rank is None or array.ndim == rank else None

    def _activation(self, name: str) -> tuple[str, str, str]:
        """(integers, scale, zero point) of a value."""
        if name not in self._activations:
            source = name
            if self._types.get(name) != TensorProto.FLOAT:
                source = self._node("Cast", [name], name, to=TensorProto.FLOAT)
            made = self._node("DynamicQuantizeLinear", [source], name, 3)
            self._activations[name] = tuple(made)
        return self._activations[name]

    def _weight(self, name: str, array: Any, axis: int | None) -> tuple[str, Any, str]:
        """(integers, scale, zero point) of a weight, whose scale is an array."""
        settings = self.settings
        integers, scale, zero = quantize_weight(
            array, settings.weight_type, axis, settings.weight_symmetric, settings.reduce_range
        )
        # Symmetric zero points are all one, which every runtime takes.
        shared = settings.weight_symmetric and zero.size and (zero == zero.flat[0]).all()
        point = zero.reshape(-1)[0] if shared else zero
        return (
            self.model.add(f"{name}_quantized", integers),
            scale,
            self.model.add(f"{name}_zero_point", np.asarray(point)),
        )

    def _scaled(
        self, integers: str, scale_a: str, scale_b: Any, stem: str, output: str, dtype: int
    ) -> None:
        """`output` = float(integers) * scale_a * scale_b."""
        as_float = self._node("Cast", [integers], stem, to=TensorProto.FLOAT)
        constant = self.model.add(f"{stem}_weight_scale", scale_b)
        scale = self._node("Mul", [scale_a, constant], stem)
        if dtype == TensorProto.FLOAT:
            name = self.model.unique(f"{stem}_scaled")
            self._nodes.append(helper.make_node("Mul", [as_float, scale], [output], name=name))
            return
        scaled = self._node("Mul", [as_float, scale], stem)
        name = self.model.unique(f"{stem}_narrow")
        self._nodes.append(helper.make_node("Cast", [scaled], [output], name=name, to=dtype))

    # --- operators

    def _product(self, x: str, name: str, weights: Any, stem: str, output: str) -> None:
        per_channel = self.settings.per_channel and weights.ndim == 2
        integers, scale, zero = self._weight(name, weights, 1 if per_channel else None)
        quantized, scale_x, zero_x = self._activation(x)
        made = self._node("MatMulInteger", [quantized, integers, zero_x, zero], stem)
        self._scaled(made, scale_x, scale, stem, output, self._types.get(x, TensorProto.FLOAT))

    def _matmul(self, node: onnx.NodeProto) -> bool:
        weights = self._float_constant(node.input[1])
        if weights is None or weights.ndim < 2 or self._types.get(node.input[0]) not in FLOATS:
            return False
        self._product(node.input[0], node.input[1], weights, node.output[0], node.output[0])
        return True

    def _gemm(self, node: onnx.NodeProto) -> bool:
        weights = self._float_constant(node.input[1], 2)
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        if weights is None or not plain or attribute(node, "transA", 0):
            return False
        if attribute(node, "transB", 0):
            weights = np.ascontiguousarray(weights.T)
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else ""
        output = self.model.unique(f"{node.output[0]}_product") if bias else node.output[0]
        self._product(node.input[0], node.input[1], weights, node.output[0], output)
        if bias:
            name = self.model.unique(f"{node.output[0]}_bias")
            self._nodes.append(helper.make_node("Add", [output, bias], [node.output[0]], name=name))
        return True

    def _conv(self, node: onnx.NodeProto) -> bool:
        weights = self._float_constant(node.input[1])
        if weights is None or self._types.get(node.input[0]) not in FLOATS:
            return False
        per_channel = self.settings.per_channel and self.settings.weight_symmetric
        integers, scale, zero = self._weight(node.input[1], weights, 0 if per_channel else None)
        quantized, scale_x, zero_x = self._activation(node.input[0])
        stem = node.output[0]
        made = self._node("ConvInteger", [quantized, integers, zero_x, zero], stem)
        self._nodes[-1].attribute.extend(node.attribute)
        along = (-1, *[1] * (weights.ndim - 2))  # of the channels
        scale = scale.reshape(along) if per_channel else scale
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else ""
        output = self.model.unique(f"{stem}_product") if bias else stem
        dtype = self._types.get(node.input[0], TensorProto.FLOAT)
        self._scaled(made, scale_x, scale, stem, output, dtype)
        if bias:
            shape = self.model.add(f"{stem}_bias_shape", np.array(along, np.int64))
            wide = self._node("Reshape", [bias, shape], stem)
            name = self.model.unique(f"{stem}_bias")
            self._nodes.append(helper.make_node("Add", [output, wide], [stem], name=name))
        return True

    def _gather(self, node: onnx.NodeProto) -> bool:
        table = self._float_constant(node.input[0])
        if table is None or table.dtype != np.float32:
            return False
        integers, scale, zero = self._weight(node.input[0], table, None)
        rows = self._node("Gather", [integers, node.input[1]], node.output[0])
        self._nodes[-1].attribute.extend(node.attribute)
        scale_name = self.model.add(f"{node.input[0]}_scale", scale)
        name = self.model.unique(f"{node.output[0]}_rows")
        inputs = [rows, scale_name, zero]
        self._nodes.append(
            helper.make_node("DequantizeLinear", inputs, [node.output[0]], name=name)
        )
        return True


def takes_weight_type(qtype: QuantType) -> bool:
    """Whether weights of dynamic quantization may have a type."""
    return qtype in (QuantType.QInt8, QuantType.QUInt8)
