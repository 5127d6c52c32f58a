# SPDX-License-Identifier: Apache-2.0
"""Pieces of tensors looked at on all CPUs, while the next ones are read from their files."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar, Union

from bascule.ir.constant import Constant
from bascule.ir.pages import read, read_ahead
from bascule.native import usable_cpus

Made = TypeVar("Made")
Job = tuple[Callable[..., Made], tuple[memoryview, ...]]
"""What looks at pieces, and the pieces."""

_AHEAD = 1 << 26
"""Bytes that are asked for before they are looked at."""

_SMALL = 1 << 15
"""Bytes up to which it costs more to hand a piece to another thread than to look at it."""


class Pieces(Generic[Made]):
    """Threads that look at pieces. A context manager, as they have to end.

    Pieces of mapped files are read into memory that each thread has for it: no page stays.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(usable_cpus())
        self._own = threading.local()

    def __enter__(self) -> Pieces[Made]:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def map(self, jobs: Iterable[Job[Made]]) -> Iterator[Made]:
        """What each job makes of its pieces, in order; as many are begun as are asked for ahead.

        Raises:
            Fail: a file has become shorter.
        """
        begun: deque[tuple[Union[Future[Made], Job[Made]], int]] = deque()
        waiting = 0
        for work, pieces in jobs:
            size = sum(piece.nbytes for piece in pieces)
            for piece in pieces:
                read_ahead(piece)
            job = work, pieces
            begun.append((self._threads.submit(self._look, job) if size > _SMALL else job, size))
            waiting += size
            while waiting > _AHEAD:
                found, size = begun.popleft()
                waiting -= size
                yield self._result(found)
        while begun:
            yield self._result(begun.popleft()[0])

    def _result(self, begun: Future[Made] | Job[Made]) -> Made:
        return begun.result() if isinstance(begun, Future) else self._look(begun)

    def _look(self, job: Job[Made]) -> Made:
        work, pieces = job
        buffers: list[Any] = self._own.__dict__.setdefault("buffers", [])
        views = []
        for number, piece in enumerate(pieces):
            if number == len(buffers):
                buffers.append(memoryview(b""))
            if len(buffers[number]) < piece.nbytes:
                buffers[number] = memoryview(bytearray(piece.nbytes))
            views.append(read(piece, buffers[number]))
        return work(*views)


def bytes_of(constant: Constant) -> memoryview:
    """The packed elements of a tensor that is none of strings."""
    assert constant.raw is not None
    return constant.raw.cast("B") if constant.raw.format != "B" else constant.raw
