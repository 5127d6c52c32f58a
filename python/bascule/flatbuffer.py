# SPDX-License-Identifier: Apache-2.0
"""As much of the FlatBuffers format as adapter files need, with bounds checked.

A buffer begins with the offset of its root table and four letters that name its kind. Offsets are
uint32, forward, and relative to where they stand. A table begins with the distance back to its
vtable: uint16 sizes of the vtable and of the table, then where each field is in it, 0 if it is
absent. A vector, or a text, is a uint32 count and its elements. Everything is little-endian.
Source: https://flatbuffers.dev/internals
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a buffer; fields are numbered as in the schema.

    Raises ValueError wherever something lies outside the buffer.
    """

    data: memoryview
    position: int

    @staticmethod
    def root(data: memoryview, kind: bytes) -> Table:
        """The root table of a buffer whose kind is `kind`."""
        if bytes(data[4:8]) != kind:
            raise ValueError(f"the file is not of kind {kind!r}")
        return Table(data, 0)._follow(0)

    def _number(self, form: str, position: int) -> int:
        try:
            return int(struct.unpack_from("<" + form, self.data, position)[0])
        except struct.error as error:
            raise ValueError(f"an offset leads out of the file: {error}") from None

    def _follow(self, position: int) -> Table:
        return Table(self.data, position + self._number("I", position))

    def _field(self, number: int) -> int:
        """Where a field is, 0 if it is absent."""
        vtable = self.position - self._number("i", self.position)
        if vtable < 0:
            raise ValueError("an offset leads out of the file")
        if 4 + 2 * number >= self._number("H", vtable):
            return 0
        inside = self._number("H", vtable + 4 + 2 * number)
        return self.position + inside if inside else 0

    def integer(self, number: int) -> int:
        """An int32, by default 0."""
        position = self._field(number)
        return self._number("i", position) if position else 0

    def elements(self, number: int, size: int) -> memoryview:
        """The bytes of a vector with elements of `size` bytes, by default none."""
        position = self._field(number)
        if not position:
            return self.data[:0]
        start = self._follow(position).position
        end = start + 4 + self._number("I", start) * size
        if end > len(self.data):
            raise ValueError(f"a vector ends at {end}, the file at {len(self.data)}")
        return self.data[start + 4 : end]

    def tables(self, number: int) -> list[Table]:
        """The tables of a vector of offsets, by default none."""
        count = len(self.elements(number, 4)) // 4
        start = self._follow(self._field(number)).position + 4 if count else 0
        return [self._follow(start + 4 * i) for i in range(count)]


class Writer:
    """Writes a buffer from its front to its end."""

    def __init__(self, kind: bytes) -> None:
        self.data = bytearray(4) + kind

    def _align(self, size: int, before: int = 0) -> None:
        """Pad so that what comes after `before` more bytes is aligned to `size`."""
        self.data += bytes(-(len(self.data) + before) % size)

    def point(self, position: int) -> None:
        """Let the offset at `position` lead to the end of what is written."""
        struct.pack_into("<I", self.data, position, len(self.data) - position)

    def table(self, position: int, fields: Sequence[int | None]) -> list[int]:
        """Write a table of four-byte fields that the offset at `position` leads to.

        `fields` has int32 values, and None for offsets that are still to be written. Returns where
        each field is.
        """
        self._align(4)
        vtable = len(self.data)
        count = len(fields)
        offsets = [4 + 4 * i for i in range(count)]
        self.data += struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 4 * count, *offsets)
        self._align(4)
        self.point(position)
        start = len(self.data)
        self.data += struct.pack(f"<i{count}i", start - vtable, *(value or 0 for value in fields))
        return [start + offset for offset in offsets]

    def vector(self, position: int, count: int, data: bytes, align: int = 4) -> int:
        """Write a vector that the offset at `position` leads to; returns where its data is."""
        self._align(max(align, 4), before=4)
        self.point(position)
        self.data += struct.pack("<I", count)
        start = len(self.data)
        self.data += data
        return start
