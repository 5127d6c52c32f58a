# SPDX-License-Identifier: Apache-2.0
"""Inside a node that holds graphs: which node of a body is out of bounds first.

As for whole graphs, each node of the body of `b` is run on the values of `a`, in each iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.ir.source_trace import source_of
from bascule.ir.types import TensorType
from bascule.tools.compare.local import ComparedValue, shown_operator
from bascule.tools.compare.sides import Side
from bascule.tools.rounding import Judged, judge, narrowed
from bascule.tools.stepping.part import reads_of
from bascule.tools.stepping.prepared import shown_names
from bascule.tools.stepping.steps import Environment, Step


@dataclass(frozen=True, slots=True)
class Inner:
    """A node of a body of `b` that is out of bounds."""

    node: Node
    inside: str
    compared: ComparedValue


def first_inside(a: Side, b: Side, holder: Node) -> Inner | None:
    """Of the bodies of `holder`, a node of the model of `b`, the first node out of bounds."""
    twin = _twin(a, holder)
    if twin is None or not holder.subgraphs:
        return None
    runner = _Runner(a, b, holder)
    environment = Environment()
    for value, array in zip(a.source.graph.inputs, a.feeds):
        environment[value] = array
    steps = a.stepper(lambda node: _is_within(node, twin)).steps(a.source.graph, environment)
    for step in steps:
        if step.node is twin:
            return None
        found = runner.compare(step) if step.inside else None
        if found is not None:
            return found
    return None


def _twin(a: Side, holder: Node) -> Node | None:
    for value in holder.outputs:
        found = a.source.find(value)
        if found is not None and found.value.producer is not None:
            return found.value.producer
    return None


def _is_within(node: Node | None, holder: Node) -> bool:
    while node is not None:
        if node is holder:
            return True
        node = node.graph.parent if node.graph is not None else None
    return False


class _Runner:
    def __init__(self, a: Side, b: Side, holder: Node) -> None:
        self._imports = a.source_imports
        self._stepper = b.stepper(lambda node: False)
        self._nodes: dict[str, Node] = {}
        for graph in holder.subgraphs:
            for node in graph.walk_nodes():
                for value in node.outputs:
                    self._nodes.update(dict.fromkeys(value.origins, node))
        self._latest: dict[str, Any] = {}

    def compare(self, step: Step) -> Inner | None:
        """Run what stands for a step of `a` on the values that are there."""
        self._keep(step.inputs)
        node = next(
            (
                self._nodes[name]
                for v in step.node.outputs
                for name in v.origins
                if name in self._nodes
            ),
            None,
        )
        found = self._judge(node, step) if node is not None else None
        self._keep(step.outputs)
        return found

    def _keep(self, values: list[tuple[Value, Any]]) -> None:
        for value, array in values:
            self._latest.update(dict.fromkeys(value.origins, array))

    def _judge(self, node: Node, step: Step) -> Inner | None:
        environment = Environment()
        for value in reads_of(node):
            if value.constant is not None:
                continue
            known = next((name for name in value.origins if name in self._latest), None)
            if known is None:
                return None
            environment[value] = _in_type_of(value, self._latest[known])
        results = self._stepper.run(node, environment, keep=True)
        made = {
            name: array
            for value, array in zip((v for v in node.outputs if not v.is_unused), results)
            for name in value.origins
        }
        pairs = [
            (value, made[name], array)
            for value, array in step.outputs
            for name in value.origins[:1]
            if name in made
        ]
        own = [value for value, _, _ in pairs]
        given = {id(value): array for value, array in step.inputs}
        judged = judge(
            [step.node],
            own,
            self._imports,
            given,
            [array for _, array, _ in pairs],
            [array for _, _, array in pairs],
        )
        for (value, array, _), verdict in zip(pairs, judged):
            if not verdict.is_within:
                return Inner(node, step.inside, _compared(node, value, array, verdict))
        return None


def _compared(node: Node, value: Value, array: Any, judged: Judged) -> ComparedValue:
    is_tensor = isinstance(array, np.ndarray)
    return ComparedValue(
        shown_names(value)[0],
        node.name,
        shown_operator(node),
        (node.name,),
        str(array.dtype) if is_tensor else type(array).__name__,
        array.shape if is_tensor else None,
        judged,
        source_of(node),
    )


def _in_type_of(value: Value, array: Any) -> Any:
    """Floats in the precision that the other side has them in."""
    if not isinstance(array, np.ndarray) or not isinstance(value.type, TensorType):
        return array
    return narrowed(array, value.type.dtype.numpy) if value.type.dtype.is_float else array
