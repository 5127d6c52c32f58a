# SPDX-License-Identifier: Apache-2.0
"""quantize_dynamic, quantize_static and the configurations that they can be called by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from bascule.quantization.calibrate import CalibrationDataReader, create_calibrator
from bascule.quantization.dynamic import OPERATORS as DYNAMIC_OPERATORS
from bascule.quantization.dynamic import DynamicQuantizer, takes_weight_type
from bascule.quantization.onnx_model import ONNXModel, Source, load, save
from bascule.quantization.qdq import OPERATORS as STATIC_OPERATORS
from bascule.quantization.qdq import QdqQuantizer
from bascule.quantization.qoperator import to_integer_operators
from bascule.quantization.quant_utils import QuantFormat, QuantizationMode, QuantType
from bascule.quantization.settings import Settings
from bascule.quantization.tensors_data import (
    CalibrationMethod,
    TensorsData,
    load_tensors_data,
    save_tensors_data,
)

__all__ = [
    "DynamicQuantConfig",
    "QuantizationMode",
    "StaticQuantConfig",
    "get_qdq_config",
    "quantize",
    "quantize_dynamic",
    "quantize_static",
]

Path_ = str | os.PathLike[str]
Names = Sequence[str] | None
Reader = CalibrationDataReader | Iterable[dict[str, Any]]

_CALIBRATION_OPTIONS = {
    "CalibTensorRangeSymmetric": "symmetric",
    "CalibMovingAverage": "moving_average",
    "CalibMovingAverageConstant": "averaging_constant",
    "CalibMaxIntermediateOutputs": "max_intermediate_outputs",
    "CalibPercentile": "percentile",
}


def quantize_dynamic(
    model_input: Source,
    model_output: Path_,
    op_types_to_quantize: Names = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Names = None,
    nodes_to_exclude: Names = None,
    use_external_data_format: bool = False,
    extra_options: dict[str, Any] | None = None,
) -> None:
    """Write a model with weights in 8 bits, whose activations are quantized as a run computes them.

    Args:
        model_input: a file, or a ModelProto.
        model_output: where to write it.
        op_types_to_quantize: of MatMul, Gemm, Conv and Gather, by default all.
        per_channel: a scale for each output channel.
        reduce_range: weights in 7 bits, for processors without VNNI.
        weight_type: QInt8 or QUInt8.
        nodes_to_quantize: only nodes of these names.
        nodes_to_exclude: no nodes of these names.
        use_external_data_format: put the weights into a file of their own.
        extra_options: ``WeightSymmetric``, by default true for QInt8.

    Raises:
        ValueError: weights cannot have this type.
    """
    if not takes_weight_type(weight_type):
        raise ValueError(f"weights of dynamic quantization are QInt8 or QUInt8, not {weight_type}")
    model = ONNXModel(load(model_input))
    settings = Settings(
        op_types_to_quantize or DYNAMIC_OPERATORS,
        weight_type,
        QuantType.QUInt8,
        per_channel,
        reduce_range,
        nodes_to_quantize or (),
        nodes_to_exclude or (),
        extra_options or {},
    )
    DynamicQuantizer(model, settings).quantize()
    save(model.model, model_output, use_external_data_format)


def quantize_static(
    model_input: Source,
    model_output: Path_,
    calibration_data_reader: Reader | None = None,
    quant_format: QuantFormat = QuantFormat.QDQ,
    op_types_to_quantize: Names = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: QuantType = QuantType.QInt8,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Names = None,
    nodes_to_exclude: Names = None,
    use_external_data_format: bool = False,
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax,
    calibration_providers: Sequence[Any] | None = None,
    extra_options: dict[str, Any] | None = None,
    calibration_cache_path: Path_ | None = None,
) -> None:
    """Write a model whose weights and activations are integers by ranges found on sample inputs.

    Args:
        model_input: a file, or a ModelProto; quant_pre_process makes one that is quantized better.
        model_output: where to write it.
        calibration_data_reader: gives sample inputs; one batch is in memory at a time.
        quant_format: QDQ, floating-point operators between QuantizeLinear and DequantizeLinear,
            which runtimes fuse; or QOperator, operators on integers, in 8 bits.
        op_types_to_quantize: by default products, pools, activations and what moves values.
        per_channel: a scale for each output channel of weights.
        reduce_range: weights in 7 bits, for processors without VNNI.
        activation_type: of activations.
        weight_type: of weights.
        nodes_to_quantize: only nodes of these names.
        nodes_to_exclude: no nodes of these names.
        use_external_data_format: put the weights into a file of their own.
        calibrate_method: how ranges are chosen.
        calibration_providers: run the samples on these.
        extra_options: ``ActivationSymmetric``, ``WeightSymmetric``, ``AddQDQPairToWeight``,
            ``MatMulConstBOnly``, ``ForceQuantizeNoInputCheck``, ``TensorQuantOverrides`` (of
            activations: scale and zero_point, rmin, rmax, symmetric, quant_type),
            ``OpTypesToExcludeOutputQuantization``,
            ``CalibTensorRangeSymmetric``, ``CalibMovingAverage``, ``CalibMovingAverageConstant``,
            ``CalibPercentile``; others are ignored.
        calibration_cache_path: a file of ranges, read if it is there, else written.

    Raises:
        ValueError: there are neither samples nor a cache, or the format has not these types.
    """
    options = extra_options or {}
    if quant_format is QuantFormat.QOperator:
        for qtype in (activation_type, weight_type):
            if qtype not in (QuantType.QInt8, QuantType.QUInt8):
                raise ValueError(f"operators on integers have 8 bits, not {qtype}; use QDQ")
        if activation_type is QuantType.QInt8 and weight_type is QuantType.QUInt8:
            raise ValueError(
                "onnxruntime has no operators on integers for activations in QInt8 and weights in "
                "QUInt8; use weights in QInt8, or QDQ"
            )
    settings = Settings(
        op_types_to_quantize or STATIC_OPERATORS,
        weight_type,
        activation_type,
        per_channel,
        reduce_range,
        nodes_to_quantize or (),
        nodes_to_exclude or (),
        options,
    )
    source = load(model_input)
    cache = None if calibration_cache_path is None else Path(calibration_cache_path)
    if cache is not None and cache.is_file():
        ranges = load_tensors_data(cache)
    elif calibration_data_reader is None:
        raise ValueError("calibration_data_reader is None, and there is no calibration cache")
    else:
        ranges = _calibrated(
            source, settings, calibration_data_reader, calibrate_method, calibration_providers
        )
        if cache is not None:
            save_tensors_data(ranges, cache)
    model = quantize_with(source, settings, ranges, quant_format)
    save(model.model, model_output, use_external_data_format)


def quantize_with(
    source: onnx.ModelProto, settings: Settings, ranges: TensorsData, quant_format: QuantFormat
) -> ONNXModel:
    """A model quantized by ranges that are known."""
    model = ONNXModel(load(source))
    QdqQuantizer(model, settings, ranges).quantize()
    if quant_format is QuantFormat.QOperator:
        to_integer_operators(model)
    return model


def _calibrated(
    source: onnx.ModelProto,
    settings: Settings,
    reader: Reader,
    method: CalibrationMethod,
    providers: Sequence[Any] | None,
) -> TensorsData:
    options = {
        name: settings.options[key]
        for key, name in _CALIBRATION_OPTIONS.items()
        if key in settings.options
    }
    calibrater = create_calibrator(
        source,
        list(settings.op_types),
        calibrate_method=method,
        providers=providers,
        extra_options=options,
    )
    calibrater.collect_data(reader)
    return calibrater.compute_data()


@dataclass
class StaticQuantConfig:
    """Arguments of quantize_static, which tells more of each.

    Attributes:
        calibration_data_reader: gives sample inputs.
        calibrate_method: how ranges are chosen.
        quant_format: QDQ, or operators on integers.
        activation_type: of activations.
        weight_type: of weights.
        op_types_to_quantize: operators; None for all that can be.
        nodes_to_quantize: only nodes of these names; None for all.
        nodes_to_exclude: no nodes of these names.
        per_channel: a scale for each output channel of weights.
        reduce_range: weights in 7 bits.
        use_external_data_format: put the weights into a file of their own.
        calibration_providers: run the samples on these.
        extra_options: by name.
        calibration_cache_path: a file that keeps the ranges.
    """

    calibration_data_reader: Reader
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax
    quant_format: QuantFormat = QuantFormat.QDQ
    activation_type: QuantType = QuantType.QInt8
    weight_type: QuantType = QuantType.QInt8
    op_types_to_quantize: Names = None
    nodes_to_quantize: Names = None
    nodes_to_exclude: Names = None
    per_channel: bool = False
    reduce_range: bool = False
    use_external_data_format: bool = False
    calibration_providers: Sequence[Any] | None = None
    extra_options: dict[str, Any] = field(default_factory=dict)
    calibration_cache_path: Path_ | None = None


@dataclass
class DynamicQuantConfig:
    """Arguments of quantize_dynamic, which tells more of each.

    Attributes:
        weight_type: QInt8 or QUInt8.
        op_types_to_quantize: operators; None for all that can be.
        nodes_to_quantize: only nodes of these names; None for all.
        nodes_to_exclude: no nodes of these names.
        per_channel: a scale for each output channel of weights.
        reduce_range: weights in 7 bits.
        use_external_data_format: put the weights into a file of their own.
        extra_options: by name.
    """

    weight_type: QuantType = QuantType.QInt8
    op_types_to_quantize: Names = None
    nodes_to_quantize: Names = None
    nodes_to_exclude: Names = None
    per_channel: bool = False
    reduce_range: bool = False
    use_external_data_format: bool = False
    extra_options: dict[str, Any] = field(default_factory=dict)


def quantize(
    model_input: Source, model_output: Path_, quant_config: StaticQuantConfig | DynamicQuantConfig
) -> None:
    """quantize_static or quantize_dynamic, by the kind of configuration.

    Args:
        model_input: a file, or a ModelProto.
        model_output: where to write the result.
        quant_config: a StaticQuantConfig or a DynamicQuantConfig.

    Raises:
        TypeError: the configuration is neither.
    """
    if isinstance(quant_config, StaticQuantConfig):
        quantize_static(model_input, model_output, **quant_config.__dict__)
    elif isinstance(quant_config, DynamicQuantConfig):
        quantize_dynamic(model_input, model_output, **quant_config.__dict__)
    else:
        raise TypeError(
            "Invalid quantization config type, it must be either StaticQuantConfig or "
            f"DynamicQuantConfig, not {type(quant_config).__name__}"
        )


def get_qdq_config(
    model_input: Source,
    calibration_data_reader: Reader,
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax,
    calibrate_args: dict[str, Any] | None = None,
    activation_type: QuantType = QuantType.QUInt8,
    weight_type: QuantType = QuantType.QInt8,
    activation_symmetric: bool = False,
    weight_symmetric: bool | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    keep_removable_activations: bool = False,
    min_real_range: float | None = None,
    tensor_quant_overrides: dict[str, list[dict[str, Any]]] | None = None,
    calibration_providers: Sequence[Any] | None = None,
    op_types_to_quantize: Names = None,
    nodes_to_exclude: Any = None,
    extra_options: dict[str, Any] | None = None,
) -> StaticQuantConfig:
    """A StaticQuantConfig for the QDQ format, with weights beside the model if it is big.

    Args:
        model_input: a file, or a ModelProto.
        calibration_data_reader: gives sample inputs.
        calibrate_method: how ranges are chosen.
        calibrate_args: ``percentile`` and ``symmetric`` are read.
        activation_type: of activations.
        weight_type: of weights.
        activation_symmetric: whether their zero point is the middle.
        weight_symmetric: the same of weights; None for what the type makes usual.
        per_channel: a scale for each output channel of weights.
        reduce_range: weights in 7 bits.
        keep_removable_activations: accepted.
        min_real_range: accepted.
        tensor_quant_overrides: settings of single tensors, by name.
        calibration_providers: run the samples on these.
        op_types_to_quantize: operators; None for all of the model's.
        nodes_to_exclude: names, or a function of (model, node) that tells.
        extra_options: of quantize_static; they outweigh what follows from the arguments above.
    """
    model = load(model_input)
    if callable(nodes_to_exclude):
        nodes_to_exclude = [n.name for n in model.graph.node if nodes_to_exclude(model, n)]
    options: dict[str, Any] = {"ActivationSymmetric": activation_symmetric}
    if weight_symmetric is not None:
        options["WeightSymmetric"] = weight_symmetric
    if tensor_quant_overrides:
        options["TensorQuantOverrides"] = tensor_quant_overrides
    names = {"percentile": "CalibPercentile", "symmetric": "CalibTensorRangeSymmetric"}
    options |= {names[k]: v for k, v in (calibrate_args or {}).items() if k in names}
    return StaticQuantConfig(
        calibration_data_reader,
        calibrate_method,
        QuantFormat.QDQ,
        activation_type,
        weight_type,
        op_types_to_quantize or sorted({node.op_type for node in model.graph.node}),
        nodes_to_exclude=nodes_to_exclude,
        per_channel=per_channel,
        reduce_range=reduce_range,
        use_external_data_format=model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF,
        calibration_providers=calibration_providers,
        extra_options=options | (extra_options or {}),
    )
