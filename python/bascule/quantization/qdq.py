# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear around what is to be computed in integers.

A quantized tensor is written, quantized and dequantized once, and all of the main graph reads the
dequantized one. Weights and biases are kept as integers. Between a product and the Relu or Clip
after it nothing is quantized, as runtimes compute both at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bascule.quantization.onnx_model import FLOATS, ONNXModel, attribute
from bascule.quantization.quant_utils import (
    QuantType,
    compute_scale_zp,
    quantize_weight,
)
from bascule.quantization.settings import Settings
from bascule.quantization.tensors_data import TensorsData

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SAME_VALUES = (
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Slice", "Split"),
    *("Gather", "GatherElements", "Resize", "Pad", "DepthToSpace", "SpaceToDepth", "Expand"),
)
"""Operators whose results are values of their first input: they keep its scale."""
POINTWISE = ("Add", "Mul", "Sub", "Div", "Sigmoid", "LeakyRelu", "HardSigmoid", "HardSwish")
OTHERS = ("AveragePool", "GlobalAveragePool", "Concat", "Softmax", "ReduceMean", "Where")
CLIPS = ("Relu", "Clip")
OPERATORS = (*PRODUCTS, *SAME_VALUES, *POINTWISE, *OTHERS, *CLIPS)
"""What is quantized."""


@dataclass(frozen=True)
class Parameters:
    """How a tensor is quantized: names of initializers, and what is in them."""

    scale: str
    zero_point: str
    scale_value: Any
    qtype: QuantType


class QdqQuantizer:
    """Rewrites the main graph of a model."""

    def __init__(self, model: ONNXModel, settings: Settings, ranges: TensorsData) -> None:
        self.model = model
        self.settings = settings
        self.ranges = ranges
        self.parameters: dict[str, Parameters] = {}
        """By the quantized tensor's name."""
        self._overrides = settings.options.get("TensorQuantOverrides") or {}
        self._replaced: list[dict[str, str]] = []
        """Inputs to be renamed, a node each."""
        self._before: list[list[onnx.NodeProto]] = []
        self._weights: dict[tuple[str, int | None], tuple[str, Any]] = {}

    def quantize(self) -> None:
        """Rewrite the model in place."""
        types = [self.settings.weight_type, self.settings.activation_type]
        for each in self._overrides.values():
            types += [entry["quant_type"] for entry in each if "quant_type" in entry]
        wanted = max(13, *(each.opset for each in types))
        known = self.model.element_types()
        if FLOATS[1] in known.values():
            wanted = max(wanted, 19)  # the first with scales of 16 bits
        self.model.raise_opset(wanted)
        self._types = self.model.element_types()
        self._consumers = self.model.consumers()
        self._outputs = {value.name for value in self.model.graph.output}
        self._producers = {name: n for n in self.model.graph.node for name in n.output if name}
        nodes = list(self.model.graph.node)
        self._replaced = [{} for _ in nodes]
        self._before = [[] for _ in nodes]
        for number, node in enumerate(nodes):
            if self.settings.takes(node) and node.domain in ("", "ai.onnx"):
                self._visit(number, node)
        for name in self._overrides:
            self._mark(name)
        self._write(nodes)
        self.model.remove_unused()

    # --- which tensors

    def _visit(self, number: int, node: onnx.NodeProto) -> None:
        if node.op_type in PRODUCTS:
            self._product(number, node)
        elif node.op_type in SAME_VALUES:
            self._same_values(number, node)
        elif node.op_type in CLIPS:
            if node.input[0] in self.parameters or self._is_fused(node):
                self._mark(node.output[0])
        else:
            self._operands(number, node)

    def _is_fused(self, node: onnx.NodeProto) -> bool:
        """Whether a Relu or Clip is computed with the quantized product before it."""
        source = self._producers.get(node.input[0])
        return source is not None and self._clip_after(source) is node

    def _clip_after(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        if not self._is_product(node) or node.output[0] in self._outputs:
            return None
        readers = self._consumers.get(node.output[0], [])
        if len(readers) != 1 or readers[0].op_type not in CLIPS:
            return None
        return readers[0] if self.settings.takes(readers[0]) else None

    def _is_product(self, node: onnx.NodeProto) -> bool:
        return (
            node.op_type in PRODUCTS
            and self.settings.takes(node)
            and self._can_mark(node.input[0])
            and (self._constant(node.input[1]) is not None or node.op_type == "MatMul")
        )

    def _product(self, number: int, node: onnx.NodeProto) -> None:
        weights = self._constant(node.input[1])
        if not self._is_product(node):
            return
        if weights is None:
            only = self.settings.options.get("MatMulConstBOnly", False)
            if only or not self._can_mark(node.input[1]):
                return
            self._mark(node.input[1])
        self._mark(node.input[0])
        if weights is not None:
            axis = self._channel_axis(node, weights)
            scale = self._quantize_weight(number, node.input[1], axis)
            bias = node.input[2] if len(node.input) > 2 else ""
            plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
            if bias and self._constant(bias) is not None and plain:
                self._quantize_bias(number, bias, self.parameters[node.input[0]], scale)
        if self._clip_after(node) is None:
            self._mark_result(node)

    def _mark_result(self, node: onnx.NodeProto) -> None:
        if node.op_type not in self.settings.options.get("OpTypesToExcludeOutputQuantization", ()):
            for name in node.output:
                self._mark(name)

    def _channel_axis(self, node: onnx.NodeProto, weights: Any) -> int | None:
        if not self.settings.per_channel:
            return None
        if node.op_type == "Conv":
            return 0
        if node.op_type == "ConvTranspose":  # the groups' channels lie beside each other
            return 1 if attribute(node, "group", 1) == 1 else None
        if node.op_type == "Gemm":
            return 0 if attribute(node, "transB", 0) else 1
        return 1 if weights.ndim == 2 else None

    def _same_values(self, number: int, node: onnx.NodeProto) -> None:
        force = self.settings.options.get("ForceQuantizeNoInputCheck", False)
        source = node.input[0]
        if self._constant(source) is not None:
            if node.op_type == "Gather" and self._can_mark(node.output[0]):
                self._quantize_weight(number, source, None, self.settings.activation_type)
                self._mark_result(node)
            return
        if force:
            self._mark(source)
        if source in self.parameters:
            for name in node.output:
                if name and self._types.get(name) in FLOATS:
                    self.parameters[name] = self.parameters[source]

    def _operands(self, number: int, node: onnx.NodeProto) -> None:
        inputs = [name for name in node.input if self._types.get(name) in FLOATS]
        variable = [name for name in inputs if self._constant(name) is None]
        if not variable or not all(self._can_mark(name) for name in (*variable, node.output[0])):
            return
        for name in inputs:
            if name in variable:
                self._mark(name)
            elif node.op_type in (*POINTWISE[:4], "Concat", "Where"):
                self._quantize_weight(number, name, None, self.settings.activation_type)
        self._mark_result(node)

    def _constant(self, name: str) -> Any:
        return self.model.array(name) if self._types.get(name) in FLOATS else None

    def _can_mark(self, name: str) -> bool:
        if name in self.parameters:
            return True
        return self._types.get(name) in FLOATS and (name in self.ranges or name in self._overrides)

    def _mark(self, name: str) -> None:
        """Quantize a tensor, if its range is known."""
        if name in self.parameters or not self._can_mark(name) or name in self.model.initializers:
            return
        given = dict((self._overrides.get(name) or [{}])[0])
        qtype = given.get("quant_type", self.settings.activation_type)
        symmetric = given.get("symmetric", self.settings.activation_symmetric)
        if "scale" in given:
            scale = np.asarray(given["scale"], np.float32)
            zero = np.asarray(given["zero_point"]).astype(qtype.dtype)
        else:
            low, high = self.ranges[name].range_value if name in self.ranges else (0.0, 0.0)
            low, high = given.get("rmin", np.min(low)), given.get("rmax", np.max(high))
            scale, zero = compute_scale_zp(low, high, qtype, symmetric)
        self.parameters[name] = self._parameters(name, scale, zero, qtype, name)

    def _parameters(
        self, stem: str, scale: Any, zero: Any, qtype: QuantType, of: str
    ) -> Parameters:
        dtype = np.float16 if self._types.get(of) == FLOATS[1] else np.float32
        return Parameters(
            self.model.add(f"{stem}_scale", np.asarray(scale, dtype)),
            self.model.add(f"{stem}_zero_point", np.asarray(zero), qtype.tensor_type),
            scale,
            qtype,
        )

    # --- weights and biases

    def _quantize_weight(
        self, number: int, name: str, axis: int | None, qtype: QuantType | None = None
    ) -> Any:
        """Let a node read the dequantized weight; returns its scale."""
        settings = self.settings
        if (name, axis) not in self._weights:
            array = self.model.array(name)
            assert array is not None
            as_weight = qtype is None
            qtype = qtype or settings.weight_type
            symmetric = settings.weight_symmetric if as_weight else settings.activation_symmetric
            reduce = settings.reduce_range and as_weight
            integers, scale, zero = quantize_weight(array, qtype, axis, symmetric, reduce)
            made = self._parameters(name, scale, zero, qtype, name)
            if settings.options.get("AddQDQPairToWeight", False):
                output = f"{name}_QuantizeLinear_Output"
                stored = self._pair_node("QuantizeLinear", name, made, output, axis)
                self._before[number].append(stored)
                source = stored.output[0]
            else:
                source = self.model.add(f"{name}_quantized", integers, qtype.tensor_type)
            output = f"{name}_DequantizeLinear_Output"
            node = self._pair_node("DequantizeLinear", source, made, output, axis)
            self._before[number].append(node)
            self._weights[name, axis] = (node.output[0], scale)
        self._replaced[number][name], scale = self._weights[name, axis]
        return scale

    def _quantize_bias(self, number: int, name: str, x: Parameters, weight_scale: Any) -> None:
        """Let a node read a bias in steps of the product of its operands' scales.

        One that is too great for 32 bits in such steps, as those of 16-bit types are, stays real.
        """
        array = self.model.array(name)
        assert array is not None
        if x.qtype.is_float or np.size(weight_scale) not in (1, array.size) or array.ndim > 1:
            return
        scale = np.asarray(x.scale_value * weight_scale, np.float32)
        steps = np.rint(array.astype(np.float64) / scale.astype(np.float64))
        if array.size and np.abs(steps).max() > np.iinfo(np.int32).max:
            return
        integers = steps.astype(np.int32)
        per_channel = scale.ndim == 1
        dtype = np.float16 if self._types.get(name) == FLOATS[1] else np.float32
        scale_name = self.model.add(f"{name}_quantized_scale", scale.astype(dtype))
        zeros = np.zeros(scale.shape, np.int32)
        inputs = [
            self.model.add(f"{name}_quantized", integers),
            scale_name,
            self.model.add(f"{name}_quantized_zero_point", zeros),
        ]
        output = self.model.unique(f"{name}_DequantizeLinear_Output")
        more = {"axis": 0} if per_channel else {}
        node = helper.make_node(
            "DequantizeLinear", inputs, [output], name=self.model.unique(f"{output}_node"), **more
        )
        self._before[number].append(node)
        self._replaced[number][name] = output

    def _pair_node(
        self, op_type: str, source: str, made: Parameters, output: str, axis: int | None = None
    ) -> onnx.NodeProto:
        name = self.model.unique(f"{output}_{op_type}")
        more = {} if axis is None else {"axis": axis}
        target = output if output in self._outputs else self.model.unique(output)
        inputs = [source, made.scale, made.zero_point]
        return helper.make_node(op_type, inputs, [target], name=name, **more)

    # --- the graph

    def _write(self, nodes: list[onnx.NodeProto]) -> None:
        """All nodes again, with a pair after each quantized tensor."""
        written: list[onnx.NodeProto] = []
        renamed: dict[str, str] = {}

        def pair(name: str, source: str) -> None:
            made = self.parameters[name]
            is_given = name == source  # an input that is an output stays what it is
            is_output = name in self._outputs and not is_given
            target = name if is_output else f"{name}_DequantizeLinear_Output"
            output = f"{name}_QuantizeLinear_Output"
            quantize = self._pair_node("QuantizeLinear", source, made, output)
            restore = self._pair_node("DequantizeLinear", quantize.output[0], made, target)
            renamed[name] = restore.output[0]
            written.extend((quantize, restore))

        for value in self.model.graph.input:
            if value.name in self.parameters:
                pair(value.name, value.name)
        for node, before, replaced in zip(nodes, self._before, self._replaced):
            written += before
            for i, name in enumerate(node.input):
                node.input[i] = replaced.get(name) or renamed.get(name, name)
            written.append(node)
            for i, name in enumerate(node.output):
                if name not in self.parameters:
                    continue
                source = name
                if name in self._outputs:
                    source = node.output[i] = self.model.unique(f"{name}_QuantizeLinear_Input")
                pair(name, source)
        self.model.set_nodes(written)
