# SPDX-License-Identifier: Apache-2.0
"""Models in fewer bits: weights and activations as integers, by onnxruntime's interface.

>>> from bascule.quantization import quantize_dynamic
>>> quantize_dynamic("model.onnx", "model.int8.onnx")  # doctest: +SKIP
"""

from bascule.quantization.calibrate import (
    CalibraterBase,
    CalibrationDataReader,
    CalibrationMethod,
    MinMaxCalibrater,
    create_calibrator,
)
from bascule.quantization.qdq_quantizer import QDQQuantizer
from bascule.quantization.qdq_quantizer import QDQQuantizer as CudaQuantizer
from bascule.quantization.quant_utils import (
    QuantFormat,
    QuantizationMode,
    QuantType,
    write_calibration_table,
)
from bascule.quantization.quantize import (
    DynamicQuantConfig,
    StaticQuantConfig,
    get_qdq_config,
    quantize,
    quantize_dynamic,
    quantize_static,
)
from bascule.quantization.shape_inference import quant_pre_process
from bascule.quantization.tensors_data import (
    TensorData,
    TensorsData,
    load_tensors_data,
    save_tensors_data,
)

__all__ = [
    "CalibraterBase",
    "CalibrationDataReader",
    "CalibrationMethod",
    "CudaQuantizer",
    "DynamicQuantConfig",
    "MinMaxCalibrater",
    "QDQQuantizer",
    "QuantFormat",
    "QuantType",
    "QuantizationMode",
    "StaticQuantConfig",
    "TensorData",
    "TensorsData",
    "create_calibrator",
    "get_qdq_config",
    "load_tensors_data",
    "quant_pre_process",
    "quantize",
    "quantize_dynamic",
    "quantize_static",
    "save_tensors_data",
    "write_calibration_table",
]
