# SPDX-License-Identifier: Apache-2.0
"""A graph on a device: segments that are captured, and between them what needs the host."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from bascule import errors
from bascule.ir.constant import Constant
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from bascule.providers.base import Provider
from bascule.providers.cuda.control import ControlStep
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.entry import Entry, bring_to_host, copy
from bascule.providers.cuda.memory import Arena
from bascule.providers.cuda.placement import Place, Placed, place
from bascule.providers.cuda.plan import Recording, tangled
from bascule.providers.cuda.replay import Replay
from bascule.providers.cuda.segment import Segment, Targets
from bascule.providers.cuda.steps import (
    KernelStep,
    NativeStep,
    Run,
    ShapeStep,
    Values,
    stop_if_asked,
)
from bascule.providers.cuda.targets import Fresh, OnDevice, Wanted, Where
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.names import CPU, CUDA
from bascule.providers.partition import Partition
from bascule.providers.split import extract

Result = TypeVar("Result")


@dataclass
class Outcome:
    """What a run of a graph gave."""

    entries: list[Entry]
    placed: set[int]
    """The outputs that are in the memory that was wanted for them."""
    recording: Recording | None
    """Set if the run was nothing but the replay of it."""


@dataclass(eq=False)
class Known:
    """A constant, and what is copied to the device once."""

    constant: Constant
    entry: Entry


@dataclass
class Shared:
    """What the programs of a session have in common."""

    device: Device
    arena: Arena
    cpu: Provider
    captures: bool
    may_use_cpu: bool
    """Whether nodes without a kernel may run on the CPU."""
    constants: WeakValueDictionary[int, Known] = field(default_factory=WeakValueDictionary)
    """By identity, as long as a graph has them: a session drops programs, too."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Of the stream and the arena: runs follow one another, also those of different programs.

    Taken once the device is selected, which complains in a forked process: there it may stay held.
    """


class DeviceGraph:
    """A graph as it runs on the device; `captures` are further inputs, after the graph's own."""

    def __init__(
        self,
        graph: Graph,
        shared: Shared,
        captures: Sequence[Value] = (),
        on_host: Sequence[Value] = (),
    ) -> None:
        self._shared = shared
        self._numbers: dict[Value, int] = {}
        self._constants: dict[int, Entry] = {}
        self._known: list[Known] = []
        self.inputs = [self._number(v, is_input=True) for v in (*graph.inputs, *captures)]
        placed = place(graph, shared.cpu, on_host, shared.may_use_cpu)
        steps = [(node, placed[node], self._step(node, placed[node])) for node in graph]
        self.outputs = [self._number(v) for v in graph.outputs]
        self._first_uses = {n: self.outputs.index(n) for n in self.outputs}
        """For values that are outputs: which, or the first where a value is several."""
        self._parts = self._split(steps)

    @property
    def is_one_part(self) -> bool:
        """Whether all its work is started at once."""
        return len(self._parts) == 1

    def _number(self, value: Value, is_input: bool = False) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._numbers)
            if value.constant is not None and not is_input:
                constant = value.constant
                known = self._shared.constants.get(id(constant))
                if known is None:
                    known = Known(constant, Entry(host=constant.numpy(), is_constant=True))
                    self._shared.constants[id(constant)] = known
                self._known.append(known)
                self._constants[number] = known.entry
        return number

    def _step(self, node: Node, placed: Placed) -> Any:
        if placed.place is Place.CONTROL:
            captured = [value for nested in node.subgraphs for value in nested.captures()]
            for value in (*node.inputs, *node.outputs, *captured):
                if value is not None:
                    self._number(value)
            return ControlStep(node, self._nested, self._numbers)
        inputs = [-1 if v is None else self._number(v) for v in node.inputs]
        outputs = [-1 if v.is_unused else self._number(v) for v in node.outputs]
        if placed.place is Place.DEVICE:
            assert placed.kernel is not None
            return KernelStep(node, placed.kernel, inputs, outputs)
        if node.is_op("Shape", "Size"):
            return ShapeStep(node, inputs, outputs)
        assert node.graph is not None
        part = extract(Partition(self._shared.cpu, [node]), node.graph)
        by_name = {v.name: n for v, n in self._numbers.items()}
        for nested in node.subgraphs:
            by_name.update({v.name: self._number(v) for v in nested.captures()})
        return NativeStep(
            node,
            self._shared.cpu.compile(part),
            [by_name[v.name] for v in part.inputs],
            [by_name[v.name] for v in part.outputs],
        )

    def _nested(
        self, graph: Graph, captures: Sequence[Value], on_host: Sequence[Value]
    ) -> DeviceGraph:
        return DeviceGraph(graph, self._shared, captures, on_host)

    # --- segments

    def _split(self, steps: list[tuple[Node, Placed, Any]]) -> list[Any]:
        """Steps in groups: segments, and single steps that need the host."""
        stages: dict[int, tuple[int, bool]] = {}  # of each value: its stage, and if it was captured
        on_device: set[int] = set()
        groups: dict[tuple[int, bool], list[Any]] = {}
        for node, placed, step in steps:
            reads = _reads(step)
            host_reads = _host_reads(step)
            breaks = _breaks(node, placed) or any(n in on_device for n in host_reads)
            if isinstance(step, ShapeStep):
                breaks = False
            stage = 0
            for number in reads:
                before, was_break = stages.get(number, (0, breaks))
                stage = max(stage, before + (was_break != breaks))
            for number in step.outputs:
                if number >= 0:
                    stages[number] = (stage, breaks)
                    if isinstance(step, KernelStep) and not breaks:
                        on_device.add(number)
            groups.setdefault((stage, breaks), []).append(step)
        ordered: list[tuple[bool, list[Any]]] = []
        for (_, breaks), group in sorted(groups.items(), key=lambda item: item[0]):
            ordered += [(True, [step]) for step in group] if breaks else [(False, group)]
        return self._finish(ordered)

    def _finish(self, ordered: list[tuple[bool, list[Any]]]) -> list[Any]:
        """Tell each step what dies with it, and each segment what comes in and goes out."""
        needed = set(self.outputs)
        parts: list[Any] = []
        for breaks, group in reversed(ordered):
            later = set(needed)
            made = {n for step in group for n in step.outputs if n >= 0}
            live = set(later)
            for step in reversed(group):
                touched = set(_reads(step)) | {n for n in step.outputs if n >= 0}
                step.dies = [n for n in touched if n not in live and n not in self._constants]
                live |= set(_reads(step))
            needed = (needed - made) | {n for step in group for n in _reads(step)} - made
            needed -= set(self._constants)
            if breaks:
                parts.append(group[0])
                continue
            inputs = sorted(
                {n for step in group for n in _reads(step)} - made - set(self._constants)
            )
            on_host = {n for step in group for n in _host_reads(step)} & set(inputs)
            parts.append(
                Segment(
                    self._shared.device,
                    self._shared.arena,
                    group,
                    inputs,
                    sorted(on_host),
                    sorted(made & later),
                    self._shared.captures,
                    self._constants,
                )
            )
        return parts[::-1]

    # --- running

    def run(self, feeds: list[Entry], run: Run) -> list[Entry]:
        """As a nested graph, which leaves its outputs in memory of their own."""
        return self.execute(feeds, None, run.terminate, run.profiler).entries

    def execute(
        self,
        feeds: list[Entry],
        memory: Mapping[int, OnDevice] | None = None,
        terminate: Any = None,
        profiler: Any = None,
    ) -> Outcome:
        """The outputs for one entry per input.

        `memory` says where outputs, by their place in the graph's list, are wanted on the device.
        If it is given, the others may lie where the next run overwrites them.
        """
        values: Values = dict(self._constants)
        values.update(zip(self.inputs, feeds))
        device = self._shared.device
        placed: set[int] = set()
        recording = None
        for index, part in enumerate(self._parts):
            stop_if_asked(terminate)
            begin = 0 if profiler is None else time.monotonic_ns()
            if isinstance(part, Segment):
                targets = None
                if memory is not None:
                    wanted = self._wanted_of(part, memory)
                    targets = Targets(wanted, index == len(self._parts) - 1)
                recording = part.run(values, targets, profiler)
                placed |= set() if targets is None else targets.placed
            else:
                with device.current(device.allocate):
                    part.execute(values, Run(device, device.allocate, {}, terminate, profiler))
                for number in part.dies:
                    values.pop(number, None)
            if profiler is not None:
                _note(profiler, part, begin)
        entries = [values[number] for number in self.outputs]
        there = {output for number, output in self._first_uses.items() if number in placed}
        return Outcome(entries, there, recording if len(self._parts) == 1 else None)

    def _wanted_of(self, segment: Segment, memory: Mapping[int, OnDevice]) -> dict[int, OnDevice]:
        """What `memory` says of outputs that the segment makes, by the numbers of values."""
        uses = self._first_uses
        return {n: memory[uses[n]] for n in segment.outputs if uses.get(n) in memory}


def _note(profiler: Any, part: Any, begin: int) -> None:
    """Add the span of a part that has just ended."""
    duration = time.monotonic_ns() - begin
    if isinstance(part, Segment):
        profiler.add_part("segment", CUDA, part.nodes, begin, duration)
        return
    if isinstance(part, KernelStep):
        profiler.add_node(part.node, part.kernel.name, begin, duration, [])
    provider = CPU if isinstance(part, NativeStep) else CUDA
    profiler.add_part(part.node.name or part.node.op_type, provider, 1, begin, duration)


def _reads(step: Any) -> list[int]:
    if isinstance(step, ControlStep):
        return step.reads
    return [n for n in step.inputs if n >= 0]


def _host_reads(step: Any) -> list[int]:
    """The values whose elements a step needs on the host."""
    if isinstance(step, KernelStep):
        return [n for i, n in enumerate(step.inputs) if n >= 0 and i in step.kernel.host]
    return list(step.inputs) if isinstance(step, NativeStep) else []


def _breaks(node: Node, placed: Placed) -> bool:
    """Whether a node cannot be part of a captured graph."""
    if placed.place in (Place.CPU, Place.CONTROL):
        return True
    if placed.kernel is not None and placed.kernel.synchronizes:
        return True
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    return not all(isinstance(v.type, TensorType) or v.type is None for v in values)


class CudaProgram:
    """A compiled graph of a session. Runs of one session follow one another."""

    def __init__(self, graph: Graph, shared: Shared) -> None:
        self._shared = shared
        self._graph = DeviceGraph(graph, shared)

    def run_feeds(self, *_: Any) -> Any:
        """There is no short way in: the caller normalizes the feeds and calls run_values."""
        return NotImplemented

    def run_values(
        self, feeds: list[Any], wanted: Sequence[int], terminate: Any = None, profiler: Any = None
    ) -> list[Any]:
        """Outputs as arrays."""
        device = self._shared.device
        with device.selected(), self._shared.lock, _EndedOnError(device):
            # Also without feeds on the device: others may be reading memory that was given back,
            # and a replay may be at work on their stream.
            device.after_others()
            entries = self._execute(feeds, {}, terminate, profiler).entries
            chosen = [entries[i] for i in wanted] if wanted else entries
            bring_to_host(chosen, device, profiler)
            device.before_others()
            held = _identities(feeds)
            return [_owned(entry.on_host(device), held) for entry in chosen]

    def run_bound(
        self,
        feeds: list[Any],
        targets: Mapping[int, Wanted],
        terminate: Any = None,
        profiler: Any = None,
        waits: bool = True,
    ) -> tuple[list[Any], Replay | None]:
        """The outputs numbered in `targets`: Tensors, or arrays for those wanted on the host.

        They are complete when this returns, unless `waits` is false: then the device may still be
        at work. The replay, if there is one, does the same again on the same memory.
        """
        device = self._shared.device
        with device.selected(), self._shared.lock, _EndedOnError(device):
            device.after_others()
            outcome = self._execute(feeds, targets, terminate, profiler)
            results = self._with_room(lambda: self._collected(outcome, targets, feeds))
            device.before_others()
            if waits:
                device.synchronize()
        if outcome.recording is None or not outcome.placed.issuperset(targets):
            return results, None
        return results, Replay(device, self._shared.lock, outcome.recording)

    def _execute(
        self, feeds: list[Any], targets: Mapping[int, Wanted], terminate: Any, profiler: Any
    ) -> Outcome:
        """Run; what is kept for other shapes makes room."""

        def attempt() -> Outcome:
            inputs = [Entry.of(feed) for feed in feeds]
            memory = self._memory(inputs, targets)
            return self._graph.execute(inputs, memory, terminate, profiler)

        return self._with_room(attempt)

    def _with_room(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` gives; if memory runs out, once more without what is kept."""
        try:
            return attempt()
        except (errors.Fail, MemoryError) as error:
            if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
                raise
        self._shared.arena.clear()  # not before the failed attempt has dropped its values
        try:
            return attempt()
        except MemoryError as error:
            raise errors.Fail(f"out of device memory: {error}") from error

    def _collected(
        self, outcome: Outcome, targets: Mapping[int, Wanted], feeds: list[Any]
    ) -> list[Any]:
        """The outputs numbered in `targets`, brought there."""
        device = self._shared.device
        found: dict[int, Any] = {}
        places: dict[int, Tensor] = {}
        on_host = [outcome.entries[n] for n, t in targets.items() if isinstance(t, Where)]
        bring_to_host(on_host, device)
        held = _identities(feeds)
        for number, target in targets.items():
            entry = outcome.entries[number]
            if number in outcome.placed:
                found[number] = entry.tensor
            elif isinstance(target, Where) or not entry.is_tensor:
                found[number] = _owned(entry.on_host(device), held)
            else:
                found[number] = entry.on_device(device, device.allocate)
                places[number] = _place(number, found[number], target, device)
        sources = {number: found[number] for number in places}
        taken = {number: Entry(device=tensor) for number, tensor in places.items()}
        for number in tangled(sources, taken):  # an input perhaps, and another output's target
            sources[number] = Fresh().of(found[number], device)
            copy(sources[number], found[number], device)
        for number, target in places.items():
            copy(target, sources[number], device)
        found.update(places)
        return [found[number] for number in targets]

    def _memory(self, inputs: list[Entry], targets: Mapping[int, Wanted]) -> dict[int, OnDevice]:
        """The targets that a graph may write to while it runs."""
        memory = {n: t for n, t in targets.items() if not isinstance(t, Where)}
        read_later = dict(enumerate(inputs))
        if self._graph.is_one_part:  # only inputs that are outputs, too, are read after it
            passed = {self._graph.outputs[number] for number in targets}
            read_later = {i: inputs[i] for i, n in enumerate(self._graph.inputs) if n in passed}
        if read_later:
            bound = {n: t for n, t in memory.items() if isinstance(t, Tensor)}
            for number in tangled(bound, read_later):
                del memory[number]
        return memory


class _EndedOnError:
    """What a run that fails has started is over before its caller frees what it reads or writes."""

    __slots__ = ("_device",)

    def __init__(self, device: Device) -> None:
        self._device = device

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(Exception):  # the first error counts
                self._device.synchronize()


def _place(number: int, found: Tensor, target: OnDevice, device: Device) -> Tensor:
    """The memory bound to an output, or fresh memory, in the shape of what was found."""
    if isinstance(target, Fresh):
        return target.of(found, device)
    if target.nbytes < found.nbytes or target.dtype is not found.dtype:
        raise errors.Fail(
            f"output {number} needs {found.dtype.onnx_name}{list(found.shape)}, but "
            f"{target.dtype.onnx_name}{list(target.shape)} is bound to it"
        )
    return Tensor(found.dtype, found.shape, target.address, target.owner)


def _owned(result: Any, held: set[int]) -> Any:
    """An output that is a feed, a constant or another output is a copy: the caller owns it.

    `held` are the identities of what others have.
    """
    if isinstance(result, np.ndarray):
        if not result.flags.writeable or id(result) in held:
            return result.copy()
        held.add(id(result))
    elif isinstance(result, list):
        return [_owned(item, held) for item in result]
    return result


def _identities(feeds: list[Any]) -> set[int]:
    """Of feeds, and of the items of sequences."""
    found = set(map(id, feeds))
    for feed in feeds:
        if isinstance(feed, list):
            found |= _identities(feed)
    return found
