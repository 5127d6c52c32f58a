# SPDX-License-Identifier: Apache-2.0
"""What the measurements share: taking turns, and tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def medians(*functions: Callable[[], Any], repeats: int = 21, calls: int = 1) -> list[float]:
    """Milliseconds of a call of each, measured in turns of so many `calls`."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            taken.append((time.perf_counter() - start) / calls)
    return [1e3 * statistics.median(taken) for taken in times]


def table(rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; the first row is the head."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"
