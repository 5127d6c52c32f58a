# SPDX-License-Identifier: Apache-2.0
"""quantize_static as a command, on the samples beside a model.

The samples are folders ``test_data_set_*`` of ``input_*.pb``, as models of the ONNX model zoo have
them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx

from bascule.quantization.calibrate import CalibrationDataReader, CalibrationMethod
from bascule.quantization.quant_utils import QuantFormat, QuantType
from bascule.quantization.quantize import quantize_static

_TYPES = {
    "qint8": QuantType.QInt8,
    "quint8": QuantType.QUInt8,
    "qint16": QuantType.QInt16,
    "quint16": QuantType.QUInt16,
    "qint4": QuantType.QInt4,
    "quint4": QuantType.QUInt4,
    "qfloat8e4m3fn": QuantType.QFLOAT8E4M3FN,
}
_METHODS = {method.name.lower(): method for method in CalibrationMethod}
_FORMATS = {format.name.lower(): format for format in QuantFormat}


class OnnxModelCalibrationDataReader(CalibrationDataReader):
    """Gives the inputs in the folders ``test_data_set_*`` beside a model."""

    def __init__(self, model_path: str | os.PathLike[str]) -> None:
        model = onnx.load(os.fspath(model_path), load_external_data=False)
        constants = {each.name for each in model.graph.initializer}
        self._names = [v.name for v in model.graph.input if v.name not in constants]
        folders = sorted(Path(model_path).parent.glob("test_data_set_*"))
        self._inputs = self._read(folders)

    def _read(self, folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
        for folder in folders:
            found = {}
            for number, name in enumerate(self._names):
                data = (folder / f"input_{number}.pb").read_bytes()
                found[name] = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))
            yield found

    def get_next(self) -> dict[str, Any] | None:
        """The inputs of the next folder; None at the end."""
        return next(self._inputs, None)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``-i IN -o OUT`` and arguments of quantize_static."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-i", "--input_model_path", required=True)
    parser.add_argument("-o", "--output_quantized_model_path", required=True)
    parser.add_argument("--activation_type", choices=_TYPES, default="quint8")
    parser.add_argument("--weight_type", choices=_TYPES, default="qint8")
    parser.add_argument("--calibration_method", choices=_METHODS, default="minmax")
    parser.add_argument("--quant_format", choices=_FORMATS, default="qdq")
    parser.add_argument("--per_channel", action="store_true")
    parser.add_argument("--nodes_to_quantize", nargs="+")
    parser.add_argument("--nodes_to_exclude", nargs="+")
    given = parser.parse_args(arguments)
    quantize_static(
        given.input_model_path,
        given.output_quantized_model_path,
        OnnxModelCalibrationDataReader(given.input_model_path),
        _FORMATS[given.quant_format],
        per_channel=given.per_channel,
        activation_type=_TYPES[given.activation_type],
        weight_type=_TYPES[given.weight_type],
        nodes_to_quantize=given.nodes_to_quantize,
        nodes_to_exclude=given.nodes_to_exclude,
        calibrate_method=_METHODS[given.calibration_method],
    )


if __name__ == "__main__":
    main()
