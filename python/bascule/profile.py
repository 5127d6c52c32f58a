# SPDX-License-Identifier: Apache-2.0
"""The profile of a session as a file of Chrome trace events."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bascule.native import _native
from bascule.providers.names import CPU, CUDA

if TYPE_CHECKING:
    from bascule.ir.graph import Node


class Profiler(_native.Profiler):  # type: ignore[misc]
    """Collects the spans of nodes: of those that run natively, and of those on a device."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[dict[str, Any]] = []
        self._nodes: list[dict[str, Any]] = []

    def add_node(
        self, node: Node, kernel: str, start_ns: int, duration_ns: int, outputs: list[Any]
    ) -> None:
        """Note how long a device worked for a node; `outputs` are (type, shape)."""
        self._nodes.append(
            {
                "name": node.name,
                "op_type": node.op_type,
                "provider": CUDA,
                "kernel": kernel,
                "start_ns": start_ns,
                "duration_ns": duration_ns,
                "thread": threading.get_ident(),
                "outputs": outputs,
            }
        )

    def add_part(
        self, name: str, provider: str, nodes: int, start_ns: int, duration_ns: int
    ) -> None:
        """Note a part of a run: nodes that ran without the host in between."""
        arguments = {"provider": provider, "nodes": nodes}
        thread = threading.get_ident() % 2**31
        self._parts.append(_event("Part", name, start_ns, duration_ns / 1000, thread, arguments))

    def events(self) -> list[dict[str, Any]]:
        """All of them, as events that start in nanoseconds; they are forgotten."""
        events = self._parts + [_node_event(e) for e in (*self.take(), *self._nodes)]
        self._parts, self._nodes = [], []
        return events


class Trace:
    """Collects events while a session lives; does nothing when it is not enabled.

    The file is a JSON list with one event a line, as chrome://tracing and Perfetto read it.
    """

    def __init__(self, prefix: str, enabled: bool) -> None:
        self.profiler = Profiler() if enabled else None
        self.started_ns = time.monotonic_ns() if enabled else 0
        self._prefix = prefix
        self._phases: dict[str, float] = {}

    def phases(self, seconds: dict[str, float]) -> None:
        """Note how long each phase of making the session took, in seconds."""
        self._phases = dict(seconds)

    def end(self) -> str:
        """Write the file and stop; the path, or '' when there is nothing to write."""
        if self.profiler is None:
            return ""
        events = self._session_events() + self.profiler.events()
        for event in events[len(self._phases) :]:
            event["ts"] = (event["ts"] - self.started_ns) / 1000
        self.profiler = None
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        number = 0
        while os.path.exists(path := f"{self._prefix}_{stamp}_{number}.json"):
            number += 1
        with open(path, "w", encoding="utf-8") as file:
            file.write("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n]\n")
        return path

    def _session_events(self) -> list[dict[str, Any]]:
        events = []
        start = 0.0
        for name, seconds in self._phases.items():
            events.append(_event("Session", name, start * 1e6, seconds * 1e6, 0, {}))
            start += seconds
        return events


def _node_event(event: dict[str, Any]) -> dict[str, Any]:
    arguments = {
        "op_name": event["op_type"],
        "provider": event.get("provider", CPU),
        "kernel": event["kernel"],
        "output_type_shape": [{dtype: shape} for dtype, shape in event["outputs"]],
    }
    return _event(
        "Node",
        f"{event['name']}_kernel_time",
        event["start_ns"],
        event["duration_ns"] / 1000,
        event["thread"] % 2**31,
        arguments,
    )


def _event(
    category: str, name: str, start: float, duration: float, thread: int, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "cat": category,
        "pid": os.getpid(),
        "tid": thread,
        "dur": duration,
        "ts": start,
        "ph": "X",
        "name": name,
        "args": arguments,
    }
