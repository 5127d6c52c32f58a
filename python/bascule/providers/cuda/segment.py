# SPDX-License-Identifier: Apache-2.0
"""Work that depends on the shapes of its inputs alone: run by hand, then captured and replayed.

A plan is made for each set of shapes (and of values that are needed on the host). The first run
takes notes of what is allocated when; the second lays that out in the arena and records a CUDA
graph; later ones copy the inputs to where the graph reads them and start it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import CapturedGraph, Device
from bascule.providers.cuda.entry import Entry, upload
from bascule.providers.cuda.memory import Allocation, Arena, Layout, Record, lay_out
from bascule.providers.cuda.registry import Kernel
from bascule.providers.cuda.tensor import Tensor

_MOST_PLANS = 32

Values = dict[int, Entry]
"""The values of a run by their numbers."""


@dataclass
class Plan:
    """What is kept for one set of shapes."""

    kept: dict[str, Tensor] = field(default_factory=dict)
    layout: Layout | None = None
    graph: CapturedGraph | None = None
    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: Values = field(default_factory=dict)
    leftover: list[object] = field(default_factory=list)
    is_eager: bool = False
    """Capturing failed: it runs by hand."""


@dataclass
class Run:
    """What the steps of a run share."""

    device: Device
    allocate: Callable[[int], Allocation]
    kept: dict[str, Tensor]
    terminate: Any = None
    """RunOptions' flag, which stops a run before its next part."""


@dataclass
class KernelStep:
    """A node with a kernel on the device."""

    node: Node
    kernel: Kernel
    inputs: list[int]
    """Numbers of values, -1 for an input that is left out."""
    outputs: list[int]
    dies: list[int] = field(default_factory=list)
    """Values that nobody reads after this step."""
    prepared: dict[str, Any] = field(default_factory=dict)

    def execute(self, values: Values, run: Run) -> None:
        call = Call(self.node, run.device, run.allocate, self.prepared, run.kept)
        try:
            arguments = [self._argument(i, n, values, run) for i, n in enumerate(self.inputs)]
            results = self.kernel.function(call, *arguments)
        except errors.ALL:
            raise
        except MemoryError as error:
            raise errors.Fail(self._message(f"out of device memory: {error}", values)) from error
        except Exception as error:
            raise errors.Fail(self._message(str(error), values)) from error
        if not isinstance(results, tuple):
            results = (results,)
        for number, result in zip(self.outputs, results):
            if number >= 0 and result is not None:
                values[number] = Entry.of(result)

    def _argument(self, index: int, number: int, values: Values, run: Run) -> Any:
        if number < 0:
            return None
        if index in self.kernel.host:
            return values[number].on_host(run.device)
        entry = values[number]
        if entry.is_on_device or not entry.is_tensor:
            return entry.on_device(run.device, run.allocate)
        if entry.is_constant:
            return entry.on_device(run.device, run.device.allocate)
        # What the host computed for these shapes is the same in every replay.
        key = f"value {number}"
        if key not in run.kept:
            run.kept[key] = upload(entry.on_host(run.device), run.device, run.device.allocate)
        return run.kept[key]

    def _message(self, what: str, values: Values) -> str:
        shapes = [
            "-" if n < 0 or not values[n].is_tensor else str(list(values[n].shape))
            for n in self.inputs
        ]
        return (
            f"{self.node.op_type} node '{self.node.name}' on inputs of shapes {', '.join(shapes)}: "
            f"{what}"
        )


@dataclass
class NativeStep:
    """A node that the CPU provider runs."""

    node: Node
    program: Any
    inputs: list[int]
    """Numbers of the values that `program` is fed."""
    outputs: list[int]
    dies: list[int] = field(default_factory=list)

    def execute(self, values: Values, run: Run) -> None:
        feeds = [values[number].on_host(run.device) for number in self.inputs]
        results = self.program.run_values(feeds, [])
        for number, result in zip(self.outputs, results):
            values[number] = Entry(host=result)


@dataclass
class ShapeStep:
    """Shape and Size, which need no elements."""

    node: Node
    inputs: list[int]
    outputs: list[int]
    dies: list[int] = field(default_factory=list)

    def execute(self, values: Values, run: Run) -> None:
        shape = np.array(values[self.inputs[0]].shape, np.int64)
        if self.node.op_type == "Size":
            result = np.array(shape.prod(), np.int64)
        else:
            result = shape[self.node.attribute("start", 0) : self.node.attribute("end")]
        values[self.outputs[0]] = Entry(host=result)


class Segment:
    """Steps without a look at results in between."""

    def __init__(
        self,
        device: Device,
        arena: Arena,
        steps: Sequence[Any],
        inputs: Sequence[int],
        on_host: Sequence[int],
        outputs: Sequence[int],
        captures: bool,
        constants: Values,
    ) -> None:
        self._device = device
        self._arena = arena
        self._steps = steps
        self._inputs = inputs
        self._on_host = frozenset(on_host)
        """The inputs whose values are needed on the host."""
        self._outputs = outputs
        self._captures = captures
        self._constants = constants
        self._plans: OrderedDict[Any, Plan] = OrderedDict()

    def run(self, values: Values, is_last: bool) -> None:
        """Run on `values`, and add the outputs to them.

        In the last segment of a program outputs may be where the next replay overwrites them.
        """
        key = self._key(values)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan()
            if len(self._plans) > _MOST_PLANS:
                self._device.synchronize()
                self._plans.popitem(last=False)
            try:
                self._first(plan, values)
            except BaseException:
                del self._plans[key]  # half a plan, of which the next run could make nothing
                raise
            return
        self._plans.move_to_end(key)
        if plan.graph is None and not plan.is_eager:
            self._capture(plan, values)
        if plan.graph is None:
            self._execute(values, Run(self._device, self._device.allocate, plan.kept))
            return
        self._feed(plan, values)
        plan.graph.launch()
        for number, entry in plan.outputs.items():
            values[number] = self._result(entry, is_last)

    def _key(self, values: Values) -> Any:
        parts: list[Any] = []
        for number in self._inputs:
            entry = values[number]
            if number in self._on_host:
                array = entry.on_host(self._device)
                parts.append((array.shape, array.tobytes()) if entry.is_tensor else repr(array))
            else:
                parts.append(entry.shape if entry.is_tensor else None)
        return tuple(parts)

    def _first(self, plan: Plan, values: Values) -> None:
        record = Record()
        run = Run(self._device, record.allocator(self._device), plan.kept)
        with self._device.current(run.allocate):
            # Inputs come into memory of the plan's own, where a graph finds them.
            for number in self._inputs:
                entry = values[number]
                if entry.is_tensor:
                    entry.on_device(self._device, self._device.allocate)
            self._execute(values, run)
        plan.layout = lay_out(record)
        plan.is_eager = not self._captures or any(
            not values[n].is_tensor for n in (*self._inputs, *self._outputs) if n in values
        )

    def _execute(self, values: Values, run: Run) -> None:
        for step in self._steps:
            step.execute(values, run)
            for number in step.dies:
                values.pop(number, None)

    def _capture(self, plan: Plan, values: Values) -> None:
        assert plan.layout is not None
        own: Values = dict(self._constants)
        for number in self._inputs:
            entry = values[number]
            address, owner = self._device.allocate(max(_bytes(entry), 1))
            plan.inputs[number] = Tensor(entry.dtype, entry.shape, address, owner)
            on_host = number in self._on_host
            own[number] = (
                Entry(entry.on_host(self._device), plan.inputs[number])
                if on_host
                else Entry(device=plan.inputs[number])
            )
        allocate = self._arena.placed(plan.layout, plan.leftover)
        run = Run(self._device, allocate, plan.kept)
        with self._device.current(allocate):
            plan.graph = self._device.capture(lambda: self._execute(own, run))
        if plan.graph is None:
            plan.is_eager = True
            plan.inputs = {}
            return
        plan.outputs = {number: own[number] for number in self._outputs}

    def _feed(self, plan: Plan, values: Values) -> None:
        for number, target in plan.inputs.items():
            entry = values[number]
            if not target.nbytes:
                continue
            if entry.is_on_device:
                source = entry.on_device(self._device, None)
                if source.address != target.address:
                    self._device.copy(target.address, source.address, target.nbytes)
            else:
                self._device.upload(target.address, entry.on_host(self._device))

    def _result(self, entry: Entry, may_share: bool) -> Entry:
        """An output of a replay: where the graph left it, or a copy."""
        if not entry.is_on_device:
            return entry
        tensor = entry.on_device(self._device, None)
        if may_share:  # a new entry, since one that was read keeps what it read
            return Entry(device=tensor)
        memory = self._device.allocate(max(tensor.nbytes, 1))
        if tensor.nbytes:
            self._device.copy(memory[0], tensor.address, tensor.nbytes)
        return Entry(device=Tensor(tensor.dtype, tensor.shape, *memory))


def _bytes(entry: Entry) -> int:
    count = 1
    for size in entry.shape:
        count *= size
    dtype: DataType = entry.dtype
    return count * dtype.numpy.itemsize
