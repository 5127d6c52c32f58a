# SPDX-License-Identifier: Apache-2.0
"""Two graphs side by side: each value of one, computed from the other's values.

The first graph runs. Each node of the second one is run on the values of the first where a value
stands for the same, so that errors do not add up along the graph: what is out of bounds was
computed there. Values are dropped after their last reader on either side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.errors import Fail
from bascule.ir.graph import Node, Value
from bascule.ir.source_trace import source_of
from bascule.tools.compare.alarms import Watch
from bascule.tools.compare.sides import FOREIGN, Side
from bascule.tools.rounding import Judged, judge, narrowed
from bascule.tools.stepping.part import let_go, reads_of
from bascule.tools.stepping.prepared import Found, Source, shown_names
from bascule.tools.stepping.steps import Environment, Step


@dataclass(frozen=True, slots=True)
class ComparedValue:
    """A value that both sides compute, from the same inputs."""

    name: str
    """As in the model."""
    node: str
    """The node of `b`."""
    op_type: str
    """With its domain, if that is not the standard's."""
    sources: tuple[str, ...]
    """The nodes of the model of `b` that the node stands for."""
    dtype: str
    """The element type, as ``float32``."""
    shape: tuple[int, ...] | None
    """The sizes; None for what is no tensor."""
    judged: Judged
    """The error and its bound."""
    line: str = ""
    """The exporter's source line, where the model carries it."""

    @property
    def is_within(self) -> bool:
        """Whether the error is within its bound."""
        return self.judged.is_within


@dataclass(slots=True)
class Local:
    """What a comparison has found out on the way."""

    watch: Watch | None = None
    """Has seen the run of `a`."""
    latest: Node | None = None
    """The node of `b` behind the value compared last."""
    culprit: Node | None = None
    """The node of `b` behind the first value out of bounds."""
    outputs: list[Any] | None = None
    """Of `a`, once it has run to the end."""


class _Alignment:
    """Which values of `b` stand for which ones of `a`, and what each node of `b` needs."""

    def __init__(self, a: Side, b: Side) -> None:
        self.source = Source(a.graph)
        self.target = Source(b.graph)
        self.found: dict[int, Found] = {}
        """What a value of `b` stands for."""
        self.all: dict[int, list[Found]] = {}
        """The same with all else that it stands for."""
        self.cuts: dict[int, list[Value]] = {}
        self._reached: dict[int, list[Value]] = {}
        for value in b.graph.inputs:
            self._align(value)
        for node in b.graph:
            for value in node.outputs:
                self._align(value)
            cut: dict[int, Value] = {}
            for value in reads_of(node):
                for each in self._reach(value):
                    cut[id(each)] = each
            self.cuts[id(node)] = list(cut.values())
            for value in node.outputs:
                self._reached[id(value)] = self.cuts[id(node)]

    def _align(self, value: Value) -> None:
        found = [
            each
            for each in self.source.find_all(value)
            if each.value.constant is None
            and (each.value.producer is None or not each.value.is_unused)
        ]
        if found:
            self.found[id(value)], self.all[id(value)] = found[0], found

    def _reach(self, value: Value) -> list[Value]:
        """The aligned values from which `value` is computed."""
        if id(value) in self.found:
            return [value]
        return self._reached.get(id(value), [])


def compare_nodes(
    a: Side, b: Side, local: Local, first_only: bool = False, watched: bool = True
) -> Iterator[ComparedValue]:
    """Yield a ComparedValue for each value of `b` that `a` has too, in the order of `b`.

    `local` is told more on the way: of alarms if the run of `a` is `watched`. With `first_only` the
    first one out of bounds is the last.
    """
    aligned = _Alignment(a, b)
    runner = _Runner(a, b, aligned, local, watched)
    for node in b.graph:
        for compared in runner.compare(node):
            local.latest = node
            yield compared
            if not compared.is_within:
                if local.culprit is None:
                    local.culprit = node
                if first_only:
                    return
    local.outputs = runner.finish()


class _Runner:
    def __init__(self, a: Side, b: Side, aligned: _Alignment, local: Local, watched: bool) -> None:
        self._a, self._b = a, b
        self._aligned = aligned
        if watched:
            local.watch = Watch(a.source)
        self._watch = local.watch
        self._env_a, self._env_b = Environment(), Environment()
        self._feeds: dict[int, Any] = {}
        for value, array in zip(a.graph.inputs, a.feeds):
            self._env_a[value] = array
            self._feeds[id(value)] = array
        for value, array in zip(b.graph.inputs, b.feeds):
            self._env_b[value] = array
            self._feeds[id(value)] = array
        self._uses_a = Counter(id(v) for n in a.graph for v in _unique(reads_of(n)))
        self._uses_a.update(id(v) for v in a.graph.outputs)
        self._awaited = Counter(
            id(found.value)
            for n in b.graph
            for v in n.outputs
            if not v.is_unused
            for found in aligned.all.get(id(v), ())
        )
        self._uses_b: Counter[int] = Counter()
        for node in b.graph:
            self._uses_b.update(id(v) for v in _unique([*reads_of(node), *aligned.cuts[id(node)]]))
        self._nodes_a = iter(a.graph)
        self._done: set[int] = {id(value) for value in a.graph.inputs}

    def compare(self, node: Node) -> Iterator[ComparedValue]:
        """Run a node of `b`, and compare what it makes."""
        wanted = [value for value in node.outputs if not value.is_unused]
        if not wanted:
            return
        cut = self._aligned.cuts[id(node)]
        for value in [*cut, *wanted]:
            for found in self._aligned.all.get(id(value), ()):
                self._advance(found.value)
        results, problem = self._run_b(node, wanted)
        for value, array in zip(wanted, results):
            self._env_b[value] = array
        pairs = [
            (value, array, found)
            for value, array in zip(wanted, results)
            for found in self._aligned.all.get(id(value), ())
        ]
        if pairs:
            yield from self._judge(node, pairs, problem)
        let_go(reads_of(node))
        for value in _unique([*reads_of(node), *cut]):
            self._uses_b[id(value)] -= 1
        for value in _unique([*reads_of(node), *cut, *wanted]):
            if self._uses_b[id(value)] <= 0:
                self._env_b.drop(value)

    def _run_b(self, node: Node, wanted: list[Value]) -> tuple[list[Any], str]:
        """What a node of `b` makes. Where another runtime cannot run it: what `a` has, and why."""
        try:
            return self._b.run(node, self._env_b), ""
        except Fail as error:
            found = [self._aligned.found.get(id(value)) for value in wanted]
            if self._b.subject.backend not in FOREIGN or None in found:
                raise
            known = [each.from_source(self._env_a[each.value]) for each in found if each]
            return known, f"not judged: {error}"

    def _judge(
        self, node: Node, pairs: list[tuple[Value, Any, Found]], problem: str
    ) -> Iterator[ComparedValue]:
        own = [found.value for _, _, found in pairs]
        given = dict(self._feeds)
        cut = []
        for value in self._aligned.cuts[id(node)]:
            found = self._aligned.found[id(value)]
            given[id(found.value)] = found.to_source(self._env_b[value])
            cut.append(found.value)
        nodes = self._aligned.source.region(own, cut)
        expected = [self._env_a[value] for value in own]
        results = [found.to_source(array) for _, array, found in pairs]
        if problem:
            judged = [Judged(0.0, 0.0, 0.0, note=problem) for _ in pairs]
        else:
            judged = judge(nodes, own, self._a.imports, given, results, expected)
            if not all(verdict.is_within for verdict in judged):
                others = self._judge_by_more(node, pairs, len(nodes), expected) or judged
                judged = [b if b.is_within else a for a, b in zip(judged, others)]
        for each in nodes:
            let_go(reads_of(each))
        sources = self._sources(node, pairs)
        for (value, array, found), verdict, right in zip(pairs, judged, expected):
            if found is self._aligned.found[id(value)]:
                self._settle(value, array, found, right)
            self._release(found.value)
            yield ComparedValue(
                _shown(found.value),
                node.name,
                shown_operator(node),
                sources or (node.name,),
                str(array.dtype) if isinstance(array, np.ndarray) else type(array).__name__,
                array.shape if isinstance(array, np.ndarray) else None,
                verdict,
                source_of(node),
            )

    def _judge_by_more(
        self, node: Node, pairs: list[tuple[Value, Any, Found]], count: int, expected: list[Any]
    ) -> list[Judged] | None:
        """How far both are from what the nodes of `b` should make, if these are more than `count`.

        What `a` has as a constant, `b` may compute: then the roundings of that count, too. Of the
        verdicts on `a` and on `b` the worse ones.
        """
        values = [value for value, _, _ in pairs]
        cut = self._aligned.cuts[id(node)]
        nodes = self._aligned.target.region(values, cut)
        if len(nodes) <= count or len(_unique(values)) < len(values):
            return None
        given = {**self._feeds, **{id(value): self._env_b[value] for value in cut}}
        made = [array for _, array, _ in pairs]
        known = [found.from_source(each) for (_, _, found), each in zip(pairs, expected)]
        imports = self._b.imports
        of_a = judge(nodes, values, imports, given, known, made)
        of_b = judge(nodes, values, imports, given, made, known)
        for each in nodes:
            let_go(reads_of(each))
        return [max(pair, key=lambda each: each.ratio) for pair in zip(of_a, of_b)]

    def _sources(self, node: Node, pairs: list[tuple[Value, Any, Found]]) -> tuple[str, ...]:
        """The nodes of the model of `b` between the values that both sides have."""
        source = self._b.source
        cut = [source.find(value) for value in self._aligned.cuts[id(node)]]
        made = [
            own.value
            for value, _, found in pairs
            for own in source.find_all(value)
            if not set(shown_names(own.value)).isdisjoint(shown_names(found.value))
        ]
        nodes = source.region(made, [found.value for found in cut if found is not None])
        return tuple(dict.fromkeys(each.name for each in nodes))

    def _settle(self, value: Value, array: Any, found: Found, right: Any) -> None:
        """From here on `b` has the value of `a`."""
        moved = found.from_source(right)
        if not isinstance(array, np.ndarray) or not isinstance(moved, np.ndarray):
            self._env_b[value] = moved
        elif array.shape == moved.shape:
            self._env_b[value] = narrowed(moved, array.dtype)

    def _advance(self, value: Value) -> None:
        """Run `a` until it has made `value`."""
        while id(value) not in self._done:
            self._step(next(self._nodes_a))

    def _step(self, node: Node) -> None:
        wanted = [value for value in node.outputs if not value.is_unused]
        reads = _unique(reads_of(node))
        if wanted:
            inputs = [(value, self._env_a[value]) for value in reads]
            results = self._a.run(node, self._env_a)
            for value, array in zip(wanted, results):
                self._env_a[value] = array
            if self._watch is not None:
                self._watch.look(Step(node, "", inputs, list(zip(wanted, results))))
        let_go(reads)
        self._done.update(id(value) for value in node.outputs)
        for value in reads:
            self._uses_a[id(value)] -= 1
            self._drop(value)
        for value in wanted:
            self._drop(value)

    def _release(self, value: Value) -> None:
        self._awaited[id(value)] -= 1
        self._drop(value)

    def _drop(self, value: Value) -> None:
        if self._uses_a[id(value)] <= 0 and self._awaited[id(value)] <= 0:
            self._env_a.drop(value)

    def finish(self) -> list[Any]:
        """Run `a` to its end; its outputs."""
        for node in self._nodes_a:
            self._step(node)
        return [self._env_a.get(value) for value in self._a.graph.outputs]


def shown_operator(node: Node) -> str:
    """With its domain, if that is not the standard's."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _shown(value: Value) -> str:
    """Its name in the model."""
    return shown_names(value)[0]


def _unique(values: list[Value]) -> list[Value]:
    return list({id(value): value for value in values}.values())
