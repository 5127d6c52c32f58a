# SPDX-License-Identifier: Apache-2.0
"""A value during a run: on the host, on the device, or on both."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.memory import Allocation
from bascule.providers.cuda.tensor import Tensor

_ABSENT = object()


class Entry:
    """What a value holds. Sequences are lists; None stands for an optional that has nothing."""

    __slots__ = ("_device", "_host", "is_constant", "layouts")

    def __init__(
        self, host: Any = _ABSENT, device: Any = _ABSENT, is_constant: bool = False
    ) -> None:
        self._host = host
        self._device = device
        self.is_constant = is_constant
        self.layouts: dict[Any, Tensor] | None = {} if is_constant else None
        """What kernels have made of a constant, see weight.py."""

    @classmethod
    def of(cls, value: Any) -> Entry:
        """An entry for a Tensor, or a list of them, or for whatever lives on the host."""
        if isinstance(value, Tensor):
            return cls(device=value)
        if isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value):
            return cls(device=value)
        return cls(host=value)

    @property
    def is_on_host(self) -> bool:
        return self._host is not _ABSENT

    @property
    def is_on_device(self) -> bool:
        return self._device is not _ABSENT

    @property
    def is_tensor(self) -> bool:
        """True for a tensor that a device can hold."""
        if self.is_on_device:
            return isinstance(self._device, Tensor)
        return isinstance(self._host, np.ndarray) and self._host.dtype != object

    @property
    def is_text(self) -> bool:
        """True for a tensor of strings, which stays on the host."""
        return isinstance(self._host, np.ndarray) and self._host.dtype == object

    @property
    def tensor(self) -> Tensor:
        """The tensor of an entry that has one on the device."""
        found: Tensor = self._device
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of a tensor."""
        held = self._device if self.is_on_device else self._host
        shape: tuple[int, ...] = held.shape
        return shape

    @property
    def dtype(self) -> DataType:
        """The element type of a tensor."""
        if self.is_on_device:
            found: DataType = self._device.dtype
            return found
        return DataType.from_numpy(self._host.dtype)

    def on_host(self, device: Device) -> Any:
        """The value as arrays, lists or None; waits for the device if it has to be fetched."""
        if not self.is_on_host:
            self._host = download(self._device, device)
        return self._host

    def on_device(self, device: Device, allocate: Any) -> Any:
        """The value as Tensors; copied to memory from `allocate` if it has to be."""
        if not self.is_on_device:
            self._device = upload(self._host, device, allocate)
        return self._device


def bring_to_host(entries: Iterable[Entry], device: Device, profiler: Any = None) -> None:
    """Fetch what is only on the device, and wait for it once."""
    pending = [e for e in entries if not e.is_on_host and e.is_tensor]
    if pending and profiler is not None:
        begin = time.monotonic_ns()
        bring_to_host(pending, device)
        nbytes = sum(entry.tensor.nbytes for entry in pending)
        profiler.add_copy("device to host", nbytes, begin, time.monotonic_ns() - begin)
    elif pending:
        for entry, array in zip(pending, device.arrays([entry.tensor for entry in pending])):
            entry._host = array


def download(value: Any, device: Device) -> Any:
    """Tensors, and lists of them, as arrays."""
    if isinstance(value, list):
        return [download(item, device) for item in value]
    if not isinstance(value, Tensor):
        return value
    array = np.empty(value.shape, value.dtype.numpy)
    if array.nbytes:
        device.download(array, value.address)
    return array


def upload(value: Any, device: Device, allocate: Any) -> Any:
    """Arrays, and lists of them, as Tensors; what no device can hold stays as it is."""
    if isinstance(value, list):
        return [upload(item, device, allocate) for item in value]
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype == object:
        return value
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    memory: Allocation = allocate(max(array.nbytes, 1))
    if array.nbytes:
        device.upload(memory[0], array)
    return Tensor(DataType.from_numpy(array.dtype), array.shape, *memory)


def copy(target: Tensor, source: Tensor, device: Device) -> None:
    """Copy elements within the device, unless they are there already."""
    if source.nbytes and source.address != target.address:
        device.copy(target.address, source.address, source.nbytes)
