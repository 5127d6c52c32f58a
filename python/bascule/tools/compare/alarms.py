# SPDX-License-Identifier: Apache-2.0
"""Where numbers go bad of themselves: which node makes a NaN, or overflows, in one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.tools.compare.sides import Side
from bascule.tools.stepping.part import let_go, reads_of
from bascule.tools.stepping.prepared import Source, shown_names
from bascule.tools.stepping.steps import Environment, Step, enters_body
from bascule.tools.trace import Statistics, alarm_of, holds_bad, statistics_of


@dataclass(frozen=True, slots=True)
class Alarm:
    """Where a model first makes a number that is none, or an infinity out of finite inputs."""

    kind: str
    """``nan`` or ``overflow``."""
    name: str
    """The value, as in the model."""
    nodes: tuple[str, ...]
    """The nodes of the model behind it: several if they are one after a fusion."""
    op_type: str
    """The operator of the node that made it."""
    inputs: tuple[str, ...]
    """Those that hold such numbers already: of a weight, the culprit."""
    inside: str = ""
    """Of a node in a nested graph: what holds it, with iterations, as ``loop.body[2]/``."""
    inherent: bool = True
    """Whether the model makes it with the optimizer off as well."""
    certain: bool = True
    """Whether a NaN constant makes it, or finite numbers do; masks are negative infinities."""


class Watch:
    """Looks at the steps of a run; of several alarms the most telling one is kept.

    A constant that holds a NaN tells more than a node that makes one, and that more than an
    infinity which is only ever negative, as masks are.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rank = len(_RANKS)
        self.alarm: Alarm | None = None
        self.step: Step | None = None
        """Of the alarm."""

    def look(self, step: Step) -> None:
        if self._rank == 0:
            return
        self._look_at_weights(step)
        for value, array in step.outputs:
            found = statistics_of(array) if _may_be_bad(array) else None
            if found is None or not (found.nan or found.inf or found.largest):
                continue
            kind = alarm_of(step, found, ("nan", "overflow"))
            read = [(each, statistics_of(item)) for each, item in step.inputs]
            bad = [(each, s) for each, s in read if s is not None and (s.nan or s.inf)]
            rank = _rank(kind, found, bad, holds_bad(step.node))
            if rank >= self._rank:
                continue
            names = tuple(shown_names(each)[0] for each, _ in bad)
            self._raise(rank, step, kind or "overflow", value, names)

    def _look_at_weights(self, step: Step) -> None:
        """A NaN in a constant is one even where nothing comes of it, as of a comparison."""
        if self._rank <= _SILENT or not step.outputs:
            return
        for value, array in step.inputs:
            if value.constant is None or not _may_be_bad(array):
                continue
            found = statistics_of(array)
            if found is not None and found.nan:
                self._raise(_SILENT, step, "nan", step.outputs[0][0], shown_names(value)[:1])
                return

    def _raise(
        self, rank: int, step: Step, kind: str, value: Value, names: tuple[str, ...]
    ) -> None:
        self._rank, self.step = rank, step
        self.alarm = Alarm(
            kind,
            shown_names(value)[0],
            self._nodes(step.node, names),
            step.node.op_type,
            names,
            step.inside,
            certain=rank <= _MADE,
        )

    def _nodes(self, node: Node, bad: tuple[str, ...]) -> tuple[str, ...]:
        sources = self._source.nodes_of(node)
        readers = [
            each
            for each in sources
            if any(v.constant is not None and v.name in bad for v in reads_of(each))
        ]
        names = (each.name for each in readers or sources or [node])
        return tuple(dict.fromkeys(names))


_RANKS = (
    *("a NaN constant", "made here", "an infinite constant", "negative infinity", "passed on"),
    "a NaN constant of which nothing comes",
)
_MADE = 1
_SILENT = len(_RANKS) - 1


def _rank(kind: str, made: Statistics, bad: list[tuple[Value, Statistics]], is_held: bool) -> int:
    """A place in _RANKS, or behind it where numbers are bad only because others are."""
    constants = [found for value, found in bad if value.constant is not None]
    others = [found for value, found in bad if value.constant is None]
    is_negative = made.inf > 0 and not made.nan and made.max < np.inf
    if kind == "nan" and any(found.nan for found in constants):
        return 0
    if kind == "nan":
        return 4 if others else 3 if is_held else 1
    if any(found.max == np.inf for found in constants) and not others:
        return 2
    if kind == "overflow":
        return 3 if is_negative else 1
    return len(_RANKS)


def _may_be_bad(array: Any) -> bool:
    """Whether statistics are worth their time."""
    if not isinstance(array, np.ndarray) or array.dtype.kind in "iubOSU" or not array.size:
        return False
    if array.dtype.char not in "efd":
        return True
    top = np.finfo(array.dtype).max
    with np.errstate(all="ignore"):
        return not (array.max() < top and array.min() > -top)


def find_alarm(side: Side) -> tuple[Alarm | None, Step | None]:
    """Run the model of a side as it says it, bodies step by step; the alarm, and its step."""
    watch = Watch(side.source)
    for step in model_steps(side):
        watch.look(step)
    return watch.alarm, watch.step


def model_steps(side: Side) -> Iterator[Step]:
    """Each node of the model of a side, with what it reads and makes, bodies included."""
    environment = Environment()
    for value, array in zip(side.source.graph.inputs, side.feeds):
        environment[value] = array
    for step in side.stepper(enters_body).steps(side.source.graph, environment):
        yield step
        let_go(reads_of(step.node))
