# SPDX-License-Identifier: Apache-2.0
"""How weights of 2, 4 or 8 bits are rounded: the configurations of MatMulNBitsQuantizer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from bascule.quantization.quant_utils import QuantFormat

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


class RTNWeightOnlyQuantConfig(WeightOnlyQuantConfig):
    """Round to the nearest, in 4 bits; block size and symmetry are those of the quantizer.

    Args:
        ratios: shares to clip by the weight's name; a range is multiplied by it.
        quant_format: QOperator or QDQ.
        op_types_to_quantize: MatMul, Gather, or both; by default MatMul.
        customized_weight_config: by node name, ``{"bits": ..., "group_size": ...}``.
    """

    def __init__(
        self,
        ratios: dict[str, float] | None = None,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
        customized_weight_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            "RTN",
            quant_format,
            op_types_to_quantize,
            customized_weight_config=customized_weight_config,
        )
        self.ratios = ratios or {}


class KQuantWeightOnlyQuantConfig(RTNWeightOnlyQuantConfig):
    """Fit scales and zero points to the large weights; see `weight_rounding.k_quant`.

    Blocks are not symmetric. The arguments are those of RTNWeightOnlyQuantConfig; `ratios` have no
    effect, as the fit finds the range.
    """

    def __init__(
        self,
        ratios: dict[str, float] | None = None,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
        customized_weight_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(ratios, quant_format, op_types_to_quantize, customized_weight_config)
        self.algorithm = "k_quant"


class HQQWeightOnlyQuantConfig(WeightOnlyQuantConfig):
    """Fit zero points to most weights, outliers apart; see `weight_rounding.hqq`.

    MatMulNBits gets zero points that are no integers; in the QDQ format they are rounded.

    Args:
        block_size: values in a block.
        bits: 2, 4 or 8.
        axis: 1; a block lies along the rows of weights, as all kernels have it.
        quant_format: QOperator or QDQ.
        op_types_to_quantize: MatMul, Gather, or both; tables are rounded to the nearest.
        quant_axes: along which axis blocks lie: 0 for MatMul, 1 for Gather.

    Raises:
        NotImplementedError: `axis` is not 1.
    """

    def __init__(
        self,
        block_size: int = 128,
        bits: int = 4,
        axis: int = 1,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
        quant_axes: Sequence[tuple[str, int]] | None = None,
    ) -> None:
        super().__init__("HQQ", quant_format, op_types_to_quantize, quant_axes)
        if axis != 1:
            raise NotImplementedError(f"blocks along axis {axis} of transposed weights: only 1 is")
        self.block_size = block_size
        self.bits = bits
        self.axis = axis


class GPTQWeightOnlyQuantConfig(WeightOnlyQuantConfig):
    """Let weights make up for the rounding of others; see `weight_rounding.gptq`.

    Block size and symmetry of the 4-bit weights are those of the quantizer.

    Args:
        calibration_data_reader: gives inputs of the model.
        percdamp: damping, in shares of the mean diagonal of X^T X.
        block_size: rows after which the rest is brought up to date; not that of a scale.
        actorder: round the rows of the largest inputs first.
        mse: try narrower ranges, too.
        perchannel: scales of each column; else those of a block of rows are one.
        quant_format: QOperator or QDQ.
        op_types_to_quantize: MatMul.
    """

    def __init__(
        self,
        calibration_data_reader: Iterable[dict[str, Any]] | None = None,
        percdamp: float = 0.01,
        block_size: int = 128,
        actorder: bool = False,
        mse: bool = False,
        perchannel: bool = True,
        quant_format: QuantFormat = QuantFormat.QOperator,
        op_types_to_quantize: Collection[str] | None = None,
    ) -> None:
        super().__init__("GPTQ", quant_format, op_types_to_quantize)
        self.calibration_data_reader = calibration_data_reader
        self.percdamp = percdamp
        self.panel = block_size
        self.actorder = actorder
        self.mse = mse
        self.perchannel = perchannel


class NVAWQWeightOnlyQuantConfig(WeightOnlyQuantConfig):
    """Scale the rows of weights by the sizes of their inputs; see `weight_rounding.row_scales`.

    Inputs are then multiplied by the inverse, once for all products that they go into. Where
    onnxruntime reads a tokenizer's folder and downloads a data set, inputs come of a reader here.

    Args:
        tokenizer_dir, dataset_name, cache_dir: accepted, not used.
        calibration_method: ``awq_lite``; clipping is not done.
        calibration_data_reader: gives inputs of the model.
        quant_format: QOperator or QDQ.

    Raises:
        ValueError: there is no `calibration_data_reader`.
        NotImplementedError: another `calibration_method`.
    """

    def __init__(
        self,
        tokenizer_dir: str = "",
        dataset_name: str = "cnn",
        cache_dir: str = "./cache",
        calibration_method: str = "awq_lite",
        *,
        calibration_data_reader: Iterable[dict[str, Any]] | None = None,
        quant_format: QuantFormat = QuantFormat.QOperator,
    ) -> None:
        super().__init__("AWQ", quant_format)
        if calibration_data_reader is None:
            raise ValueError(
                "AWQ needs inputs of the model, and downloads none: "
                "NVAWQWeightOnlyQuantConfig(calibration_data_reader=...)"
            )
        if calibration_method != "awq_lite":
            raise NotImplementedError(f"calibration_method '{calibration_method}' is not awq_lite")
        self.calibration_data_reader = calibration_data_reader
