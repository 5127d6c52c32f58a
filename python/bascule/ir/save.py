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
from bascule.ir.pages import give_back, place, read_ahead

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
    payloads = _Payloads()
    proto = payloads.proto(model, definitions)
    check_size(proto, payloads.nbytes)
    return b"".join(payloads.splice(proto.SerializeToString()))


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
    payloads = _Payloads()
    proto = payloads.proto(model, definitions)
    if external_data is None:
        external_data = payloads.nbytes + proto.ByteSize() > MAX_PROTOBUF_BYTES
    if external_data is False:
        check_size(proto, payloads.nbytes)
        with replacing(path) as file:
            for part in payloads.splice(proto.SerializeToString()):
                write_pieces(file, part)
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
        self._known: dict[tuple[int, int], int] = {}

    def put(self, data: memoryview, proto: onnx.TensorProto) -> None:
        """Write `data`, and let `proto` refer to it; other entries of its external data stay.

        Tensors that share their bytes in a mapped file do so here.
        """
        source = place(data)
        start = self._known.get(source) if source is not None else None
        if start is None:
            start = self._append(data)
        if source is not None:
            self._known[source] = start
        known = {entry.key: entry for entry in proto.external_data}
        for key, value in (
            ("location", self._location),
            ("offset", start),
            ("length", data.nbytes),
        ):
            entry = known.get(key) or proto.external_data.add(key=key)
            entry.value = str(value)
        proto.data_location = 1

    def _append(self, data: memoryview) -> int:
        size = data.nbytes
        padding = -self._position % (_PAGE if size >= _PAGE else _SMALL_ALIGNMENT)
        start = self._position + padding
        self._file.write(b"\0" * padding)
        write_pieces(self._file, data, self._progress)
        self._position = start + size
        return start


class _Payloads:
    """Big payloads that stay out of the protobuf, and are spliced into its serialized form."""

    def __init__(self) -> None:
        self._constants: list[wire.Payload] = []
        self._token = secrets.token_bytes(16)
        self.nbytes = 0

    def proto(self, model: Model, definitions: Definitions | None) -> onnx.ModelProto:
        from bascule.ir.serialize import ModelWriter, write_inline

        def defer(constant: Constant, proto: onnx.TensorProto) -> None:
            if constant.raw is None or constant.nbytes <= wire.CUT_BYTES:
                write_inline(constant, proto)
            else:
                proto.raw_data = self._token + len(self._constants).to_bytes(8, "little")
                self._constants.append(wire.Payload(wire.RAW_DATA, constant.raw))
                self.nbytes += constant.nbytes

        return ModelWriter(model, defer, definitions).write()

    def splice(self, skeleton: bytes) -> Iterator[bytes | memoryview]:
        """The pieces of the whole message."""
        yield from wire.restore_payloads(skeleton, self._token, self._constants)


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
