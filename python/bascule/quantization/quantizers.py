# SPDX-License-Identifier: Apache-2.0
"""Quantizers as objects, with the arguments that callers of onnxruntime's classes pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bascule.quantization.dynamic import DynamicQuantizer
from bascule.quantization.onnx_model import ONNXModel, Source, load
from bascule.quantization.qdq import QdqQuantizer
from bascule.quantization.qoperator import to_integer_operators
from bascule.quantization.quant_utils import QuantizationMode, QuantType
from bascule.quantization.settings import Settings
from bascule.quantization.tensors_data import CalibrationMethod, TensorsData


def _ranges(given: Any) -> TensorsData:
    if given is None:
        return TensorsData(CalibrationMethod.MinMax, {})
    return given if isinstance(given, TensorsData) else TensorsData(CalibrationMethod.MinMax, given)


class QDQQuantizer:
    """Quantizes a model in the QDQ format.

    Args:
        model: a file, or a ModelProto; afterwards the attribute ``model`` has the result.
        per_channel, reduce_range, weight_qType, activation_qType, nodes_to_quantize,
            nodes_to_exclude, op_types_to_quantize, extra_options: see quantize_static.
        tensors_range: what calibration has found.
    """

    def __init__(
        self,
        model: Source,
        per_channel: bool,
        reduce_range: bool,
        weight_qType: QuantType,
        activation_qType: QuantType,
        tensors_range: TensorsData | Mapping[str, Any] | None,
        nodes_to_quantize: Collection[str] | None,
        nodes_to_exclude: Collection[str] | None,
        op_types_to_quantize: Collection[str],
        extra_options: Mapping[str, Any] | None = None,
        **ignored: Any,
    ) -> None:
        self.model = ONNXModel(load(model))
        self.tensors_range = _ranges(tensors_range)
        self.settings = Settings(
            op_types_to_quantize,
            weight_qType,
            activation_qType,
            per_channel,
            reduce_range,
            nodes_to_quantize or (),
            nodes_to_exclude or (),
            extra_options or {},
        )

    def quantize_model(self) -> Any:
        """Quantize the model and return it."""
        QdqQuantizer(self.model, self.settings, self.tensors_range).quantize()
        return self.model.model


class ONNXQuantizer(QDQQuantizer):
    """Quantizes a model to operators on integers.

    With `static` by `tensors_range`, else by what each run computes; `mode` is accepted.
    """

    def __init__(
        self,
        model: Source,
        per_channel: bool,
        reduce_range: bool,
        mode: QuantizationMode,
        static: bool,
        weight_qType: QuantType,
        activation_qType: QuantType,
        tensors_range: TensorsData | Mapping[str, Any] | None,
        nodes_to_quantize: Collection[str] | None,
        nodes_to_exclude: Collection[str] | None,
        op_types_to_quantize: Collection[str],
        extra_options: Mapping[str, Any] | None = None,
        **ignored: Any,
    ) -> None:
        super().__init__(
            *(model, per_channel, reduce_range, weight_qType, activation_qType, tensors_range),
            *(nodes_to_quantize, nodes_to_exclude, op_types_to_quantize, extra_options),
        )
        self.static = static

    def quantize_model(self) -> Any:
        """Quantize the model and return it."""
        if self.static:
            super().quantize_model()
            to_integer_operators(self.model)
        else:
            DynamicQuantizer(self.model, self.settings).quantize()
        return self.model.model
