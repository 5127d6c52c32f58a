# SPDX-License-Identifier: Apache-2.0
"""How a GPU's runtimes are timed: they take turns, and every time is a median."""

from __future__ import annotations

import fcntl
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MOST_AT_ONCE, TURN = 10, 0.2
"""Calls of a runtime's turn, and about how many seconds they may take."""


@dataclass
class Runtime:
    """Something that runs a case."""

    name: str
    start: Callable[[], Any]
    """Start a run."""
    outputs: Callable[[], list[np.ndarray[Any, Any]]]
    """The first outputs of a run."""
    start_only: Callable[[], Any] | None = None
    """Start a run, and do not wait for it even where `start` would."""
    facts: dict[str, Any] = field(default_factory=dict)


class Lock:
    """Held by one of several processes; may be taken again by the one that holds it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._depth = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, which holds the lock while it runs."""

        def call(*arguments: Any, **options: Any) -> Any:
            if not self._depth:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            self._depth += 1
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

        return call


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(runtimes: list[Runtime], seconds: float) -> dict[str, dict[str, float]]:
    """Of each runtime, in ms: a run that is waited for, one of a stream, and the host's part.

    They take turns for about `seconds`.
    """
    calls = {runtime.name: _calls(runtime) for runtime in runtimes}
    latencies: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    streams: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    hosts: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < (end if turns >= 3 or not turns else end + 4 * seconds):
        turns += 1
        for runtime in runtimes:
            count = calls[runtime.name]
            runtime.start()  # fills the caches again
            wait()
            for _ in range(count):
                begin = time.perf_counter()
                runtime.start()
                wait()
                latencies[runtime.name].append(time.perf_counter() - begin)
            start = runtime.start_only or runtime.start
            begin = time.perf_counter()
            for _ in range(count):
                start()
            started = time.perf_counter()
            wait()
            streams[runtime.name].append((time.perf_counter() - begin) / count)
            hosts[runtime.name].append((started - begin) / count)
    return {
        name: {
            "latency_ms": statistics.median(latencies[name]) * 1e3,
            "stream_ms": statistics.median(streams[name]) * 1e3,
            "host_ms": statistics.median(hosts[name]) * 1e3,
            "calls": len(latencies[name]),
        }
        for name in latencies
    }


def _calls(runtime: Runtime) -> int:
    """How many calls fit a turn; the runtime is warm afterwards."""
    for _ in range(3):
        begin = time.perf_counter()
        runtime.start()
        wait()
    once = time.perf_counter() - begin
    return min(max(int(TURN / once), 2), MOST_AT_ONCE)


def difference(expected: Iterable[Any], actual: Iterable[Any]) -> float:
    """The largest difference of any output, relative to its largest value; NaN if there is one.

    Only as many samples are compared as are expected.
    """
    worst = 0.0
    for want, got in zip(expected, actual, strict=True):
        part = got[: len(want)].astype(np.float32)
        worst = max(worst, float(np.abs(want - part).max() / np.abs(want).max()))
        if not np.isfinite(part).all():
            return float("nan")
    return worst


def kernels(runtime: Runtime, count: int) -> list[dict[str, Any]]:
    """The GPU kernels that a run of `runtime` spends its time in, the costliest first."""
    import torch

    calls = 5
    activities = [torch.profiler.ProfilerActivity.CUDA]
    runtime.start()
    wait()
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(calls):
            runtime.start()
        wait()
    events = [event for event in profile.key_averages() if event.self_device_time_total]
    events.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events) / calls
    rows = [{"kernel": "all", "us": total, "launches": sum(e.count for e in events) / calls}]
    for event in events[:count]:
        spent = {"us": event.self_device_time_total / calls, "launches": event.count / calls}
        rows.append({"kernel": event.key[:120], **spent})
    return rows
