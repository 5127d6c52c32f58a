# SPDX-License-Identifier: Apache-2.0
"""The folder of a plan cache: files that are written whole or not at all, and only our own."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable

SUFFIX = ".plan"
_TEMPORARY = ".tmp"
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
_ABANDONED_AFTER = 3600.0
"""Seconds after which a file that was being written is taken for one that nobody finishes."""
_USE_NOTED_EVERY = 3600.0
"""Seconds for which a note of a plan's use holds."""


class UnusableFolder(Exception):
    """Why a folder is not used."""


class CacheFolder:
    """A folder that only this user, or root, can write to; made when it is missing.

    Raises:
        UnusableFolder: others can write to it, or it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            status = os.stat(self.path)
        except OSError as error:
            raise UnusableFolder(f"the folder cannot be made: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise UnusableFolder("it is no folder")
        if not _is_ours(status):
            raise UnusableFolder(
                "other users can write to the folder, or it belongs to one: only a folder of mode "
                "0700 or 0755 that is yours is trusted"
            )

    def open(self, name: str) -> int | None:
        """A descriptor of our own regular file `name`; None if there is none. Follows no link."""
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            descriptor = os.open(self._at(name), _OPEN | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and _is_ours(status):
            return descriptor
        os.close(descriptor)
        return None

    def read(self, name: str, limit: int) -> bytes:
        """The contents of `name`, b"" when there is none or it is larger than `limit`."""
        descriptor = self.open(name)
        if descriptor is None:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
        return data if len(data) <= limit else b""

    def write(self, name: str, fill: Callable[[int], None], replace: bool = True) -> None:
        """Put a file at `name` that `fill` wrote to a descriptor; readers see it when it is whole.

        Without `replace`, a file that is there by then stays.

        Raises:
            OSError: it cannot be written; nothing is left behind.
        """
        temporary = self._at(f"{name}.{os.getpid()}.{os.urandom(8).hex()}{_TEMPORARY}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(temporary, flags, 0o600)
        try:
            try:
                fill(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if replace:
                os.rename(temporary, self._at(name))
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, self._at(name))
                os.unlink(temporary)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        with contextlib.suppress(OSError):  # the name is on disk, too
            folder = os.open(self.path, _OPEN)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def note_use(self, name: str) -> None:
        """Note that a plan was used, in its time of access."""
        with contextlib.suppress(OSError):
            status = os.stat(self._at(name), follow_symlinks=False)
            if time.time() - status.st_atime > _USE_NOTED_EVERY:
                times = (time.time_ns(), status.st_mtime_ns)
                os.utime(self._at(name), ns=times, follow_symlinks=False)

    def trim(self, most: int) -> list[str]:
        """Remove the least recently used plans until they take `most` bytes; their names.

        Files that nobody finished go, too. Plans that are in use live on until they are let go.
        """
        plans = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(SUFFIX):
                        used = max(status.st_atime, status.st_mtime)
                        plans.append((used, entry.name, status.st_size))
                        continue
                    age = time.time() - status.st_mtime
                    if entry.name.endswith(_TEMPORARY) and age > _ABANDONED_AFTER:
                        os.unlink(entry.path)
        total = sum(size for _, _, size in plans)
        removed = []
        for _, name, size in sorted(plans):
            if total <= most:
                break
            with contextlib.suppress(OSError):
                os.unlink(self._at(name))
                removed.append(name)
            total -= size
        return removed

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)


def _is_ours(status: os.stat_result) -> bool:
    """Whether only this user and root can have written it."""
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022
