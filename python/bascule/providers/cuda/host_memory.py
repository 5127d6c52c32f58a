# SPDX-License-Identifier: Apache-2.0
"""Results on their way to the host: copied side by side, and waited for once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from bascule.providers.cuda.tensor import Tensor

_SMALL = 16 << 10
_STAGING = 1 << 20
_MOST_PINNED = 256 << 20
_PART = 4 << 20
"""Of what is too large to be locked; parts are copied from locked memory by several threads."""
_MOST_PARTS = 8

Array = np.ndarray[Any, Any]


class _Block:
    """Page-locked memory that an array is over; with the last array it is free again."""

    def __init__(self, address: int, memory: object, size: int, free: list[Any]) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }
        self._memory = (address, memory)
        self._free = free

    def __del__(self) -> None:
        self._free.append(self._memory)


class PinnedMemory:
    """Page-locked host memory, which a device writes at full speed, in blocks used over and over.

    Args:
        allocate: gives (address, owner) of new page-locked memory.
        most: bytes that may be locked.
    """

    def __init__(self, allocate: Callable[[int], tuple[int, object]], most: int) -> None:
        self._allocate = allocate
        self._most = most
        self._locked = 0
        self._free: dict[int, list[Any]] = {}

    def array(self, tensor: Tensor) -> Array | None:
        """An array for the elements of `tensor`; None when too much is locked already."""
        size = 1 << (max(tensor.nbytes, 1) - 1).bit_length()
        free = self._free.setdefault(size, [])
        if not free and not self._lock_more(size, free):
            return None
        address, memory = free.pop()
        block: Array = np.asarray(_Block(address, memory, size, free))
        found: Array = block[: tensor.nbytes].view(tensor.dtype.numpy).reshape(tensor.shape)
        return found

    def _lock_more(self, size: int, free: list[Any]) -> bool:
        if size > self._most:  # even if all else makes room
            return False
        if self._locked + size > self._most:
            for each, blocks in self._free.items():
                while blocks:
                    blocks.pop()
                    self._locked -= each
        if self._locked + size > self._most:
            return False
        try:
            free.append(self._allocate(size))
        except Exception:  # the system locks no more: what cannot be locked is copied all the same
            self._most = self._locked
            return False
        self._locked += size
        return True


class Downloads:
    """Copies tensors to the host.

    Args:
        allocate: gives (address, owner) of page-locked memory.
        copy: starts the copy of bytes: (to the host's address, from the device's, how many).
        wait: returns when all copies are done.
    """

    def __init__(
        self,
        allocate: Callable[[int], tuple[int, object]],
        copy: Callable[[int, int, int], None],
        wait: Callable[[], None],
    ) -> None:
        self._pinned = PinnedMemory(allocate, _MOST_PINNED)
        self._allocate = allocate
        self._copy = copy
        self._wait = wait
        self._staging: tuple[int, object] | None = None
        self._parts: list[tuple[int, object]] = []

    def arrays(self, tensors: Sequence[Tensor]) -> list[Array]:
        """The tensors as arrays. Small ones go through one page-locked buffer."""
        results: list[Array] = []
        staged: list[tuple[Array, int]] = []
        used = 0
        for tensor in tensors:
            nbytes = tensor.nbytes
            array = None if nbytes <= _SMALL else self._pinned.array(tensor)
            if array is None:
                array = np.empty(tensor.shape, tensor.dtype.numpy)
                if nbytes >= _MOST_PARTS * _PART and self._has_parts():
                    self._in_parts(array.ctypes.data, tensor)
                    results.append(array)
                    continue
            results.append(array)
            if 0 < nbytes <= _SMALL and used + nbytes <= _STAGING:
                address = self._staged() + used
                staged.append((array, address))
                used += nbytes
            else:
                address = array.ctypes.data
            if nbytes:
                self._copy(address, tensor.address, nbytes)
        self._wait()
        for array, address in staged:
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
        return results

    def _staged(self) -> int:
        if self._staging is None:
            self._staging = self._allocate(_STAGING)
        return self._staging[0]

    def _has_parts(self) -> bool:
        """Whether there is locked memory for parts."""
        try:
            while len(self._parts) < min(_MOST_PARTS, os.cpu_count() or 1):
                self._parts.append(self._allocate(_PART))
        except Exception:  # the system locks no more
            pass
        return bool(self._parts)

    def _in_parts(self, target: int, tensor: Tensor) -> None:
        """Copy to new memory: a thread alone would spend most of the time on its pages."""
        left = tensor.nbytes  # where begins what is not copied
        with ThreadPoolExecutor(len(self._parts)) as threads:
            moving: list[Future[Any]] = []
            for number, start in enumerate(range(0, tensor.nbytes, _PART)):
                if number >= len(self._parts):
                    moving[number - len(self._parts)].result()
                part, size = self._parts[number % len(self._parts)][0], tensor.nbytes - start
                self._copy(part, tensor.address + start, min(size, _PART))
                self._wait()
                try:
                    moving.append(
                        threads.submit(ctypes.memmove, target + start, part, min(size, _PART))
                    )
                except RuntimeError:  # Python shuts down and starts no more threads
                    left = start
                    break
        if left < tensor.nbytes:
            self._copy(target + left, tensor.address + left, tensor.nbytes - left)
            self._wait()
