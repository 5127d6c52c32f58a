# SPDX-License-Identifier: Apache-2.0
"""Real optimizer passes, each made to go wrong at one place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.optimizer import Context, stages
from bascule.optimizer.passes import GraphPass, Pass
from bascule.optimizer.rewrite import Match, Reject, Result, Rule


class Mutant:
    """The pass `name`, which at its `place`-th rewrite goes wrong in the way `kind` says.

    ``factor`` multiplies the result by 1.07, ``shift`` adds 0.05, ``drop`` gives an input instead
    of the result where types allow it, else it is as ``factor``. The node at which it does so is
    the same in every run of the optimizer.
    """

    def __init__(self, name: str, place: int = 0, kind: str = "factor") -> None:
        self._name, self._left, self._kind = name, place, kind
        self.node = ""

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changed = tuple(
            dataclasses.replace(stage, passes=tuple(map(self._of, stage.passes)))
            for stage in stages.STAGES
        )
        monkeypatch.setattr(stages, "STAGES", changed)

    def _of(self, original: Pass) -> Pass:
        if original.name != self._name:
            return original
        if isinstance(original, Rule):
            return dataclasses.replace(original, function=self._rule(original))
        return dataclasses.replace(original, function=self._graph_pass(original))

    def _rule(self, original: Rule):  # type: ignore[no-untyped-def]
        def function(match: Match) -> Result:
            result = original.function(match)
            if result is None or isinstance(result, Reject) or not _is_float(match.root.output):
                return result
            if not self._is_here(match.root):
                return result
            first, *others = [result] if isinstance(result, Value) else list(result)
            return [self._wrong(match, first), *others]

        return function

    def _is_here(self, node: Node) -> bool:
        if not self.node:
            if self._left:
                self._left -= 1
                return False
            self.node = node.name
        return node.name == self.node

    def _wrong(self, match: Match, right: Value) -> Value:
        old = match.root.output
        assert old.dtype is not None
        if self._kind == "drop":
            for value in match.root.inputs:
                if value is not None and value.constant is None and value.type == old.type:
                    return match.build.Identity(value)
        if self._kind == "shift":
            return match.build.Add(right, np.asarray(0.05, old.dtype.numpy), type=old.type)
        return match.build.Mul(right, np.asarray(1.07, old.dtype.numpy), type=old.type)

    def _graph_pass(self, original: GraphPass):  # type: ignore[no-untyped-def]
        def function(graph: Graph, context: Context) -> int:
            before = set(graph.walk_nodes())
            count = original.function(graph, context)
            for node in [each for each in graph if each not in before]:
                if _is_float(node.output) and node.output.uses and self._is_here(node):
                    _scale(graph, node)
            return count

        return function


def _is_float(value: Value) -> bool:
    return value.dtype in (DataType.FLOAT, DataType.FLOAT16)


def _scale(graph: Graph, node: Node) -> None:
    """Put a factor behind a node."""
    old = node.output
    assert old.dtype is not None
    uses = list(old.uses)
    factor = graph.constant(np.asarray(1.07, old.dtype.numpy))
    made = Node("Mul", [old, factor], 1, {}, name=f"{node.name}/wrong")
    made.output.type = old.type
    graph.insert_after(node, made)
    for use in uses:
        use.node.set_input(use.index, made.output)
    made.output.origins, old.origins = old.origins, ()
