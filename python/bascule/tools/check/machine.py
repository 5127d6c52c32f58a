# SPDX-License-Identifier: Apache-2.0
"""The memory that this process may have: of the machine, and within the limits of its groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """In bytes."""

    total: int
    """Of the machine, or the limit of a control group of this process if that is less."""
    free: int
    """What is left of it at the moment; files that the system keeps in memory count as free."""
    limited: bool
    """Whether a control group sets the limit."""


def machine_memory() -> MachineMemory | None:
    """The memory that this process may have; None where the system does not tell."""
    found = _physical()
    if found is None:
        return None
    total, free = found
    limited = False
    for limit, used in _limits():
        if limit < total:
            total, limited = limit, True
        free = min(free, max(limit - used, 0))
    return MachineMemory(total, min(free, total), limited)


def _physical() -> tuple[int, int] | None:
    """The memory of the machine, and how much of it is free."""
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
        sizes = {
            key: int(rest.split()[0]) << 10 for key, _, rest in (s.partition(":") for s in lines)
        }
        return sizes["MemTotal"], sizes.get("MemAvailable", sizes["MemTotal"])
    except (OSError, ValueError, IndexError, KeyError):
        pass
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return (total, total) if total > 0 else None


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, bytes in use) of each group that holds this process and has a limit."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            root, names = _GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = _GROUPS / "memory"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        # In a container the path is that of the host, and its own group is at the root.
        for depth in range(len(parts), -1, -1):
            found = _limit(root.joinpath(*parts[:depth]), *names)
            if found is not None:
                yield found


def _limit(folder: Path, limit: str, used: str, reclaimable: str) -> tuple[int, int] | None:
    try:
        most = int((folder / limit).read_text())  # "max" where there is no limit
        current = int((folder / used).read_text())
    except (OSError, ValueError):
        return None
    try:
        stats = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        current -= int(stats.get(reclaimable, 0))
    except (OSError, ValueError):
        pass
    return most, current
