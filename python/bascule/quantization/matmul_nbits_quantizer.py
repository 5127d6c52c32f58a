# SPDX-License-Identifier: Apache-2.0
"""Weights of MatMul and tables of Gather in 2, 4 or 8 bits, a scale for each block of values.

How weights are rounded is told by a configuration. A MatMul becomes com.microsoft's MatMulNBits,
or, in the QDQ format, a MatMul of DequantizeLinear; a Gather becomes GatherBlockQuantized.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bascule.block_quantization import pack, quantize_blocks
from bascule.quantization.matmul_nbits_configs import (
    DefaultWeightOnlyQuantConfig,
    GPTQWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    KQuantWeightOnlyQuantConfig,
    NVAWQWeightOnlyQuantConfig,
    RTNWeightOnlyQuantConfig,
    WeightOnlyQuantConfig,
)
from bascule.quantization.onnx_model import ONNXModel, Source, attribute, load
from bascule.quantization.quant_utils import QuantFormat, QuantType
from bascule.quantization.weight_inputs import input_statistics
from bascule.quantization.weight_rounding import (
    Blocks,
    InputStatistics,
    gptq,
    hqq,
    k_quant,
    round_to_nearest,
    row_scales,
)

_MICROSOFT = "com.microsoft"


class MatMulNBitsQuantizer:
    """Quantizes constant weights of a model's main graph; see process.

    Args:
        model: a file, or a ModelProto.
        bits: 2, 4 or 8.
        block_size: values in a block, 16 to 256.
        is_symmetric: let zero be in the middle; else zero points are stored.
        accuracy_level: attribute of MatMulNBits: 4 lets activations be 8-bit integers.
        nodes_to_exclude: no nodes of these names.
        nodes_to_include: only nodes of these names.
        quant_format: QOperator (com.microsoft's MatMulNBits) or QDQ (DequantizeLinear).
        op_types_to_quantize: MatMul, Gather, or both; by default MatMul.
        quant_axes: along which axis blocks lie: 0 for MatMul, 1 for Gather.
        channel_wised_quantize: one block for each column; in the QDQ format.
        algo_config: how weights are rounded. Of a DefaultWeightOnlyQuantConfig all holds, in place
            of the arguments above; of another one the format and the operators, and its block
            size and bits if it has any.

    Raises:
        ValueError, NotImplementedError: as DefaultWeightOnlyQuantConfig.
    """

    def __init__(
        self,
        model: Source,
        bits: int = 4,
        block_size: int = 128,
        is_symmetric: bool = False,
        accuracy_level: int | None = None,
        nodes_to_exclude: Collection[str] | None = None,
        nodes_to_include: Collection[str] | None = None,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
        quant_axes: Sequence[tuple[str, int]] | None = None,
        channel_wised_quantize: bool = False,
        algo_config: WeightOnlyQuantConfig | None = None,
    ) -> None:
        self.model = ONNXModel(load(model))
        given = DefaultWeightOnlyQuantConfig(
            block_size,
            is_symmetric,
            accuracy_level,
            quant_format,
            op_types_to_quantize,
            quant_axes,
            bits,
            channel_wised_quantize,
        )
        self.algo_config: WeightOnlyQuantConfig = algo_config or given
        if isinstance(algo_config, DefaultWeightOnlyQuantConfig):
            given = algo_config
        self.bits = given.bits
        self.block_size = given.block_size
        self.is_symmetric = given.is_symmetric
        self.accuracy_level = given.accuracy_level
        self._is_whole = given.channel_wised_quantize
        if isinstance(algo_config, HQQWeightOnlyQuantConfig):
            self.bits, self.block_size = algo_config.bits, algo_config.block_size
        if isinstance(algo_config, (HQQWeightOnlyQuantConfig, KQuantWeightOnlyQuantConfig)):
            self.is_symmetric = False
        self.nodes_to_exclude = set(nodes_to_exclude or ())
        self.nodes_to_include = set(nodes_to_include or ())
        self._inputs: dict[str, InputStatistics] = {}
        self._factors: dict[str, Any] = {}

    def process(self) -> None:
        """Quantize; the attribute ``model`` has the result, with save_model_to_file.

        Raises:
            ValueError: the configuration needs inputs of the model, and has none.
        """
        self._look_at_inputs()
        if self.algo_config.quant_format is QuantFormat.QDQ:
            # 21 is the first with blocks.
            self.model.raise_opset(max(21, _integers(self.bits, self.is_symmetric).opset))
        nodes: list[onnx.NodeProto] = []
        scaled: dict[str, str] = {}
        for node in self.model.graph.node:
            made = self._rewritten(node)
            factors = (
                self._factors.get(node.input[0]) if made and node.op_type == "MatMul" else None
            )
            if made and factors is not None:
                name = node.input[0]
                if name not in scaled:
                    scaled[name] = self.model.unique(f"{name}_scaled")
                    inverse = self.model.add(f"{name}_row_scales", 1 / factors)
                    nodes.append(helper.make_node("Mul", [name, inverse], [scaled[name]]))
                made[-1].input[0] = scaled[name]
            nodes += made or [node]
        self.model.set_nodes(nodes)
        self.model.remove_unused()
        if any(node.domain == _MICROSOFT for node in nodes):
            self.model.import_domain(_MICROSOFT)

    def _look_at_inputs(self) -> None:
        """Run the model, if how its weights are rounded depends on what they are multiplied by."""
        config = self.algo_config
        if not isinstance(config, (GPTQWeightOnlyQuantConfig, NVAWQWeightOnlyQuantConfig)):
            return
        if config.calibration_data_reader is None:
            raise ValueError(f"{type(config).__name__} needs a calibration_data_reader")
        products: dict[str, list[Any]] = {}
        for node in self.model.graph.node:
            weights = self._weights(node)
            if weights is not None:
                products.setdefault(node.input[0], []).append(weights)
        if not products:
            return
        reader = config.calibration_data_reader
        self._inputs = input_statistics(self.model.model, products, reader)
        if not isinstance(config, NVAWQWeightOnlyQuantConfig):
            return
        for name, found in self._inputs.items():
            each = products[name]
            factors = row_scales(each, found, self.block_size, self.bits, self.is_symmetric)
            if factors is not None:
                self._factors[name] = factors.astype(each[0].dtype)

    def _is_chosen(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in self.algo_config.op_types_to_quantize:
            return False
        if node.domain not in ("", "ai.onnx") or node.name in self.nodes_to_exclude:
            return False
        return not self.nodes_to_include or node.name in self.nodes_to_include

    def _weights(self, node: onnx.NodeProto) -> Any:
        """The constant [K, N] of a MatMul that is to be quantized, or None."""
        if node.op_type != "MatMul" or not self._is_chosen(node):
            return None
        weights = self.model.array(node.input[1])
        if weights is None or weights.ndim != 2 or weights.dtype not in (np.float32, np.float16):
            return None
        return weights

    def _rewritten(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type == "Gather":
            return self._gather(node) if self._is_chosen(node) else None
        weights = self._weights(node)
        if weights is None:
            return None
        special = self.algo_config.customized_weight_config.get(node.name, {})
        bits = int(special.get("bits", self.bits))
        block_size = int(special.get("group_size", special.get("block_size", self.block_size)))
        if self.algo_config.quant_format is QuantFormat.QDQ:
            return self._dequantized(node, weights, bits, block_size)
        return self._matmul(node, weights, bits, block_size)

    def _blocks(self, node: onnx.NodeProto, weights: Any, bits: int, size: int) -> Blocks:
        """The weights of a node, rounded as the configuration says."""
        config = self.algo_config
        inputs = self._inputs.get(node.input[0])
        if isinstance(config, HQQWeightOnlyQuantConfig):
            return hqq(weights, size, bits)
        if isinstance(config, GPTQWeightOnlyQuantConfig) and inputs is not None:
            return gptq(
                *(weights, inputs, size, bits, self.is_symmetric),
                damping=config.percdamp,
                panel=config.panel,
                by_importance=config.actorder,
                search=config.mse,
                per_column=config.perchannel,
            )
        if node.input[0] in self._factors:
            factors = self._factors[node.input[0]].astype(np.float32)[:, None]
            weights = (weights.astype(np.float32) * factors).astype(weights.dtype)
        ratio = 1.0
        if isinstance(config, RTNWeightOnlyQuantConfig):
            ratio = float(config.ratios.get(node.input[1], 1))
        if isinstance(config, KQuantWeightOnlyQuantConfig):
            return k_quant(weights, size, bits)
        return round_to_nearest(weights, size, bits, self.is_symmetric, ratio)

    def _matmul(
        self, node: onnx.NodeProto, weights: Any, bits: int, block_size: int
    ) -> list[onnx.NodeProto]:
        rows, columns = weights.shape
        found = self._blocks(node, weights, bits, block_size)
        name = node.input[1]
        inputs = [
            node.input[0],
            self.model.add(f"{name}_Q{bits}", pack(found.integers.transpose(2, 0, 1), bits)),
            self.model.add(f"{name}_scales", np.ascontiguousarray(found.scales.T)),
        ]
        if not self.is_symmetric:
            zeros = np.ascontiguousarray(found.zeros.T)
            if zeros.dtype == np.uint8:
                zeros = pack(zeros, bits, 1 << (bits - 1))
            inputs.append(self.model.add(f"{name}_zero_points", zeros))
        more = {"K": rows, "N": columns, "bits": bits, "block_size": block_size}
        if self.accuracy_level:
            more["accuracy_level"] = self.accuracy_level
        return [self._node(node, "MatMulNBits", inputs, more, f"Q{bits}")]

    def _dequantized(
        self, node: onnx.NodeProto, weights: Any, bits: int, block_size: int
    ) -> list[onnx.NodeProto]:
        rows, columns = weights.shape
        size = rows if self._is_whole else block_size
        found = self._blocks(node, weights, bits, size)
        if found.zeros.dtype != np.uint8:  # DequantizeLinear has integers
            found = found.with_whole_zeros(weights, bits)
        flat = found.integers.reshape(-1, columns)[:rows].astype(np.int32)
        qtype = _integers(bits, self.is_symmetric)
        middle = (1 << (bits - 1)) if self.is_symmetric else 0
        name = node.input[1]
        stored = (flat - middle).astype(qtype.dtype)
        inputs = [
            self.model.add(f"{name}_DQ_Q{bits}", stored, qtype.tensor_type),
            self.model.add(f"{name}_DQ_scales", found.scales),
        ]
        if not self.is_symmetric:
            points = found.zeros.astype(qtype.dtype)
            inputs.append(self.model.add(f"{name}_DQ_zero_points", points, qtype.tensor_type))
        output = self.model.unique(f"{name}_DequantizeLinear_Output")
        restore = helper.make_node(
            *("DequantizeLinear", inputs, [output]),
            name=self.model.unique(f"{node.name}_DQ_Q{bits}"),
            axis=0,
            block_size=size,
        )
        product = onnx.NodeProto()
        product.CopyFrom(node)
        product.input[1] = output
        return [restore, product]

    def _gather(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        config = self.algo_config
        table = self.model.array(node.input[0])
        if table is None or table.dtype not in (np.float32, np.float16):
            return None
        if config.quant_format is QuantFormat.QDQ:
            return None
        axis = config.quant_axes.get("Gather", 1) % table.ndim
        moved = np.moveaxis(table, axis, 0)
        rest = moved.shape[1:]
        flat = np.ascontiguousarray(moved).reshape(len(moved), -1)
        bits = 8 if self.bits == 8 else 4  # no other kernels
        found = quantize_blocks(flat, self.block_size, bits, self.is_symmetric)
        integers, scales, zeros = found
        back = integers.reshape(-1, flat.shape[1])[: len(moved)].astype(np.int32)
        # In 8 bits values are unsigned, and 128 is their zero where none is given.
        signed = self.is_symmetric and bits == 4
        middle = (1 << (bits - 1)) if signed else 0
        qtype = _integers(bits, signed)

        def restored(values: Any) -> Any:
            return np.ascontiguousarray(np.moveaxis(values.reshape(-1, *rest), 0, axis))

        name = node.input[0]
        stored = restored(back - middle).astype(qtype.dtype)
        inputs = [
            self.model.add(f"{name}_Q{bits}", stored, qtype.tensor_type),
            node.input[1],
            self.model.add(f"{name}_scales", restored(scales)),
        ]
        if not self.is_symmetric:
            points = restored(zeros).astype(qtype.dtype)
            inputs.append(self.model.add(f"{name}_zero_points", points, qtype.tensor_type))
        more = {
            "gather_axis": attribute(node, "axis", 0),
            "quantize_axis": axis,
            "block_size": self.block_size,
        }
        if bits != 4:
            more["bits"] = bits
        return [self._node(node, "GatherBlockQuantized", inputs, more, f"Q{bits}")]

    def _node(
        self, node: onnx.NodeProto, op_type: str, inputs: list[str], more: dict[str, int], tag: str
    ) -> onnx.NodeProto:
        name = f"{node.name}_{tag}" if node.name else ""
        outputs = list(node.output)
        return helper.make_node(op_type, inputs, outputs, name=name, domain=_MICROSOFT, **more)


def _integers(bits: int, signed: bool) -> QuantType:
    return QuantType[f"Q{'' if signed else 'U'}Int{bits}"]


__all__ = [
    "DefaultWeightOnlyQuantConfig",
    "GPTQWeightOnlyQuantConfig",
    "HQQWeightOnlyQuantConfig",
    "KQuantWeightOnlyQuantConfig",
    "MatMulNBitsQuantizer",
    "NVAWQWeightOnlyQuantConfig",
    "QuantFormat",
    "RTNWeightOnlyQuantConfig",
    "WeightOnlyQuantConfig",
]
