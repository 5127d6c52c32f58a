# SPDX-License-Identifier: Apache-2.0
"""The safetensors format: a header in JSON, then the elements of all tensors without a gap.

Format: https://huggingface.co/docs/safetensors. Eight bytes hold the header's length (little
endian); the header gives each tensor's dtype, shape and place, counted from the end of the header.
A file is mapped, and nothing in its header is believed before it was checked.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from bascule.errors import Fail, InvalidArgument, NoSuchFile
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.pages import MappedFile
from bascule.ir.save import replacing, write_pieces

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_MAX_RANK = 64
_ALIGNMENT = 64
_METADATA = "__metadata__"

_TYPES = {
    "BOOL": DataType.BOOL,
    "U8": DataType.UINT8,
    "I8": DataType.INT8,
    "F8_E5M2": DataType.FLOAT8E5M2,
    "F8_E4M3": DataType.FLOAT8E4M3FN,
    "F8_E8M0": DataType.FLOAT8E8M0,
    "I16": DataType.INT16,
    "U16": DataType.UINT16,
    "F16": DataType.FLOAT16,
    "BF16": DataType.BFLOAT16,
    "I32": DataType.INT32,
    "U32": DataType.UINT32,
    "F32": DataType.FLOAT,
    "F64": DataType.DOUBLE,
    "I64": DataType.INT64,
    "U64": DataType.UINT64,
    "C64": DataType.COMPLEX64,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


@dataclass(frozen=True)
class SafeTensors:
    """What a file holds; tensors view the mapped file."""

    tensors: dict[str, Constant] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """A header, and where each tensor begins in the file, in the order of writing."""

    header: bytes
    offsets: dict[str, int]


def can_hold(dtype: DataType) -> bool:
    """Whether the format has a name for an element type."""
    return dtype in _NAMES


def read_safetensors(path: str | os.PathLike[str]) -> SafeTensors:
    """Map a file and check its header.

    Raises:
        NoSuchFile: there is no such file.
        Fail: it is no safetensors file, or a damaged one; the message names the tensor.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise _bad(name, f"it has {size} bytes, and the length of its header takes 8")
            data = memoryview(MappedFile(file.fileno()))
    except FileNotFoundError:
        raise NoSuchFile(f"There is no file '{name}'") from None
    except OSError as error:
        raise Fail(f"'{name}' cannot be read: {error.strerror}") from None
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise _bad(name, f"its header would have {length} bytes, and the file has {size}")
    header = _parsed(name, bytes(data[8 : 8 + length]))
    return _checked(name, header, data[8 + length :])


def _parsed(path: str, text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise _bad(path, "its header does not begin with '{'")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is there twice")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not JSON as the format demands it: {error}") from None
    assert isinstance(header, dict)
    return header


def _checked(path: str, header: dict[str, Any], data: memoryview) -> SafeTensors:
    metadata = header.pop(_METADATA, {})
    texts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise _bad(path, f"its {_METADATA} are not texts by name")
    found = SafeTensors(metadata=metadata)
    places: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(path, name, entry)
        nbytes = (math.prod(shape) * dtype.bits + 7) // 8
        if not begin <= end <= len(data):
            raise _bad(
                path,
                f"tensor '{name}' is at bytes {begin} to {end} of {len(data)}",
            )
        if end - begin != nbytes:
            raise _bad(
                path,
                f"tensor '{name}' of shape {list(shape)} and type {dtype.onnx_name} has "
                f"{end - begin} bytes; it takes {nbytes}",
            )
        places.append((begin, end, name))
        found.tensors[name] = Constant(dtype, shape, data[begin:end], mapped=True)
    position = 0
    for begin, end, name in sorted(places):
        if begin != position:
            what = "overlaps the one before it" if begin < position else "comes after a gap"
            raise _bad(path, f"tensor '{name}' at bytes {begin} to {end} {what}")
        position = end
    if position != len(data):
        raise _bad(path, f"{len(data) - position} bytes at its end belong to no tensor")
    for name, constant in found.tensors.items():
        if (
            constant.dtype is DataType.BOOL
            and np.frombuffer(constant.raw or b"", np.uint8).max(initial=0) > 1
        ):
            raise _bad(path, f"tensor '{name}' is bool, and holds other bytes than 0 and 1")
    return found


def _entry(path: str, name: str, entry: Any) -> tuple[DataType, tuple[int, ...], int, int]:
    """(element type, shape, begin, end) of a tensor."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, f"tensor '{name}' does not have a dtype, a shape and data_offsets")
    kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise _bad(path, f"tensor '{name}' has the type {kind!r:.40}, not one of {[*_TYPES]}")
    if not _are_sizes(shape) or len(shape) > _MAX_RANK:
        raise _bad(path, f"tensor '{name}' has the shape {shape!r:.80}")
    if not _are_sizes(place) or len(place) != 2:
        raise _bad(path, f"tensor '{name}' has the data_offsets {place!r:.80}")
    return _TYPES[kind], tuple(shape), place[0], place[1]


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(
        type(number) is int and 0 <= number < 1 << 63 for number in numbers
    )


def _bad(path: str, why: str) -> Fail:
    return Fail(f"'{path}' is not a sound safetensors file: {why}")


def lay_out(tensors: Mapping[str, Constant], metadata: Mapping[str, str] | None = None) -> Layout:
    """Where tensors go in a file: wide element types first, so that each lies on its alignment.

    Raises:
        InvalidArgument: a tensor has an element type that the format lacks, or a bad name.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.bits, name))
    entries: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    position, starts = 0, {}
    for name in order:
        constant = tensors[name]
        if name == _METADATA or not can_hold(constant.dtype):
            raise InvalidArgument(
                f"safetensors cannot hold tensor '{name}' of type {constant.dtype.onnx_name}"
            )
        starts[name] = position
        place = [position, position + constant.nbytes]
        kind, shape = _NAMES[constant.dtype], list(constant.shape)
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": place}
        position += constant.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    return Layout(header, {name: len(header) + start for name, start in starts.items()})


def write_layout(
    file: IO[bytes], tensors: Mapping[str, Constant], metadata: Mapping[str, str] | None = None
) -> Layout:
    """Write tensors to a file that is empty; where each of them is."""
    layout = lay_out(tensors, metadata)
    file.write(layout.header)
    for name in layout.offsets:
        write_pieces(file, tensors[name].raw or b"")
    return layout


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Constant],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors under their names, piece by piece.

    Raises:
        InvalidArgument: the format lacks an element type, or the file cannot be written.
    """
    with replacing(os.fspath(path)) as file:
        write_layout(file, tensors, metadata)
