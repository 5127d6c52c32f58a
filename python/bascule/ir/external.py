# SPDX-License-Identifier: Apache-2.0
"""External tensor data, mapped from files that may lie nowhere but in the model's folder."""

from __future__ import annotations

import bisect
import errno
import mmap
import os
import stat
import sys
from collections.abc import Callable, Mapping

from bascule.errors import Fail, InvalidGraph
from bascule.ir.pages import MappedFile

_OPENAT = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class ExternalFiles:
    """The files that one model's tensors refer to, each mapped once.

    `folder` is where the model lies, under the name that the caller used; when that name is a link,
    data may also lie beside the file that it leads to, as in a cache whose entries are links.
    `in_memory` holds contents that stand in for files, by location. With `on_problem`, data that
    cannot be had is zeros, and the function is told of the tensor and why.
    """

    def __init__(
        self,
        folder: str,
        model_path: str | None = None,
        in_memory: Mapping[str, memoryview] | None = None,
        on_problem: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._on_problem = on_problem
        self._folder = folder
        self._roots = [os.path.realpath(folder)]
        if model_path is not None:
            self._roots.append(os.path.dirname(os.path.realpath(model_path)))
        self._in_memory = in_memory or {}
        self._files: dict[str, memoryview] = {}
        self._ranges: dict[str, list[tuple[int, int, str]]] = {}

    def read(self, tensor: str, entries: dict[str, str], nbytes: int) -> memoryview:
        """The `nbytes` bytes that `entries` of `tensor` point to."""
        try:
            return self._read(tensor, entries, nbytes)
        except (Fail, InvalidGraph) as error:
            if self._on_problem is None:
                raise
            self._on_problem(tensor, error)
            if not nbytes:
                return memoryview(b"")
            try:
                # Untouched pages of such a mapping take no memory.
                return memoryview(mmap.mmap(-1, nbytes)).toreadonly()
            except (OSError, OverflowError, ValueError):  # more than there can be
                raise error from None

    def _read(self, tensor: str, entries: dict[str, str], nbytes: int) -> memoryview:
        location = entries.get("location", "")
        if location in self._in_memory:
            data = self._in_memory[location]
        else:
            parts = _checked_parts(location, tensor)
            key = "/".join(parts)
            if key not in self._files:
                self._files[key] = self._map(parts, location, tensor)
            data = self._files[key]
            location = key
        offset = _number(entries, "offset", 0, tensor)
        length = _number(entries, "length", nbytes, tensor)
        if length != nbytes:
            raise InvalidGraph(
                f"External data of tensor '{tensor}' has length {length}; its type and shape take "
                f"{nbytes} bytes."
            )
        if offset + length > len(data):
            raise Fail(
                f"External data of tensor '{tensor}' ends at byte {offset + length} of "
                f"'{location}', which has {len(data)} bytes."
            )
        if length:
            self._check_overlap(location, offset, offset + length, tensor)
        return data[offset : offset + length]

    def paths(self) -> list[str]:
        """The files that were read, by their paths from the folder."""
        return list(self._files)

    def _check_overlap(self, location: str, start: int, end: int, tensor: str) -> None:
        """Tensors may share their bytes, but a part of them only by mistake or malice."""
        ranges = self._ranges.setdefault(location, [])
        index = bisect.bisect_left(ranges, (start, end, ""))
        if index < len(ranges) and ranges[index][:2] == (start, end):
            return
        for other in ranges[max(index - 1, 0) : index + 1]:
            if other[0] < end and start < other[1]:
                raise InvalidGraph(
                    f"External data of tensors '{tensor}' and '{other[2]}' overlap in '{location}'."
                )
        ranges.insert(index, (start, end, tensor))

    def _map(self, parts: list[str], location: str, tensor: str) -> memoryview:
        try:
            descriptor = self._open(parts, location, tensor)
        except FileNotFoundError:
            raise _missing(tensor, location, self._folder) from None
        except OSError as error:
            raise Fail(
                f"External data '{location}' of tensor '{tensor}' cannot be opened: "
                f"{error.strerror}."
            ) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Fail(f"External data '{location}' of tensor '{tensor}' is no regular file.")
            if status.st_nlink > 1 and not self._links_are_inside(status):
                raise _escape(tensor, location, "it is a hard link to a file elsewhere")
            if not status.st_size:
                return memoryview(b"")
            return memoryview(MappedFile(descriptor))
        finally:
            os.close(descriptor)

    def _open(self, parts: list[str], location: str, tensor: str) -> int:
        if not _OPENAT:
            real = os.path.realpath(os.path.join(self._roots[0], *parts))
            if not any(_is_beneath(real, root) for root in self._roots):
                raise _escape(tensor, location, "it is a link to a file elsewhere")
            return os.open(real, _FLAGS)
        try:
            return _open_beneath(self._roots[0], parts)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
        # Some part is a link: follow it by name, and open the target without following again.
        real = os.path.realpath(os.path.join(self._roots[0], *parts))
        for root in self._roots:
            if _is_beneath(real, root):
                return _open_beneath(root, os.path.relpath(real, root).split(os.sep))
        raise _escape(tensor, location, "it is a link to a file elsewhere")

    def _links_are_inside(self, status: os.stat_result) -> bool:
        """True when every name of the file is in the model's folder itself."""
        count = 0
        for root in set(self._roots):
            with os.scandir(root) as entries:
                for entry in entries:
                    count += entry.inode() == status.st_ino and not entry.is_symlink()
        return count >= status.st_nlink


def _open_beneath(root: str, parts: list[str]) -> int:
    """Open root/parts following no link below `root`, so that nothing can be swapped in between."""
    folder = os.open(root, _FLAGS | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        return os.open(parts[-1], _FLAGS | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _is_beneath(path: str, root: str) -> bool:
    try:
        return os.path.commonpath((path, root)) == root
    except ValueError:  # another drive
        return False


def _checked_parts(location: str, tensor: str) -> list[str]:
    """The components of a relative path that stays below its start."""
    if not location:
        raise InvalidGraph(f"External data of tensor '{tensor}' has no location.")
    if "\0" in location or location.startswith("/") or os.path.isabs(location):
        raise _escape(tensor, location, "the path is absolute")
    if sys.platform == "win32":
        location = location.replace("\\", "/")
        if ":" in location:
            raise _escape(tensor, location, "the path names a drive or a stream")
    parts = [part for part in location.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _escape(tensor, location, "the path contains '..'")
    if not parts:
        raise Fail(f"External data '{location}' of tensor '{tensor}' is no regular file.")
    return parts


def _number(entries: dict[str, str], key: str, default: int, tensor: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if len(text) > 19 or not (text.isascii() and text.isdigit()):
        raise InvalidGraph(
            f"External data of tensor '{tensor}' has {key} '{text[:40]}', which is no byte count."
        )
    return int(text)


def _missing(tensor: str, location: str, folder: str) -> Fail:
    return Fail(
        f"External data path does not exist: '{location}' in '{folder or os.curdir}'. It holds "
        "the data of a tensor and belongs beside the model.",
        tensor=tensor,
    )


def _escape(tensor: str, location: str, why: str) -> Fail:
    return Fail(
        f"External data '{location}' of tensor '{tensor}' is refused: {why}. External data must "
        "lie in the model's folder; copy the file there."
    )
