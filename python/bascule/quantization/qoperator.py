# SPDX-License-Identifier: Apache-2.0
"""From QuantizeLinear and DequantizeLinear around operators to operators on integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bascule.quantization.onnx_model import ONNXModel, attribute
from bascule.quantization.qdq import CLIPS, SAME_VALUES

_MICROSOFT = "com.microsoft"
_ONE_INPUT = {
    "Sigmoid": "QLinearSigmoid",
    "LeakyRelu": "QLinearLeakyRelu",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
    "AveragePool": "QLinearAveragePool",
    "Softmax": "QLinearSoftmax",
}
_TWO_INPUTS = {"Add": "QLinearAdd", "Mul": "QLinearMul"}
Operands = list[str]
"""(integers, scale, zero point)."""


def to_integer_operators(model: ONNXModel) -> None:
    """Let each operator between dequantized inputs and a quantized output be one on integers."""
    found = {name: node for node in model.graph.node for name in node.output}
    rewritten = _Rewriter(model, found)
    rewritten.run()


class _Rewriter:
    def __init__(self, model: ONNXModel, producers: dict[str, onnx.NodeProto]) -> None:
        self.model = model
        self.producers = producers
        self.consumers = model.consumers()
        self.outputs = {value.name for value in model.graph.output}
        self.rewrites: dict[str, Callable[..., onnx.NodeProto | None]] = {
            "Conv": self._conv,
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Concat": self._concat,
            **dict.fromkeys(_ONE_INPUT, self._one_input),
            **dict.fromkeys(_TWO_INPUTS, self._two_inputs),
            **dict.fromkeys(SAME_VALUES, self._same_values),
        }

    def run(self) -> None:
        """Rewrite the graph in place."""
        gone: set[int] = set()
        made: dict[int, onnx.NodeProto] = {}
        for node in self.model.graph.node:
            rewrite = self.rewrites.get(node.op_type)
            end = self._end(node) if rewrite is not None else None
            if rewrite is None or end is None:
                continue
            quantize, between = end
            target = [*quantize.input[1:3], quantize.output[0]]
            new = rewrite(node, target)
            if new is not None:
                if new.domain == _MICROSOFT:
                    self.model.import_domain(_MICROSOFT)
                # It stands where the quantization stood, after all of its inputs.
                made[id(quantize)] = new
                gone |= {id(node), *(id(each) for each in between)}
        kept = [made.get(id(n), n) for n in self.model.graph.node if id(n) not in gone]
        self.model.set_nodes(kept)
        self._drop_dead()
        self.model.remove_unused()

    def _end(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, list[onnx.NodeProto]] | None:
        """The quantization of a node's result, and what is in between and changes nothing."""
        reader = self._only_reader(node)
        if reader is None:
            return None
        if reader.op_type in CLIPS:
            quantize = self._only_reader(reader)
            if quantize is None or not self._does_nothing(reader, quantize):
                return None
            return quantize, [reader]
        return (reader, []) if reader.op_type == "QuantizeLinear" else None

    def _only_reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        readers = self.consumers.get(node.output[0], [])
        alone = len(readers) == 1 and len(node.output) == 1
        return readers[0] if alone and node.output[0] not in self.outputs else None

    def _does_nothing(self, clip: onnx.NodeProto, quantize: onnx.NodeProto) -> bool:
        """Whether a Relu is what the quantization after it does anyway: clip below zero."""
        if clip.op_type != "Relu" or quantize.op_type != "QuantizeLinear":
            return False
        zero = self.model.array(quantize.input[2])
        if zero is None or zero.dtype not in (np.int8, np.uint8):
            return False
        return bool((zero == np.iinfo(zero.dtype).min).all())

    def _drop_dead(self) -> None:
        while True:
            used = self.outputs | set(self.model.consumers())
            kept = [
                node
                for node in self.model.graph.node
                if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
                or used & set(node.output)
            ]
            if len(kept) == len(self.model.graph.node):
                return
            self.model.set_nodes(kept)

    def _operand(self, name: str) -> Operands | None:
        """What a name is dequantized from."""
        node = self.producers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        return list(node.input)

    def _operands(self, names: list[str]) -> list[str] | None:
        found = [self._operand(name) for name in names]
        if any(each is None for each in found):
            return None
        return [part for each in found if each is not None for part in each]

    def _make(
        self,
        op_type: str,
        node: onnx.NodeProto,
        inputs: list[str],
        output: str,
        domain: str = "",
        attributes: Any = None,
    ) -> onnx.NodeProto:
        made = helper.make_node(op_type, inputs, [output], name=node.name, domain=domain)
        made.attribute.extend(node.attribute if attributes is None else attributes)
        return made

    def _conv(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operands = self._operands(list(node.input[:2]))
        if operands is None:
            return None
        inputs = [*operands, *target[:2]]
        if len(node.input) > 2 and node.input[2]:
            bias = self._operand(node.input[2])
            if bias is None:
                return None
            inputs.append(bias[0])
        return self._make("QLinearConv", node, inputs, target[2])

    def _matmul(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operands = self._operands(list(node.input))
        if operands is None:
            return None
        return self._make("QLinearMatMul", node, [*operands, *target[:2]], target[2])

    def _gemm(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operands = self._operands(list(node.input[:2]))
        if operands is None or attribute(node, "beta", 1.0) != 1.0:
            return None
        bias = ""
        if len(node.input) > 2 and node.input[2]:
            found = self._operand(node.input[2])
            if found is None:
                return None
            bias = found[0]
        inputs = [*operands, bias, *target[:2]]
        kept = [each for each in node.attribute if each.name != "beta"]
        return self._make("QGemm", node, inputs, target[2], _MICROSOFT, kept)

    def _one_input(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operand = self._operand(node.input[0])
        if operand is None or attribute(node, "dilations") is not None:
            return None
        made = self._make(
            *(_ONE_INPUT[node.op_type], node, [*operand, *target[:2]], target[2], _MICROSOFT)
        )
        if node.op_type == "Softmax":
            made.attribute.append(helper.make_attribute("opset", self.model.opset()))
        return made

    def _two_inputs(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operands = self._operands(list(node.input))
        if operands is None:
            return None
        op_type = _TWO_INPUTS[node.op_type]
        return self._make(op_type, node, [*operands, *target[:2]], target[2], _MICROSOFT)

    def _concat(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operands = self._operands(list(node.input))
        if operands is None:
            return None
        return self._make(
            "QLinearConcat", node, [*target[:2], *operands], target[2], domain=_MICROSOFT
        )

    def _same_values(self, node: onnx.NodeProto, target: Operands) -> onnx.NodeProto | None:
        operand = self._operand(node.input[0])
        if operand is None or operand[1:] != target[:2] or node.op_type in ("Resize", "Pad"):
            return None
        return self._make(node.op_type, node, [operand[0], *node.input[1:]], target[2])
