# SPDX-License-Identifier: Apache-2.0
"""The graphs of a session: as the model says it, and as it runs, with what stands for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.ir.copy import copy_graph
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.optimizer.channels_last import CHANNELS_LAST, to_first, to_last
from bascule.tools.stepping.part import reads_of

if TYPE_CHECKING:
    from bascule.providers.base import Provider
    from bascule.session import InferenceSession


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be stepped through."""

    graph: Graph
    """As it runs: optimized or not."""
    source: Source
    """As the model says it."""
    providers: list[Provider]
    model: Model
    """The model of `graph`."""
    passes: dict[str, int] = field(default_factory=dict)
    """How often each optimizer pass changed something."""


def prepare_session(
    session: InferenceSession, values: Sequence[Any], fused: bool, disabled: Sequence[str] = ()
) -> Prepared:
    """The graphs of a session whose inputs will be `values`; `fused` as it runs, with its passes.

    `disabled` names further passes to leave out.
    """
    # Imported here: they import onnx.
    from bascule.compiler import canonical_form, improve, legalize, level_of, selection_of

    model, providers = load_of(session, session._signature.names_hold(values))
    canonical_form(model)
    legalize(model, providers)
    if not fused:
        legalize(model, providers, prefer_lead=True)
    mark_origins(model.graph)
    source = Source(copy_graph(model.graph) if fused else model.graph)
    passes: dict[str, int] = {}
    if fused:
        level = level_of(session._options.graph_optimization_level)
        selection = selection_of(session._options, [*session._disabled, *disabled])
        report, _ = improve(model, providers, level, selection)
        passes = dict(report.changes)
    return Prepared(model.graph, source, providers, model, passes)


def load_of(session: InferenceSession, trust_names: bool) -> tuple[Model, list[Provider]]:
    """The model of a session, loaded anew, functions inlined, and every value marked."""
    from bascule.compiler import take_defaults
    from bascule.gradient import bind_gradients
    from bascule.ir.inline import inline_functions
    from bascule.overrides import forget_names, load_with

    model = load_with(session._source, session._options)
    if not trust_names:
        forget_names(model)
    take_defaults(model)
    name_nodes(model)
    bind_gradients(model)
    inline_functions(model)
    mark_origins(model.graph)
    return model, session._executors(False)


def name_nodes(model: Model) -> None:
    """Give nodes without a name one, so that they can be told apart."""
    bodies = [model.graph, *(function.body for function in model.functions.values())]
    for node in (node for body in bodies for node in body.walk_nodes()):
        if not node.name:
            node.name = f"{node.op_type}_{node.output.name}" if node.outputs else node.op_type


def mark_origins(graph: Graph) -> None:
    """Let every value that has no origin be its own."""
    for each in graph.walk_graphs():
        values = [*each.inputs, *each.initializers.values()]
        values += [value for node in each for value in node.outputs]
        for value in values:
            if not value.origins and value.name:
                value.origins = (value.name,)


@dataclass(frozen=True, slots=True)
class Found:
    """A value that another one stands for."""

    value: Value
    is_moved: bool
    """Whether one of them is the channels-last form of the other."""
    is_last: bool
    """If so, whether that is the one that was looked up, not `value`."""

    def to_source(self, array: Any) -> Any:
        """The elements of the one that was looked up, in the layout of `value`."""
        return self._move(array, self.is_last)

    def from_source(self, array: Any) -> Any:
        """The elements of `value`, in the layout of the one that was looked up."""
        return self._move(array, not self.is_last)

    def _move(self, array: Any, first: bool) -> Any:
        if not self.is_moved:
            return array
        order = to_first(array.ndim) if first else to_last(array.ndim)
        return np.ascontiguousarray(array.transpose(order))


class Source:
    """A graph in which values of another one, made from it, are looked up by their origins.

    Of several values of one origin it is the first that is computed: outputs that nothing reads
    come last.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._values: dict[str, Value] = {}
        self._order: dict[int, int] = {}
        for each in graph.walk_graphs():
            for value in (*each.inputs, *each.initializers.values()):
                self._add(value)
        idle = []
        for number, node in enumerate(graph.walk_nodes()):
            self._order[id(node)] = number
            for value in node.outputs:
                if value.is_unused:
                    idle.append(value)
                else:
                    self._add(value)
        for value in idle:
            self._add(value)

    def _add(self, value: Value) -> None:
        for name in value.origins:
            self._values.setdefault(name, value)

    def find(self, value: Value) -> Found | None:
        """The value that `value` stands for, if the types allow it; of several the first."""
        return next(self._matches(value), None)

    def find_all(self, value: Value) -> list[Found]:
        """All values that `value` stands for, which are then the same, as far as types allow it."""
        return list({id(found.value): found for found in self._matches(value)}.values())

    def _matches(self, value: Value) -> Iterator[Found]:
        for name in value.origins:
            for key, is_last in ((name, False), (_other_form(name), True)):
                found = self._values.get(key)
                if found is not None and _compatible(found, value, is_last):
                    yield Found(found, is_last, name.endswith(CHANNELS_LAST))
                    break

    def region(self, outputs: Sequence[Value], cut: Sequence[Value]) -> list[Node]:
        """The nodes that make `outputs` from `cut`, inputs and constants, in execution order."""
        stops = {id(value) for value in cut}
        found: dict[int, Node] = {}
        pending = [value for value in outputs if id(value) not in stops]
        while pending:
            node = pending.pop().producer
            if node is None or id(node) in found:
                continue
            found[id(node)] = node
            pending.extend(value for value in reads_of(node) if id(value) not in stops)
        return self.in_order(found.values())

    def in_order(self, nodes: Iterable[Node]) -> list[Node]:
        """Nodes of the graph in execution order."""
        return sorted(nodes, key=lambda node: self._order[id(node)])

    def nodes_of(self, node: Node) -> list[Node]:
        """The nodes that `node`, of a graph made from this one, stands for; [] if unknown."""
        outputs = [found.value for found in map(self.find, node.outputs) if found is not None]
        cut = [found.value for found in map(self.find, reads_of(node)) if found is not None]
        return self.region(outputs, cut)


def shown_names(value: Value) -> tuple[str, ...]:
    """The names of the values of the model that `value` stands for, or else its own."""
    names = (name.removesuffix(CHANNELS_LAST) for name in value.origins or (value.name,))
    return tuple(dict.fromkeys(names))


def _other_form(name: str) -> str:
    """The channels-last form of what is in the standard layout, and the other way round."""
    if name.endswith(CHANNELS_LAST):
        return name.removesuffix(CHANNELS_LAST)
    return name + CHANNELS_LAST


def _compatible(one: Value, other: Value, is_moved: bool) -> bool:
    """Whether the elements of two values may be the same, one of them moved or not."""
    if one.type is None or other.type is None:
        return True
    if one.dtype is not other.dtype and not (
        one.dtype is not None and other.dtype is not None and _are_floats(one.dtype, other.dtype)
    ):
        return False
    a, b = one.shape, other.shape
    if a is None or b is None:
        return type(one.type) is type(other.type)
    if len(a) != len(b):
        return False
    sizes = zip(sorted(map(str, a)), sorted(map(str, b))) if is_moved else zip(a, b)
    known = all(isinstance(dim, int) for dim in (*a, *b))
    if is_moved:
        return not known or all(m == n for m, n in sizes)
    return all(m == n for m, n in sizes if isinstance(m, int) and isinstance(n, int))


def _are_floats(one: DataType, other: DataType) -> bool:
    return one.is_float and other.is_float and min(one.bits, other.bits) >= 16


def feeds_of(session: InferenceSession, feeds: Mapping[str, Any]) -> list[Any]:
    """An object for each input of the session's graph, in order, checked as by run()."""
    return session._signature.values(feeds)
