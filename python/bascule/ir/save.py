# SPDX-License-Identifier: Apache-2.0
"""Writing .onnx models."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from bascule.errors import InvalidArgument
from bascule.ir import wire
from bascule.ir.constant import Constant
from bascule.ir.graph import Model
from bascule.ir.pages import copy, give_back, place, read_ahead

if TYPE_CHECKING:
    import onnx

    from bascule.ir.serialize import Definitions

MAX_PROTOBUF_BYTES = (1 << 31) - 1
"""Protobuf's own limit for one message."""

_PAGE = 4096
_SMALL_ALIGNMENT = 64
_CHUNK_BYTES = 1 << 24


def to_proto(
    model: Model, *, payloads: bool = True, definitions: Definitions | None = None
) -> onnx.ModelProto:
    """The model as protobuf; without `payloads`, tensors have a type and shape but no data.

    `definitions` gives the functions behind fused nodes, which makes the result valid anywhere.
    """
    from bascule.ir.serialize import ModelWriter, write_inline

    def leave_out(constant: Constant, proto: onnx.TensorProto) -> None:
        pass

    return ModelWriter(model, write_inline if payloads else leave_out, definitions).write()


def to_bytes(model: Model, *, definitions: Definitions | None = None) -> bytes:
    """The model serialized, all data inside."""
    payloads = Payloads()
    return b"".join(payloads.pieces(_deferred(model, definitions, payloads)))


def save_model(
    model: Model,
    path: str | os.PathLike[str],
    *,
    external_data: bool | str | None = None,
    size_threshold: int = 1024,
    definitions: Definitions | None = None,
) -> None:
    """Write the model to `path`.

    With `external_data`, tensors of `size_threshold` bytes and more go to a file beside it: to
    ``<name>.data``, or the file name given. By default that is done when the model is too big for
    one file. Both files appear under their names only when complete, so the model's own source may
    be overwritten.
    """
    path = os.fspath(path)
    payloads = Payloads()
    proto = _deferred(model, definitions, payloads)
    if external_data is None:
        external_data = payloads.nbytes + proto.ByteSize() > MAX_PROTOBUF_BYTES
    if external_data is False:
        payloads.write(path, proto)
        return

    from bascule.ir.serialize import ModelWriter, write_inline

    location = external_location(path, external_data)
    data_path = os.path.join(os.path.dirname(path), location)
    with replacing(path) as file, replacing(data_path) as data_file:  # the data is put first
        external = ExternalWriter(data_file, location)

        def write_external(constant: Constant, proto: onnx.TensorProto) -> None:
            if constant.raw is None or constant.nbytes < max(size_threshold, 1):
                write_inline(constant, proto)
            else:
                external.put(constant.raw, proto)

        proto = ModelWriter(model, write_external, definitions).write()
        check_size(proto, 0)
        file.write(proto.SerializeToString())


def _deferred(model: Model, definitions: Definitions | None, payloads: Payloads) -> onnx.ModelProto:
    """The model as protobuf, its big tensors in `payloads`."""
    from bascule.ir.serialize import ModelWriter, write_inline

    def defer(constant: Constant, proto: onnx.TensorProto) -> None:
        if constant.raw is None or constant.nbytes <= wire.CUT_BYTES:
            write_inline(constant, proto)
        else:
            payloads.put(proto, wire.Payload(wire.RAW_DATA, constant.raw))

    return ModelWriter(model, defer, definitions).write()


def external_location(path: str, external_data: bool | str) -> str:
    """The name of the file beside the model at `path` that takes external data.

    Raises:
        InvalidArgument: the name given is no plain one, or the model's own.
    """
    name = os.path.basename(path)
    location = external_data if isinstance(external_data, str) else f"{name}.data"
    if os.path.basename(location) != location or location in ("", ".", "..", name):
        raise InvalidArgument(
            f"External data goes to a file beside the model: '{location}' must be the plain name "
            "of another file."
        )
    return location


class ExternalWriter:
    """Appends payloads to a file of external data, and says in the tensors where they are.

    `progress` is called with the number of bytes of each piece.
    """

    def __init__(
        self, file: IO[bytes], location: str, progress: Callable[[int], None] | None = None
    ) -> None:
        self._file = file
        self._location = location
        self._progress = progress
        self._position = 0
        # With the bytes, so that nothing else comes to be where they are.
        self._known: dict[tuple[int, int], tuple[int, memoryview]] = {}

    def put(self, data: memoryview, proto: onnx.TensorProto) -> None:
        """Write `data`, and let `proto` refer to it; other entries of its external data stay.

        Tensors that share their bytes in memory do so here.
        """
        source = place(data)
        if source not in self._known:
            self._known[source] = self._append(data), data
        start, _ = self._known[source]
        refer(proto, self._location, start, data.nbytes)

    def _append(self, data: memoryview) -> int:
        size = data.nbytes
        padding = -self._position % (_PAGE if size >= _PAGE else _SMALL_ALIGNMENT)
        start = self._position + padding
        self._file.write(b"\0" * padding)
        write_pieces(self._file, data, self._progress)
        self._position = start + size
        return start


def refer(proto: onnx.TensorProto, location: str, offset: int, nbytes: int) -> None:
    """Let a tensor be external data; other entries that it has stay."""
    known = {entry.key: entry for entry in proto.external_data}
    for key, value in (("location", location), ("offset", offset), ("length", nbytes)):
        entry = known.get(key) or proto.external_data.add(key=key)
        entry.value = str(value)
    proto.data_location = 1


class Payloads:
    """Big payloads that stay out of the protobuf, and are spliced into its serialized form."""

    def __init__(self) -> None:
        self._payloads: list[wire.Payload] = []
        self._token = secrets.token_bytes(16)
        self.nbytes = 0
        """What they add to the message."""

    def put(self, proto: onnx.TensorProto, payload: wire.Payload) -> None:
        """Let a tensor have a payload, for which a mark stands in `proto`."""
        proto.raw_data = self._token + len(self._payloads).to_bytes(8, "little")
        self._payloads.append(payload)
        self.nbytes += payload.data.nbytes - len(proto.raw_data)

    def pieces(self, proto: onnx.ModelProto) -> Iterator[bytes | memoryview]:
        """The bytes of the whole message.

        Raises:
            InvalidArgument: it is too large for one.
        """
        check_size(proto, self.nbytes)
        return wire.restore_payloads(proto.SerializeToString(), self._token, self._payloads)

    def write(self, path: str, proto: onnx.ModelProto) -> None:
        """Write the whole message to a file.

        Raises:
            InvalidArgument: it is too large for one, or the file cannot be written.
        """
        pieces = self.pieces(proto)
        with replacing(path) as file:
            for piece in pieces:
                write_pieces(file, piece)


def check_size(proto: onnx.ModelProto, payload_bytes: int) -> None:
    """Refuse a message that with its payloads is larger than protobuf's limit."""
    size = proto.ByteSize() + payload_bytes
    if size > MAX_PROTOBUF_BYTES:
        raise InvalidArgument(
            f"The model takes {size} bytes, and one protobuf file holds at most "
            f"{MAX_PROTOBUF_BYTES}. Save it with external_data=True."
        )


def write_pieces(
    file: IO[bytes], data: bytes | memoryview, progress: Callable[[int], None] | None = None
) -> None:
    """In pieces, so that a mapped source is not read ahead of the writing, and none of it stays."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), _CHUNK_BYTES):
        piece = view[start : start + _CHUNK_BYTES]
        if start == 0:
            read_ahead(piece)
        read_ahead(view[start + _CHUNK_BYTES : start + 2 * _CHUNK_BYTES])
        if not copy(piece, file):
            file.write(piece)
            give_back(piece)
        if progress is not None:
            progress(len(piece))


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A file that takes the name `path` when the block ends well."""
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise InvalidArgument(f"The model cannot be written to '{path}': {error}.") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
