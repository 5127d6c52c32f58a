# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters: files of tensors that a run feeds to the inputs of the same name.

The files are FlatBuffers of onnxruntime's schema (``.onnx_adapter``), kind ``TORT``: an Adapter is
(format version, adapter version, model version, parameters), a parameter (name, int64 sizes, ONNX
type number, bytes).
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping

import numpy as np

from bascule.flatbuffer import Table, Writer
from bascule.ir.dtype import DataType
from bascule.values import OrtValue

_KIND = b"TORT"
_FORMAT_VERSION = 1


class AdapterFormat:
    """The contents of an adapter file, to be read or written."""

    def __init__(self) -> None:
        self._format_version = _FORMAT_VERSION
        self._adapter_version = 0
        self._model_version = 0
        self._parameters: dict[str, OrtValue] = {}

    @staticmethod
    def read_adapter(file_path: str | os.PathLike[str]) -> AdapterFormat:
        """The contents of a file, whose tensors are mapped, not copied.

        Raises:
            RuntimeError: there is no such file, or it is no adapter.
        """
        made = AdapterFormat()
        file_path = os.fspath(file_path)  # a number would be a file that others have opened
        try:
            with open(file_path, "rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            root = Table.root(mapped, _KIND)
            made._format_version, made._adapter_version, made._model_version = (
                root.integer(number) for number in range(3)
            )
            parameters = [_read(table) for table in root.tables(3)]
        except (OSError, ValueError, TypeError) as error:
            raise RuntimeError(
                f"{file_path!s} does not appear to be a valid lora parameter format: {error}"
            ) from None
        if made._format_version != _FORMAT_VERSION:
            raise RuntimeError(
                f"{file_path!s} has format version {made._format_version}, expected "
                f"{_FORMAT_VERSION}"
            )
        made._parameters = dict(parameters)
        return made

    def export_adapter(self, file_path: str | os.PathLike[str]) -> None:
        """Write a file; OSError where that cannot be done, RuntimeError for what is no tensor."""
        file_path = os.fspath(file_path)
        writer = Writer(_KIND)
        versions = (self._format_version, self._adapter_version, self._model_version)
        *_, parameters = writer.table(0, [*versions, None])
        count = len(self._parameters)
        start = writer.vector(parameters, count, bytes(4 * count))
        for index, (name, value) in enumerate(self._parameters.items()):
            _write(writer, start + 4 * index, name, value)
        with open(file_path, "wb") as file:
            file.write(writer.data)

    def get_format_version(self) -> int:
        """The version of the file format: 1."""
        return self._format_version

    def get_adapter_version(self) -> int:
        """The version that the adapter's author gave it."""
        return self._adapter_version

    def set_adapter_version(self, adapter_version: int) -> None:
        """Give the adapter a version."""
        self._adapter_version = int(adapter_version)

    def get_model_version(self) -> int:
        """The version of the model that the adapter is for."""
        return self._model_version

    def set_model_version(self, model_version: int) -> None:
        """Say which version of the model the adapter is for."""
        self._model_version = int(model_version)

    def get_parameters(self) -> dict[str, OrtValue]:
        """The tensors, by the names of the model's inputs."""
        return dict(self._parameters)

    def set_parameters(self, params: Mapping[str, OrtValue]) -> None:
        """Take these tensors, by the names of the model's inputs; AttributeError for no dict."""
        if not isinstance(params, Mapping):
            raise AttributeError(
                "incompatible function arguments: params must be a dict from name to OrtValue, not "
                f"{type(params).__name__}"
            )
        self._parameters = {name: OrtValue(value) for name, value in params.items()}


class LoraAdapter:
    """A loaded adapter, for RunOptions.add_active_adapter."""

    def __init__(self) -> None:
        self._parameters: dict[str, OrtValue] = {}

    def Load(self, file_path: str | os.PathLike[str]) -> None:
        """Map an adapter file; RuntimeError where there is none or it is no adapter."""
        self._parameters = AdapterFormat.read_adapter(file_path).get_parameters()


def _read(table: Table) -> tuple[str, OrtValue]:
    name = bytes(table.elements(0, 1)).decode()
    shape = [int(size) for size in np.frombuffer(table.elements(1, 8), "<i8")]
    dtype = DataType(table.integer(2))
    data = table.elements(3, 1)
    bits = dtype.bits
    if bits % 8 or not bits or any(size < 0 for size in shape):
        raise ValueError(f"parameter '{name}' is {dtype.onnx_name}{shape}")
    if math.prod(shape) * (bits // 8) != len(data):
        raise ValueError(
            f"parameter '{name}' has {len(data)} bytes, which are not {dtype.onnx_name}{shape}"
        )
    array = np.frombuffer(data, np.uint8).view(dtype.numpy).reshape(shape)
    return name, OrtValue(array if array.flags.aligned else array.copy())


def _write(writer: Writer, position: int, name: str, value: OrtValue) -> None:
    array = np.ascontiguousarray(value.numpy())
    dtype = DataType(value.element_type())
    if dtype.bits % 8 or not dtype.bits:
        raise RuntimeError(f"parameter '{name}' is {dtype.onnx_name}, which has no whole bytes")
    text, sizes, _, data = writer.table(position, [None, None, int(dtype), None])
    encoded = name.encode()
    writer.vector(text, len(encoded), encoded + b"\0")
    writer.vector(sizes, len(value.shape()), np.asarray(value.shape(), "<i8").tobytes(), 8)
    writer.vector(data, array.nbytes, array.tobytes(), 8)
