# SPDX-License-Identifier: Apache-2.0
"""Running a rewrite beside what it replaces."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.serialize import Definitions
from bascule.providers.base import Provider
from bascule.tools.rounding import Judged, judge
from bascule.tools.stepping.part import extract, reads_of, run_part
from bascule.tools.stepping.prepared import Found, Source
from bascule.tools.verify.values import SeededValues


@dataclass(frozen=True, slots=True)
class Dropped:
    """A rewrite that was found wrong."""

    pass_name: str
    """The optimizer pass."""
    node: str
    """Where a pattern matched, or the first node whose result is wrong after a whole pass."""
    value: str
    """The value that came out wrong."""
    judged: Judged
    """Its error and bound."""
    whole: bool
    """Whether the pass was left out altogether, as one that rewrites the graph at once is."""
    maker: str = ""
    """The node of the model that makes the value, if one does."""

    def __str__(self) -> str:
        what = "pass" if self.whole else "a rewrite of pass"
        if self.judged.note:
            detail = self.judged.note
        else:
            detail = f"its error is {self.judged.error:.3g}, the bound {self.judged.bound:.3g}"
        return f"{what} '{self.pass_name}' at node '{self.node}', value '{self.value}': {detail}"


class RewriteCheck:
    """The optimizer's `Check`: compares with the graph as it was, on its values."""

    def __init__(
        self,
        source: Source,
        values: SeededValues,
        imports: Mapping[str, int],
        providers: Sequence[Provider],
        definitions: Definitions | None,
    ) -> None:
        self._source = source
        self._values = values
        self._imports = dict(imports)
        self._providers = providers
        self._definitions = definitions
        self._seen: dict[Node, Hashable] = {}
        self.dropped: list[Dropped] = []
        self.checked = 0
        self.unchecked = 0

    # --- what the optimizer asks

    def is_dropped(self, pass_name: str, node: Node | None = None) -> bool:
        key = None if node is None else _key(node)
        return any(
            each.pass_name == pass_name and (each.whole or each.node == key)
            for each in self.dropped
        )

    def replacement(self, pass_name: str, node: Node, values: Sequence[Value]) -> bool:
        pairs = [(old, new) for old, new in zip(node.outputs, values) if self._is_read(old)]
        # Other outputs of what was made may stand for something already.
        makers = {id(new.producer): new.producer for new in values if new.producer is not None}
        pairs += [
            (value, value)
            for maker in makers.values()
            for value in maker.outputs
            if value not in values and not value.is_unused and self._known(value) is not None
        ]
        for old, new in pairs:
            judged = self._judge(old, new)
            if judged is not None and not judged.is_within:
                self._drop(pass_name, _key(node), old, judged, whole=False)
                return False
        return True

    def graph(self, pass_name: str, graph: Graph) -> bool:
        for node in self._changed(graph):
            for value in node.outputs:
                if value.is_unused or self._known(value) is None:
                    continue
                judged = self._judge(value, value)
                if judged is not None and not judged.is_within:
                    self._drop(pass_name, _key(node), value, judged, whole=True)
                    return False
        for old, new in zip(self._source.graph.outputs, graph.outputs):
            if new.constant is not None and old.constant is None:
                judged = self._judge(old, new)
                if judged is not None and not judged.is_within:
                    self._drop(pass_name, new.name, new, judged, whole=True)
                    return False
        return True

    def forget(self) -> None:
        """The graph is another one from now on."""
        self._seen = {}

    def _drop(self, pass_name: str, node: str, value: Value, judged: Judged, whole: bool) -> None:
        found = self._source.find(value)
        name = found.value.name if found is not None else value.name
        maker = found.value.producer if found is not None else None
        self.dropped.append(
            Dropped(pass_name, node, name, judged, whole, maker.name if maker is not None else "")
        )

    def _changed(self, graph: Graph) -> Iterator[Node]:
        """The nodes that are new, or read something else, since the last time."""
        for node in list(graph.walk_nodes()):
            signature = (
                node.op_type,
                tuple(map(id, node.inputs)),
                tuple((key, _identity(value)) for key, value in node.attributes.items()),
            )
            if self._seen.get(node) != signature:
                self._seen[node] = signature
                yield node

    # --- running

    def _is_read(self, old: Value) -> bool:
        """Whether something reads a value, or did so before a rule sent it elsewhere."""
        found = self._source.find(old)
        return not old.is_unused or (found is not None and not found.value.is_unused)

    def _known(self, value: Value) -> Found | None:
        """What the value stands for, if it is the same to the element type."""
        found = self._source.find(value)
        return found if found is not None and found.value.dtype is value.dtype else None

    def _judge(self, old: Value, new: Value) -> Judged | None:
        """How far `new` is from what `old` stands for; None where neither can be run."""
        try:
            judged = self._compare(old, new)
        except Exception:  # no kernel, a type not known yet, a loop of no iterations
            self.unchecked += 1
            return None
        self.checked += 1
        return judged

    def _compare(self, old: Value, new: Value) -> Judged:
        cut, nodes = self._region(new, new is old)
        given = {id(found.value): self._values.get(found.value) for _, found in cut}
        feeds = {id(value): found.from_source(given[id(found.value)]) for value, found in cut}
        result = self._run(nodes, new, feeds)
        known = self._source.find(old) if old.graph is not self._source.graph else None
        if old.graph is self._source.graph:
            known = Found(old, is_moved=False, is_last=False)
        if known is None:  # no value of the model: as the graph computes it now
            before, own = self._region(old, True, {id(value) for value, _ in cut})
            arrays = {
                id(value): found.from_source(self._values.get(found.value))
                for value, found in before
            }
            expected = self._run(own, old, arrays)
            return judge(own, [old], self._imports, arrays, [result], [expected])[0]
        expected = self._values.get(known.value)
        reference = self._source.region([known.value], [found.value for _, found in cut])
        inner = extract(reference, [known.value]).inputs if reference else []
        for value in inner:
            given.setdefault(id(value), self._values.get(value))
        return judge(
            reference,
            [known.value],
            self._imports,
            given,
            [known.to_source(result)],
            [expected],
        )[0]

    def _region(
        self, value: Value, through: bool, stops: set[int] | None = None
    ) -> tuple[list[tuple[Value, Found]], list[Node]]:
        """The known values from which `value` is computed, and the nodes that do it, in order.

        `through` looks behind `value` itself where it is known; with `stops` only these and the
        inputs of the model count as known.
        """
        cut: dict[int, tuple[Value, Found]] = {}
        ordered: list[Node] = []
        state: dict[int, bool] = {}
        stack: list[tuple[Value | Node, bool]] = [(value, through)]
        while stack:
            item, forced = stack.pop()
            if isinstance(item, Node):  # all that it reads is there by now
                if not state[id(item)]:
                    state[id(item)] = True
                    ordered.append(item)
                continue
            if item.constant is not None:
                continue
            may_stop = not forced and (stops is None or id(item) in stops)
            found = self._known(item) if may_stop or item.producer is None else None
            if found is not None:
                cut[id(item)] = (item, found)
                continue
            if item.producer is None:
                raise KeyError(item.name)
            if id(item.producer) in state:
                continue
            state[id(item.producer)] = False
            stack.append((item.producer, False))
            stack.extend((each, False) for each in reads_of(item.producer))
        return list(cut.values()), ordered

    def _run(self, nodes: Sequence[Node], value: Value, arrays: Mapping[int, Any]) -> Any:
        if value.constant is not None:
            return value.constant.numpy()
        if not nodes:
            return arrays[id(value)]
        from bascule.compiler import legalize
        from bascule.ir.infer import infer_types

        part = extract(nodes, [value])
        model = Model(part.graph, dict(self._imports), ir_version=10)
        if any(each.type is None for node in part.graph for each in node.outputs):
            infer_types(model, self._definitions, check=False, from_file=False)
        legalize(model, self._providers)
        return run_part(part, [arrays[id(each)] for each in part.inputs], self._providers)[0]


def _key(node: Node) -> str:
    return node.name or (node.output.name if node.outputs else node.op_type)


def _identity(attribute: Any) -> Hashable:
    plain = isinstance(attribute, (int, float, str))
    return attribute if plain else id(attribute)
