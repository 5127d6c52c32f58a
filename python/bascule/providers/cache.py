# SPDX-License-Identifier: Apache-2.0
"""Results that took long to make, kept on disk for the next session."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_DIGEST = hashlib.sha256().digest_size


def folder() -> Path | None:
    """``$BASCULE_CACHE_DIR``, or bascule's part of the user's cache; None if there is none."""
    chosen = os.environ.get("BASCULE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local, "bascule", "Cache") if local else None
    home = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # no home either
        return Path(home) / "bascule" if home else Path.home() / ".cache" / "bascule"
    return None


def cached(suffix: str, key: str, make: Callable[[], bytes]) -> bytes:
    """What ``make()`` returns, or returned in an earlier process for the same `key`.

    A file that was cut short or changed is made again. A cache that cannot be read or written is
    none: the result is made each time.
    """
    place = folder()
    if place is None:
        return make()
    path = place / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.{suffix}"
    with contextlib.suppress(OSError):
        digest, data = _split(path.read_bytes())
        if digest == hashlib.sha256(data).digest():
            return data
    data = make()
    with contextlib.suppress(OSError):
        write(path, hashlib.sha256(data).digest() + data)
    return data


def _split(content: bytes) -> tuple[bytes, bytes]:
    return content[:_DIGEST], content[_DIGEST:]


def write(path: Path, content: bytes) -> None:
    """All of it or nothing, also when several processes write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
