# SPDX-License-Identifier: Apache-2.0
"""Rules: a pattern, and a function that says what a match becomes.

The function returns the value that replaces the root's output (a list of values for several
outputs), None when the match is not its business, or a `Reject` when a reader of the report would
want to know why a node that looks right was left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Graph, Node, Value
from bascule.ir.replaced import inherit, replaced_by
from bascule.ir.types import Type
from bascule.optimizer.context import Context, Spoiled
from bascule.optimizer.pattern import (
    Bindings,
    Operation,
    Pattern,
    constant_of,
    find_matches,
    roots,
)
from bascule.optimizer.report import Report
from bascule.optimizer.result_types import contradicts, result_types


class Reject:
    """Why a match is left alone, and the values at fault."""

    def __init__(self, reason: str, *values: Value) -> None:
        self.reason = reason
        self.values = values


Result = Union[Value, Sequence[Value], None, Reject]


class Builder:
    """Makes nodes in front of `anchor`: ``build.Gemm(a, b, c, alpha=1.0)`` gives a value.

    Inputs may be values, arrays (which become constants) or None. `type` gives the first output's
    type where it does not follow from the inputs; `domain` is for operators that are not standard.
    Attributes that are None are left out. `node` makes nodes of several outputs.
    """

    def __init__(self, anchor: Node) -> None:
        assert anchor.graph is not None
        self._graph = anchor.graph
        self._anchor = anchor
        self.made: list[Node] = []

    def node(
        self,
        op_type: str,
        inputs: Iterable[Any],
        attributes: dict[str, Any] | None = None,
        *,
        outputs: int = 1,
        domain: str = ONNX_DOMAIN,
        type: Type | None = None,
    ) -> Node:
        """Insert a node; its source location is that of the anchor."""
        kept = {name: value for name, value in (attributes or {}).items() if value is not None}
        read = [self.constant(i) if isinstance(i, (np.ndarray, np.generic)) else i for i in inputs]
        while read and read[-1] is None:
            read.pop()
        node = Node(op_type, read, outputs, kept, domain=domain, name=self._name(op_type))
        node.doc = self._anchor.doc
        node.metadata = dict(self._anchor.metadata)
        node.replaced = replaced_by(self._anchor)
        for output, known in zip(node.outputs, [type] if type else result_types(node)):
            output.type = known
        self._graph.insert_before(self._anchor, node)
        self.made.append(node)
        return node

    def constant(self, array: Any, name: str = "constant") -> Value:
        """A new constant in the anchor's graph."""
        return self._graph.constant(array, name)

    @property
    def is_read(self) -> bool:
        """Whether something else reads what was made."""
        inside = set(map(id, self.made))
        values = [value for node in self.made for value in node.outputs]
        return any(
            value.output_count or any(id(use.node) not in inside for use in value.uses)
            for value in values
        )

    def discard(self) -> None:
        """Take out what was made."""
        for node in reversed(self.made):
            self._graph.remove(node)
        self.made.clear()

    def _name(self, op_type: str) -> str:
        return f"{self._anchor.name}/{op_type}" if self._anchor.name else ""

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def make(
            *inputs: Any, domain: str = ONNX_DOMAIN, type: Type | None = None, **attributes: Any
        ) -> Value:
            return self.node(op_type, inputs, attributes, domain=domain, type=type).output

        return make


class FusedBuilder:
    """``fused.Gelu(x)`` is ``build.Gelu(x, domain="bascule")``."""

    def __init__(self, build: Builder) -> None:
        self._build = build

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def make(*inputs: Any, type: Type | None = None, **attributes: Any) -> Value:
            node = self._build.node(op_type, inputs, attributes, domain=FUSED_DOMAIN, type=type)
            return node.output

        return make


class Match:
    """One place where a rule's pattern was found."""

    def __init__(self, root: Node, bindings: Bindings, context: Context) -> None:
        self.root = root
        self.context = context
        self.build = Builder(root)
        self.fused = FusedBuilder(self.build)
        self._bindings = bindings

    @property
    def graph(self) -> Graph:
        assert self.root.graph is not None
        return self.root.graph

    def __contains__(self, pattern: Pattern) -> bool:
        return pattern in self._bindings

    def __getitem__(self, pattern: Pattern) -> Value:
        """The value that `pattern` stands for: of an operation, its first output."""
        found = self._bindings[pattern]
        return found.output if isinstance(found, Node) else found

    def get(self, pattern: Pattern) -> Value | None:
        """The value that `pattern` stands for, None if its place is empty."""
        return self[pattern] if pattern in self._bindings else None

    def node(self, pattern: Pattern) -> Node:
        """The node that an operation of the pattern stands for."""
        found = self._bindings[pattern]
        if isinstance(found, Value):
            assert found.producer is not None
            return found.producer
        assert isinstance(found, Node)
        return found

    def array(self, pattern: Pattern) -> np.ndarray[Any, Any]:
        """The elements of a constant of the pattern."""
        constant = constant_of(self[pattern])
        assert constant is not None, f"{pattern} is not a constant"
        return constant.numpy()


@dataclass(frozen=True)
class Rule:
    """A rewrite by pattern, applied wherever it matches until it matches nowhere."""

    name: str
    patterns: tuple[Operation, ...]
    function: Callable[[Match], Result]
    module: str

    def apply(self, node: Node, context: Context, report: Report) -> bool:
        """Rewrite at `node` if a pattern matches there; True when the graph changed."""
        check = context.check
        if check is not None and check.is_dropped(self.name, node):
            return False
        for pattern in self.patterns:
            if node.op_type not in pattern.op_types:
                continue  # only another pattern of the rule begins so
            for bindings in find_matches(pattern, node):
                match = Match(node, bindings, context)
                result = self.function(match)
                if isinstance(result, Value):
                    result = [result]
                if result is not None and not isinstance(result, Reject):
                    result = _obstacle(node, result) or result
                if result is None or isinstance(result, Reject):
                    match.build.discard()
                    if result is not None:
                        report.reject(self.name, node, result.reason, result.values)
                    continue
                if check is not None and not check.replacement(self.name, node, result):
                    if match.build.is_read:
                        raise Spoiled
                    match.build.discard()
                    return False
                replace(node, result, match.build)
                return True
        return False


def rule(*patterns: Pattern) -> Callable[[Callable[[Match], Result]], Rule]:
    """Make a rule, named like the function, that tries each of `patterns` in turn."""
    operations = tuple(root for pattern in patterns for root in roots(pattern))

    def decorate(function: Callable[[Match], Result]) -> Rule:
        return Rule(function.__name__, operations, function, function.__module__)

    return decorate


def may_stand_for(new: Value, old: Value) -> bool:
    """False when `old` is the output of its graph and only an Identity could carry `new` there."""
    if not old.is_graph_output:
        return True
    if new.constant is not None or new.producer is None or new.graph is not old.graph:
        return False
    return old.graph is None or old.graph.parent is not None or not new.is_graph_output


def replace(node: Node, values: Sequence[Value], build: Builder) -> None:
    """Let `values` stand for the outputs of `node`, then remove what nothing reads any more."""
    assert len(values) <= len(node.outputs)
    if build.made and build.made[-1].output in values:
        build.made[-1].name = node.name
    for old, new in zip(node.outputs, values):
        if new.type is None or (not _is_fed(new) and _says_less(new.type, old.type)):
            new.type = old.type
        if not may_stand_for(new, old):
            new = build.node("Identity", [new], type=old.type).output
        old.replace_uses(new)
    gone = _remove_unused(node)
    told = (each for each, source in gone if each is node or not _says_the_same(source, each))
    inherit(build.made, reversed(list(told)))


def remove_if_unused(node: Node) -> int:
    """Remove `node` if nothing reads it, then the same for what it read; returns how many."""
    return len(_remove_unused(node))


def _remove_unused(node: Node) -> list[tuple[Node, Node | None]]:
    """What was removed, each with the node that made its first input."""
    removed: list[tuple[Node, Node | None]] = []
    pending = [node]
    while pending:
        node = pending.pop()
        if node.graph is None or not all(output.is_unused for output in node.outputs):
            continue
        read = [value for value in node.inputs if value is not None]
        for graph in node.subgraphs:
            read.extend(graph.captures())
        source = read[0].producer if read else None
        node.graph.remove(node)
        removed.append((node, source))
        pending.extend(value.producer for value in read if value.producer is not None)
    return removed


def _says_the_same(source: Node | None, removed: Node) -> bool:
    """Whether a node stays that stands for all that the one behind it, now removed, stood for.

    So it is with a change of layout: what it is behind would be told of what reads it as well.
    """
    if source is None or source.graph is None:
        return False
    return set(replaced_by(removed)) <= set(replaced_by(source))


def _is_fed(value: Value) -> bool:
    """Whether it is an input of the model, whose type says what may be fed."""
    is_input = value.producer is None and value.constant is None and value.owner is not None
    return is_input and value.owner.parent is None  # type: ignore[union-attr]


def _says_less(new: Type, old: Type | None) -> bool:
    unknown = (getattr(new, "shape", None) or ()).count(None) if _has_shape(new) else 1 << 10
    if old is None or not _has_shape(old):
        return False
    return unknown > old.shape.count(None)  # type: ignore[union-attr]


def _has_shape(type: Type) -> bool:
    return getattr(type, "shape", None) is not None


def _obstacle(node: Node, values: Sequence[Value]) -> Reject | None:
    """A safety net below the rules: a value never gets another element type or rank."""
    if any(not output.is_unused for output in node.outputs[len(values) :]):
        return Reject("another output of the node is read", *node.outputs[len(values) :])
    for old, new in zip(node.outputs, values):
        if contradicts(old.type, new.type):
            return Reject(f"the type would become {new.type}{list(new.shape or ())}", old)
    only_identities = node.is_op("Identity") and not any(
        may_stand_for(new, old) for old, new in zip(node.outputs, values)
    )
    return Reject("the graph's output needs this node", *values) if only_identities else None
