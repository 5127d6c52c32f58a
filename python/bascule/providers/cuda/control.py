# SPDX-License-Identifier: Apache-2.0
"""If, Loop and Scan: the host decides what runs next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from bascule import errors
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.entry import Entry
from bascule.providers.cuda.operators.movement import permuted
from bascule.providers.cuda.steps import Run, Values, described, stop_if_asked
from bascule.providers.cuda.tensor import Tensor


class Nested(Protocol):
    """A compiled nested graph."""

    def run(self, feeds: list[Entry], run: Run) -> list[Entry]:
        """The outputs for one entry per input."""
        ...


Compile = Callable[[Graph, Sequence[Value], Sequence[Value]], Nested]
"""Compiles a nested graph; the values it captures are further inputs, and some outputs are wanted
on the host."""


class ControlStep:
    """If, Loop or Scan: its nested graphs are programs, and the host decides which of them runs."""

    def __init__(self, node: Node, compile_graph: Compile, numbers: Mapping[Value, int]) -> None:
        self.node = node
        self.inputs = [-1 if v is None else numbers[v] for v in node.inputs]
        self.outputs = [-1 if v.is_unused else numbers[v] for v in node.outputs]
        self.dies: list[int] = []
        self._programs: dict[str, tuple[Nested, list[int]]] = {}
        for key, nested in node.attributes.items():
            if isinstance(nested, Graph):
                captures = [v for v in nested.captures() if v.constant is None]
                wanted = nested.outputs[:1] if node.op_type == "Loop" else []
                program = compile_graph(nested, captures, wanted)
                self._programs[key] = (program, [numbers[v] for v in captures])

    @property
    def reads(self) -> list[int]:
        """The values that the node and its nested graphs read."""
        captured = [n for _, numbers in self._programs.values() for n in numbers]
        return [n for n in self.inputs if n >= 0] + captured

    def execute(self, values: Values, run: Run) -> None:
        results = getattr(self, f"_{self.node.op_type.lower()}")(values, run)
        for number, result in zip(self.outputs, results):
            if number >= 0:
                values[number] = result

    def _call(self, key: str, feeds: list[Entry], values: Values, run: Run) -> list[Entry]:
        stop_if_asked(run.terminate)  # a body that only hands values on has no part that would
        program, captured = self._programs[key]
        return program.run(feeds + [values[n] for n in captured], run)

    def _if(self, values: Values, run: Run) -> list[Entry]:
        condition = self._condition(values[self.inputs[0]], values, run)
        return self._call("then_branch" if condition else "else_branch", [], values, run)

    def _loop(self, values: Values, run: Run) -> list[Entry]:
        most, condition = (
            values[number] if number >= 0 else None for number in (*self.inputs, -1, -1)[:2]
        )
        trips = math.inf if most is None else self._trips(most, values, run)
        goes_on = condition is None or self._condition(condition, values, run)
        carried = [values[n] for n in self.inputs[2:]]
        scanned: list[list[Entry]] = [[] for _ in self.node.outputs[len(carried) :]]
        trip = 0
        while trip < trips and goes_on:
            feeds = [Entry(host=np.array(trip, np.int64)), Entry(host=np.array(True))]
            results = self._call("body", feeds + carried, values, run)
            goes_on = self._condition(results[0], values, run)
            carried = results[1 : 1 + len(carried)]
            for items, item in zip(scanned, results[1 + len(carried) :]):
                items.append(item)
            trip += 1
        return carried + [
            self._stacked(items, value, values, run)
            for items, value in zip(scanned, self.node.outputs[len(carried) :])
        ]

    def _scan(self, values: Values, run: Run) -> list[Entry]:
        count = int(self.node.attribute("num_scan_inputs"))
        carried = [values[n] for n in self.inputs[: len(self.inputs) - count]]
        axes, backwards = self._order("input", count)
        sources = [
            self._moved(values[n].on_device(run.device, run.allocate), axis, 0, run)
            for n, axis in zip(self.inputs[len(carried) :], axes)
        ]
        lengths = [source.shape[0] if source.shape else None for source in sources]
        if None in lengths or len(set(lengths)) > 1:  # a shorter one would be read past its end
            message = f"its scan inputs have {lengths} slices"
            raise self._error(errors.InvalidArgument, message, values)
        scanned: list[list[Entry]] = [[] for _ in self.node.outputs[len(carried) :]]
        for trip in range(sources[0].shape[0]):
            slices = [_row(x, ~trip if back else trip) for x, back in zip(sources, backwards)]
            results = self._call("body", carried + slices, values, run)
            carried = results[: len(carried)]
            for items, item in zip(scanned, results[len(carried) :]):
                items.append(item)
        axes, backwards = self._order("output", len(scanned))
        values_out = self.node.outputs[len(carried) :]
        return carried + [
            self._stacked(items[::-1] if back else items, value, values, run, axis)
            for items, value, axis, back in zip(scanned, values_out, axes, backwards)
        ]

    def _order(self, side: str, count: int) -> tuple[list[int], list[int]]:
        """The axes of what a Scan takes apart or joins, and which go backwards."""
        axes = self.node.attribute(f"scan_{side}_axes") or [0] * count
        return axes, self.node.attribute(f"scan_{side}_directions") or [0] * count

    def _condition(self, entry: Entry, values: Values, run: Run) -> bool:
        found = np.asarray(entry.on_host(run.device))
        if found.size != 1:
            given = described([0], {0: entry})
            message = f"the condition must be one bool, got {given}"
            raise self._error(errors.InvalidArgument, message, values)
        return bool(found.reshape(-1)[0])

    def _trips(self, entry: Entry, values: Values, run: Run) -> int:
        found = np.asarray(entry.on_host(run.device))
        if found.size != 1:
            message = f"the number of trips must be one element, got {described([0], {0: entry})}"
            raise self._error(errors.Fail, message, values)
        return int(found.reshape(-1)[0])

    def _error(self, kind: type[Exception], message: str, values: Values) -> Exception:
        text = f"{self.node.op_type} node '{self.node.name}': {message}"
        error = kind(text)
        errors.add_details(error, inputs=described(self.inputs, values))
        return error

    def _stacked(
        self, items: list[Entry], value: Value, values: Values, run: Run, axis: int = 0
    ) -> Entry:
        """The results of all trips, along a new axis."""
        assert isinstance(value.type, TensorType)
        if not items:
            sizes = [s if isinstance(s, int) else 0 for s in value.shape or (0,)]
            if value.shape:
                sizes[axis] = 0
            return Entry(host=np.zeros(sizes, value.type.dtype.numpy))
        tensors = [item.on_device(run.device, run.allocate) for item in items]  # text stays
        if any(each.shape != tensors[0].shape for each in tensors):
            message = f"output '{value.name}' has another shape in every trip, so the trips "
            raise self._error(errors.Fail, f"{message}cannot be joined", values)
        shape = (len(tensors), *tensors[0].shape)
        first = tensors[0]
        if not isinstance(first, Tensor):
            return Entry(host=np.stack(tensors, axis))
        address, owner = run.allocate(max(first.nbytes * len(tensors), 1))
        for index, each in enumerate(tensors):
            if each.nbytes:
                run.device.copy(address + index * each.nbytes, each.address, each.nbytes)
        stacked = Tensor(first.dtype, shape, address, owner)
        return Entry(device=self._moved(stacked, 0, axis, run))

    def _moved(self, x: Any, axis: int, place: int, run: Run) -> Any:
        """`x`, a Tensor or text, with an axis at another place."""
        rank = len(x.shape)
        if not rank or (axis - place) % rank == 0:
            return x
        if not isinstance(x, Tensor):
            return np.moveaxis(x, axis, place)
        order = list(range(rank))
        order.insert(place % rank, order.pop(axis))
        return permuted(Call(self.node, run.device, run.allocate, {}, run.kept), x, order)


def _row(source: Any, index: int) -> Entry:
    """A slice of a tensor on the device, or of text; from the end where `index` is negative."""
    if not isinstance(source, Tensor):
        return Entry(host=np.array(source[index], object))
    index %= source.shape[0]
    count = source.size // source.shape[0]
    return Entry(device=source.part(index * count, source.shape[1:]))
