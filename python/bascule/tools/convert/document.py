# SPDX-License-Identifier: Apache-2.0
"""A model as protobuf whose large tensors stay where they are: in the mapped file, or an array.

In the protobuf they are external data with a location that only this document knows. Nothing that
a file says is lost: what is not changed is written as it was read.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Union

import onnx
from onnx import TensorProto

from bascule.errors import InvalidArgument
from bascule.ir import wire
from bascule.ir.check import submessages
from bascule.ir.constant import Constant
from bascule.ir.graph import Model
from bascule.ir.load import load_model, read_proto
from bascule.ir.save import (
    MAX_PROTOBUF_BYTES,
    location_beside,
    padding_before,
    replacing,
)
from bascule.ir.tensors import TensorReader
from bascule.options import SessionOptions
from bascule.tools.convert.rewrite import graphs_in
from bascule.tools.convert.safetensors import can_hold, lay_out, write_constant, write_out

if TYPE_CHECKING:
    from bascule.session import InferenceSession

ModelSource = Union[str, "os.PathLike[str]", bytes, onnx.ModelProto]

ONNX_DOMAINS = ("", "ai.onnx")
SAFETENSORS = ".safetensors"
EXTERNAL_BYTES = 1024
"""Smaller tensors stay in the model's own file."""

_PAYLOADS = (
    *("raw_data", "float_data", "int32_data", "string_data"),
    *("int64_data", "double_data", "uint64_data"),
)


class Document:
    """`proto`, and the tensors that it refers to."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self._token = secrets.token_hex(8)
        self._stored: dict[str, Constant] = {}
        self._locations: dict[int, str] = {}  # by the id of a constant, which is kept in _stored

    @classmethod
    def read(cls, source: ModelSource) -> Document:
        """Read a model, whichever form it has, and check all of it.

        Raises:
            NoSuchFile, InvalidProtobuf, InvalidGraph, Fail: as when a session is made.
        """
        if isinstance(source, onnx.ModelProto):
            source = source.SerializeToString()
        data: str | bytes = source if isinstance(source, bytes) else os.fspath(source)
        if isinstance(data, str) and data.endswith(TEXT_SUFFIXES):
            # Imported here: it imports this module.
            from bascule.tools.convert.text import read_text

            proto, tensors = read_text(data)
        else:
            proto, tensors = read_proto(data)
        found = cls(proto)
        found._refer_to_all(tensors)
        found.model()
        return found

    def copy(self) -> Document:
        """A document to be changed by itself; tensors are shared."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return self.with_proto(proto)

    def with_proto(self, proto: onnx.ModelProto) -> Document:
        """Another protobuf that refers to the same tensors."""
        other = Document(proto)
        other._token = self._token
        other._stored = self._stored
        other._locations = self._locations
        return other

    @property
    def opset(self) -> int:
        """The version of the standard's operators, 0 where there is none."""
        found = [each.version for each in self.proto.opset_import if each.domain in ONNX_DOMAINS]
        return int(found[0]) if found else 0

    # --- tensors

    def _refer_to_all(self, tensors: TensorReader) -> None:
        for message in reversed(list(submessages(self.proto))):  # as they stand in the file
            if isinstance(message, onnx.AttributeProto):
                tensors.restore_numbers(message)
            elif isinstance(message, TensorProto):
                is_external = message.data_location == TensorProto.EXTERNAL
                if message.HasField("segment") or is_external:
                    self.refer(message, tensors.read(message, message.name))

    def refer(self, tensor: onnx.TensorProto, constant: Constant, always: bool = False) -> None:
        """Let a tensor have the elements, type and shape of a constant, which is not copied.

        Of a small one the elements go into the protobuf, unless it is `always` to be referred to.
        """
        for name in (*_PAYLOADS, "segment", "external_data", "data_location", "dims"):
            tensor.ClearField(name)
        tensor.data_type = int(constant.dtype)
        tensor.dims.extend(constant.shape)
        if constant.strings is not None:
            tensor.string_data.extend(
                text.encode("utf-8", "surrogateescape") for text in constant.strings.flat
            )
        elif constant.nbytes <= wire.CUT_BYTES and not always:
            tensor.raw_data = bytes(constant.raw or b"")
        else:
            location = self._locations.get(id(constant), f"{self._token}/{len(self._stored)}")
            self._stored[location] = constant
            self._locations[id(constant)] = location
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)

    def stored(self, tensor: onnx.TensorProto) -> Constant | None:
        """The constant that a tensor refers to; None where its elements are in the protobuf."""
        if tensor.data_location != TensorProto.EXTERNAL or not tensor.external_data:
            return None
        return self._stored.get(tensor.external_data[0].value)

    def constant(self, tensor: onnx.TensorProto) -> Constant:
        """The elements of a tensor of the protobuf."""
        found = self.stored(tensor)
        return found or TensorReader([], 0, _no_files, False).read(tensor, tensor.name)

    def references(self) -> Iterator[tuple[onnx.TensorProto, Constant]]:
        """Each tensor that is not in the protobuf itself."""
        yield from _references(self, self.proto)

    def weights(self) -> dict[str, onnx.TensorProto]:
        """The initializers and the tensors of Constant nodes, by the names of their values.

        Of nested graphs that use a name twice, only the first has it.
        """
        found: dict[str, onnx.TensorProto] = {}
        for graph in graphs_in(self.proto.graph):
            for tensor in graph.initializer:
                found.setdefault(tensor.name, tensor)
            for node in graph.node:
                if node.op_type != "Constant" or node.domain not in ONNX_DOMAINS:
                    continue
                for attribute in node.attribute:
                    if attribute.name == "value" and attribute.HasField("t"):
                        found.setdefault(node.output[0], attribute.t)
        return found

    # --- use

    def model(self) -> Model:
        """The model in bascule's own form, checked; its constants are those of the document."""
        return load_model(self.proto, external_files=self._files())

    def session(self, options: SessionOptions | None = None) -> InferenceSession:
        """A session of the model."""
        # Imported here: it takes long.
        from bascule.session import InferenceSession

        options = SessionOptions() if options is None else options.copy()
        used = {tensor.external_data[0].value for tensor, _ in self.references()}
        files = {name: data for name, data in self._files().items() if name in used}
        options.add_external_initializers_from_files_in_memory(
            list(files),
            list(files.values()),  # type: ignore[arg-type]
            [len(data) for data in files.values()],
        )
        return InferenceSession(self.proto.SerializeToString(), options)

    def _files(self) -> dict[str, memoryview]:
        return {name: each.raw for name, each in self._stored.items() if each.raw is not None}

    # --- writing

    def whole(self) -> onnx.ModelProto:
        """The protobuf with all elements in it.

        Raises:
            InvalidArgument: that is more than one protobuf can hold.
        """
        self._check_size()
        return onnx.ModelProto.FromString(b"".join(self._spliced()))

    def save(self, path: str, external_data: bool | str | None = None) -> None:
        """Write an .onnx file; `external_data` as convert() tells."""
        if external_data is None:
            size = self.proto.ByteSize() + sum(each.nbytes for _, each in self.references())
            external_data = size > MAX_PROTOBUF_BYTES
        if external_data is False:
            self._check_size()
            with replacing(path) as file:
                for piece in self._spliced():
                    write_out(file, piece)
            return
        proto, _ = self.moved_out(path, external_data)
        with replacing(path) as file:
            file.write(proto.SerializeToString())

    def moved_out(
        self, path: str, external_data: bool | str, threshold: int = EXTERNAL_BYTES
    ) -> tuple[onnx.ModelProto, str]:
        """Write the tensors of `threshold` bytes and more to a file beside `path`.

        Returns the protobuf that refers to it, and the name of the file.
        """
        location = location_beside(path, external_data)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        work = self.with_proto(proto)
        if location.endswith(SAFETENSORS):
            offsets = self._write_safetensors(work, path, location, threshold)
        else:
            offsets = self._write_plain(work, path, location, threshold)
        for tensor, constant in list(work.references()):
            stored = tensor.external_data[0].value
            tensor.ClearField("external_data")
            if stored not in offsets:
                tensor.ClearField("data_location")
                tensor.raw_data = bytes(constant.raw or b"")
                continue
            entries = ("location", location), ("offset", offsets[stored])
            for key, value in (*entries, ("length", constant.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
        if proto.ByteSize() > MAX_PROTOBUF_BYTES:
            raise _too_large(proto.ByteSize())
        return proto, location

    @staticmethod
    def _write_plain(work: Document, path: str, location: str, threshold: int) -> dict[str, int]:
        offsets: dict[str, int] = {}
        with replacing(os.path.join(os.path.dirname(path), location)) as file:
            position = 0
            found = [(t.external_data[0].value, constant) for t, constant in work.references()]
            for key, constant in sorted(found, key=lambda each: _number(each[0])):
                if constant.nbytes < threshold or key in offsets:
                    continue
                padding = padding_before(position, constant.nbytes)
                file.write(b"\0" * padding)
                offsets[key] = position + padding
                write_constant(file, constant)
                position += padding + constant.nbytes
        return offsets

    @staticmethod
    def _write_safetensors(
        work: Document, path: str, location: str, threshold: int
    ) -> dict[str, int]:
        keys: dict[str, str] = {}
        tensors: dict[str, Constant] = {}
        for name, tensor in work.weights().items():
            constant = work.stored(tensor)
            if constant is not None and can_hold(constant.dtype) and constant.nbytes >= threshold:
                tensors[name], keys[name] = constant, tensor.external_data[0].value
        layout = lay_out(tensors)
        with replacing(os.path.join(os.path.dirname(path), location)) as file:
            file.write(layout.header)
            for name in layout.offsets:
                write_constant(file, tensors[name])
        return {keys[name]: offset for name, offset in layout.offsets.items()}

    def _spliced(self) -> Iterator[bytes | memoryview]:
        """The serialized model in pieces."""
        token = secrets.token_bytes(16)
        payloads: list[memoryview] = []
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor, constant in list(_references(self, proto)):
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = token + len(payloads).to_bytes(8, "little")
            payloads.append(constant.raw or memoryview(b""))
        yield from wire.restore_payloads(proto.SerializeToString(), token, payloads)

    def _check_size(self) -> None:
        size = self.proto.ByteSize() + sum(each.nbytes for _, each in self.references())
        if size > MAX_PROTOBUF_BYTES:
            raise _too_large(size)


TEXT_SUFFIXES = (".onnxtxt", ".onnx.txt", ".textonnx")


def _references(
    document: Document, proto: onnx.ModelProto
) -> Iterator[tuple[onnx.TensorProto, Constant]]:
    for message in submessages(proto):
        if isinstance(message, TensorProto):
            constant = document.stored(message)
            if constant is not None:
                yield message, constant


def _number(location: str) -> int:
    return int(location.rpartition("/")[2])


def _no_files(tensor: str, entries: dict[str, str], nbytes: int) -> memoryview:
    raise InvalidArgument(f"Tensor '{tensor}' refers to a file that is not there")


def _too_large(size: int) -> InvalidArgument:
    return InvalidArgument(
        f"The model takes {size} bytes, and one protobuf file holds at most {MAX_PROTOBUF_BYTES}. "
        "Save it with external_data=True."
    )
