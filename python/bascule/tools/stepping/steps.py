# SPDX-License-Identifier: Apache-2.0
"""Stepping through a graph, the bodies of If, Loop and Scan included.

Each node is compiled alone and run on values that are at hand, and a value is dropped after its
last reader, so that memory holds what is alive and one node's weights. A kernel's result does not
depend on its neighbours: the values are those of a run of the whole graph, to the bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.errors import Fail
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Graph, Node, Value
from bascule.providers.base import Program, Provider
from bascule.tools.stepping.part import Part, compile_part, extract, reads_of


class Environment:
    """Arrays by value; constants and the values around a nested graph included."""

    def __init__(self, outer: Environment | None = None) -> None:
        self._arrays: dict[int, Any] = {}
        self._outer = outer

    def __contains__(self, value: Value) -> bool:
        if value.constant is not None or id(value) in self._arrays:
            return True
        return self._outer is not None and value in self._outer

    def __getitem__(self, value: Value) -> Any:
        if id(value) in self._arrays:
            return self._arrays[id(value)]
        if value.constant is not None:
            return value.constant.numpy()
        if self._outer is None:
            raise KeyError(value.name)
        return self._outer[value]

    def __setitem__(self, value: Value, array: Any) -> None:
        self._arrays[id(value)] = array

    def get(self, value: Value) -> Any:
        """The array, or None if there is none."""
        return self[value] if value in self else None  # noqa: SIM401

    def drop(self, value: Value) -> None:
        self._arrays.pop(id(value), None)


@dataclass(frozen=True, slots=True)
class Step:
    """A node that has just run."""

    node: Node
    inside: str
    """The nodes and attributes that hold the node, with iterations, as ``loop.body[2]/``."""
    inputs: list[tuple[Value, Any]]
    """The values it reads, constants included, each once."""
    outputs: list[tuple[Value, Any]]
    """The values that something reads, or that are outputs."""


Steps = Generator[Step, None, list[Any]]
"""Steps in execution order; returns the outputs of the graph."""


class Stepper:
    """Runs graphs node by node on `providers`.

    `wants` says which nodes of a graph have to run, by default all; `enters` whether the nested
    graphs of a node are stepped through before it runs as a whole.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        wants: Callable[[Node], bool] = lambda node: True,
        enters: Callable[[Node], bool] = lambda node: True,
    ) -> None:
        self._providers = providers
        self._wants = wants
        self._enters = enters
        self._kept: dict[int, tuple[Part, Program]] = {}

    def run(self, node: Node, environment: Environment, keep: bool = False) -> list[Any]:
        """What `node` makes: an array for each output that is used. `keep` its Program."""
        found = self._kept.get(id(node))
        if found is None:
            part = extract([node], [value for value in node.outputs if not value.is_unused])
            found = part, compile_part(part.graph, self._providers)
            if keep:
                self._kept[id(node)] = found
        part, program = found
        feeds = [environment[value] for value in part.inputs]
        try:
            return program.run_values(feeds, [])
        except Exception as error:
            raise Fail(f"{node.op_type} node '{node.name}' cannot run: {error}") from error

    def steps(
        self, graph: Graph, environment: Environment, inside: str = "", repeated: bool = False
    ) -> Steps:
        """Run the nodes of `graph`, whose inputs are in `environment`."""
        nodes = [node for node in graph if self._wants(node)]
        uses = Counter(id(value) for node in nodes for value in _unique(reads_of(node)))
        uses.update(id(value) for value in graph.outputs)
        for node in nodes:
            wanted = [value for value in node.outputs if not value.is_unused]
            if not wanted:
                continue
            reads = _unique(reads_of(node))
            inputs = [(value, environment[value]) for value in reads]
            if node.subgraphs and node.domain == ONNX_DOMAIN and self._enters(node):
                yield from self._bodies(node, environment, f"{inside}{node.name}.")
            results = self.run(node, environment, repeated)
            outputs = list(zip(wanted, results))
            for value, array in outputs:
                environment[value] = array
            yield Step(node, inside, inputs, outputs)
            for value in [*reads, *wanted]:
                uses[id(value)] -= value not in wanted
                if uses[id(value)] <= 0 and value.graph is graph:
                    environment.drop(value)
        return [environment.get(value) for value in graph.outputs]

    def _bodies(self, node: Node, environment: Environment, inside: str) -> Steps:
        if node.op_type == "If":
            return (yield from self._if(node, environment, inside))
        if node.op_type == "Loop":
            return (yield from self._loop(node, environment, inside))
        if node.op_type == "Scan":
            return (yield from self._scan(node, environment, inside))
        return []

    def _if(self, node: Node, environment: Environment, inside: str) -> Steps:
        assert node.inputs[0] is not None
        key = "then_branch" if _flag(environment[node.inputs[0]]) else "else_branch"
        branch = node.attributes[key]
        return (yield from self.steps(branch, Environment(environment), f"{inside}{key}/"))

    def _loop(self, node: Node, environment: Environment, inside: str) -> Steps:
        body: Graph = node.attributes["body"]
        limit, condition, *carried = (
            None if value is None else environment[value]
            for value in (*node.inputs, *[None] * (2 - len(node.inputs)))
        )
        trips = math.inf if limit is None else int(np.asarray(limit).reshape(()))
        going = condition is None or _flag(condition)
        number = 0
        while number < trips and going:
            fed = [np.array(number, np.int64), np.array(going), *carried]
            results = yield from self._iterate(body, fed, environment, f"{inside}body[{number}]/")
            going, carried = _flag(results[0]), results[1 : 1 + len(carried)]
            number += 1
        return carried

    def _scan(self, node: Node, environment: Environment, inside: str) -> Steps:
        body: Graph = node.attributes["body"]
        count = int(node.attribute("num_scan_inputs", 0))
        arrays = [environment[value] for value in node.inputs if value is not None]
        states, sequences = arrays[: len(arrays) - count], arrays[len(arrays) - count :]
        axes = list(node.attribute("scan_input_axes") or [0] * count)
        backwards = list(node.attribute("scan_input_directions") or [0] * count)
        length = sequences[0].shape[axes[0]] if sequences else 0
        for number in range(length):
            places = [length - 1 - number if back else number for back in backwards]
            slices = [
                np.ascontiguousarray(np.take(array, place, axis))
                for array, place, axis in zip(sequences, places, axes)
            ]
            fed = [*states, *slices]
            results = yield from self._iterate(body, fed, environment, f"{inside}body[{number}]/")
            states = results[: len(states)]
        return states

    def _iterate(
        self, body: Graph, fed: Iterable[Any], environment: Environment, inside: str
    ) -> Steps:
        inner = Environment(environment)
        for value, array in zip(body.inputs, fed):
            inner[value] = array
        return (yield from self.steps(body, inner, inside, repeated=True))


def enters_body(node: Node) -> bool:
    """Whether a nested graph of `node` is stepped through: not that of a fused operator."""
    return node.domain != FUSED_DOMAIN and bool(node.subgraphs)


def _unique(values: Iterable[Value]) -> list[Value]:
    return list({id(value): value for value in values}.values())


def _flag(array: Any) -> bool:
    return bool(np.asarray(array).reshape(()))
