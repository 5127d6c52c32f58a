# SPDX-License-Identifier: Apache-2.0
"""What calibration found out about tensors, and its file."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import Path
from typing import Any

import numpy as np

_FIELDS = ("avg", "std", "lowest", "highest", "hist", "hist_edges", "bins")


class CalibrationMethod(enum.Enum):
    """How a range is chosen from the values of a tensor."""

    MinMax = 0
    """All that the tensor was."""
    Entropy = 1
    """The range in which its values in few levels diverge least from its values (S. Migacz, 8-bit
    Inference with TensorRT, GTC 2017)."""
    Percentile = 2
    """The range that holds some per cent of its values."""
    Distribution = 3
    """All that it was, with mean and standard deviation, for float8."""


class TensorData:
    """The statistics of a tensor: any of avg, std, lowest, highest, hist, hist_edges and bins.

    Args:
        **values: these, as numbers or arrays.

    Raises:
        ValueError: another name is given.
    """

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            if name not in _FIELDS:
                raise ValueError(f"Unexpected value {name!r}, expected one of {_FIELDS}")
            setattr(self, name, np.asarray(value) if isinstance(value, (float, int)) else value)

    @property
    def range_value(self) -> tuple[Any, Any]:
        """(lowest, highest); AttributeError where they are not known."""
        return self.lowest, self.highest  # type: ignore[attr-defined]

    @property
    def avg_std(self) -> tuple[Any, Any]:
        """(mean, standard deviation); AttributeError where they are not known."""
        return self.avg, self.std  # type: ignore[attr-defined]

    def to_dict(self) -> dict[str, Any]:
        """The values, as JSON has them."""
        found: dict[str, Any] = {"CLS": type(self).__name__}
        for name in _FIELDS:
            if hasattr(self, name):
                array = np.asarray(getattr(self, name))
                found[name] = {"data": array.tolist(), "dtype": str(array.dtype)}
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TensorData:
        """What to_dict has made."""
        arrays = {
            name: np.array(value["data"], value["dtype"])
            for name, value in values.items()
            if name in _FIELDS
        }
        return cls(**arrays)


class TensorsData:
    """TensorData by the tensors' names; (lowest, highest) is taken for one, too."""

    def __init__(self, calibration_method: CalibrationMethod, data: Mapping[str, Any]) -> None:
        self.calibration_method = calibration_method
        self.data: dict[str, TensorData] = {}
        for name, value in data.items():
            if not isinstance(value, TensorData):
                low, high = value
                value = TensorData(lowest=low, highest=high)
            self.data[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __contains__(self, name: str) -> bool:
        return name in self.data

    def __getitem__(self, name: str) -> TensorData:
        return self.data[name]

    def __setitem__(self, name: str, value: TensorData) -> None:
        self.data[name] = value

    def __len__(self) -> int:
        return len(self.data)

    def keys(self) -> KeysView[str]:
        """The tensors' names."""
        return self.data.keys()

    def values(self) -> ValuesView[TensorData]:
        """What is known of each tensor."""
        return self.data.values()

    def items(self) -> ItemsView[str, TensorData]:
        """(name, what is known) of each tensor."""
        return self.data.items()

    def to_dict(self) -> dict[str, Any]:
        """The values, as JSON has them."""
        data = {name: value.to_dict() for name, value in self.data.items()}
        return {"CLS": type(self).__name__, "method": self.calibration_method.name, "data": data}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TensorsData:
        """What to_dict has made."""
        data = {name: TensorData.from_dict(value) for name, value in values["data"].items()}
        return cls(CalibrationMethod[values["method"]], data)


def save_tensors_data(tensors_data: TensorsData, path: str | os.PathLike[str]) -> None:
    """Write what calibration found to a JSON file."""
    Path(path).write_text(json.dumps(tensors_data.to_dict()))


def load_tensors_data(path: str | os.PathLike[str]) -> TensorsData:
    """What save_tensors_data has written; FileNotFoundError where there is no such file."""
    return TensorsData.from_dict(json.loads(Path(path).read_text()))
