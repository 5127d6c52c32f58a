# SPDX-License-Identifier: Apache-2.0
"""What files hold, by a hash that is taken again only when a file may have changed."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import stat
import time
from typing import Any

from bascule.native import _native
from bascule.plans.folder import CacheFolder

_NAME = "index.json"
_LARGEST = 16 << 20
_ENTRIES = 4096
RACE_NS = 2_000_000_000
"""A file that was changed this short before it was looked at may change again unnoticed."""
_SECTIONS = ("files", "externals", "plans")


class Contents:
    """The index of a cache folder.

    It knows files by path, size, time of change, inode and device, as git does. Entries that two
    processes write at once may get lost: the next process then hashes once more. `key` is that of
    all hashes of the folder: a secret, so that nobody can make a model that is taken for another.
    """

    def __init__(self, folder: CacheFolder) -> None:
        self._folder = folder
        self._read = self._load() or self._create()
        self._new: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
        self._changed = False
        self.key = bytes.fromhex(self._read["key"])

    def digest(self, data: Any) -> str:
        """The hash of bytes."""
        digest: bytes = _native.digest(data, self.key)
        return digest.hex()

    def file_digest(self, path: str) -> str | None:
        """The hash of a file's contents; None when it cannot be read."""
        path = os.path.abspath(path)
        try:
            status = os.stat(path)
            known = self._find("files", path)
            if known is not None and _holds(known[:-1], status):
                return str(known[-1])
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError):
            return None
        try:
            now = time.time_ns()
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return None
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
                digest = self.digest(data)
            if _stamp(status, now)[:4] == _stamp(os.fstat(descriptor), now)[:4]:
                self._note("files", path, [*_stamp(status, now), digest])
            return digest
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def externals(self, model: str) -> list[str] | None:
        """The external files of a model with this hash; None when that is not known."""
        known = self._find("externals", model)
        return None if known is None else [str(path) for path in known]

    def note_externals(self, model: str, paths: list[str]) -> None:
        self._note("externals", model, paths)

    def is_checked(self, plan: str, status: os.stat_result) -> bool:
        """Whether all of a plan was found to be as it was written, and has not changed since."""
        known = self._find("plans", plan)
        return known is not None and _holds(known, status)

    def note_checked(self, plan: str, status: os.stat_result, when_ns: int) -> None:
        self._note("plans", plan, _stamp(status, when_ns))

    def save(self) -> None:
        """Write what is new.

        Raises:
            OSError: it cannot be written.
        """
        if not self._changed:
            return
        latest = self._load() or self._read
        if latest["key"] != self._read["key"]:
            return  # the folder was made anew meanwhile
        for section in _SECTIONS:
            merged = latest.get(section, {})
            for name, entry in self._new[section].items():
                merged.pop(name, None)
                merged[name] = entry
            latest[section] = dict(list(merged.items())[-_ENTRIES:])
        self._write(latest, replace=True)
        self._changed = False

    def _create(self) -> dict[str, Any]:
        """An index with a new key, or the one that another process made at the same time."""
        made = {"key": os.urandom(16).hex()}
        with contextlib.suppress(OSError):
            found = self._folder.read(_NAME, _LARGEST)
            if not _parse(found):
                self._write(made, replace=found != b"")
        return self._load() or made

    def _write(self, index: dict[str, Any], replace: bool) -> None:
        data = memoryview(json.dumps(index).encode("ascii"))

        def fill(descriptor: int) -> None:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])

        self._folder.write(_NAME, fill, replace)

    def _load(self) -> dict[str, Any]:
        return _parse(self._folder.read(_NAME, _LARGEST))

    def _find(self, section: str, name: str) -> list[Any] | None:
        entry = self._new[section].get(name, self._read.get(section, {}).get(name))
        return entry if isinstance(entry, list) else None

    def _note(self, section: str, name: str, entry: list[Any]) -> None:
        self._new[section][name] = entry
        self._changed = True


def _parse(data: bytes) -> dict[str, Any]:
    """An index; empty when it is damaged or there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        index = json.loads(data)
        if (
            isinstance(index, dict)
            and isinstance(index.get("key"), str)
            and len(bytes.fromhex(index["key"])) == 16
            and all(isinstance(index.get(section, {}), dict) for section in _SECTIONS)
        ):
            return index
    return {}


def _stamp(status: os.stat_result, when_ns: int) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, when_ns]


def _holds(known: list[Any], status: os.stat_result) -> bool:
    """Whether a file is as it was when its stamp was taken, beyond doubt."""
    if len(known) != 5 or not all(isinstance(number, int) for number in known):
        return False
    return known[:4] == _stamp(status, 0)[:4] and status.st_mtime_ns + RACE_NS < known[4]
