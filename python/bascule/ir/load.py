# SPDX-License-Identifier: Apache-2.0
"""Reading .onnx models: from a path, bytes, a file object or a ModelProto.

A file is mapped, never read as a whole: `wire` cuts the tensor payloads out, protobuf parses the
skeleton that remains, and Constants view the mapping.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Union

from bascule.errors import InvalidArgument, InvalidProtobuf, NoSuchFile
from bascule.ir import wire
from bascule.ir.external import ExternalFiles
from bascule.ir.graph import Model
from bascule.ir.pages import MappedFile

if TYPE_CHECKING:
    import onnx

Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], "onnx.ModelProto"]

_NO_GRAPH = "No graph was found in the protobuf."
_LFS = b"version https://git-lfs.github.com/spec/"


def load_model(
    source: Source,
    *,
    external_folder: str | None = None,
    external_files: Mapping[str, memoryview] | None = None,
    on_external_problem: Callable[[str, Exception], None] | None = None,
) -> Model:
    """Read a model and check it against the standard.

    `external_folder` is where external data lies, by default the model's folder, or the current one
    for a model that has no path. `external_files` are contents that stand in for external files, by
    the location that the model gives. With `on_external_problem`, external data that cannot be had
    is zeros, and the function is told the tensor's name and why. Bytes are viewed, not copied: they
    must not change.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if not isinstance(path, str) or not path:
            raise TypeError(f"Unable to load from type '{type(source)}' with value {source!r}")
        read = read_proto(path)
        folder = os.path.dirname(path) if external_folder is None else external_folder
        model_path = path if external_folder is None else None
        files = ExternalFiles(folder or os.curdir, model_path, external_files, on_external_problem)
        model = _convert(*read, files, _failure(path), mapped=True)
        model.path = path
        return model
    files = ExternalFiles(external_folder or os.curdir, None, external_files, on_external_problem)
    if hasattr(source, "read"):
        source = source.read()
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _convert(*read_proto(source), files, _failure(source), mapped=False)

    import onnx

    if isinstance(source, onnx.ModelProto):
        nothing = wire.Skeleton(b"", [], 0)
        return _convert(source, nothing, files, _failure(b""), mapped=False)
    raise TypeError(f"Unable to load from type '{type(source)}'")


def read_proto(
    source: str | bytes | bytearray | memoryview, *, lists: bool = True
) -> tuple[onnx.ModelProto, wire.Skeleton]:
    """The protobuf of a model without its payloads, which the skeleton has: `wire.cut_payloads`.

    Nothing but the encoding is checked; load_model checks the rest. Bytes are viewed, not copied:
    they must not change.

    Raises:
        NoSuchFile: there is no such file.
        InvalidArgument: there are no bytes.
        InvalidProtobuf: they are no message.
    """
    failure = _failure(source)
    data = _map(source) if isinstance(source, str) else memoryview(source).cast("B").toreadonly()
    if not len(data):
        raise InvalidArgument(f"{_NO_GRAPH} The model is empty.")
    if data[4:8].tobytes() == b"ORTM":
        raise InvalidProtobuf(
            f"{failure} It is in onnxruntime's own format (.ort), made for one version and kind of "
            "machine: load the .onnx model that it was made from."
        )
    if data[: len(_LFS)].tobytes() == _LFS:
        raise InvalidProtobuf(
            f"{failure} It is a pointer of Git LFS, not the model: `git lfs pull` fetches that."
        )
    try:
        skeleton = wire.cut_payloads(data, lists)
    except wire.WireError as error:
        raise InvalidProtobuf(f"{failure} {str(error).capitalize()}.") from None

    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.ModelProto.FromString(skeleton.data), skeleton
    except DecodeError as error:
        raise InvalidProtobuf(f"{failure} {error}") from None


def _failure(source: str | bytes | bytearray | memoryview) -> str:
    """How errors begin."""
    if isinstance(source, str):
        return f"Load model from {source} failed:Protobuf parsing failed."
    return "Failed to load model because protobuf parsing failed."


def _map(path: str) -> memoryview:
    """The content of a model's file, mapped.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidArgument: there is none, it is no file, it is empty.
    """
    failure = f"Load model from {path} failed:"
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise NoSuchFile(f"{failure}Load model {path} failed. File doesn't exist") from None
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # some systems cannot open a folder at all
            raise InvalidProtobuf(f"{failure}Protobuf parsing failed. It is a folder.") from None
        raise NoSuchFile(f"{failure}{error}") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise InvalidProtobuf(f"{failure}Protobuf parsing failed. It is a folder.")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidProtobuf(f"{failure}Protobuf parsing failed. It is no regular file.")
        if not status.st_size:
            raise InvalidArgument(f"{failure}{_NO_GRAPH} The file is empty.")
        return memoryview(MappedFile(descriptor))
    finally:
        os.close(descriptor)


def _convert(
    proto: onnx.ModelProto,
    skeleton: wire.Skeleton,
    files: ExternalFiles,
    failure: str,
    mapped: bool,
) -> Model:
    from bascule.ir.deserialize import ModelReader
    from bascule.ir.tensors import TensorReader

    if not proto.HasField("graph"):
        raise InvalidArgument(_NO_GRAPH)
    tensors = TensorReader(skeleton.payloads, skeleton.nonce, files.read, mapped)
    try:
        model = ModelReader(proto, tensors).read()
    except (UnicodeDecodeError, wire.WireError) as error:
        raise InvalidProtobuf(f"{failure} {error}") from None
    model.external_files = files.paths()
    return model
