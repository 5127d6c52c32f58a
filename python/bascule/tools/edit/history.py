# SPDX-License-Identifier: Apache-2.0
"""The states of a model that undo and redo go back to."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import onnx

# States differ little and are mostly text: the fastest level makes them some 15 times smaller.
_LEVEL = 1


@dataclass(frozen=True)
class Entry:
    """An edit that was done.

    Attributes:
        title: what it was, in a few words.
        notes: what was done besides, and what needs a look.
        before: the state before it, packed.
        after: the state after it.
    """

    title: str
    notes: tuple[str, ...]
    before: bytes
    after: bytes


class History:
    """Edits that can be undone, and undone ones that can be done again; the oldest are dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 0)
        self.done: list[Entry] = []
        self.undone: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Add an edit that was done; what was undone cannot be done again from now on."""
        if self.done and self.done[-1].after == entry.before:
            entry = replace(entry, before=self.done[-1].after)  # kept once
        self.done.append(entry)
        self.undone.clear()
        del self.done[: max(len(self.done) - self._limit, 0)]

    def back(self) -> Entry | None:
        """The newest edit, which counts as undone from now on."""
        if not self.done:
            return None
        self.undone.append(self.done.pop())
        return self.undone[-1]

    def forward(self) -> Entry | None:
        """The edit that was undone last, which counts as done from now on."""
        if not self.undone:
            return None
        self.done.append(self.undone.pop())
        return self.done[-1]


def pack(proto: onnx.ModelProto) -> bytes:
    """A state to keep."""
    return zlib.compress(proto.SerializeToString(), _LEVEL)


def unpack(state: bytes) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(zlib.decompress(state))
