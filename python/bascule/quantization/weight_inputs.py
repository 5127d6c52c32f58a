# SPDX-License-Identifier: Apache-2.0
"""What the weights of a model are multiplied by, for the ways of rounding that look at it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx

from bascule.quantization.calibrate import CalibraterBase
from bascule.quantization.tensors_data import TensorsData
from bascule.quantization.weight_rounding import InputStatistics

Array = np.ndarray[Any, Any]


class _Collector(CalibraterBase):
    def __init__(self, model: onnx.ModelProto, names: Iterable[str]) -> None:
        super().__init__(model)
        self._names = set(names)
        self.found: dict[str, InputStatistics] = {}

    def select_tensors_to_calibrate(self, model: onnx.ModelProto) -> set[str]:
        return super().select_tensors_to_calibrate(model) & self._names

    def _add(self, name: str, values: Array) -> None:
        self.found.setdefault(name, InputStatistics(values.shape[-1])).add(values)

    def _seen(self) -> bool:
        return bool(self.found)

    def compute_data(self) -> TensorsData:
        raise NotImplementedError("there are statistics of inputs, not ranges")


def input_statistics(
    model: onnx.ModelProto, names: Iterable[str], reader: Iterable[dict[str, Any]]
) -> dict[str, InputStatistics]:
    """Run `model` on the inputs of a reader; statistics of the values named, [..., K] each.

    Raises:
        ValueError: the reader gives nothing.
    """
    collector = _Collector(model, names)
    collector.collect_data(reader)
    return collector.found
