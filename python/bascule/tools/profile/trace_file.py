# SPDX-License-Identifier: Apache-2.0
"""Profiles as Chrome trace events, which chrome://tracing and ui.perfetto.dev show."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from bascule.providers.names import CPU, CUDA
from bascule.tools.profile.collect import top_level_runs
from bascule.tools.profile.costs import Cost, costs_of

if TYPE_CHECKING:
    from bascule.compiled import NodeRow
    from bascule.session_profile import DeviceSpan, Loaded, Recording
    from bascule.tools.profile.peaks import Peaks
    from bascule.tools.profile.result import Profile

Event = dict[str, Any]

_LOAD_THREAD = 0
_DEVICE_THREAD = 1
_MOST_EVENTS = 60_000


def session_events(loaded: Loaded, recording: Recording, started_ns: int) -> list[Event]:
    """What a session writes: complete events only, with times in microseconds."""
    costs: dict[str, Cost] = {}
    if loaded.graph is not None:
        costs = costs_of(loaded.graph, _input_shapes(loaded, recording), _first_made(recording))
    writer = _Writer(started_ns, loaded, costs, None)
    return [
        *writer.session_events(recording),
        *writer.load_events(),
        *(writer.device_event(span) for span in recording.device if span.kind != "node"),
        *writer.node_events(recording),
        *(writer.device_event(span) for span in recording.device if span.kind == "node"),
        *writer.work_events(recording),
        *writer.allocation_events(recording),
    ]


def trace(profile: Profile) -> str:
    """A profile as a JSON object: events, names of threads, memory as a counter, and figures."""
    recording = profile.recording
    spans = [span.start_ns for span in profile.load_spans]
    runs = recording.native["runs"]
    first = min([*spans, *(int(run[4][0]) for run in runs), *(b for b, _ in profile.bounds)])
    writer = _Writer(first, profile.loaded, profile.costs, profile.peaks)
    writer.thread_of_device = _DEVICE_THREAD
    events: list[Event] = [
        {"ph": "M", "pid": os.getpid(), "tid": 0, "name": "process_name", "args": {"name": name}}
        for name in [f"bascule: {profile.model}"]
    ]
    events += writer.load_events()
    for number, (begin, end) in enumerate(profile.bounds):
        events.append(writer.event("Run", f"run {number + 1}", begin, end - begin, _main(runs), {}))
    every = writer.all_events(recording)
    events += islice(every, _MOST_EVENTS)
    is_cut = next(every, None) is not None
    events += islice(writer.memory_events(recording), _MOST_EVENTS // 4)
    events += writer.thread_names(recording)
    text = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
    facts = {
        "model": profile.model,
        "cpu": profile.cpu,
        "threads": profile.peaks.threads,
        "peak_gflops": round(profile.peaks.gflops, 1),
        "peak_gigabytes_s": round(profile.peaks.gigabytes_s, 1),
        "runs_not_kept": recording.native["dropped"],
        "cut": is_cut,
    }
    return (
        f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(facts)},\n"traceEvents": [\n'
        f"{text}\n]}}\n"
    )


class _Writer:
    def __init__(
        self, started_ns: int, loaded: Loaded, costs: Mapping[str, Cost], peaks: Peaks | None
    ) -> None:
        self._started = started_ns
        self._loaded = loaded
        self._rows = {row.name: row for row in loaded.rows}
        self._costs = costs
        self._peaks = peaks
        self._pid = os.getpid()
        self.thread_of_device: int | None = None

    def event(
        self, category: str, name: str, start: int, length: int, thread: int, arguments: Event
    ) -> Event:
        return {
            "cat": category,
            "pid": self._pid,
            "tid": thread,
            "dur": round(length / 1000, 3),
            "ts": round((start - self._started) / 1000, 3),
            "ph": "X",
            "name": name,
            "args": arguments,
        }

    # --- the whole, by the names that onnxruntime gives it

    def session_events(self, recording: Recording) -> Iterator[Event]:
        """One event for the session's making and, on the CPU alone, one for each run."""
        spans, runs = self._loaded.spans, recording.native["runs"]
        begin = min((span.start_ns for span in spans), default=self._started)
        end = max((span.start_ns + span.duration_ns for span in spans), default=begin)
        if not spans:
            end += int(sum(self._loaded.seconds.values()) * 1e9)
        yield self.event("Session", "session_initialization", begin, end - begin, _LOAD_THREAD, {})
        if recording.device:  # then native runs are but parts of a run
            return
        for number in top_level_runs(runs):
            _, _, _, thread, times, _ = runs[number]
            begin = int(times[0])
            yield self.event("Session", "model_run", begin, int(max(times)) - begin, thread, {})

    # --- loading

    def load_events(self) -> Iterator[Event]:
        if self._loaded.spans:
            for span in self._loaded.spans:
                category = "Session" if span.category == "phase" else f"Optimizer.{span.category}"
                arguments = {"node": span.node} if span.node else {}
                yield self.event(
                    category, span.name, span.start_ns, span.duration_ns, _LOAD_THREAD, arguments
                )
            return
        start = self._started
        for name, seconds in self._loaded.seconds.items():
            length = int(seconds * 1e9)
            yield self.event("Session", name, start, length, _LOAD_THREAD, {})
            start += length

    # --- runs

    def all_events(self, recording: Recording) -> Iterator[Event]:
        yield from self.node_events(recording)
        yield from map(self.device_event, recording.device)
        yield from self.work_events(recording)
        yield from self.allocation_events(recording)

    def node_events(self, recording: Recording) -> Iterator[Event]:
        native = recording.native
        for program, shapes, _, thread, times, _ in native["runs"]:
            points = times.tolist()
            steps = zip(native["programs"][program], native["shapes"][shapes], points, points[1:])
            for (name, op_type, _, kernel), made, begin, end in steps:
                if begin < 0 or end < 0:
                    continue
                arguments = {
                    "op_name": op_type,
                    "provider": CPU,
                    "kernel": kernel,
                    "output_type_shape": [{dtype: shape} for dtype, shape in made],
                    **self._facts(name, end - begin),
                }
                yield self.event(
                    "Node", f"{name}_kernel_time", begin, end - begin, thread, arguments
                )

    def device_event(self, span: DeviceSpan) -> Event:
        thread = span.thread
        if self.thread_of_device is not None and span.provider == CUDA:
            thread = self.thread_of_device
        if span.kind == "part":
            arguments: Event = {"provider": span.provider, "nodes": span.nodes}
            return self.event(
                "Part", span.name, span.start_ns, span.duration_ns, span.thread, arguments
            )
        if span.kind == "copy":
            arguments = {"bytes": span.bytes}
            if span.duration_ns:
                arguments["GB/s"] = round(span.bytes / span.duration_ns, 3)
            return self.event("Copy", span.name, span.start_ns, span.duration_ns, thread, arguments)
        arguments = {
            "op_name": span.op_type.rpartition(".")[2],
            "provider": span.provider,
            "kernel": span.kernel,
            "output_type_shape": [{dtype: shape} for dtype, shape in span.outputs],
            **self._facts(span.name, span.duration_ns, span.provider),
        }
        name = f"{span.name}_kernel_time"
        return self.event("Node", name, span.start_ns, span.duration_ns, thread, arguments)

    def work_events(self, recording: Recording) -> Iterator[Event]:
        """What other threads did for a node."""
        native = recording.native
        for program, step, thread, begin, end in native["work"]:
            name, op_type, *_ = native["programs"][program][step]
            yield self.event("Work", name, begin, end - begin, thread, {"op_name": op_type})

    def allocation_events(self, recording: Recording) -> Iterator[Event]:
        native = recording.native
        for program, _, _, thread, _, allocations in native["runs"]:
            for time, nbytes, step, kind in allocations:
                arguments: Event = {"bytes": nbytes}
                if step >= 0:
                    arguments["node"] = native["programs"][program][step][0]
                yield self.event("Allocation", f"allocate {kind}", time, 0, thread, arguments)

    def memory_events(self, recording: Recording) -> Iterator[Event]:
        """The bytes in use, as a counter."""
        native = recording.native
        for number in top_level_runs(native["runs"]):
            _, _, plan, _, times, _ = native["runs"][number]
            if plan < 0:
                continue
            for begin, live in zip(times.tolist(), native["live_bytes"][plan].tolist()):
                if begin < 0:
                    continue
                yield {
                    "ph": "C",
                    "pid": self._pid,
                    "name": "memory of the run, MB",
                    "ts": round((begin - self._started) / 1000, 3),
                    "args": {"live": live / 1e6},
                }

    def thread_names(self, recording: Recording) -> Iterator[Event]:
        native = recording.native
        callers = {run[3] for run in native["runs"]}
        workers = sorted({work[2] for work in native["work"]} - callers)
        names = {_LOAD_THREAD: "loading"}
        names.update({thread: f"run ({thread})" for thread in callers})
        names.update({thread: f"worker {n + 1} ({thread})" for n, thread in enumerate(workers)})
        if any(span.provider == CUDA for span in recording.device):
            names[_DEVICE_THREAD] = "GPU"
        for thread, name in names.items():
            yield {
                "ph": "M",
                "pid": self._pid,
                "tid": thread,
                "name": "thread_name",
                "args": {"name": name},
            }

    def _facts(self, name: str, duration_ns: int, provider: str = CPU) -> Event:
        """Speed and origin of a node."""
        facts: Event = {}
        cost = self._costs.get(name)
        if cost is not None and duration_ns > 0:
            if cost.flops:
                facts["GFLOP/s"] = round(cost.flops / duration_ns, 3)
            if cost.bytes:
                facts["GB/s"] = round(cost.bytes / duration_ns, 3)
            is_known = provider == CPU and cost.flops is not None
            if self._peaks is not None and is_known and cost.bytes:
                share = self._peaks.share(cost.flops, cost.bytes, duration_ns / 1e9)
                facts["of peak"] = "" if share is None else f"{share:.0%}"
        row: NodeRow | None = self._rows.get(name)
        if row is not None:
            for key, value in (("source", row.source), ("module", row.module)):
                if value:
                    facts[key] = value
            if row.replaced and row.replaced != [name]:
                facts["replaced"] = row.replaced
        return facts


def _main(runs: list[Any]) -> int:
    return int(runs[0][3]) if runs else _LOAD_THREAD


def _first_made(recording: Recording) -> dict[str, Any]:
    """What each node made when it first ran."""
    native = recording.native
    made: dict[str, Any] = {}
    for program, shapes, *_ in native["runs"]:
        for step, outputs in zip(native["programs"][program], native["shapes"][shapes]):
            if outputs:
                made.setdefault(step[0], outputs)
    for span in recording.device:
        if span.outputs:
            made.setdefault(span.name, span.outputs)
    return made


def _input_shapes(loaded: Loaded, recording: Recording) -> dict[str, list[int]]:
    """The shapes that the graph's inputs had in the first planned run of the whole graph."""
    native, graph = recording.native, loaded.graph
    assert graph is not None
    for number in top_level_runs(native["runs"]):
        plan = native["runs"][number][2]
        if plan < 0:
            continue
        given = native["inputs"][plan]
        if len(given) == len(graph.inputs):
            return {v.name: shape for v, (dtype, shape) in zip(graph.inputs, given) if dtype}
    return {}
