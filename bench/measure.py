# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: functions that take turns, and tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SETTLED = 0.2
"""Seconds after which no thread of the runtime that had its turn before still spins."""


def medians(*functions: Callable[[], Any], repeats: int = 21, pause: float = 0.0) -> list[float]:
    """Seconds of each, measured in turns with a pause before each."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times):
            time.sleep(pause)
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown, the first row being the head."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"


def run_python(*arguments: str, variables: Mapping[str, str] | None = None) -> Any:
    """The JSON on the last line that a Python process prints; RuntimeError if it fails."""
    result = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(variables or {})},
    )
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise RuntimeError(lines[-1])
    return json.loads(result.stdout.splitlines()[-1])
