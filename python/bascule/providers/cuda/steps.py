# SPDX-License-Identifier: Apache-2.0
"""The nodes of a graph as a run executes them, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.entry import Entry, bring_to_host, upload
from bascule.providers.cuda.memory import Allocation
from bascule.providers.cuda.registry import Kernel
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.weight import Weight

Values = dict[int, Entry]
"""The values of a run by their numbers."""


def described(numbers: Iterable[int], values: Values) -> str:
    """The inputs of a node as errors show them: ``float{2,4}, int64{}``."""
    shown = []
    for number in numbers:
        entry = values.get(number)
        if entry is None or not entry.is_tensor:
            shown.append("-")
        else:
            shown.append(f"{entry.dtype.onnx_name}{{{','.join(map(str, entry.shape))}}}")
    return ", ".join(shown)


def stop_if_asked(terminate: Any) -> None:
    """An error once the flag of RunOptions is set."""
    if terminate is not None and terminate.value:
        raise errors.Fail("Exiting due to terminate flag being set to true.")


@dataclass
class Run:
    """What the steps of a run share."""

    device: Device
    allocate: Callable[[int], Allocation]
    kept: dict[str, Tensor]
    terminate: Any = None
    """RunOptions' flag, which stops a run before its next part."""
    profiler: Any = None
    """profile.Profiler, or None."""


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
        except errors.ALL as error:
            node = {} if f"node '{self.node.name}'" in str(error) else {"node": self.node.name}
            errors.add_details(error, **node, inputs=described(self.inputs, values))
            raise
        except MemoryError as error:
            raise errors.Fail(self._message(f"out of device memory: {error}", values)) from error
        except Exception as error:
            raise errors.Fail(self._message(str(error), values)) from error
        if not isinstance(results, tuple):
            results = (results,)
        for number, result in zip(self.outputs, results):
            if number >= 0:
                values[number] = Entry.of(result)

    def _argument(self, index: int, number: int, values: Values, run: Run) -> Any:
        if number < 0:
            return None
        if index in self.kernel.host:
            return values[number].on_host(run.device)
        entry = values[number]
        if index in self.kernel.weights:
            return Weight(entry, run.device, lambda: self._on_device(number, entry, run))
        return self._on_device(number, entry, run)

    def _on_device(self, number: int, entry: Entry, run: Run) -> Any:
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
        if run.profiler is not None:
            bring_to_host([values[n] for n in self.inputs], run.device, run.profiler)
        feeds = [values[number].on_host(run.device) for number in self.inputs]
        results = self.program.run_values(feeds, [], None, run.profiler)
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
