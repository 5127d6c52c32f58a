# SPDX-License-Identifier: Apache-2.0
"""A model as protobuf, whose big tensors stay where they are.

What is not edited has to survive to the byte, fields unknown to this version of ONNX included, so
edits work on the message itself and not on the IR. Payloads are cut out of it when it is read, and
put back, in the field they were in, when it is written.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import onnx

from bascule.errors import Fail, InvalidArgument, InvalidGraph
from bascule.ir import wire
from bascule.ir.constant import Constant
from bascule.ir.deserialize import ModelReader
from bascule.ir.dtype import DataType
from bascule.ir.external import ExternalFiles
from bascule.ir.graph import Model
from bascule.ir.load import read_proto
from bascule.ir.save import (
    MAX_PROTOBUF_BYTES,
    ExternalWriter,
    Payloads,
    external_location,
    replacing,
    write_pieces,
)
from bascule.ir.tensors import TensorReader
from bascule.ir.walk import tensors_in
from bascule.tools.edit.names import require_texts

Source = Union[
    str, "os.PathLike[str]", bytes, onnx.ModelProto, "Document", "CallableModel", "InferenceSession"
]

if TYPE_CHECKING:
    from bascule.model import Model as CallableModel
    from bascule.session import InferenceSession

_EXTERNAL = 1
_MARK = "bascule"
"""Key of the external_data entry that says which of the store's files a tensor is in."""


class Store:
    """Payloads that stay out of messages. What is put in never changes, so copies may share it."""

    def __init__(self) -> None:
        self.nonce = secrets.randbits(62)
        self.payloads: list[wire.Payload] = []
        self.files: list[ExternalFiles] = []
        self.folders: list[str] = []
        """Where each of `files` lies."""

    def put(self, proto: onnx.TensorProto, payload: wire.Payload) -> None:
        """Let a payload stand behind a mark in `proto`."""
        proto.segment.begin = len(self.payloads)
        proto.segment.end = self.nonce
        self.payloads.append(payload)

    def payload(self, proto: onnx.TensorProto) -> wire.Payload | None:
        """What stands behind the mark in `proto`, if it has one."""
        if proto.HasField("segment") and proto.segment.end == self.nonce:
            return self.payloads[int(proto.segment.begin)]
        return None

    def adopt(self, message: Any, payloads: list[wire.Payload], nonce: int) -> None:
        """Take over a message whose marks are those of another store or of the reader."""
        for tensor in tensors_in(message):
            if tensor.HasField("segment") and tensor.segment.end == nonce:
                self.put(tensor, payloads[int(tensor.segment.begin)])

    def mark_files(self, message: Any, files: ExternalFiles, folder: str) -> None:
        """Say in the external tensors of `message` that they are in `files`."""
        self.files.append(files)
        self.folders.append(folder)
        for tensor in tensors_in(message):
            if tensor.data_location == _EXTERNAL:
                _unmark(tensor)
                value = f"{self.nonce}:{len(self.files) - 1}"
                tensor.external_data.add(key=_MARK, value=value)

    def file_index(self, proto: onnx.TensorProto) -> int | None:
        """Which of `files` an external tensor is in."""
        for entry in proto.external_data:
            nonce, _, index = entry.value.partition(":")
            if entry.key == _MARK and nonce == str(self.nonce):
                return int(index)
        return None

    def external(self, name: str, entries: dict[str, str], nbytes: int) -> memoryview:
        """The bytes of an external tensor, from the files that it was read with.

        Raises:
            Fail, InvalidGraph: they cannot be had.
        """
        index = entries.pop(_MARK, "").partition(":")[2]
        if not index:
            raise InvalidGraph(f"External data of tensor '{name}' has no file here.")
        return self.files[int(index)].read(name, entries, nbytes)

    def external_or_zeros(self, name: str, entries: dict[str, str], nbytes: int) -> memoryview:
        """The same, and zeros for data that cannot be had, which matters to writing alone."""
        try:
            return self.external(name, entries, nbytes)
        except (Fail, InvalidGraph):
            # Untouched pages of such a mapping take no memory.
            return memoryview(mmap.mmap(-1, nbytes)).toreadonly() if nbytes else memoryview(b"")

    def reader(self, strict: bool = True) -> TensorReader:
        """Makes Constants of tensors of messages that use this store."""
        external = self.external if strict else self.external_or_zeros
        return TensorReader(self.payloads, self.nonce, external, True)


class Document:
    """A ModelProto without its big payloads, and the store that has them."""

    def __init__(self, proto: onnx.ModelProto, store: Store, path: str | None = None) -> None:
        self.proto = proto
        self.store = store
        self.path = path
        """The file that the model was read from."""

    @classmethod
    def read(cls, source: Source) -> Document:
        """The model of a path, of bytes or of a ModelProto; bytes must not change afterwards.

        Raises:
            NoSuchFile, InvalidProtobuf, InvalidArgument, InvalidGraph: it cannot be read.
        """
        if isinstance(source, Document):
            return source.copy()
        loaded: Any = getattr(source, "session", source)
        source = getattr(loaded, "_source", loaded)
        path: str | None = None
        if isinstance(source, onnx.ModelProto):
            source = source.SerializeToString()
        if not isinstance(source, (bytes, bytearray, memoryview)):
            source = path = os.fspath(source)
        proto, skeleton = read_proto(source, lists=False)
        if not proto.HasField("graph"):
            raise InvalidArgument("No graph was found in the protobuf.")
        require_texts(proto)
        store = Store()
        store.adopt(proto, skeleton.payloads, skeleton.nonce)
        folder = os.path.dirname(path or "") or os.curdir
        store.mark_files(proto, ExternalFiles(folder, path), folder)
        return cls(proto, store, path)

    @classmethod
    def of_model(cls, model: Model) -> tuple[Document, Callable[[Any], str]]:
        """The message that the IR's writer makes, and the name in it of each value."""
        from bascule.ir.serialize import ModelWriter

        store = Store()
        writer = ModelWriter(model, lambda constant, proto: _put(constant, proto, store))
        return cls(writer.write(), store), writer.name

    def copy(self) -> Document:
        """Another one that shares the payloads."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Document(proto, self.store, self.path)

    def adopt(self, other: Document) -> onnx.ModelProto:
        """A copy of the message of `other` that refers to the payloads through this store."""
        proto = onnx.ModelProto()
        proto.CopyFrom(other.proto)
        self.store.adopt(proto, other.store.payloads, other.store.nonce)
        for tensor in tensors_in(proto):
            index = other.store.file_index(tensor)
            if index is not None:
                _unmark(tensor)
                value = f"{self.store.nonce}:{len(self.store.files) + index}"
                tensor.external_data.add(key=_MARK, value=value)
        self.store.files += other.store.files
        self.store.folders += other.store.folders
        return proto

    # --- tensors

    def constant(self, tensor: onnx.TensorProto) -> Constant:
        """A tensor of this message, over the bytes where they are."""
        return self.store.reader().read(tensor, tensor.name)

    def set_tensor(self, tensor: onnx.TensorProto, constant: Constant) -> None:
        """Give a tensor other elements, and the type and shape of these; the rest of it stays."""
        for field in (
            "dims", "data_type", "segment", "float_data", "int32_data", "string_data", "int64_data",
            "raw_data", "external_data", "data_location", "double_data", "uint64_data",
        ):  # fmt: skip
            tensor.ClearField(field)
        tensor.data_type = int(constant.dtype)
        tensor.dims.extend(constant.shape)
        _put(constant, tensor, self.store)

    # --- the model as the rest of bascule sees it

    def model(self) -> Model:
        """The model in the IR, checked against the standard; external data may be missing.

        Raises:
            Fail, InvalidGraph, InvalidArgument, InvalidProtobuf: it is not valid.
        """
        return ModelReader(self.proto, self.store.reader(strict=False)).read()

    def check_data(self) -> None:
        """Read where all tensors are.

        Raises:
            Fail, InvalidGraph: the data of one cannot be had.
        """
        reader = self.store.reader()
        for tensor in tensors_in(self.proto):
            if tensor.data_location == _EXTERNAL:
                reader.read(tensor, tensor.name)

    # --- writing

    def to_bytes(self) -> bytes:
        """The model serialized, all data inside.

        Raises:
            InvalidArgument: it is too large for one message.
            Fail, InvalidGraph: external data cannot be had.
        """
        message = _Message(self)
        for tensor, payload in message.externals():
            message.put_inside(tensor, payload)
        return b"".join(message.pieces())

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        external_data: bool | str | None = None,
        size_threshold: int = 1024,
        share_data: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write the model; see Editor.save."""
        path = os.fspath(path)
        message = _Message(self)
        if share_data:
            message.share(os.path.dirname(path))
        outside = message.externals()
        if external_data is False:
            for tensor, payload in outside:
                message.put_inside(tensor, payload)
            outside = []
        elif external_data is not None or message.nbytes > MAX_PROTOBUF_BYTES:
            outside += message.take_out(size_threshold)
        with ExitStack() as stack:
            file = stack.enter_context(replacing(path))
            if outside:
                location = external_location(path, external_data or True)
                data_path = os.path.join(os.path.dirname(path), location)
                message.check_shared(data_path)
                data_file = stack.enter_context(replacing(data_path))  # put in place first
                writer = ExternalWriter(data_file, location, progress)
                for tensor, payload in outside:
                    writer.put(payload, tensor)
            for piece in message.pieces():
                write_pieces(file, piece, progress)


class _Message:
    """A copy of a document's message on its way to a file."""

    def __init__(self, document: Document) -> None:
        self._store = document.store
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(document.proto)
        self._shared: set[str] = set()
        self._external: list[onnx.TensorProto] = []
        self._inside: list[tuple[onnx.TensorProto, wire.Payload]] = []
        for tensor in tensors_in(self._proto):
            payload = self._store.payload(tensor)
            if tensor.data_location == _EXTERNAL:
                self._external.append(tensor)
            elif payload is not None:
                tensor.ClearField("segment")
                self._inside.append((tensor, payload))

    @property
    def nbytes(self) -> int:
        """The size of the message with what is inside it."""
        return int(self._proto.ByteSize()) + sum(p.data.nbytes for _, p in self._inside)

    def share(self, folder: str) -> None:
        """Let external tensors refer to the files that they are in, from a model in `folder`."""
        for tensor in self._external:
            index = self._store.file_index(tensor)
            entry = next((each for each in tensor.external_data if each.key == "location"), None)
            if index is None or entry is None:
                continue
            source = os.path.join(os.path.realpath(self._store.folders[index]), entry.value)
            location = os.path.relpath(source, os.path.realpath(folder or os.curdir))
            if location.split(os.sep)[0] == os.pardir:
                raise InvalidArgument(
                    f"The data of tensor '{tensor.name}' is in '{source}', and a model can share "
                    "only files of its own folder: save it there, or without share_data."
                )
            entry.value = location.replace(os.sep, "/")
            self._shared.add(os.path.realpath(source))
            _unmark(tensor)
        self._external = []

    def check_shared(self, path: str) -> None:
        """Refuse to write over a file that the model goes on to refer to."""
        if os.path.realpath(path) in self._shared:
            raise InvalidArgument(f"'{path}' holds data that the model shares: choose another name")

    def externals(self) -> list[tuple[onnx.TensorProto, memoryview]]:
        """The external tensors, with their bytes."""
        found = []
        for tensor in self._external:
            constant = self._store.reader().read(tensor, tensor.name)
            assert constant.raw is not None
            _unmark(tensor)
            found.append((tensor, constant.raw))
        return found

    def put_inside(self, tensor: onnx.TensorProto, payload: memoryview) -> None:
        """Make an external tensor one that has its bytes inside."""
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        self._inside.append((tensor, wire.Payload(wire.RAW_DATA, payload)))

    def take_out(self, threshold: int) -> list[tuple[onnx.TensorProto, memoryview]]:
        """The tensors of `threshold` bytes and more, which are then outside."""
        found, inside = [], []
        reader = self._store.reader()
        for tensor, payload in self._inside:
            nbytes = (math.prod(tensor.dims) * DataType(tensor.data_type).bits + 7) // 8
            if nbytes < max(threshold, 1):
                inside.append((tensor, payload))
            elif payload.field == wire.RAW_DATA:
                found.append((tensor, payload.data))
            else:
                self._store.put(tensor, payload)
                raw = reader.read(tensor, tensor.name).raw
                assert raw is not None
                tensor.ClearField("segment")
                found.append((tensor, raw))
        self._inside = inside
        return found

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the message."""
        payloads = Payloads()
        for tensor, payload in self._inside:
            payloads.put(tensor, payload)
        return payloads.pieces(self._proto)


def as_constant(array: Any) -> Constant:
    """A tensor of an array that must not change afterwards.

    Raises:
        InvalidArgument: ONNX has no such element type.
    """
    if isinstance(array, Constant):
        return array
    try:
        return Constant.from_numpy(np.asarray(array))
    except TypeError as error:
        raise InvalidArgument(str(error)) from None


def _put(constant: Constant, proto: onnx.TensorProto, store: Store) -> None:
    from bascule.ir.serialize import write_inline

    if constant.raw is None or constant.nbytes <= wire.CUT_BYTES:
        write_inline(constant, proto)
    else:
        store.put(proto, wire.Payload(wire.RAW_DATA, memoryview(constant.raw).cast("B")))


def _unmark(tensor: onnx.TensorProto) -> None:
    kept = [entry for entry in tensor.external_data if entry.key != _MARK]
    if len(kept) < len(tensor.external_data):
        copies = [onnx.StringStringEntryProto.FromString(e.SerializeToString()) for e in kept]
        del tensor.external_data[:]
        tensor.external_data.extend(copies)
