# SPDX-License-Identifier: Apache-2.0
"""Weights of MatMul and tables of Gather in 2, 4 or 8 bits, a scale for each block of values.

Rounding is to the nearest. A MatMul becomes com.microsoft's MatMulNBits, or, in the QDQ format, a
MatMul of DequantizeLinear; a Gather becomes GatherBlockQuantized.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bascule.block_quantization import quantize_blocks, quantize_matmul_nbits
from bascule.quantization.onnx_model import ONNXModel, Source, attribute, load
from bascule.quantization.quant_utils import QuantFormat, QuantType

_MICROSOFT = "com.microsoft"
_AXES = (("MatMul", 0), ("Gather", 1))


class WeightOnlyQuantConfig:
    """How weights are quantized; see the classes below."""

    def __init__(
        self,
        algorithm: str,
        quant_format: QuantFormat,
        op_types_to_quantize: Collection[str] | None = None,
        quant_axes: Sequence[tuple[str, int]] | None = None,
        customized_weight_config: dict[str, Any] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.quant_format = quant_format
        self.op_types_to_quantize = set(op_types_to_quantize or ("MatMul",))
        self.quant_axes = dict(quant_axes or _AXES)
        self.customized_weight_config = customized_weight_config or {}


class DefaultWeightOnlyQuantConfig(WeightOnlyQuantConfig):
    """Round to the nearest, in blocks.

    Args:
        block_size: values in a block; of 16, 32, 64, 128 and 256 all runtimes have kernels.
        is_symmetric: let zero be in the middle; else zero points are stored.
        accuracy_level: attribute of MatMulNBits: 4 lets activations be 8-bit integers, 0 to 3 do
            not.
        quant_format: QOperator or QDQ.
        op_types_to_quantize: MatMul, Gather, or both.
        quant_axes: along which axis blocks lie: 0 for MatMul, 1 for Gather.
        bits: 2, 4 or 8.
        channel_wised_quantize: one block for each column; in the QDQ format.
        customized_weight_config: by node names, ``{"bits": ..., "group_size": ...}``.

    Raises:
        ValueError: there are no weights of so many bits.
        NotImplementedError: `channel_wised_quantize` is asked of QOperator.
    """

    def __init__(
        self,
        block_size: int = 128,
        is_symmetric: bool = False,
        accuracy_level: int | None = None,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
        quant_axes: Sequence[tuple[str, int]] | None = None,
        bits: int = 4,
        channel_wised_quantize: bool = False,
        customized_weight_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            *("DEFAULT", quant_format, op_types_to_quantize, quant_axes, customized_weight_config)
        )
        if bits not in (2, 4, 8):
            raise ValueError(f"weights have 2, 4 or 8 bits, not {bits}")
        if channel_wised_quantize and quant_format is QuantFormat.QOperator:
            raise NotImplementedError("one block a column needs QuantFormat.QDQ")
        self.block_size = block_size
        self.is_symmetric = is_symmetric
        self.accuracy_level = accuracy_level
        self.bits = bits
        self.channel_wised_quantize = channel_wised_quantize


class RTNWeightOnlyQuantConfig(DefaultWeightOnlyQuantConfig):
    """Round to the nearest in symmetric blocks of 32 weights of 4 bits.

    Args:
        ratios: shares to clip; must be empty.
        quant_format: QOperator or QDQ.
        op_types_to_quantize: MatMul, Gather, or both; by default MatMul.
        customized_weight_config: by node names, ``{"bits": ..., "group_size": ...}``.

    Raises:
        NotImplementedError: there are `ratios`.
    """

    def __init__(
        self,
        ratios: dict[str, float] | None = None,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
        customized_weight_config: dict[str, Any] | None = None,
    ) -> None:
        if ratios:
            raise NotImplementedError("clipping ratios of weights are not supported")
        super().__init__(
            block_size=32,
            is_symmetric=True,
            quant_format=quant_format,
            op_types_to_quantize=op_types_to_quantize,
            customized_weight_config=customized_weight_config,
        )
        self.algorithm = "RTN"


class _LeftOut(WeightOnlyQuantConfig):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f"{type(self).__name__}: weights are only rounded to the nearest here; use "
            "DefaultWeightOnlyQuantConfig"
        )


class GPTQWeightOnlyQuantConfig(_LeftOut):
    """Not supported: raises NotImplementedError."""


class HQQWeightOnlyQuantConfig(_LeftOut):
    """Not supported: raises NotImplementedError."""


class KQuantWeightOnlyQuantConfig(_LeftOut):
    """Not supported: raises NotImplementedError."""


class NVAWQWeightOnlyQuantConfig(_LeftOut):
    """Not supported: raises NotImplementedError."""


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
        algo_config: a DefaultWeightOnlyQuantConfig in place of the arguments above.

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
        algo_config: DefaultWeightOnlyQuantConfig | None = None,
    ) -> None:
        self.model = ONNXModel(load(model))
        self.algo_config = algo_config or DefaultWeightOnlyQuantConfig(
            block_size,
            is_symmetric,
            accuracy_level,
            quant_format,
            op_types_to_quantize,
            quant_axes,
            bits,
            channel_wised_quantize,
        )
        self.nodes_to_exclude = set(nodes_to_exclude or ())
        self.nodes_to_include = set(nodes_to_include or ())

    def process(self) -> None:
        """Quantize; the attribute ``model`` has the result, with save_model_to_file."""
        config = self.algo_config
        if config.quant_format is QuantFormat.QDQ:
            # 21 is the first with blocks.
            self.model.raise_opset(max(21, _integers(config.bits, config.is_symmetric).opset))
        nodes: list[onnx.NodeProto] = []
        for node in self.model.graph.node:
            nodes += self._rewritten(node) or [node]
        self.model.set_nodes(nodes)
        self.model.remove_unused()
        if any(node.domain == _MICROSOFT for node in nodes):
            self.model.import_domain(_MICROSOFT)

    def _rewritten(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        config = self.algo_config
        if node.op_type not in config.op_types_to_quantize or node.domain not in ("", "ai.onnx"):
            return None
        if node.name in self.nodes_to_exclude:
            return None
        if self.nodes_to_include and node.name not in self.nodes_to_include:
            return None
        if node.op_type == "Gather":
            return self._gather(node)
        weights = self.model.array(node.input[1]) if node.op_type == "MatMul" else None
        if weights is None or weights.ndim != 2 or weights.dtype not in (np.float32, np.float16):
            return None
        special = config.customized_weight_config.get(node.name, {})
        bits = int(special.get("bits", config.bits))
        block_size = int(special.get("group_size", special.get("block_size", config.block_size)))
        if config.quant_format is QuantFormat.QDQ:
            return self._dequantized(node, weights, bits, block_size)
        return self._matmul(node, weights, bits, block_size)

    def _matmul(
        self, node: onnx.NodeProto, weights: Any, bits: int, block_size: int
    ) -> list[onnx.NodeProto]:
        config = self.algo_config
        rows, columns = weights.shape
        blocks = -(-rows // block_size)
        packed = np.zeros((columns, blocks, block_size * bits // 8), np.uint8)
        scales = np.zeros((columns, blocks), weights.dtype)
        zeros = np.zeros((columns, -(-blocks * bits // 8)), np.uint8)
        quantize_matmul_nbits(
            *(packed, weights, scales, zeros, block_size, columns, rows, config.is_symmetric, bits)
        )
        name = node.input[1]
        inputs = [
            node.input[0],
            self.model.add(f"{name}_Q{bits}", packed),
            self.model.add(f"{name}_scales", scales),
        ]
        if not config.is_symmetric:
            inputs.append(self.model.add(f"{name}_zero_points", zeros))
        more = {"K": rows, "N": columns, "bits": bits, "block_size": block_size}
        if config.accuracy_level:
            more["accuracy_level"] = config.accuracy_level
        return [self._node(node, "MatMulNBits", inputs, more, f"Q{bits}")]

    def _dequantized(
        self, node: onnx.NodeProto, weights: Any, bits: int, block_size: int
    ) -> list[onnx.NodeProto]:
        config = self.algo_config
        rows, columns = weights.shape
        size = rows if config.channel_wised_quantize else block_size
        integers, scales, zeros = quantize_blocks(weights, size, bits, config.is_symmetric)
        flat = integers.reshape(-1, columns)[:rows].astype(np.int32)
        qtype = _integers(bits, config.is_symmetric)
        middle = (1 << (bits - 1)) if config.is_symmetric else 0
        name = node.input[1]
        stored = (flat - middle).astype(qtype.dtype)
        inputs = [
            self.model.add(f"{name}_DQ_Q{bits}", stored, qtype.tensor_type),
            self.model.add(f"{name}_DQ_scales", scales),
        ]
        if not config.is_symmetric:
            points = zeros.astype(qtype.dtype)
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
        bits = 8 if config.bits == 8 else 4  # no other kernels
        found = quantize_blocks(flat, config.block_size, bits, config.is_symmetric)
        integers, scales, zeros = found
        back = integers.reshape(-1, flat.shape[1])[: len(moved)].astype(np.int32)
        # In 8 bits values are unsigned, and 128 is their zero where none is given.
        signed = config.is_symmetric and bits == 4
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
        if not config.is_symmetric:
            points = restored(zeros).astype(qtype.dtype)
            inputs.append(self.model.add(f"{name}_zero_points", points, qtype.tensor_type))
        more = {
            "gather_axis": attribute(node, "axis", 0),
            "quantize_axis": axis,
            "block_size": config.block_size,
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
