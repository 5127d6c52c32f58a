# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of a run lie: a first run tells what is needed when, and a plan fixes it."""

from __future__ import annotations

import bisect
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bascule.providers.cuda.device import Device
from bascule.providers.cuda.tensor import Tensor

_ALIGNMENT = 256

Allocation = tuple[int, object]
"""(address, owner)."""


class _Block:
    """Memory handed out while recording; its end is an event of the record."""

    __slots__ = ("address", "memory", "number", "record")

    def __init__(self, record: Record, number: int, address: int, memory: object) -> None:
        self.record = record
        self.number = number
        self.address = address
        self.memory = memory

    def __del__(self) -> None:
        self.record.events.append(~self.number)


@dataclass
class Record:
    """What a run allocated and gave back, in order."""

    events: list[int] = field(default_factory=list)
    """The number of an allocation, or ``~number`` when it is given back."""
    sizes: list[int] = field(default_factory=list)

    def allocator(self, device: Device) -> Callable[[int], Allocation]:
        """Allocates from `device` and takes notes."""

        def allocate(nbytes: int) -> Allocation:
            address, memory = device.allocate(nbytes)
            number = len(self.sizes)
            self.sizes.append(nbytes)
            self.events.append(number)
            return address, _Block(self, number, address, memory)

        return allocate

    def number_of(self, tensor: Tensor) -> int | None:
        """The allocation that `tensor` fills, if it was made here and holds nothing else."""
        block = tensor.owner
        if not isinstance(block, _Block) or block.record is not self:
            return None
        begins = tensor.address == block.address
        fills = max(tensor.nbytes, 1) == self.sizes[block.number]
        return block.number if begins and fills else None


@dataclass(frozen=True)
class Layout:
    """A place in one block of memory for every allocation of a run."""

    offsets: Sequence[int]
    sizes: Sequence[int]
    total: int


def lay_out(record: Record) -> Layout:
    """Places for the recorded allocations; memory that was given back is used again.

    What comes later takes the smallest gap that holds it, as a best-fit allocator would.
    """
    gaps: list[tuple[int, int]] = []  # (offset, size), by offset, never touching
    offsets = [0] * len(record.sizes)
    total = 0
    for event in record.events:
        if event >= 0:
            size = _rounded(record.sizes[event])
            fitting = [gap for gap in gaps if gap[1] >= size]
            if fitting:
                gap = min(fitting, key=lambda g: (g[1], g[0]))
                gaps.remove(gap)
                offsets[event] = gap[0]
                if gap[1] > size:
                    bisect.insort(gaps, (gap[0] + size, gap[1] - size))
            else:
                start = total
                if gaps and sum(gaps[-1]) == total:  # the last gap can grow
                    start = gaps.pop()[0]
                offsets[event] = start
                total = start + size
        else:
            _give_back(gaps, offsets[~event], _rounded(record.sizes[~event]))
    return Layout(offsets, list(record.sizes), total)


def _rounded(size: int) -> int:
    return -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT


def _give_back(gaps: list[tuple[int, int]], offset: int, size: int) -> None:
    index = bisect.bisect(gaps, (offset, 0))
    if index < len(gaps) and offset + size == gaps[index][0]:
        size += gaps.pop(index)[1]
    if index > 0 and sum(gaps[index - 1]) == offset:
        index -= 1
        before = gaps.pop(index)
        offset, size = before[0], before[1] + size
    gaps.insert(index, (offset, size))


class Tenant(Protocol):
    """Who lays tensors out in an arena."""

    def move_out(self) -> None:
        """Forget what was recorded for addresses in the arena."""
        ...

    def forget(self) -> None:
        """Give back all memory that can be had again."""
        ...


class Arena:
    """One block of device memory that all plans of a session lay their tensors out in.

    It grows by a new block, in which all recordings are made anew.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._size = 0
        self._block: Allocation = (0, None)
        self._tenants: weakref.WeakSet[Tenant] = weakref.WeakSet()
        self._lock = threading.Lock()
        """Of the tenants: a program may be compiled while another runs."""

    def let(self, tenant: Tenant) -> None:
        """Add a tenant, which will be told when to move out."""
        with self._lock:
            self._tenants.add(tenant)

    def _all_tenants(self) -> list[Tenant]:
        with self._lock:
            return list(self._tenants)

    def block(self, size: int) -> Allocation:
        """Memory of at least `size` bytes, shared with whoever asked before."""
        if size > self._size:
            if self._size:
                self._device.synchronize()
                for tenant in self._all_tenants():
                    tenant.move_out()
                self._size, self._block = 0, (0, None)
            self._block = self._device.allocate(size)
            self._size = size
        return self._block

    def clear(self) -> None:
        """Give back the block, and what its tenants can do without."""
        self._device.synchronize()
        for tenant in self._all_tenants():
            tenant.forget()
        self._size, self._block = 0, (0, None)

    def placed(
        self, layout: Layout, leftover: list[object], elsewhere: Mapping[int, int]
    ) -> Callable[[int], Allocation]:
        """Hands out the places of `layout` in order; from what does not match on, other memory.

        That is kept in `leftover`. The allocations numbered in `elsewhere` are at the
        addresses it has for them.
        """
        address, owner = self.block(layout.total)
        numbers = iter(range(len(layout.sizes)))

        def allocate(nbytes: int) -> Allocation:
            nonlocal numbers
            number = next(numbers, None)
            if number is not None and nbytes == layout.sizes[number]:
                if number in elsewhere:
                    return elsewhere[number], None
                return address + layout.offsets[number], owner
            numbers = iter(())  # another course than the recorded one: its places do not hold
            found = self._device.allocate(nbytes)
            leftover.append(found[1])
            return found

        return allocate
