# SPDX-License-Identifier: Apache-2.0
"""Work that depends on the shapes of its inputs alone: run by hand, then captured and replayed.

A plan is made for each set of shapes (and of values that are needed on the host). The first run
takes notes of what is allocated when. Later ones start a CUDA graph over memory laid out by these
notes: one that reads inputs and writes outputs where the caller has them, if the same addresses
come again, or one with memory of its own, into which inputs are copied.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bascule import errors
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.entry import Entry, copy
from bascule.providers.cuda.memory import Arena, Record, lay_out
from bascule.providers.cuda.plan import ANYWHERE, Addresses, Plan, Recording, tangled
from bascule.providers.cuda.steps import KernelStep, NativeStep, Run, ShapeStep, Values
from bascule.providers.cuda.targets import Fresh, OnDevice
from bascule.providers.cuda.tensor import Tensor

_MOST_PLANS = 32
_ALIGNMENT = 256
"""Of the addresses that kernels were chosen for; other memory is copied."""


@dataclass
class Targets:
    """Where outputs of a segment are wanted on the device."""

    memory: Mapping[int, OnDevice]
    is_last: bool
    """Whether other outputs may be where the next replay overwrites them."""
    placed: set[int] = field(default_factory=set)
    """The outputs that are there."""


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
        self.outputs = outputs
        self._captures = captures
        self._constants = constants
        self._updates = _updates(steps, inputs, outputs)
        """Outputs that may lie where an input is."""
        self._lengths = _lengths(steps, inputs, outputs, self._on_host)
        """Inputs on the host that are lengths, and the caches that grow if they exceed theirs."""
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        arena.let(self)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self._steps)

    def run(
        self, values: Values, targets: Targets | None = None, profiler: Any = None
    ) -> Recording | None:
        """Run on `values`, and add the outputs to them.

        Outputs are where `targets` want them as far as it says so. Returns what was replayed if it
        was bound to addresses: it can be started again while they hold.
        """
        key = self._key(values)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan()
            if len(self._plans) > _MOST_PLANS:
                self._device.synchronize()
                self._plans.popitem(last=False)[1].give_up()
            try:
                self._settle(values, profiler)
                self._first(plan, values, profiler)
            except BaseException:
                del self._plans[key]  # half a plan, of which the next run could make nothing
                raise
            return None
        self._plans.move_to_end(key)
        places = {} if targets is None else self._places(plan, targets.memory)
        recording = None
        if not plan.is_eager and profiler is None:
            bound = None if targets is None else self._addresses(values, places)
            recording = self._recording(plan, bound, values, places)
        if recording is None:
            allocate = self._device.allocate
            self._settle(values, profiler)
            self._by_hand(values, Run(self._device, allocate, plan.kept, None, profiler))
            return None
        self._fill(recording, values)
        assert recording.graph is not None
        recording.graph.launch()
        is_bound = recording is not plan.recordings.get(ANYWHERE)
        may_stay = targets is not None and targets.is_last
        for number, entry in recording.outputs.items():
            values[number] = self._result(entry, places.get(number), is_bound, may_stay)
        if targets is not None:
            targets.placed = set(places)
        # Just started again it would not see what is new on the host, or needed there.
        starts_alone = is_bound and not recording.inputs and not self._on_host
        return recording if starts_alone else None

    def _key(self, values: Values) -> Any:
        parts: list[Any] = []
        for number in self._inputs:
            entry = values[number]
            if number in self._on_host:
                array = entry.on_host(self._device)
                if number in self._lengths and np.size(array) == 1:
                    # All that fit the caches make the same plan.
                    least = min(values[cache].shape[2] for cache in self._lengths[number])
                    parts.append((array.shape, max(int(np.reshape(array, ())), least)))
                    continue
                parts.append(_content(array))
            else:
                parts.append(entry.shape if entry.is_tensor or entry.is_text else None)
        return tuple(parts)

    # --- by hand

    def _settle(self, values: Values, profiler: Any = None) -> None:
        """Bring inputs to the device, into memory that is aligned as a graph would have it."""
        for number in self._inputs:
            entry = values[number]
            if entry.is_tensor:
                begin = 0 if profiler is None or entry.is_on_device else time.monotonic_ns()
                try:
                    tensor = entry.on_device(self._device, self._device.allocate)
                except MemoryError as error:
                    what = f"an input of shape {list(entry.shape)} takes more device memory than"
                    raise errors.Fail(f"{what} there is: {error}") from error
                if begin:
                    took = time.monotonic_ns() - begin
                    profiler.add_copy("host to device", tensor.nbytes, begin, took)
                if tensor.address % _ALIGNMENT:
                    values[number] = Entry(device=self._copied(tensor))

    def _first(self, plan: Plan, values: Values, profiler: Any) -> None:
        record = Record()
        run = Run(self._device, record.allocator(self._device), plan.kept, None, profiler)
        self._by_hand(values, run)
        for number in self.outputs:
            entry = values[number]
            if entry.is_on_device and entry.is_tensor:
                made = entry.tensor
                plan.made[number] = Tensor(made.dtype, made.shape, 0, None)
                block = record.number_of(made)
                if block is not None:
                    plan.blocks[number] = block
        plan.layout = lay_out(record)
        plan.is_eager = not self._captures or any(
            not values[n].is_tensor for n in (*self._inputs, *self.outputs) if n in values
        )

    def _by_hand(self, values: Values, run: Run) -> None:
        with self._device.current(run.allocate):
            if run.profiler is None:
                self._execute(values, run)
            else:
                self._execute_timed(values, run)

    def _execute(self, values: Values, run: Run) -> None:
        for step in self._steps:
            step.execute(values, run)
            for number in step.dies:
                values.pop(number, None)

    def _execute_timed(self, values: Values, run: Run) -> None:
        """As _execute, with a span for the time that the device works for each step."""
        begin = time.monotonic_ns()
        marks = [self._device.mark()]
        made = []
        for step in self._steps:
            step.execute(values, run)
            made.append([values.get(number) for number in step.outputs])
            for number in step.dies:
                values.pop(number, None)
            marks.append(self._device.mark())
        self._device.synchronize()
        for index, (step, outputs) in enumerate(zip(self._steps, made)):
            if isinstance(step, KernelStep):
                start = begin + self._device.elapsed_ns(marks[0], marks[index])
                length = self._device.elapsed_ns(marks[index], marks[index + 1])
                shapes = [
                    (entry.dtype.onnx_name, list(entry.shape))
                    for entry in outputs
                    if entry is not None and entry.is_tensor
                ]
                run.profiler.add_node(step.node, step.kernel.name, start, length, shapes)

    # --- replays

    def _places(self, plan: Plan, memory: Mapping[int, OnDevice]) -> dict[int, Tensor]:
        """Memory for the outputs that are wanted on the device, where it fits."""
        places = {}
        for number, target in memory.items():
            made = plan.made.get(number)
            if made is None or plan.is_eager:
                continue
            if isinstance(target, Fresh):
                places[number] = target.of(made, self._device)
            elif target.dtype is made.dtype and target.nbytes >= made.nbytes:
                places[number] = Tensor(made.dtype, made.shape, target.address, target.owner)
        return places

    def _addresses(self, values: Values, places: Mapping[int, Tensor]) -> Addresses:
        inputs = [
            entry.tensor.address if entry.is_on_device and entry.is_tensor else 0
            for entry in map(values.__getitem__, self._inputs)
        ]
        # A leading number tells from ANYWHERE what has neither inputs nor outputs.
        return (len(inputs), *inputs, *(x for n, t in places.items() for x in (n, t.address)))

    def _recording(
        self, plan: Plan, bound: Addresses | None, values: Values, places: Mapping[int, Tensor]
    ) -> Recording | None:
        """The graph for a replay, captured if need be; None if capturing fails."""
        if bound is not None:
            found = plan.recordings.get(bound)
            if found is not None:
                plan.recordings.move_to_end(bound)
                return found
            if plan.is_worth_binding(bound):
                return self._capture(plan, bound, values, places)
        found = plan.recordings.get(ANYWHERE)
        return found or self._capture(plan, ANYWHERE, values, {})

    def _capture(
        self, plan: Plan, addresses: Addresses, values: Values, places: Mapping[int, Tensor]
    ) -> Recording | None:
        assert plan.layout is not None
        is_bound = addresses != ANYWHERE
        given = {number: values[number] for number in self._inputs}
        mixed = tangled(places, given)
        mixed -= {number for number in mixed if self._is_update(number, places, given)}
        # An output that is an input must not be overwritten before it is copied.
        reads_in_place = is_bound and not (mixed and len(plan.blocks) < len(plan.made))
        own: Values = dict(self._constants)
        fill: dict[int, Tensor] = {}
        copies: list[tuple[Tensor, Tensor]] = []
        for number, entry in given.items():
            if not entry.is_tensor:
                own[number] = entry
                continue
            tensor = entry.tensor if is_bound and entry.is_on_device else None
            if tensor is not None and reads_in_place and tensor.address % _ALIGNMENT == 0:
                source = Tensor(tensor.dtype, tensor.shape, tensor.address, None)
            else:
                source = self._empty(entry)
                if tensor is None:
                    fill[number] = source
                else:
                    copies.append((source, tensor))
            on_host = number in self._on_host
            own[number] = (
                Entry(entry.on_host(self._device), source) if on_host else Entry(device=source)
            )
        elsewhere = {
            plan.blocks[number]: place.address
            for number, place in places.items()
            if number in plan.blocks and number not in mixed and place.address % _ALIGNMENT == 0
        }
        leftover: list[object] = [source.owner for source, _ in copies]
        allocate = self._arena.placed(plan.layout, leftover, elsewhere)

        def work() -> None:
            for target, source in copies:
                copy(target, source, self._device)
            self._execute(own, Run(self._device, allocate, plan.kept))
            for number, place in places.items():
                copy(place, own[number].tensor, self._device)

        with self._device.current(allocate):
            graph = self._device.capture(work)
        if graph is None:
            plan.is_eager = True
            return None
        outputs = {number: own[number] for number in self.outputs}
        recording = Recording(graph, fill, outputs, leftover)
        if is_bound and len(plan.recordings) > 1:
            self._device.synchronize()  # a recording may go, which may still be running
        plan.keep(addresses, recording)
        return recording

    def _is_update(
        self, number: int, places: Mapping[int, Tensor], given: Mapping[int, Entry]
    ) -> bool:
        """Whether an output is wanted exactly where the input is that it is a changed copy of."""
        source, place = self._updates.get(number), places[number]
        if source is None or not given[source].is_on_device:
            return False
        tensor = given[source].tensor
        others = {n: entry for n, entry in given.items() if n != source}
        others.update({~n: Entry(device=t) for n, t in places.items() if n != number})
        is_there = tensor.address == place.address and tensor.nbytes == place.nbytes
        return is_there and not tangled({number: place}, others)

    def _fill(self, recording: Recording, values: Values) -> None:
        for number, target in recording.inputs.items():
            entry = values[number]
            if entry.is_on_device:
                copy(target, entry.tensor, self._device)
            elif target.nbytes:
                self._device.upload(target.address, entry.on_host(self._device))

    def _result(self, entry: Entry, place: Tensor | None, is_bound: bool, may_stay: bool) -> Entry:
        """An output of a replay: in its place, where the graph left it, or a copy."""
        if not entry.is_on_device:
            return Entry(host=entry.on_host(self._device).copy())  # callers may write to theirs
        tensor = entry.tensor
        if place is None:
            # A view of memory that was bound to the graph may be gone once the inputs are.
            if may_stay and tensor.owner is not None:
                return Entry(device=tensor)  # a new one, since one that was read keeps what it read
            return Entry(device=self._copied(tensor))
        if not is_bound:
            copy(place, tensor, self._device)
        return Entry(device=place)

    # --- memory

    def move_out(self) -> None:
        """Forget the recordings; nothing may be running."""
        for plan in self._plans.values():
            plan.give_up()

    def forget(self) -> None:
        """Forget all plans; nothing may be running."""
        self.move_out()
        self._plans.clear()

    def _copied(self, tensor: Tensor) -> Tensor:
        copied = Fresh().of(tensor, self._device)
        copy(copied, tensor, self._device)
        return copied

    def _empty(self, entry: Entry) -> Tensor:
        return Fresh().of(Tensor(entry.dtype, entry.shape, 0, None), self._device)


def _content(value: Any) -> Any:
    """What tells apart values on the host; `repr` leaves out most of a long text tensor."""
    if isinstance(value, list):
        return tuple(map(_content, value))
    if isinstance(value, np.ndarray):
        return value.shape, tuple(value.flat) if value.dtype == object else value.tobytes()
    return repr(value)


def _updates(steps: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int]) -> dict[int, int]:
    """Outputs by number that are changed copies of inputs which nobody else reads.

    Another reader might pass the input on in another shape, to be read after it has changed.
    """
    reading = (step for step in steps if not isinstance(step, ShapeStep))
    readers = Counter(number for step in reading for number in set(step.inputs))
    found = {}
    for step in steps:
        if isinstance(step, KernelStep):
            for output, source in step.kernel.updates.items():
                to, of = step.outputs[output], step.inputs[source]
                is_alone = readers[of] == 1 and step.inputs.count(of) == 1 and of in step.dies
                if to in outputs and of in inputs and is_alone:
                    found[to] = of
    return found


_KEEPS_NUMBER = ("Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity")


def _lengths(
    steps: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int], on_host: Collection[int]
) -> dict[int, set[int]]:
    """Inputs on the host that matter only if they exceed axis 2 of other inputs, and these."""
    readers: dict[int, list[Any]] = {}
    for step in steps:
        for number in set(step.inputs):
            readers.setdefault(number, []).append(step)

    each = {number: _caches(number, readers, inputs, outputs) for number in on_host}
    return {number: found for number, found in each.items() if found}


def _caches(
    number: int, readers: Mapping[int, list[Any]], inputs: Sequence[int], outputs: Sequence[int]
) -> set[int] | None:
    """The inputs whose axis 2 an integer may exceed; None if it is of other use."""
    found: set[int] = set()
    for step in readers.get(number, ()):
        more: set[int] | None = None
        if isinstance(step, NativeStep):
            if step.node.is_op(*_KEEPS_NUMBER) and len(step.inputs) == 1:
                more = _caches(step.outputs[0], readers, inputs, outputs)
        elif isinstance(step, KernelStep):
            places = [index for index, each in enumerate(step.inputs) if each == number]
            if all(place in step.kernel.lengths for place in places):
                more = {step.inputs[step.kernel.lengths[place]] for place in places}
        if not more or not more <= set(inputs):
            return None
        found |= more
    return None if number in outputs else found
