# SPDX-License-Identifier: Apache-2.0
"""Weights of MatMul in the 4-bit floating-point types FP4 and NF4: com.microsoft's MatMulBnb4."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper

from bascule.block_quantization import quantize_matmul_bnb4
from bascule.quantization.onnx_model import ONNXModel, Source, load


class MatMulBnb4Quantizer:
    """Quantizes constant weights of a model's main graph; see process.

    Args:
        model: a file, or a ModelProto.
        quant_type: FP4 or NF4.
        block_size: values that share a scale.
        nodes_to_exclude: names.

    Raises:
        ValueError: `quant_type` is neither.
    """

    FP4 = 0
    """A floating-point type of 4 bits."""
    NF4 = 1
    """16 quantiles of the normal distribution (T. Dettmers et al., QLoRA, 2023)."""

    def __init__(
        self,
        model: Source,
        quant_type: int,
        block_size: int,
        nodes_to_exclude: Collection[str] | None = None,
    ) -> None:
        if quant_type not in (self.FP4, self.NF4):
            raise ValueError(f"quant_type is {quant_type}, expected FP4 (0) or NF4 (1)")
        self.model = ONNXModel(load(model))
        self.quant_type = quant_type
        self.block_size = block_size
        self.nodes_to_exclude = set(nodes_to_exclude or ())

    def process(self) -> None:
        """Quantize; the attribute ``model`` has the result, with save_model_to_file."""
        nodes = [self._rewritten(node) for node in self.model.graph.node]
        self.model.set_nodes(nodes)
        self.model.remove_unused()
        self.model.import_domain("com.microsoft")

    def _rewritten(self, node: onnx.NodeProto) -> onnx.NodeProto:
        weights = self.model.array(node.input[1]) if node.op_type == "MatMul" else None
        if weights is None or weights.ndim != 2 or node.name in self.nodes_to_exclude:
            return node
        if weights.dtype not in (np.float32, np.float16):
            return node
        rows, columns = weights.shape
        packed = np.zeros(-(-weights.size // 2), np.uint8)
        largest = np.zeros(-(-weights.size // self.block_size), weights.dtype)
        turned = np.ascontiguousarray(weights.T)
        quantize_matmul_bnb4(
            *(packed, turned, largest, self.block_size, self.quant_type, columns, rows)
        )
        name = node.input[1]
        inputs = [
            node.input[0],
            self.model.add(f"{name}_Bnb4", packed),
            self.model.add(f"{name}_absmax", largest),
        ]
        return helper.make_node(
            "MatMulBnb4",
            inputs,
            list(node.output),
            name=f"{node.name}_Bnb4" if node.name else "",
            domain="com.microsoft",
            K=rows,
            N=columns,
            block_size=self.block_size,
            quant_type=self.quant_type,
        )
