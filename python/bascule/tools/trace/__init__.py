# SPDX-License-Identifier: Apache-2.0
"""Every intermediate value of a run, in execution order, and watchpoints that halt at a bad one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.errors import InvalidArgument
from bascule.tools.trace.statistics import Statistics, sequence_statistics, statistics_of

if TYPE_CHECKING:
    from bascule.ir.graph import Node, Value
    from bascule.session import InferenceSession
    from bascule.tools.stepping.prepared import Prepared
    from bascule.tools.stepping.steps import Step

__all__ = ["Statistics", "TracedInput", "TracedValue", "statistics_of", "trace"]

ALARMS = ("nan", "inf", "overflow")


@dataclass(frozen=True, slots=True)
class TracedInput:
    """What a bad node read."""

    name: str
    """As in the model."""
    dtype: str
    """The element type, as ``float32``."""
    shape: tuple[int, ...] | None
    """The sizes; None for what is no tensor."""
    statistics: Statistics | None
    """Of its elements; None for what has no numbers."""
    constant: bool
    """Whether it is a weight or another constant of the model."""


@dataclass(frozen=True, slots=True)
class TracedValue:
    """A value that a node has made."""

    name: str
    """As in the model; of a value that only the optimized graph has, the name there."""
    names: tuple[str, ...]
    """All values of the model that it stands for; () if there is none."""
    node: str
    """The name of the node that made it."""
    op_type: str
    """With its domain, if that is not the standard's: ``bascule.MatMul``."""
    sources: tuple[str, ...]
    """The nodes of the model that the node stands for: several after a fusion."""
    inside: str
    """Of a node in a nested graph: what holds it, with iterations, as ``loop.body[2]/``."""
    dtype: str
    """The element type, as ``float32``; the Python type of what is no tensor."""
    shape: tuple[int, ...] | None
    """The sizes; None for what is no tensor."""
    array: Any
    """A NumPy array; a list, a dict or None for other kinds of values."""
    statistics: Statistics | None
    """None for what has no numbers."""
    alarm: str = ""
    """Of the last value, if a watchpoint halted there: which one."""
    inputs: tuple[TracedInput, ...] = ()
    """With an alarm: what the node read."""
    line: str = ""
    """The exporter's source line, where the model carries it."""


def trace(
    session: InferenceSession,
    feeds: Mapping[str, Any],
    nodes: str | Iterable[str] | None = None,
    fused: bool = False,
    stop_on: str = "",
) -> Iterator[TracedValue]:
    """As InferenceSession.trace, which tells the arguments."""
    if not isinstance(stop_on, str):
        raise TypeError(f"stop_on must be a str, not {type(stop_on).__name__}")
    patterns = [nodes] if isinstance(nodes, str) else None if nodes is None else list(nodes)
    alarms = [each for each in stop_on.split("|") if each]
    for each in alarms:
        if each not in ALARMS:
            raise InvalidArgument(f"stop_on is '{each}', which is none of {', '.join(ALARMS)}")
    # Imported here: they import onnx.
    from bascule.tools.stepping.prepared import feeds_of, prepare_session

    values = feeds_of(session, feeds)
    prepared = prepare_session(session, values, fused)
    return _Tracer(prepared, patterns, alarms, fused).run(values)


class _Tracer:
    def __init__(
        self, prepared: Prepared, patterns: list[str] | None, alarms: list[str], fused: bool
    ) -> None:
        self._prepared = prepared
        self._patterns = patterns
        self._alarms = alarms
        self._fused = fused
        self._sources: dict[int, tuple[str, ...]] = {}
        self._needed: set[int] | None = None
        if patterns is not None:
            self._needed = self._find_needed()

    def run(self, feeds: list[Any]) -> Iterator[TracedValue]:
        from bascule.tools.stepping.steps import Environment, Stepper, enters_body

        environment = Environment()
        for value, array in zip(self._prepared.graph.inputs, feeds):
            environment[value] = array
        stepper = Stepper(self._prepared.providers, self._wants, enters_body)
        for step in stepper.steps(self._prepared.graph, environment):
            for value, array in step.outputs:
                shown = self._is_shown(step.node, value)
                if not shown and not self._alarms:
                    continue
                found = statistics_of(array)
                alarm = alarm_of(step, found or sequence_statistics(array), self._alarms)
                if shown or alarm:
                    yield self._traced(step, value, array, found, alarm)
                if alarm:
                    return

    # --- which values

    def _wants(self, node: Node) -> bool:
        return self._needed is None or id(node) in self._needed

    def _is_shown(self, node: Node, value: Value) -> bool:
        if self._patterns is None:
            return True
        names = {node.name, value.name, *value.origins, *self._sources_of(node)}
        return any(fnmatchcase(name, each) for each in self._patterns for name in names)

    def _find_needed(self) -> set[int]:
        """The nodes that the ones asked for need, and those themselves, with all in them."""
        from bascule.tools.stepping.part import reads_of

        needed: set[int] = set()
        matched: set[str] = set()
        pending: list[Node] = []
        for node in self._prepared.graph.walk_nodes():
            if any(self._is_shown(node, value) for value in node.outputs):
                pending.append(node)
                matched.add(node.name)
        if not pending:
            raise InvalidArgument(
                f"No node or value of the model is called {', '.join(self._patterns or ())}"
            )
        while pending:
            node = pending.pop()
            if id(node) in needed:
                continue
            needed.add(id(node))
            values = reads_of(node)
            if node.graph is not None and node.graph.parent is not None:
                # A body runs as a whole: what it yields goes into the next iteration.
                pending.append(node.graph.parent)
                pending.extend(node.graph)
            if self._alarms:  # which may go off inside
                pending.extend(inner for graph in node.subgraphs for inner in graph)
            pending.extend(value.producer for value in values if value.producer is not None)
        return needed

    # --- what is told of them

    def _sources_of(self, node: Node) -> tuple[str, ...]:
        found = self._sources.get(id(node))
        if found is None:
            names = [node.name]
            if self._fused:
                names = [each.name for each in self._prepared.source.nodes_of(node)] or names
            found = self._sources[id(node)] = tuple(dict.fromkeys(names))
        return found

    def _traced(
        self, step: Step, value: Value, array: Any, found: Statistics | None, alarm: str
    ) -> TracedValue:
        from bascule.ir.source_trace import source_of
        from bascule.tools.stepping.prepared import shown_names

        node = step.node
        known = self._prepared.source.find(value) is not None
        names = shown_names(value) if known else ()
        return TracedValue(
            names[0] if names else value.name,
            names,
            node.name,
            f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
            self._sources_of(node),
            step.inside,
            *_kind(array),
            array,
            found,
            alarm,
            tuple(_input(each, item) for each, item in step.inputs) if alarm else (),
            source_of(node),
        )


def alarm_of(step: Step, found: Statistics | None, alarms: Sequence[str]) -> str:
    """The watchpoint that a value of the step, with these statistics, sets off; '' if none."""
    if found is None:
        return ""
    if "nan" in alarms and found.nan:
        return "nan"
    if "inf" in alarms and found.inf:
        return "inf"
    if "overflow" in alarms and (found.inf or found.largest):
        read = [statistics_of(a) or sequence_statistics(a) for _, a in step.inputs]
        held = holds_bad(step.node)
        finite = not held and all(each is None or not (each.inf or each.nan) for each in read)
        full = held or any(each is not None and each.largest for each in read)
        if (found.inf and finite) or (found.largest and not full and not found.inf):
            return "overflow"
    return ""


def holds_bad(node: Node) -> bool:
    """Whether an attribute, or what was fused into the node, holds what would set off an alarm."""
    from bascule.ir.constant import Constant
    from bascule.tools.stepping.steps import enters_body

    held = [value for value in node.attributes.values() if isinstance(value, (Constant, float))]
    if enters_body(node):
        return any(map(_is_bad, held))
    inside = [v.constant for graph in node.subgraphs for v in graph.initializers.values()]
    return any(map(_is_bad, [*held, *inside]))


def _is_bad(thing: Any) -> bool:
    if isinstance(thing, float):
        return not np.isfinite(thing)
    found = None if thing is None else statistics_of(thing.numpy())
    return found is not None and bool(found.nan or found.inf or found.largest)


def _input(value: Value, array: Any) -> TracedInput:
    from bascule.tools.stepping.prepared import shown_names

    name = shown_names(value)[0]
    return TracedInput(
        name, *_kind(array), statistics_of(array), constant=value.constant is not None
    )


def _kind(array: Any) -> tuple[str, tuple[int, ...] | None]:
    if isinstance(array, np.ndarray):
        return str(array.dtype), array.shape
    return type(array).__name__, None
