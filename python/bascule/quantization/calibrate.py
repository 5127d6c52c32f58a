# SPDX-License-Identifier: Apache-2.0
"""Ranges of a model's tensors, from runs on representative inputs.

The model is run a batch at a time with the tensors in question as outputs, and no more than one
batch of them is kept: the memory taken does not grow with the number of batches.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bascule.options import GraphOptimizationLevel, SessionOptions
from bascule.quantization.histograms import Histogram
from bascule.quantization.onnx_model import FLOATS, ONNXModel, Source, load
from bascule.quantization.tensors_data import (
    CalibrationMethod,
    TensorData,
    TensorsData,
    load_tensors_data,
    save_tensors_data,
)
from bascule.session import InferenceSession

Array = np.ndarray[Any, Any]

__all__ = [
    "CalibraterBase",
    "CalibrationDataReader",
    "CalibrationMethod",
    "DistributionCalibrater",
    "EntropyCalibrater",
    "HistogramCalibrater",
    "MinMaxCalibrater",
    "PercentileCalibrater",
    "TensorData",
    "TensorsData",
    "create_calibrator",
    "load_tensors_data",
    "save_tensors_data",
]


class CalibrationDataReader(abc.ABC):
    """Gives the inputs for calibration, one run at a time."""

    @abc.abstractmethod
    def get_next(self) -> dict[str, Any] | None:
        """The inputs of the next run, by name; None at the end."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found


class CalibraterBase(abc.ABC):
    """Gathers values of the inputs and outputs of some operators.

    Args:
        model_path: a file, or a ModelProto.
        op_types_to_calibrate: the operators; None for all.
        augmented_model_path: accepted; the model with more outputs is kept in memory.
        symmetric: let each range be symmetric about zero.
        use_external_data_format: accepted.
        per_channel: a range for each index of axis 1, where the method is MinMax.
    """

    method = CalibrationMethod.MinMax
    """How it chooses a range."""

    def __init__(
        self,
        model_path: Source,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        per_channel: bool = False,
    ) -> None:
        self.model = load(model_path)
        self.op_types_to_calibrate = op_types_to_calibrate
        self.symmetric = symmetric
        self.per_channel = per_channel
        self.execution_providers: Sequence[Any] = ["CPUExecutionProvider"]
        self._session: InferenceSession | None = None
        self._tensors: list[str] = []

    def set_execution_providers(
        self, execution_providers: Sequence[Any] = ("CPUExecutionProvider",)
    ) -> None:
        """Run on these providers."""
        self.execution_providers = execution_providers
        self._session = None

    def select_tensors_to_calibrate(self, model: onnx.ModelProto) -> set[str]:
        """The floating-point inputs and outputs of the operators, initializers left out."""
        types = ONNXModel(load(model)).element_types()
        constants = {each.name for each in model.graph.initializer}
        constants |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
        wanted = self.op_types_to_calibrate
        found = {
            name
            for node in model.graph.node
            if wanted is None or node.op_type in wanted
            for name in (*node.input, *node.output)
        }
        return {name for name in found - constants if types.get(name) in FLOATS}

    def augment_graph(self) -> None:
        """Let the tensors be outputs."""
        self._tensors = sorted(self.select_tensors_to_calibrate(self.model))
        given = {value.name for value in self.model.graph.output}
        types = ONNXModel(load(self.model)).element_types()
        for name in self._tensors:
            if name not in given:
                info = helper.make_tensor_value_info(name, types[name], None)
                self.model.graph.output.append(info)
        self._session = None

    def get_augment_model(self) -> onnx.ModelProto:
        """The model with the tensors as outputs."""
        return self.model

    def create_inference_session(self) -> None:
        """Make the session that gathers; the optimizer is off, so that all tensors are there."""
        options = SessionOptions()
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
        data = self.model.SerializeToString()
        self._session = InferenceSession(data, options, providers=self.execution_providers)

    def collect_data(self, data_reader: Iterable[dict[str, Any]]) -> None:
        """Run on all inputs of a reader; it may be called again with others.

        Raises:
            ValueError: the reader gives none, and none were given before.
        """
        if not self._tensors:
            self.augment_graph()
        if self._session is None:
            self.create_inference_session()
        assert self._session is not None
        count = 0
        for inputs in data_reader:
            count += 1
            for name, value in zip(self._tensors, self._session.run(self._tensors, inputs)):
                if value.size:
                    self._add(name, value)
        if not count and not self._seen():
            raise ValueError("No data is collected: the data reader gives no inputs")

    @abc.abstractmethod
    def _add(self, name: str, values: Array) -> None:
        """Take in the values that a tensor has in a run."""

    @abc.abstractmethod
    def _seen(self) -> bool:
        """Whether there were any values."""

    @abc.abstractmethod
    def compute_data(self) -> TensorsData:
        """What was found out; to be called after collect_data."""

    def _ranges(self, ranges: dict[str, tuple[Any, Any]], **more: Any) -> TensorsData:
        found = {}
        for name, (low, high) in ranges.items():
            if self.symmetric:
                high = np.maximum(np.abs(low), np.abs(high))
                low = -high
            found[name] = TensorData(
                lowest=np.asarray(low, np.float32), highest=np.asarray(high, np.float32)
            )
        return TensorsData(self.method, found)


class MinMaxCalibrater(CalibraterBase):
    """The smallest and the greatest value that a tensor has in any run.

    Args:
        model_path: a file, or a ModelProto.
        op_types_to_calibrate: the operators; None for all.
        augmented_model_path: accepted; the model with more outputs is kept in memory.
        symmetric: let each range be symmetric about zero.
        use_external_data_format: accepted.
        moving_average: take the means of the runs' extremes instead.
        averaging_constant: how much each run weighs beside those before, 0 to 1.
        max_intermediate_outputs: accepted: one batch is kept in any case.
        per_channel: a range for each index of axis 1.

    Raises:
        ValueError: `averaging_constant` is not between 0 and 1.
    """

    def __init__(
        self,
        model_path: Source,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        moving_average: bool = False,
        averaging_constant: float = 0.01,
        max_intermediate_outputs: int | None = None,
        per_channel: bool = False,
    ) -> None:
        if not 0 <= averaging_constant <= 1:
            raise ValueError(f"averaging_constant is {averaging_constant}, not between 0 and 1")
        super().__init__(
            *(model_path, op_types_to_calibrate, augmented_model_path, symmetric),
            per_channel=per_channel,
        )
        self.moving_average = moving_average
        self.averaging_constant = averaging_constant
        self._found: dict[str, tuple[Any, Any]] = {}

    def _seen(self) -> bool:
        return bool(self._found)

    def _add(self, name: str, values: Array) -> None:
        axes = None
        if self.per_channel and values.ndim > 1:
            axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        low, high = values.min(axis=axes), values.max(axis=axes)
        if name in self._found:
            first, last = self._found[name]
            if self.moving_average:
                low = first + self.averaging_constant * (low - first)
                high = last + self.averaging_constant * (high - last)
            else:
                low, high = np.minimum(low, first), np.maximum(high, last)
        self._found[name] = (low, high)

    def compute_data(self) -> TensorsData:
        """The range of each tensor, by its name."""
        return self._ranges(self._found)


class HistogramCalibrater(CalibraterBase):
    """A histogram of each tensor, and from it a range.

    Args:
        num_bins: bins of the histogram at first; it grows with the values.
        percentile: how much the range holds, in per cent, for PercentileCalibrater.
        num_quantized_bins: levels, for EntropyCalibrater.
        method: accepted.
        scenario: ``same``: the statistics are of the values themselves.
    """

    default_bins = 128

    def __init__(
        self,
        model_path: Source,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "",
        symmetric: bool = False,
        num_bins: int | None = None,
        num_quantized_bins: int = 128,
        percentile: float = 99.999,
        scenario: str = "same",
    ) -> None:
        super().__init__(model_path, op_types_to_calibrate, augmented_model_path, symmetric)
        if scenario != "same":
            raise ValueError(f"scenario '{scenario}' is not supported; expected 'same'")
        self.num_bins = num_bins or self.default_bins
        self.num_quantized_bins = num_quantized_bins
        self.percentile = percentile
        self.histograms: dict[str, Histogram] = {}

    def _seen(self) -> bool:
        return bool(self.histograms)

    def _add(self, name: str, values: Array) -> None:
        self.histograms.setdefault(name, Histogram.of(self.num_bins)).add(values)

    @abc.abstractmethod
    def _range(self, histogram: Histogram) -> tuple[float, float]:
        """The range to be used."""

    def compute_data(self) -> TensorsData:
        """The ranges, with the histograms that they come from."""
        found = self._ranges({name: self._range(each) for name, each in self.histograms.items()})
        for name, each in self.histograms.items():
            mean, deviation = each.mean_and_deviation()
            data = found[name]
            data.__dict__.update(avg=np.asarray(mean), std=np.asarray(deviation))
            data.__dict__.update(hist=each.counts, hist_edges=each.edges)
        return found


class EntropyCalibrater(HistogramCalibrater):
    """The range for which the values in few levels diverge least from the values."""

    method = CalibrationMethod.Entropy
    default_bins = 128

    def _range(self, histogram: Histogram) -> tuple[float, float]:
        return histogram.by_entropy(self.num_quantized_bins)


class PercentileCalibrater(HistogramCalibrater):
    """The range that holds `percentile` per cent of the values."""

    method = CalibrationMethod.Percentile
    default_bins = 2048

    def _range(self, histogram: Histogram) -> tuple[float, float]:
        return histogram.by_percentile(self.percentile, self.symmetric)


class DistributionCalibrater(HistogramCalibrater):
    """Mean and standard deviation, for floating-point types of 8 bits; the range is the whole."""

    method = CalibrationMethod.Distribution

    def _range(self, histogram: Histogram) -> tuple[float, float]:
        return histogram.clipped(-np.inf, np.inf)


_CALIBRATERS: dict[CalibrationMethod, type[CalibraterBase]] = {
    CalibrationMethod.MinMax: MinMaxCalibrater,
    CalibrationMethod.Entropy: EntropyCalibrater,
    CalibrationMethod.Percentile: PercentileCalibrater,
    CalibrationMethod.Distribution: DistributionCalibrater,
}


def create_calibrator(
    model: Source,
    op_types_to_calibrate: Sequence[str] | None = None,
    augmented_model_path: str | os.PathLike[str] = "augmented_model.onnx",
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax,
    use_external_data_format: bool = False,
    providers: Sequence[Any] | None = None,
    extra_options: dict[str, Any] | None = None,
) -> CalibraterBase:
    """A calibrater of this method, with its session made.

    Args:
        model: a file, or a ModelProto.
        op_types_to_calibrate: the operators whose inputs and outputs count; None for all.
        augmented_model_path: accepted; the model with more outputs is kept in memory.
        calibrate_method: how ranges are chosen.
        use_external_data_format: accepted.
        providers: run the samples on these.
        extra_options: arguments of the calibrater's class, those of other classes ignored.

    Raises:
        ValueError: there is no such method.
    """
    import inspect

    if calibrate_method not in _CALIBRATERS:
        raise ValueError(f"Unsupported calibration method {calibrate_method}")
    kind = _CALIBRATERS[calibrate_method]
    known = inspect.signature(kind.__init__).parameters
    given = (extra_options or {}).items()
    options = {name: value for name, value in given if name in known and value is not None}
    made = kind(model, op_types_to_calibrate, augmented_model_path, **options)
    made.augment_graph()
    if providers:
        made.set_execution_providers(providers)
    made.create_inference_session()
    return made
