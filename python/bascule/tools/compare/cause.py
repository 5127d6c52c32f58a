# SPDX-License-Identifier: Apache-2.0
"""From a value out of bounds to what is to blame: a node, an optimizer pass, or an alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bascule.ir.graph import Node
from bascule.tools.compare.alarms import Alarm, find_alarm
from bascule.tools.compare.align import align
from bascule.tools.compare.bisect import guilty_pass
from bascule.tools.compare.local import ComparedValue, Local, compare_nodes
from bascule.tools.compare.nested import first_inside
from bascule.tools.compare.sides import Side, Subject
from bascule.tools.verify.check import Dropped


@dataclass(frozen=True, slots=True)
class Place:
    """Nodes of the model of a side, in its own graph or in a nested one."""

    side: Side
    nodes: list[Node]
    inside: str = ""
    twin: Side | None = None
    """A side that computes the same by another model."""


@dataclass
class Cause:
    """What is to blame."""

    origin: ComparedValue | None = None
    """The value out of bounds with the optimizer off on both sides, of one node of the model."""
    guilty_pass: str = ""
    rewrites: list[Dropped] = field(default_factory=list)
    place: Place | None = None
    """What to cut a reproduction out of."""


def settle_alarm(alarm: Alarm | None, side: Side) -> tuple[Alarm | None, Place | None]:
    """The alarm as the model has it by itself, and where; the one given if it has none.

    Where the optimizer changes the model there may be one that fused nodes hide.
    """
    if alarm is None and side.graph is side.source.graph:
        return None, None
    found, step = find_alarm(side)
    if found is None or step is None or (alarm is None and not found.certain):
        return alarm and replace(alarm, inherent=False), None
    return found, Place(side, [step.node], step.inside)


def alarm_behind(first: ComparedValue, side: Side) -> tuple[Alarm | None, Place | None]:
    """The alarm among the nodes of `b` behind a value out of bounds, if there is one."""
    found, step = find_alarm(side)
    if found is None or step is None or not found.certain:
        return None, None
    if set(found.nodes).isdisjoint(first.sources):
        return None, None
    return found, Place(side, [step.node], step.inside)


def find_cause(
    first: ComparedValue,
    culprit: Node,
    one: Subject,
    other: Subject,
    feeds: Sequence[Mapping[str, Any]],
    sides: Sequence[Side],
) -> Cause:
    """Bisect to the node or pass behind `first`, which `culprit`, of the graph of `b`, made."""
    cause = Cause()
    plain = [_plain(one, feeds[0], sides[0]), _plain(other, feeds[1], sides[1])]
    found: tuple[ComparedValue, Node] | None = first, culprit
    if plain != list(sides):
        found = _same_without_optimizer(first, plain)
    if found is not None:
        # It is there without the optimizer: of one node of the model.
        origin, node = found
        inner = first_inside(plain[0], plain[1], node)
        if inner is not None:
            origin, node = inner.compared, inner.node
        cause.origin = origin
        nodes = [node] if inner is not None else plain[1].source.nodes_of(node)
        inside = inner.inside if inner is not None else ""
        cause.place = Place(
            plain[1], nodes, inside, plain[0] if one.source != other.source else None
        )
        return cause
    cause.guilty_pass, cause.rewrites = guilty_pass(one, other, feeds)
    return cause


def _plain(subject: Subject, feeds: Mapping[str, Any], side: Side) -> Side:
    """The side without what its optimizer changes."""
    return side if side.graph is side.source.graph else Side(subject, feeds, plain=True)


def _same_without_optimizer(
    first: ComparedValue, sides: Sequence[Side]
) -> tuple[ComparedValue, Node] | None:
    """The first value out of bounds that `first` may come of, if there is one."""
    align(*sides)
    for value, node in _out_of_bounds(sides):
        if set(value.sources) & set(first.sources):
            return value, node
    return None


def _out_of_bounds(sides: Sequence[Side]) -> Iterable[tuple[ComparedValue, Node]]:
    local = Local()
    for value in compare_nodes(sides[0], sides[1], local, watched=False):
        if not value.is_within:
            assert local.latest is not None
            yield value, local.latest
