# SPDX-License-Identifier: Apache-2.0
"""Which node of a graph runs where: by a kernel on the device, or on the host, and why.

Arithmetic on sizes stays on the host: it depends on the shapes of the inputs alone, so it is done
once for each set of shapes, when a plan is made, and what it gives can be used to launch kernels.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.providers.base import Answer, Provider
from bascule.providers.cuda import registry
from bascule.providers.cuda.registry import Kernel

CONTROL = frozenset(("If", "Loop", "Scan"))
"""Operators whose nested graphs are programs of their own."""

_SIZES = frozenset(("Shape", "Size"))
# fmt: off
_UNREPEATABLE = frozenset((
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
))

_ARITHMETIC = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "Div", "Equal", "Flatten", "Floor", "Gather",
    "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul",
    "Neg", "Not", "Or", "Pow", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape",
    "Round", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Unsqueeze", "Where",
))
"""Operators that sizes are computed with; others run on the host only where that is asked for."""
# fmt: on

_MOST_AXES = 1
"""What has more axes is data rather than sizes."""


class Place(enum.Enum):
    """Where a node runs."""

    DEVICE = "device"
    HOST = "host"
    """When a plan is made."""
    CPU = "cpu"
    """In every run, because there is no kernel."""
    CONTROL = "control"
    """By programs for its nested graphs."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a node runs; without a place nowhere. `reason` says why not on the device."""

    place: Place | None
    kernel: Kernel | None = None
    reason: str = ""

    @property
    def answer(self) -> Answer:
        """What the CUDA provider says of the node."""
        if self.place is Place.DEVICE:
            assert self.kernel is not None
            return Answer(f"cuda.{self.kernel.name}")
        if self.place is Place.HOST:
            return Answer("host, once per shape")
        if self.place is Place.CONTROL:
            return Answer("control flow")
        return Answer(None, self.reason)


def place(
    graph: Graph, cpu: Provider, on_host: Iterable[Value] = (), may_use_cpu: bool = True
) -> dict[Node, Placed]:
    """A place for every node of `graph`; the values `on_host` are wanted there by somebody else.

    Without `may_use_cpu` a node that has no kernel, in a nested graph too, has no place.
    """
    placing = _Placing(graph, cpu, may_use_cpu)
    for value in on_host:
        placing.demand(value)
    return placing.result()


class _Placing:
    def __init__(self, graph: Graph, cpu: Provider, may_use_cpu: bool) -> None:
        self._graph = graph
        self._provider = cpu
        self._may_use_cpu = may_use_cpu
        self._cpu = cpu.capabilities(graph)
        self._kernels = {node: registry.find(node) for node in graph}
        self._at_hand: set[Value] = set()
        """Values that follow from sizes."""
        self._traceable: set[Value] = set()
        """Values that follow from sizes and from small ones that are fed, without the device."""
        self._host: set[Node] = set()
        for node in graph:
            self._look_at(node)
        for node in graph:
            for value in _wanted_on_host(node, self._kernels[node][0]):
                self.demand(value)

    def _look_at(self, node: Node) -> None:
        if node.is_op(*_SIZES):
            self._at_hand.update(node.outputs)
            self._traceable.update(node.outputs)
            self._host.add(node)
            return
        inputs = [v for v in node.inputs if v is not None and v.constant is None]
        if not self._cpu[node].accepted or (node.subgraphs and node.domain != FUSED_DOMAIN):
            return
        if node.op_type in _UNREPEATABLE:
            return
        follows = bool(inputs) and all(v in self._at_hand for v in inputs)
        small = all(map(_is_small, (*node.inputs, *node.outputs)))
        if follows and small and node.is_op(*_ARITHMETIC):
            self._at_hand.update(node.outputs)
            self._host.add(node)
        if all(v in self._traceable or self._is_fed(v) for v in inputs):
            self._traceable.update(node.outputs)

    def _is_fed(self, value: Value) -> bool:
        """Whether it comes from elsewhere, and is not data, which would make a plan for each run.

        What a loop carries is data if it may have fractions.
        """
        if value.producer is not None and value.graph is self._graph:
            return False
        is_nested = self._graph.parent is not None
        return _is_small(value) and not (is_nested and _may_have_fractions(value))

    def demand(self, value: Value) -> None:
        """Compute a value on the host if that is possible without the device."""
        pending = [value]
        while pending:
            node = pending.pop().producer
            if node is None or node.graph is not self._graph or node in self._host:
                continue
            if all(output in self._traceable for output in node.outputs):
                self._host.add(node)
                pending.extend(v for v in node.inputs if v is not None)

    def result(self) -> dict[Node, Placed]:
        return {node: self._place(node) for node in self._graph}

    def _place(self, node: Node) -> Placed:
        if node in self._host:
            return Placed(Place.HOST)
        kernel, reason = self._kernels[node]
        if kernel is not None:
            return Placed(Place.DEVICE, kernel)
        if node.is_op(*CONTROL):
            cpu = self._cpu[node]  # knows which of them are sound
            reason = self._without_place(node) if cpu.accepted else cpu.reason
            if not reason:
                return Placed(Place.CONTROL)
        taken = self._may_use_cpu and self._cpu[node].accepted
        return Placed(Place.CPU if taken else None, None, reason)

    def _without_place(self, node: Node) -> str:
        """Why a node of a nested graph runs nowhere; empty when all have a place."""
        if self._may_use_cpu:  # which takes them all, since it takes their holder
            return ""
        for nested in node.subgraphs:
            for inner, placed in place(nested, self._provider, (), False).items():
                if placed.place is None:
                    return f"its {inner.op_type} node '{inner.name}': {placed.reason}"
        return ""


def _wanted_on_host(node: Node, kernel: Kernel | None) -> list[Value]:
    """The inputs whose numbers are needed to start the node."""
    numbers: Collection[int] = ()
    if kernel is not None:
        numbers = kernel.host
    elif node.is_op("If"):
        numbers = (0,)
    elif node.is_op("Loop"):
        numbers = (0, 1)
    inputs = [node.input(number) for number in numbers]
    return [value for value in inputs if value is not None]


def _is_small(value: Value | None) -> bool:
    return value is None or value.rank is None or value.rank <= _MOST_AXES


def _may_have_fractions(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_float
