# SPDX-License-Identifier: Apache-2.0
"""From what was recorded to the time of each node in each run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bascule.session_profile import Recording
from bascule.tools.profile.costs import Made

Times = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Timings:
    """What nodes took, by their names."""

    own_ns: dict[str, Times]
    """For each run: the time of a node, without that of nodes inside; -1 where it was not taken."""
    calls: dict[str, float]
    """Calls in a run, on average."""
    made: dict[str, Made]
    """What each node made when it first ran."""
    order: list[str] = field(default_factory=list)
    """Names as they first ran."""
    kernels: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(operator, kernel) of each."""


def timings(recording: Recording, bounds: Sequence[tuple[int, int]]) -> Timings:
    """The times of nodes in the runs that began and ended at `bounds`; others do not count."""
    starts = [begin for begin, _ in bounds]

    def run_at(time: int) -> int:
        index = bisect_right(starts, time) - 1
        return index if index >= 0 and time <= bounds[index][1] else -1

    native = recording.native
    inner = nested_ns(native["runs"])
    own: dict[str, Times] = {}
    calls: dict[str, int] = {}
    found = Timings(own, {}, {})
    for number, (program, shapes, _, _, times, _) in enumerate(native["runs"]):
        run = run_at(int(times[0]))
        durations = np.diff(times)
        if number in inner:
            durations = durations - inner[number]
        known = (times[1:] >= 0) & (times[:-1] >= 0)
        steps = native["programs"][program]
        for step, duration, is_known in zip(steps, durations.tolist(), known.tolist()):
            name = step[0]
            if name not in own:
                own[name] = np.full(len(bounds), -1, np.int64)
                found.order.append(name)
                found.kernels[name] = (_operator(step[1], step[2]), step[3])
            if run < 0:
                continue
            calls[name] = calls.get(name, 0) + 1
            if is_known:
                own[name][run] = max(own[name][run], 0) + duration
        for step, outputs in zip(steps, native["shapes"][shapes]):
            if outputs:
                found.made.setdefault(step[0], outputs)
    for span in recording.device:
        if span.kind != "node":
            continue
        run = run_at(span.start_ns)
        if span.name not in own:
            own[span.name] = np.full(len(bounds), -1, np.int64)
            found.order.append(span.name)
            found.kernels[span.name] = (span.op_type, span.kernel)
        if run >= 0:
            own[span.name][run] = max(own[span.name][run], 0) + span.duration_ns
            calls[span.name] = calls.get(span.name, 0) + 1
        if span.outputs:
            found.made.setdefault(span.name, span.outputs)
    count = max(len(bounds), 1)
    found.calls = {name: calls.get(name, 0) / count for name in own}
    return found


def nested_ns(runs: Sequence[Any]) -> dict[int, Times]:
    """For each run that others ran inside of: the time of these, by step."""
    if len({run[0] for run in runs}) < 2:
        return {}
    inner: dict[int, Times] = {}
    stacks: dict[int, list[int]] = {}
    for number in sorted(
        range(len(runs)), key=lambda n: (int(runs[n][4][0]), -int(runs[n][4][-1]))
    ):
        times, thread = runs[number][4], runs[number][3]
        stack = stacks.setdefault(thread, [])
        while stack and int(runs[stack[-1]][4][-1]) <= int(times[0]):
            stack.pop()
        if stack:
            outer = runs[stack[-1]][4]
            step = int(np.searchsorted(outer, times[0], side="right")) - 1
            if 0 <= step < len(outer) - 1:
                took = inner.setdefault(stack[-1], np.zeros(len(outer) - 1, np.int64))
                took[step] += int(times[-1] - times[0])
        stack.append(number)
    return inner


def top_level_runs(runs: Sequence[Any]) -> list[int]:
    """The numbers of the runs that did not run inside of another."""
    ends: dict[int, int] = {}
    found = []
    for number in sorted(
        range(len(runs)), key=lambda n: (int(runs[n][4][0]), -int(runs[n][4][-1]))
    ):
        times, thread = runs[number][4], runs[number][3]
        if int(times[0]) >= ends.get(thread, -1):
            found.append(number)
            ends[thread] = int(times[-1])
    return found


def _by_start(runs: Sequence[Any]) -> list[int]:
    """Numbers of runs as they began, an outer one before those inside."""
    times = [run[4] for run in runs]
    return sorted(range(len(runs)), key=lambda n: (int(times[n][0]), -int(times[n][-1])))


def _operator(op_type: str, domain: str) -> str:
    return f"{domain}.{op_type}" if domain else op_type
