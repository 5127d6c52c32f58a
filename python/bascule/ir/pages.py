# SPDX-License-Identifier: Apache-2.0
"""Mapped files: their pages asked for before they are read and let go after, or read without them.

A page that is touched brings its neighbours into the process's memory, and two threads that touch
pages wait for each other. So what reads a large file from end to end reads pieces of it into memory
of its own, by the descriptor that a MappedFile keeps.
"""

from __future__ import annotations

import mmap
import os
from typing import IO, Any

import numpy as np

from bascule.errors import Fail

_CAN_READ = hasattr(os, "preadv")


class MappedFile(mmap.mmap):
    """The content of a file, mapped for reading, with a descriptor of its own."""

    descriptor: int = -1
    """Of the file; -1 where the system reads only at one position."""

    def __new__(cls, descriptor: int) -> MappedFile:
        self = super().__new__(cls, descriptor, 0, access=mmap.ACCESS_READ)
        if _CAN_READ:
            self.descriptor = os.dup(descriptor)
        return self

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def give_back(piece: memoryview) -> None:
    """Take the pages of a mapped file out of this process's memory; the system may keep them."""
    base = _mapping(piece)
    if base is None or not hasattr(mmap, "MADV_DONTNEED") or not len(piece):
        return
    start = _address(piece) - _address(base)
    first = start - start % mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, first, start + len(piece) - first)


def read_ahead(piece: memoryview) -> None:
    """Let the system begin to read the pages of a mapped file."""
    base = _readable(piece)
    if base is not None and hasattr(os, "posix_fadvise"):
        start = _address(piece) - _address(base)
        os.posix_fadvise(base.descriptor, start, piece.nbytes, os.POSIX_FADV_WILLNEED)


def read(piece: memoryview, buffer: memoryview) -> memoryview:
    """The bytes of a piece: if it is of a MappedFile, read into `buffer`, else the piece itself.

    Raises:
        Fail: the file has become shorter.
    """
    base = _readable(piece)
    if base is None:
        return piece
    start = _address(piece) - _address(base)
    found = buffer[: piece.nbytes]
    done = 0
    while done < len(found):
        count = os.preadv(base.descriptor, [found[done:]], start + done)
        if not count:
            raise Fail(f"A file of the model ended at byte {start + done} while it was read")
        done += count
    return found


def copy(piece: memoryview, file: IO[bytes]) -> bool:
    """Append a piece of a MappedFile to a file by the system alone; False if that cannot be done.

    Where the file system can, both files share what is on the disk.
    """
    base = _readable(piece)
    if base is None or not hasattr(os, "copy_file_range"):
        return False
    start = _address(piece) - _address(base)
    file.flush()
    done = 0
    while done < piece.nbytes:
        try:
            count = os.copy_file_range(
                base.descriptor, file.fileno(), piece.nbytes - done, start + done
            )
        except OSError:  # another file system, or one that cannot
            count = 0
        if not count:
            break
        done += count
    file.seek(0, os.SEEK_END)
    if done < piece.nbytes:
        file.write(piece[done:])
    return True


def place(piece: memoryview) -> tuple[int, int]:
    """Address and length of bytes: nothing else has them while `piece` lives."""
    return (_address(piece) if piece.nbytes else 0), piece.nbytes


def _mapping(piece: memoryview) -> mmap.mmap | None:
    base: Any = piece.obj
    while isinstance(base, np.ndarray):  # a mapped .npy file
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _readable(piece: memoryview) -> MappedFile | None:
    """The file that a piece is read from without its pages."""
    base = _mapping(piece) if piece.nbytes else None
    return base if isinstance(base, MappedFile) and base.descriptor >= 0 else None


def _address(buffer: Any) -> int:
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address
