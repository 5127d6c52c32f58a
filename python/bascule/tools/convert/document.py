# SPDX-License-Identifier: Apache-2.0
"""A model as protobuf whose large tensors stay where they are: in the mapped file, or an array.

In the protobuf they are external data with a location that only this document knows. Nothing that
a file says is lost: what is not changed is written as it was read.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Union

import onnx
from onnx import TensorProto

from bascule.errors import InvalidArgument
from bascule.ir import wire
from bascule.ir.constant import Constant
from bascule.ir.external import ExternalFiles
from bascule.ir.graph import Model
from bascule.ir.load import load_model, read_proto
from bascule.ir.save import (
    MAX_PROTOBUF_BYTES,
    ExternalWriter,
    Payloads,
    check_size,
    external_location,
    refer,
    replacing,
)
from bascule.ir.tensors import TensorReader
from bascule.ir.walk import graphs_in, tensors_in
from bascule.options import SessionOptions
from bascule.tools.convert.safetensors import can_hold, write_layout

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
            proto, skeleton = read_proto(data, lists=False)
            path = data if isinstance(data, str) else None
            files = ExternalFiles(os.path.dirname(path or "") or os.curdir, path)
            is_mapped = path is not None
            tensors = TensorReader(skeleton.payloads, skeleton.nonce, files.read, is_mapped)
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
        for tensor in tensors_in(self.proto):
            if tensor.HasField("segment") or tensor.data_location == TensorProto.EXTERNAL:
                self.refer(tensor, tensors.read(tensor, tensor.name))

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
        for tensor in tensors_in(self.proto):
            constant = self.stored(tensor)
            if constant is not None:
                yield tensor, constant

    def weights(self) -> dict[str, onnx.TensorProto]:
        """As weights_of."""
        return weights_of(self.proto)

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
        payloads, proto = self._spliced()
        return onnx.ModelProto.FromString(b"".join(payloads.pieces(proto)))

    def save(self, path: str, external_data: bool | str | None = None) -> None:
        """Write an .onnx file; `external_data` as convert() tells."""
        if external_data is None:
            size = self.proto.ByteSize() + sum(each.nbytes for _, each in self.references())
            external_data = size > MAX_PROTOBUF_BYTES
        if external_data is False:
            payloads, proto = self._spliced()
            payloads.write(path, proto)
            return
        with replacing(path) as file, self.moved_out(path, external_data) as proto:  # data first
            file.write(proto.SerializeToString())

    @contextmanager
    def moved_out(
        self, path: str, external_data: bool | str, threshold: int = EXTERNAL_BYTES
    ) -> Iterator[onnx.ModelProto]:
        """The protobuf with the tensors of `threshold` bytes and more in a file beside `path`.

        The file has its name when the block ends well.
        """
        location = external_location(path, external_data)
        work = self.copy()
        stored = sorted(work.references(), key=lambda each: _number(each[0]))
        with replacing(os.path.join(os.path.dirname(path), location)) as file:
            if location.endswith(SAFETENSORS):
                offsets = self._write_safetensors(work, file, threshold)
            else:
                writer = ExternalWriter(file, location)
                offsets = None
            for tensor, constant in stored:
                offset = None if offsets is None else offsets.get(tensor.external_data[0].value)
                if offset is not None:
                    refer(tensor, location, offset, constant.nbytes)
                elif offsets is None and constant.nbytes >= threshold:
                    writer.put(constant.raw or memoryview(b""), tensor)
                else:
                    _clear_reference(tensor)
                    tensor.raw_data = bytes(constant.raw or b"")
            check_size(work.proto, 0)
            yield work.proto

    @staticmethod
    def _write_safetensors(work: Document, file: IO[bytes], threshold: int) -> dict[str, int]:
        """Write the tensors that the format can hold; where each is, by its location in `work`."""
        keys: dict[str, str] = {}
        tensors: dict[str, Constant] = {}
        for name, tensor in work.weights().items():
            constant = work.stored(tensor)
            if constant is not None and can_hold(constant.dtype) and constant.nbytes >= threshold:
                tensors[name], keys[name] = constant, tensor.external_data[0].value
        layout = write_layout(file, tensors)
        return {keys[name]: offset for name, offset in layout.offsets.items()}

    def _spliced(self) -> tuple[Payloads, onnx.ModelProto]:
        """The model with all elements inside: what has them, and the protobuf that they go into."""
        payloads = Payloads()
        work = self.copy()
        for tensor, constant in list(work.references()):
            _clear_reference(tensor)
            raw = constant.raw or memoryview(b"")
            payloads.put(tensor, wire.Payload(wire.RAW_DATA, raw))
        return payloads, work.proto


def weights_of(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The initializers and the tensors of Constant nodes, by the names of their values.

    Of nested graphs that use a name twice, only the first has it.
    """
    found: dict[str, onnx.TensorProto] = {}
    for graph in graphs_in(proto.graph):
        for tensor in graph.initializer:
            found.setdefault(tensor.name, tensor)
        for node in graph.node:
            if node.op_type != "Constant" or node.domain not in ONNX_DOMAINS:
                continue
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    found.setdefault(node.output[0], attribute.t)
    return found


TEXT_SUFFIXES = (".onnxtxt", ".onnx.txt", ".textonnx")


def _clear_reference(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _number(tensor: onnx.TensorProto) -> int:
    return int(tensor.external_data[0].value.rpartition("/")[2])


def _no_files(tensor: str, entries: dict[str, str], nbytes: int) -> memoryview:
    raise InvalidArgument(f"Tensor '{tensor}' refers to a file that is not there")
