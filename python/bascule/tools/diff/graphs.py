# SPDX-License-Identifier: Apache-2.0
"""Two graphs compared: their nodes are matched, and what differs of each pair is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bascule.ir.constant import Constant
from bascule.ir.graph import Attribute, Graph, Node, Value
from bascule.ir.printer import format_attribute
from bascule.ir.source_trace import source_of
from bascule.tools.diff.items import Given, Item, Items, Made, Source, Tensor, equal_attributes
from bascule.tools.diff.match import Matcher
from bascule.tools.diff.result import Change, ModelDiff, NodeChange, WeightChange
from bascule.tools.diff.weights import TensorComparer, type_text


@dataclass(slots=True)
class Side:
    """One of the two graphs.

    Attributes:
        graph: the graph.
        opsets: the version of each domain.
        given: keys of values from outside, by id.
        outputs: a key of each output.
    """

    graph: Graph
    opsets: Mapping[str, int]
    given: dict[int, str]
    outputs: list[str]


class GraphComparer:
    """Compares graphs, and those nested in them, and adds what it finds to a ModelDiff."""

    def __init__(self, result: ModelDiff, tensors: TensorComparer) -> None:
        self._result = result
        self._tensors = tensors
        self._fingerprints: dict[int, bytes] = {}
        self._told: set[tuple[int, int]] = set()
        self._kept: list[Items] = []
        """So that no id of a constant that a node holds as a number is given to another."""

    def compare(self, old: Side, new: Side, inside: str = "") -> None:
        """Match the nodes of both and tell what differs, first of all in the order of `new`."""
        mine = Items(old.graph, old.opsets, old.given, old.outputs)
        theirs = Items(new.graph, new.opsets, new.given, new.outputs)
        self._kept += [mine, theirs]
        matcher = Matcher(mine, theirs, self._fingerprints)
        matcher.match()
        self._result.matched += len(matcher.old)
        self._tensors.read(_tensors_of(matcher, theirs))
        pairs = _Pairs(matcher.old, inside)
        for item in theirs.items:
            partner = matcher.new.get(item)
            if partner is None:
                self._result.nodes.append(_one_sided("added", item, inside))
            else:
                self._compare_items(partner, item, pairs, inside, old, new)
        self._result.nodes += [
            _one_sided("removed", item, inside) for item in mine.items if item not in matcher.old
        ]
        self._compare_outputs(mine, theirs, pairs, inside)

    def _compare_items(
        self, old: Item, new: Item, pairs: _Pairs, inside: str, old_side: Side, new_side: Side
    ) -> None:
        attributes = self._attributes(old, new)
        inputs = []
        for index in range(max(len(old.inputs), len(new.inputs))):
            s, t = (x.inputs[index] if index < len(x.inputs) else None for x in (old, new))
            if isinstance(s, Tensor) and isinstance(t, Tensor):
                self._weights(s, t, f"{inside}{new.name}[{index}]")
            elif not pairs.are_same(s, t):
                inputs.append((index, *_texts(s, t)))
        names = old.operator_name, new.operator_name
        if len(old.node.outputs) != len(new.node.outputs):
            counts = len(old.node.outputs), len(new.node.outputs)
            attributes.append(("(number of outputs)", str(counts[0]), str(counts[1])))
        if attributes or inputs or names[0] != names[1]:
            self._result.nodes.append(
                NodeChange(
                    "changed",
                    old.name,
                    new.name,
                    *names,
                    inside,
                    attributes,
                    inputs,
                    source_of(new.node) or source_of(old.node),
                )
            )
        self._result.renamed += old.node.name != new.node.name
        for name in sorted(old.graphs.keys() & new.graphs.keys()):
            for old_graph, new_graph in zip(old.graphs[name], new.graphs[name]):
                self._nested(
                    old_graph, new_graph, pairs, f"{inside}{new.name}.{name}/", old_side, new_side
                )

    def _attributes(self, old: Item, new: Item) -> list[tuple[str, str | None, str | None]]:
        found: list[tuple[str, str | None, str | None]] = []
        pair = old, new
        for name in sorted({**old.attributes, **new.attributes}):
            a, b = old.attributes.get(name), new.attributes.get(name)
            if isinstance(a, Constant) and isinstance(b, Constant) and a.size > 1:
                self._weights(Tensor(a, name), Tensor(b, name), f"{new.name}.{name}")
            elif a is None or b is None or not equal_attributes(a, b):
                found.append((name, _attribute_text(a), _attribute_text(b)))
        for name in sorted({**old.graphs, **new.graphs}):
            counts = [f"{len(x.graphs[name])} graphs" if name in x.graphs else None for x in pair]
            if counts[0] != counts[1]:
                found.append((name, counts[0], counts[1]))
        return found

    def _nested(
        self,
        old: Graph,
        new: Graph,
        pairs: _Pairs,
        inside: str,
        old_side: Side,
        new_side: Side,
    ) -> None:
        """Graphs of one attribute: inputs and outputs correspond by position."""
        # What the graph around this one has from outside itself has its key already.
        old_given = {**pairs.keys(old.captures(), True), **old_side.given}
        new_given = {**pairs.keys(new.captures(), False), **new_side.given}
        for given, graph in ((old_given, old), (new_given, new)):
            given.update({id(v): f"{inside}{i}" for i, v in enumerate(graph.inputs)})
        self.compare(
            Side(old, old_side.opsets, old_given, [str(i) for i in range(len(old.outputs))]),
            Side(new, new_side.opsets, new_given, [str(i) for i in range(len(new.outputs))]),
            inside,
        )

    def _weights(self, old: Tensor, new: Tensor, node: str) -> None:
        """Tell of two tensors that differ, once."""
        key = id(old.constant), id(new.constant)
        if key in self._told:
            return
        self._told.add(key)
        if self._tensors.equal(old.constant, new.constant):
            self._result.equal_weights += 1
            return
        self._result.weights.append(
            WeightChange(
                old.name,
                new.name,
                node,
                type_text(old.constant.dtype, old.constant.shape),
                type_text(new.constant.dtype, new.constant.shape),
                self._tensors.statistics(old.constant, new.constant),
            )
        )

    def _compare_outputs(self, old: Items, new: Items, pairs: _Pairs, inside: str) -> None:
        for key in [key for key in new.outputs if key in old.outputs]:
            s, t = old.outputs[key], new.outputs[key]
            if isinstance(s, Tensor) and isinstance(t, Tensor):
                self._weights(s, t, f"{inside}(output)[{key}]")
            elif not pairs.are_same(s, t):
                self._result.model.append(Change("output", inside + key, *_texts(s, t)))


def _tensors_of(matcher: Matcher, new: Items) -> Iterator[tuple[Constant, Constant]]:
    """The tensors that nodes which are one have in the same places."""
    for item in new.items:
        partner = matcher.new.get(item)
        for s, t in zip(partner.inputs, item.inputs) if partner is not None else ():
            if isinstance(s, Tensor) and isinstance(t, Tensor):
                yield s.constant, t.constant


class _Pairs:
    """Items of two graphs that are one."""

    def __init__(self, old: Mapping[Item, Item], inside: str) -> None:
        self._old = old
        self._inside = inside
        self._numbers: dict[Node, int] = {}
        for number, (a, b) in enumerate(old.items()):
            self._numbers[a.node] = self._numbers[b.node] = number

    def are_same(self, old: Source, new: Source) -> bool:
        """Whether the sources correspond; of tensors only that both are."""
        if isinstance(old, Made) and isinstance(new, Made):
            return old.index == new.index and self._old.get(old.item) is new.item
        if isinstance(old, Given) and isinstance(new, Given):
            return old.key == new.key
        return type(old) is type(new)

    def keys(self, values: Sequence[Value], is_old: bool) -> dict[int, str]:
        """Keys for the graphs nested in these: of values that correspond they are the same."""
        found = {}
        for value in values:
            node = value.producer
            if node is None or node.is_op("Constant"):
                continue
            if node in self._numbers:
                number = self._numbers[node]
                found[id(value)] = f"{self._inside}pair {number}.{node.outputs.index(value)}"
            else:
                found[id(value)] = f"{'old' if is_old else 'new'} {value.name}"
        return found


def _one_sided(kind: str, item: Item, inside: str) -> NodeChange:
    is_new = kind == "added"
    inputs: list[Any] = [
        (i, None, _text(s)) if is_new else (i, _text(s), None) for i, s in enumerate(item.inputs)
    ]
    attributes: list[Any] = [
        (name, None, format_attribute(v)) if is_new else (name, format_attribute(v), None)
        for name, v in item.attributes.items()
    ]
    names = (None, item.name) if is_new else (item.name, None)
    operators = (None, item.operator_name) if is_new else (item.operator_name, None)
    source = source_of(item.node)
    return NodeChange(
        kind, names[0], names[1], operators[0], operators[1], inside, attributes, inputs, source
    )


def _attribute_text(value: Attribute) -> str | None:
    return None if value is None else format_attribute(value)


def _texts(old: Source, new: Source) -> tuple[str | None, str | None]:
    return _text(old), _text(new)


def _text(source: Source) -> str | None:
    """What a source is, for people."""
    if isinstance(source, Tensor):
        constant = source.constant
        kind = type_text(constant.dtype, constant.shape)
        return (
            f"{source.name} {format_attribute(constant)}"
            if constant.size <= 8
            else (f"{source.name} {kind}")
        )
    if isinstance(source, Given):
        return source.name
    if isinstance(source, Made):
        suffix = f", output {source.index}" if source.index else ""
        return f"{source.item.name} ({source.item.operator_name}{suffix})"
    return None
