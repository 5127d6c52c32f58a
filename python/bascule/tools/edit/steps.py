# SPDX-License-Identifier: Apache-2.0
"""Edits as steps: all or nothing, checked, undone and done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from bascule.errors import Fail, InvalidArgument
from bascule.ir.infer import strict_errors
from bascule.tools.edit.change import Change
from bascule.tools.edit.document import Document
from bascule.tools.edit.history import Entry, History, pack, unpack
from bascule.tools.edit.types import infer, refresh

_Steps = TypeVar("_Steps", bound="Steps")


class Steps:
    """A document that is changed in steps. The base of Editor."""

    notes: tuple[str, ...]
    """What the last edit did besides what was asked for, and what needs a look."""

    def __init__(self, document: Document, check: bool, history: int) -> None:
        self._document = document
        self._check = check
        self._history = History(history)
        self._under_way: Change | None = None
        self._level: int | None = None
        """How valid the model is, where that is known: see `require`."""
        self.notes = ()

    @contextmanager
    def step(self: _Steps, title: str) -> Iterator[_Steps]:
        """Make one step of all edits in the block: checked at the end, and undone together.

        If an error leaves the block, the model is as it was. In between it need not be valid.

        Examples:
            >>> with editor.step("to float16 and back"):
            ...     editor.insert("x", "Cast", attributes={"to": 10})
            ...     editor.insert("y", "Cast", attributes={"to": 1})
        """
        with self._edit(title):
            yield self

    @contextmanager
    def _edit(self, title: str) -> Iterator[Change]:
        if self._under_way is not None:
            yield from self._within(self._under_way)
            return
        before = self._document.copy()
        change = self._under_way = Change(title)
        try:
            if self._check and self._level is None:
                self._level = _level(before)
            yield change
            if change.changed:
                self._refresh(before, change)
            if self._check:
                level = self._level or 0
                # What is known now may be what onnx's own inference goes wrong with.
                require(self._document, min(level, _VALID) if change.same_nodes else level)
                self._level = level if level and not change.same_nodes else None
        except BaseException:
            self._document.proto = before.proto
            raise
        finally:
            self._under_way = None
        self.notes = tuple(change.notes)
        states = pack(before.proto), pack(self._document.proto)
        if states[0] != states[1]:
            self._history.add(Entry(title, self.notes, *states))

    def _refresh(self, before: Document, change: Change) -> None:
        """Mend declared types; those of a model that need not be valid stay as they are."""
        try:
            refresh(before, self._document, change.changed, change.unsure, change.facts)
        except Exception:
            if self._check and self._level:
                raise

    def _within(self, change: Change) -> Iterator[Change]:
        """An edit that is a part of a step: if it fails and the step goes on, it left nothing."""
        proto, changed = self._document.copy().proto, set(change.changed)
        try:
            yield change
        except BaseException:
            self._document.proto, change.changed = proto, changed
            raise

    @property
    def history(self) -> tuple[str, ...]:
        """The edits that can be undone, the oldest first."""
        return tuple(entry.title for entry in self._history.done)

    def undo(self: _Steps, steps: int = 1) -> _Steps:
        """Take back the last edits.

        Raises:
            InvalidArgument: there are not so many.
        """
        self._travel(steps, self._history.back, "undo")
        return self

    def redo(self: _Steps, steps: int = 1) -> _Steps:
        """Do edits again that were taken back.

        Raises:
            InvalidArgument: there are not so many.
        """
        self._travel(steps, self._history.forward, "redo")
        return self

    def _travel(self, steps: int, move: Callable[[], Entry | None], what: str) -> None:
        if self._under_way is not None:
            raise InvalidArgument(f"{what} cannot be a part of a step")
        known = self._history.done if what == "undo" else self._history.undone
        if steps > len(known):
            raise InvalidArgument(f"There are {len(known)} edits to {what}, not {steps}")
        for _ in range(steps):
            entry = move()
            assert entry is not None
            self._document.proto = unpack(entry.before if what == "undo" else entry.after)
        self.notes = ()
        self._level = None


_VALID, _STRICT = 1, 2


def require(document: Document, level: int = _STRICT) -> None:
    """Refuse a model that is not valid: from level 1 by what bascule needs to run it, from level 2
    by all that onnx's inference says as well.

    Raises:
        Fail, InvalidGraph, InvalidArgument, NotImplemented: why not.
    """
    if level >= _VALID:
        infer(document, check=True)
    if level >= _STRICT:
        errors = strict_errors(document.model())
        if errors:
            raise Fail(f"Types do not fit: {errors}")


def _level(document: Document) -> int:
    for level in (_STRICT, _VALID):
        try:
            require(document, level)
        except Exception:  # whatever is wrong was so before the edit
            continue
        return level
    return 0
