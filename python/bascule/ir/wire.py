# SPDX-License-Identifier: Apache-2.0
"""Walking a serialized ModelProto at the wire level, to cut tensor payloads out of it.

The result is a skeleton of kilobytes that protobuf parses as usual. A tensor whose payload was cut
carries `segment {begin: index of the payload, end: nonce}` instead; the standard leaves that field
unused, and the nonce, new for each file, keeps a file from naming a payload itself. An attribute
whose list of numbers was cut carries `doc_string: "nonce:index"`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bascule.errors import InvalidGraph
from bascule.ir.pages import give_back, read_ahead

CUT_BYTES = 256
"""Payloads of at most this many bytes stay in the skeleton."""

LIST_BYTES = 1 << 12
"""The same for lists of numbers in attributes."""

MAX_DEPTH = 100
"""Nested messages; protobuf's own limit."""


class WireError(ValueError):
    """The bytes are not a protobuf message."""


class Payload(NamedTuple):
    """The content of field number `field` of a TensorProto, or the numbers of an AttributeProto."""

    field: int
    data: memoryview


class Skeleton(NamedTuple):
    data: bytes
    payloads: list[Payload]
    nonce: int


# Message kinds, and the fields that lead to tensors, by field number.
_MODEL, _GRAPH, _FUNCTION, _NODE, _ATTRIBUTE, _SPARSE, _TENSOR, _TRAINING = range(8)
_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
_PAYLOAD_FIELDS = frozenset((4, 5, 6, 7, 9, 10, 11))
RAW_DATA = 9
_STRING_DATA, _RAW_DATA, _SEGMENT, _NAME = 6, RAW_DATA, 3, 8
_FLOATS, _INTS, _DOC_STRING = 7, 8, 13

# How an AttributeProto mostly ends, with its type. Lists hold no tensors, and to walk through them
# element by element would take longer than all the rest.
_LIST_TYPES = {b"\xa0\x01\x06": _FLOATS, b"\xa0\x01\x07": _INTS, b"\xa0\x01\x08": 0}
_TYPE_BYTES = 3
_CHUNK_BYTES = 1 << 20
_AHEAD_BYTES = 1 << 16
_PASSED_BYTES = 1 << 26

# Items of AttributeProto's floats (field 7) and ints (field 8): a forest has millions of them.
_LIST_ITEMS = re.compile(
    rb"(?:\x3d[\x00-\xff]{4}){1,4096}|(?:\x40[\x80-\xff]{0,9}[\x00-\x7f]){1,4096}"
)


def cut_payloads(data: memoryview, lists: bool = True) -> Skeleton:
    """Take the tensor payloads out of a serialized ModelProto; WireError if it is not one.

    Without `lists`, numbers in attributes stay, and the skeleton can be restored to the byte.
    """
    walker = _Walker(data, lists)
    skeleton = walker.walk(_MODEL, 0, len(data), 0)
    return Skeleton(bytes(data) if skeleton is None else skeleton, walker.payloads, walker.nonce)


class _Walker:
    def __init__(self, data: memoryview, lists: bool) -> None:
        self.data = data
        self.lists = lists
        self.payloads: list[Payload] = []
        self.nonce = secrets.randbits(62)
        self.passed = self.asked = 0

    def walk(self, kind: int, start: int, end: int, depth: int) -> bytes | None:
        """The message without its payloads; None when there is nothing to cut."""
        if depth > MAX_DEPTH:
            raise WireError("messages are nested too deep")
        data = self.data
        if kind == _ATTRIBUTE:
            list_field = _LIST_TYPES.get(bytes(data[end - _TYPE_BYTES : end]))
            if list_field is not None:
                is_cut = self.lists and list_field
                return self._cut_numbers(list_field, start, end) if is_cut else None
        children = _CHILDREN[kind]
        parts: list[bytes | memoryview] = []
        position = kept = start
        while position < end:
            field_start = position
            tag = data[position]
            position += 1
            if tag & 0x80:
                tag, position = _varint(data, field_start, end)
            wire_type = tag & 7
            if wire_type == 2:
                length, position = _varint(data, position, end)
                following = position + length
                if following > end:
                    raise WireError("a field is longer than its message")
                if length > CUT_BYTES:
                    child = children.get(tag >> 3)
                    if child is not None:
                        if child == _TENSOR:
                            new = self._cut_tensor(position, following)
                        else:
                            new = self.walk(child, position, following, depth + 1)
                        if new is not None:
                            parts += (data[kept:field_start], field(tag >> 3, new))
                            kept = following
                position = following
            else:
                items = _LIST_ITEMS.match(data, field_start, end) if kind == _ATTRIBUTE else None
                position = items.end() if items else _skip(data, wire_type, position, end)
        if not parts:
            return None
        parts.append(data[kept:end])
        return b"".join(parts)

    def _cut_tensor(self, start: int, end: int) -> bytes | None:
        data = self.data
        found: list[tuple[int, int, int, int]] = []
        used: set[int] = set()
        occurrences = 0
        position = start
        while position < end:
            field_start = position
            tag, position = _varint(data, position, end)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == 2:
                length, position = _varint(data, position, end)
                following = position + length
                if following > end:
                    raise WireError("a field is longer than its message")
                if length > CUT_BYTES and number in _PAYLOAD_FIELDS and number != _STRING_DATA:
                    found.append((number, field_start, position, following))
                filled = length > 0
                position = following
            else:
                filled = True
                position = _skip(data, wire_type, position, end)
            if number in _PAYLOAD_FIELDS and filled:
                used.add(number)
                occurrences += number != _STRING_DATA
            elif number == _SEGMENT:
                raise InvalidGraph("A tensor is a segment of a tensor, which has no meaning.")
        if len(used) > 1:
            name = self._tensor_name(start, end)
            raise InvalidGraph(
                f"Tensor '{name}' stores its elements twice; exactly one of raw_data and the typed "
                "fields may be used."
            )
        if not found:
            return None
        if occurrences > 1:
            if _RAW_DATA in used:
                name = self._tensor_name(start, end)
                raise InvalidGraph(f"Tensor '{name}' stores its elements twice, both as raw_data.")
            return None  # a typed field in several pieces: legal, rare, and left to protobuf
        number, field_start, payload_start, payload_end = found[0]
        self._pass(payload_end)
        segment = b"\x08" + varint(len(self.payloads)) + b"\x10" + varint(self.nonce)
        self.payloads.append(Payload(number, data[payload_start:payload_end]))
        return b"".join((data[start:field_start], data[payload_end:end], field(_SEGMENT, segment)))

    def _pass(self, end: int) -> None:
        """Begin to read what follows a payload, a little of it, and let the pages before it go."""
        if end - self.passed > _PASSED_BYTES:
            give_back(self.data[self.passed : end])
            self.passed = end
        if end - self.asked > _CHUNK_BYTES:
            read_ahead(self.data[end : end + _AHEAD_BYTES])
            self.asked = end

    def _cut_numbers(self, number: int, start: int, end: int) -> bytes | None:
        """The attribute without its numbers, if they are many and fill it up to its type."""
        data = self.data
        element_tag = number << 3 | (5 if number == _FLOATS else 0)
        position = start
        while True:
            run = position
            if position >= end:
                return None
            tag, position = _varint(data, position, end)
            if tag == element_tag:
                break
            if tag & 7 != 2 or tag >> 3 == number:
                return None
            length, position = _varint(data, position, end)
            position += length
        content = data[run : end - _TYPE_BYTES]
        if len(content) <= LIST_BYTES:
            return None
        decode = _decode_floats if number == _FLOATS else _decode_ints
        values = decode(content)
        if values is None:
            return None
        mark = list_mark(self.nonce, len(self.payloads)).encode()
        self.payloads.append(Payload(number, values))
        return b"".join((data[start:run], field(_DOC_STRING, mark), data[end - _TYPE_BYTES : end]))

    def _tensor_name(self, start: int, end: int) -> str:
        position, name = start, ""
        while position < end:
            tag, position = _varint(self.data, position, end)
            if tag & 7 == 2:
                length, position = _varint(self.data, position, end)
                if tag >> 3 == _NAME:
                    name = bytes(self.data[position : position + length]).decode("utf-8", "replace")
                position += length
            else:
                position = _skip(self.data, tag & 7, position, end)
        return name


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """The varint at `position`, and the position after it."""
    result = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift >= 70:
            raise WireError("a varint is longer than ten bytes")
    raise WireError("the data ends inside a varint")


def _skip(data: memoryview, wire_type: int, position: int, end: int) -> int:
    """The position after a field that is not length-delimited."""
    if wire_type == 0:
        return _varint(data, position, end)[1]
    if wire_type not in (1, 5):
        raise WireError(f"wire type {wire_type} is not used by ONNX")
    position += 8 if wire_type == 1 else 4
    if position > end:
        raise WireError("the data ends inside a number")
    return position


def varint(value: int) -> bytes:
    """`value`, not negative, as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def list_mark(nonce: int, index: int | str) -> str:
    """Stands in an attribute's doc_string for the list that was cut."""
    return f"{nonce}:{index}"


def _decode_floats(data: memoryview) -> memoryview | None:
    """The elements of a repeated field, each with its tag; None where other fields are between."""
    if len(data) % 5:
        return None
    elements = np.frombuffer(data, np.uint8).reshape(-1, 5)
    if (elements[:, 0] != (_FLOATS << 3 | 5)).any():
        return None
    return memoryview(elements[:, 1:].tobytes())


def _decode_ints(data: memoryview) -> memoryview | None:
    try:
        words = decode_varints(data)
    except WireError:
        return None
    if len(words) % 2 or (words[0::2] != _INTS << 3).any():
        return None
    return memoryview(words[1::2].tobytes())


def decode_varints(data: memoryview) -> np.ndarray[Any, Any]:
    """All varints of a packed field, as uint64."""
    encoded = np.frombuffer(data, np.uint8)
    chunks = [np.zeros(0, np.uint64)]
    position = 0
    while position < len(encoded):  # in pieces, as each byte takes some 40 bytes of workspace
        ends = np.flatnonzero(encoded[position : position + _CHUNK_BYTES] < 0x80)
        if not len(ends):
            raise WireError("a varint does not end")
        following = position + int(ends[-1]) + 1
        chunks.append(_decode_chunk(encoded[position:following], ends))
        position = following
    return np.concatenate(chunks)


def _decode_chunk(
    encoded: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10:
        raise WireError("a varint is longer than ten bytes")
    values = (encoded[starts] & 0x7F).astype(np.uint64)
    live = np.arange(len(ends))
    for index in range(1, longest):
        live = live[lengths[live] > index]
        septet = (encoded[starts[live] + index] & 0x7F).astype(np.uint64)
        values[live] |= septet << np.uint64(7 * index)
    return values


def restore_payloads(
    skeleton: bytes, token: bytes, payloads: Sequence[Payload]
) -> Iterator[bytes | memoryview]:
    """The inverse of cutting: pieces of the message in which payloads replace their marks.

    A mark is a tensor's raw_data that consists of `token` and the index in eight bytes; a payload
    comes back as the field that it was.
    """
    writer = _Restorer(memoryview(skeleton), token, payloads)
    pieces, _ = writer.walk(_MODEL, 0, len(skeleton))
    yield from pieces


class _Restorer:
    def __init__(self, data: memoryview, token: bytes, payloads: Sequence[Payload]) -> None:
        self.data = data
        self.token = token
        self.payloads = payloads

    def walk(self, kind: int, start: int, end: int) -> tuple[list[bytes | memoryview], int]:
        """The message's pieces, and their length together."""
        if kind == _TENSOR:
            return self._tensor(start, end)
        data = self.data
        children = _CHILDREN[kind]
        pieces: list[bytes | memoryview] = []
        total = 0
        position = kept = start
        while position < end:
            field_start = position
            tag, position = _varint(data, position, end)
            if tag & 7 != 2:
                position = _skip(data, tag & 7, position, end)
                continue
            length, position = _varint(data, position, end)
            following = position + length
            if length >= len(self.token) + 8 and tag >> 3 in children:
                inner, size = self.walk(children[tag >> 3], position, following)
                head = varint(tag) + varint(size)
                pieces += (data[kept:field_start], head, *inner)
                total += field_start - kept + len(head) + size
                kept = following
            position = following
        pieces.append(data[kept:end])
        return pieces, total + end - kept

    def _tensor(self, start: int, end: int) -> tuple[list[bytes | memoryview], int]:
        """A tensor, its payload where fields in ascending order have it."""
        data = self.data
        starts: list[tuple[int, int]] = []
        position = start
        payload: Payload | None = None
        while position < end:
            field_start = position
            tag, position = _varint(data, position, end)
            following = position
            if tag & 7 == 2:
                length, position = _varint(data, position, end)
                following = position + length
                if tag >> 3 == _RAW_DATA and length == len(self.token) + 8:
                    content = bytes(data[position:following])
                    if content.startswith(self.token):
                        index = int.from_bytes(content[len(self.token) :], "little")
                        payload, mark, behind = self.payloads[index], field_start, following
            else:
                following = _skip(data, tag & 7, position, end)
            starts.append((tag >> 3, field_start))
            position = following
        if payload is None:
            return [data[start:end]], end - start
        # At its own place the mark gives way; elsewhere it goes before the next larger field.
        place = next((at for n, at in starts if n > payload.field and at != mark), end)
        place = mark if payload.field == _RAW_DATA else min(place, mark)
        head = varint(payload.field << 3 | 2) + varint(payload.data.nbytes)
        pieces: list[bytes | memoryview] = [data[start:place], head, payload.data]
        pieces += (data[place:mark], data[behind:end])
        return pieces, end - start - (behind - mark) + len(head) + payload.data.nbytes
