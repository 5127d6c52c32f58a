# SPDX-License-Identifier: Apache-2.0
"""What a session records of its making and its runs, where profiling is on."""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bascule.load_clock import LoadSpan
from bascule.logging import LOGGER
from bascule.native import _native
from bascule.providers.names import CUDA

if TYPE_CHECKING:
    from bascule.compiled import CompiledModel, NodeRow
    from bascule.ir.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class DeviceSpan:
    """How long a device worked for a node, a part of a run or a copy."""

    kind: str
    """``node``, ``part`` (nodes that ran without the host in between) or ``copy``."""
    name: str
    op_type: str
    provider: str
    kernel: str
    start_ns: int
    duration_ns: int
    thread: int
    outputs: list[tuple[str, list[int]]] = field(default_factory=list)
    """(type, shape) of each."""
    nodes: int = 1
    bytes: int = 0
    """Of a copy."""


@dataclass
class Recording:
    """What ran since the last one was taken; times are those of time.monotonic_ns().

    `native` has what programs of the CPU provider did: ``programs`` (a list of steps, each (name,
    operator, domain, kernel)), ``shapes`` (for each step (type, shape) of what it made),
    ``inputs`` (as shapes, of the inputs of a plan), ``live_bytes`` (for each plan what is in use at
    each step) and ``arena_bytes``; ``runs``, each (program, shapes, plan or -1, thread, times,
    allocations): the beginning, then the end of each step, -1 where it was not taken, as where
    steps are very short, and (time, bytes, step or -1, kind);
    ``work``, what other threads did, each (program, step, thread, begin, end); and ``dropped``, how
    many runs were not kept.
    """

    native: dict[str, Any]
    device: list[DeviceSpan]


@dataclass
class Loaded:
    """What is known of a session's making."""

    seconds: dict[str, float]
    rows: Sequence[NodeRow] = ()
    spans: Sequence[LoadSpan] = ()
    passes: dict[str, int] = field(default_factory=dict)
    graph: Graph | None = None
    """As it runs, on the CPU without the elements of constants; None where it came from a plan."""
    weight_bytes: int = 0


class Profiler(_native.Profiler):  # type: ignore[misc]
    """Collects the spans of nodes: of those that run natively, and of those on a device."""

    def __init__(self) -> None:
        super().__init__()
        self._device: list[DeviceSpan] = []

    def add_node(
        self, node: Node, kernel: str, start_ns: int, duration_ns: int, outputs: list[Any]
    ) -> None:
        """Note how long a device worked for a node; `outputs` are (type, shape)."""
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        self._add("node", node.name, CUDA, start_ns, duration_ns, operator, kernel, outputs)

    def add_part(
        self, name: str, provider: str, nodes: int, start_ns: int, duration_ns: int
    ) -> None:
        """Note a part of a run: nodes that ran without the host in between."""
        self._add("part", name, provider, start_ns, duration_ns, nodes=nodes)

    def add_copy(self, name: str, nbytes: int, start_ns: int, duration_ns: int) -> None:
        """Note a copy between the host and a device."""
        self._add("copy", name, CUDA, start_ns, duration_ns, nbytes=nbytes)

    def _add(
        self,
        kind: str,
        name: str,
        provider: str,
        start_ns: int,
        duration_ns: int,
        operator: str = "",
        kernel: str = "",
        outputs: list[Any] | None = None,
        nodes: int = 1,
        nbytes: int = 0,
    ) -> None:
        thread = threading.get_native_id()
        self._device.append(
            DeviceSpan(
                kind,
                name,
                operator,
                provider,
                kernel,
                start_ns,
                duration_ns,
                thread,
                outputs or [],
                nodes,
                nbytes,
            )
        )

    def collect(self) -> Recording:
        """All there is; it is forgotten here."""
        device, self._device = self._device, []
        return Recording(self.take(), device)


class Trace:
    """Records while a session lives; does nothing when it is not enabled.

    The file is a JSON list with one event a line, as chrome://tracing and Perfetto read it.
    """

    def __init__(self, prefix: str, enabled: bool) -> None:
        self.profiler = Profiler() if enabled else None
        self.started_ns = time.monotonic_ns() if enabled else 0
        self.loaded = Loaded({})
        self.outlives_session = True
        """Whether it is written although nobody ends it."""
        self._prefix = prefix
        self._graph: Graph | None = None
        self._weight_bytes = 0

    @property
    def is_on(self) -> bool:
        return self.profiler is not None

    def note_graph(self, graph: Graph, is_read: bool) -> None:
        """Keep the graph of a program, without its constants unless it `is_read` by runs, too.

        The CUDA provider makes kernels of its nodes, and of the constants in them, when it runs.
        """
        if self.profiler is None:
            return
        self._graph, self._weight_bytes = graph, 0
        for each in graph.walk_graphs():
            for value in each.initializers.values():
                if value.constant is not None:
                    self._weight_bytes += value.constant.nbytes
                    if not is_read:
                        value.constant = None

    def note_compiled(self, compiled: CompiledModel) -> None:
        """Keep what a profile tells of the session's making."""
        if self.profiler is not None:
            self.loaded = Loaded(
                compiled.seconds,
                compiled.rows,
                compiled.spans,
                compiled.passes,
                self._graph,
                self._weight_bytes,
            )

    def end_with(self, session: object) -> None:
        """Write the file at the latest when `session` goes, or the process ends."""
        if self.profiler is not None:
            weakref.finalize(session, _end_here, self, os.getpid())

    def end(self) -> str:
        """Write the file and stop; the path, or '' when there is nothing to write."""
        if self.profiler is None:
            return ""
        # Imported here: few sessions are profiled.
        from bascule.tools.profile.trace_file import session_events

        recording, self.profiler = self.profiler.collect(), None
        events = session_events(self.loaded, recording, self.started_ns)
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        number = 0
        while os.path.exists(path := f"{self._prefix}_{stamp}_{number}.json"):
            number += 1
        with open(path, "w", encoding="utf-8") as file:
            file.write("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n]\n")
        return path


def _end_here(trace: Trace, process: int) -> None:
    """End a trace that nobody has ended, in the process that began it."""
    if not trace.outlives_session or os.getpid() != process:  # a child has but a copy
        return
    try:
        trace.end()
    except OSError as error:
        LOGGER.warning("the profile of a session cannot be written: %s", error)


def name_apart(graph: Graph, unnamed: bool = True) -> None:
    """Give every node a name of its own, so that a profile can tell them apart.

    Without `unnamed`, nodes that have none get none.
    """
    seen = Counter(node.name for node in graph.walk_nodes())
    taken = set(seen)
    for node in graph.walk_nodes():
        if seen[node.name] == 1 if node.name else not unnamed:
            continue
        base = node.name or node.op_type
        number = 2 if node.name else 1
        seen[node.name] -= 1  # the last of them keeps it
        while (name := f"{base}#{number}") in taken:
            number += 1
        taken.add(name)
        node.name = name
