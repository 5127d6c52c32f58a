# SPDX-License-Identifier: Apache-2.0
"""What a profile found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from bascule.load_clock import LoadSpan
from bascule.tools.profile.costs import Cost
from bascule.tools.profile.peaks import Peaks

if TYPE_CHECKING:
    from bascule.session_profile import Loaded, Recording


@dataclass(frozen=True, slots=True)
class NodeProfile:
    """What a node took in a run: medians over the runs."""

    name: str
    """As in the graph as it runs."""
    op_type: str
    """With its domain, if that is not the standard's: ``bascule.MatMul``."""
    provider: str
    """Which runs it."""
    kernel: str
    """The kernel's name."""
    seconds: float
    """Seconds in one run, all calls together, without the nodes of nested graphs."""
    share: float
    """Of the time of all nodes."""
    calls: float
    """In one run."""
    flops: int | None
    """Of one run; a multiply-add counts 2. None where sizes are unknown."""
    bytes: int | None
    """Bytes that one run reads and writes at least; None where sizes are unknown."""
    of_peak: float | None
    """The time that the machine needs at least for these, as a part of `seconds`."""
    dtype: str
    """The element type of the first output, as ``float``."""
    shape: tuple[int, ...] | None
    """Of the first output."""
    source: str
    """The exporter's source lines in short, where the model carries them."""
    sources: tuple[str, ...]
    """All of them: a fused node has those of every node that it replaced."""
    scope: tuple[str, ...]
    """The modules that the node stands in, from the outermost."""
    replaced: tuple[str, ...]
    """The nodes of the model that the node stands for."""
    inside: str = ""
    """Of a node in a nested graph: what holds it, as ``loop.body/``."""

    @property
    def gflops(self) -> float | None:
        """GFLOP/s that were reached."""
        return self.flops / self.seconds / 1e9 if self.flops and self.seconds else None

    @property
    def gigabytes_s(self) -> float | None:
        """GB/s that were reached."""
        return self.bytes / self.seconds / 1e9 if self.bytes and self.seconds else None


@dataclass(frozen=True, slots=True)
class GroupProfile:
    """Nodes with something in common."""

    name: str
    """What they have in common: the operator, module or source line."""
    nodes: int
    """How many there are."""
    seconds: float
    """Seconds of one run, together."""
    share: float
    """Of the time of all nodes."""
    flops: int
    """Of one run; a multiply-add counts 2. Nodes of unknown sizes count 0."""
    bytes: int
    """Bytes that one run reads and writes at least."""
    of_peak: float | None
    """The time that the machine needs at least, as a part of `seconds`; None where unknown."""


@dataclass(frozen=True, slots=True)
class PassProfile:
    """What an optimizer pass took."""

    name: str
    """The pass, or the rule."""
    changes: int
    """How often it changed something."""
    seconds: float
    """Seconds. Of a rule: of its rewrites; looking for them is counted with its group."""


@dataclass
class Memory:
    """Bytes that a session and its runs take."""

    weights: int = 0
    """Constants of the graph as it runs."""
    arena: int = 0
    """Of the plan for the values of a run."""
    live: list[int] = field(default_factory=list)
    """What is in use while each node runs: values, scratch memory and outputs."""
    names: list[str] = field(default_factory=list)
    """The nodes."""
    allocations: list[tuple[str, int]] = field(default_factory=list)
    """(kind, bytes) of what the last run took from the system."""
    before: int = 0
    """Of the process, before the model was loaded."""
    loaded: int = 0
    """Of the process, once it was loaded."""
    peak: int = 0
    """The most that the process had."""

    @property
    def most_live(self) -> int:
        """The most bytes in use while a node runs."""
        return max(self.live, default=0)


@dataclass
class Profile:
    """Where the time of a model goes. Print it for a table; `save` writes a report or a trace."""

    model: str
    """The file, or ``model``."""
    nodes: list[NodeProfile]
    """In execution order."""
    run_seconds: list[float]
    """Seconds of each profiled run, by the clock."""
    plain_seconds: list[float]
    """Seconds of each run of the same session that was not profiled."""
    load_seconds: dict[str, float]
    """Seconds of each phase of loading, by its name."""
    load_spans: Sequence[LoadSpan]
    """What was done when, while the model was loaded."""
    passes: list[PassProfile]
    """What each optimizer pass did, and took."""
    peaks: Peaks
    """The limits of the machine, measured in this process."""
    memory: Memory
    """What the session and its runs take."""
    cpu: str
    """The processor's name."""
    feeds: dict[str, str]
    """What was fed, as ``float32[1,3,224,224]``."""
    recording: Recording = field(repr=False)
    """All that was measured, for the report and the trace."""
    loaded: Loaded = field(repr=False)
    """What was noted while the model was loaded, for the report and the trace."""
    bounds: list[tuple[int, int]] = field(repr=False)
    """When each profiled run began and ended, in nanoseconds of ``time.monotonic_ns``."""
    costs: dict[str, Cost] = field(repr=False)
    """What each node computes and moves, by its name."""

    @property
    def seconds(self) -> float:
        """The median time of a run."""
        return median(self.run_seconds)

    @property
    def node_seconds(self) -> float:
        """What all nodes take together in a run."""
        return sum(node.seconds for node in self.nodes)

    @property
    def overhead(self) -> float | None:
        """What profiling adds to a run, as a part of it; None where nothing was run without."""
        if not self.plain_seconds:
            return None
        return self.seconds / median(self.plain_seconds) - 1

    def top(self, count: int) -> list[NodeProfile]:
        """The nodes that take longest."""
        return sorted(self.nodes, key=lambda node: -node.seconds)[:count]

    def by_operator(self) -> list[GroupProfile]:
        """Nodes of one operator together, the slowest first."""
        return self._grouped(lambda node: [node.op_type])

    def by_source(self) -> list[GroupProfile]:
        """Nodes of one line of the user's program together; those without are left out."""
        return self._grouped(lambda node: node.sources[:1])

    def by_module(self, depth: int = 1 << 30) -> list[GroupProfile]:
        """Nodes of one module together, by the first `depth` parts of its path."""
        return self._grouped(lambda node: [".".join(node.scope[:depth])])

    def _grouped(self, keys: Callable[[NodeProfile], Iterable[str]]) -> list[GroupProfile]:
        groups: dict[str, list[NodeProfile]] = {}
        for node in self.nodes:
            for key in keys(node):
                groups.setdefault(key, []).append(node)
        found = [self._group(name, nodes) for name, nodes in groups.items()]
        return sorted(found, key=lambda group: -group.seconds)

    def _group(self, name: str, nodes: Sequence[NodeProfile]) -> GroupProfile:
        seconds = sum(node.seconds for node in nodes)
        known = [node for node in nodes if node.of_peak is not None]
        least = sum((node.of_peak or 0) * node.seconds for node in known)
        spent = sum(node.seconds for node in known)
        return GroupProfile(
            name,
            len(nodes),
            seconds,
            sum(node.share for node in nodes),
            sum(node.flops or 0 for node in nodes),
            sum(node.bytes or 0 for node in nodes),
            least / spent if spent else None,
        )

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write a report (.html) or a trace for chrome://tracing and ui.perfetto.dev (.json).

        Raises:
            ValueError: the name ends in something else.
        """
        target = Path(path)
        if target.suffix == ".html":
            # Imported here: a profile that is only printed needs neither.
            from bascule.tools.profile.page import page

            text = page(self)
        elif target.suffix == ".json":
            from bascule.tools.profile.trace_file import trace

            text = trace(self)
        else:
            raise ValueError(f"{target.name}: a profile is saved as .html or .json")
        target.write_text(text, encoding="utf-8")

    def records(self) -> dict[str, Any]:
        """The figures as plain data."""
        from bascule.tools.profile.table import records

        return records(self)

    def __str__(self) -> str:
        from bascule.tools.profile.table import text

        return text(self)

    __repr__ = __str__


def median(numbers: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    ordered = sorted(numbers)
    if not ordered:
        return 0.0
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
