# SPDX-License-Identifier: Apache-2.0
"""Results on their way to the host, the device's memory being the host's here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.providers.cuda import host_memory
from bascule.providers.cuda.host_memory import Downloads, PinnedMemory
from bascule.providers.cuda.tensor import Tensor


def allocate(nbytes: int) -> tuple[int, object]:
    memory = np.empty(nbytes, np.uint8)
    return memory.ctypes.data, memory


def tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return Tensor(DataType.from_numpy(array.dtype), array.shape, array.ctypes.data, array)


def test_downloads_of_all_sizes_are_waited_for_once() -> None:
    generator = np.random.default_rng(0)
    sizes = [0, 1, 16384, 16385, 300, 100_000, *[16384] * 80]
    given = [generator.integers(0, 256, size).astype(np.uint8) for size in sizes]
    given += [np.array(3.5), generator.standard_normal((3, 5, 7)).astype(DataType.BFLOAT16.numpy)]
    check(Downloads(allocate, *late()), given)


def test_what_is_too_large_to_be_locked_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "_MOST_PINNED", 100_000)
    monkeypatch.setattr(host_memory, "_PART", 20_000)
    allocated: list[int] = []

    def some(nbytes: int) -> tuple[int, object]:
        """Locks two parts, and no more."""
        if nbytes != 20_000 or len(allocated) == 2:
            raise MemoryError
        allocated.append(nbytes)
        return allocate(nbytes)

    generator = np.random.default_rng(1)
    given = [generator.standard_normal(n, np.float32) for n in (30_000, 40_001, 50_000, 45_000)]
    check(Downloads(some, *late()), given)
    check(Downloads(allocate, *late()), given)

    def refuse(nbytes: int) -> tuple[int, object]:
        raise MemoryError

    check(Downloads(refuse, *late()), given)


def test_large_results_while_python_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closing:
        """Starts one call, and no more."""

        def __init__(self, threads: int) -> None:
            self._left = 1

        def __enter__(self) -> Closing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
            if not self._left:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self._left -= 1
            done: Future[Any] = Future()
            done.set_result(work(*arguments))
            return done

    monkeypatch.setattr(host_memory, "_MOST_PINNED", 100_000)
    monkeypatch.setattr(host_memory, "_PART", 20_000)
    monkeypatch.setattr(host_memory, "ThreadPoolExecutor", Closing)
    given = [np.random.default_rng(2).standard_normal(n, np.float32) for n in (40_001, 50_000)]
    check(Downloads(allocate, *late()), given)


def late() -> tuple[Callable[[int, int, int], None], Callable[[], None]]:
    """What starts copies, and what waits for them."""
    started: list[tuple[int, int, int]] = []

    def wait() -> None:
        for target, source, nbytes in started:
            ctypes.memmove(target, source, nbytes)
        started.clear()

    return lambda *copy: started.append(copy), wait


def check(downloads: Downloads, given: list[np.ndarray[Any, Any]]) -> None:
    for _ in range(2):
        found = downloads.arrays([tensor(array) for array in given])
        for one, other in zip(found, given):
            assert one.dtype == other.dtype and one.shape == other.shape and one.flags.writeable
            assert one.tobytes() == other.tobytes()


def test_locked_memory_is_used_again_and_limited() -> None:
    allocated: list[int] = []

    def counted(nbytes: int) -> tuple[int, object]:
        allocated.append(nbytes)
        return allocate(nbytes)

    pinned = PinnedMemory(counted, 3 << 20)
    like = tensor(np.zeros((1000, 250), np.float32))
    first = pinned.array(like)
    assert first is not None and first.shape == (1000, 250) and allocated == [1 << 20]
    address = first.ctypes.data
    row = first[3]
    del first
    second = pinned.array(like)
    assert second is not None and second.ctypes.data != address
    del row
    third = pinned.array(like)
    assert third is not None and third.ctypes.data == address and len(allocated) == 2
    larger = tensor(np.zeros(400_000, np.float32))
    assert pinned.array(larger) is None
    del second, third
    assert pinned.array(larger) is not None and allocated[-1] == 2 << 20


def test_what_can_never_be_locked_displaces_nothing() -> None:
    allocated: list[int] = []

    def counted(nbytes: int) -> tuple[int, object]:
        allocated.append(nbytes)
        return allocate(nbytes)

    pinned = PinnedMemory(counted, 1 << 20)
    for _ in range(3):
        assert pinned.array(tensor(np.zeros(400_000, np.float32))) is None
        assert pinned.array(tensor(np.zeros(100_000, np.float32))) is not None
    assert allocated == [1 << 19]


def test_what_cannot_be_locked_is_not() -> None:
    def refuse(nbytes: int) -> tuple[int, object]:
        raise MemoryError(f"{nbytes}")

    assert PinnedMemory(refuse, 1 << 30).array(tensor(np.zeros(9))) is None


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0)])
def test_arrays_without_or_of_one_element(shape: tuple[int, ...]) -> None:
    found = PinnedMemory(allocate, 1 << 20).array(tensor(np.zeros(shape)))
    assert found is not None and found.shape == shape
