# SPDX-License-Identifier: Apache-2.0
"""What the provider needs of a device. Tests put an emulation in the place of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Union

import numpy as np

from bascule.providers.cuda.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Struct:
    """A kernel argument that is passed by value: the bytes of a C struct."""

    data: bytes


Argument = Union[Tensor, None, Struct, np.generic]
"""A kernel argument: a tensor's address, a null pointer, a struct, or a number of the exact type
that the kernel declares (``np.int64(n)``, ``np.float32(epsilon)``)."""

Dim3 = tuple[int, int, int]


class CapturedGraph(Protocol):
    """Work that was recorded once and can be started again at the same addresses."""

    def launch(self) -> None:
        """Start it on the device's stream."""
        ...


class Device(Protocol):
    """One GPU, with a stream on which everything happens in order."""

    xp: Any
    """The array module: CuPy, or NumPy in the emulation."""
    number: int
    name: str
    """What tells apart GPUs and drivers on which different kernels are fastest."""
    capability: int
    """10 * major + minor of the compute capability."""
    processors: int
    """How many multiprocessors there are."""
    shared_memory: int
    """How many bytes of dynamic shared memory a block can have."""
    tf32: bool
    """Whether float32 products may round their factors to 10 bits of mantissa."""
    stream: Any
    """The stream, as the array module knows it."""

    tuning_seconds: float
    """How long `measure` may still be at work."""

    @property
    def cublas(self) -> Any:
        """libraries.cublaslt.CublasLt, or None when the library is missing."""
        ...

    @property
    def cudnn(self) -> Any:
        """libraries.cudnn.Cudnn, or None when the library is missing."""
        ...

    @property
    def tunes(self) -> bool:
        """Whether algorithms are now to be chosen by `measure`."""
        ...

    def allocate(self, nbytes: int) -> tuple[int, object]:
        """(address, owner) of fresh memory, 256-byte aligned."""
        ...

    def trim(self) -> None:
        """Give the driver the memory that nobody uses."""
        ...

    def function(self, module: str, name: str) -> Any:
        """The kernel `name` of ``kernels/<module>.cu``."""
        ...

    def generated(self, source: str, name: str) -> Any:
        """The kernel `name` of a CUDA C++ source made at run time."""
        ...

    def launch(
        self, function: Any, grid: Dim3, block: Dim3, arguments: Sequence[Argument], shared: int
    ) -> None:
        """Start a kernel with `shared` bytes of dynamic shared memory."""
        ...

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Copy a dense host array to the device; the array may change afterwards."""
        ...

    def download(self, array: np.ndarray[Any, Any], address: int) -> None:
        """Copy from the device into a dense host array, and wait for it."""
        ...

    def arrays(self, tensors: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
        """Tensors as arrays on the host, waited for once."""
        ...

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within device memory."""
        ...

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        """Set bytes of device memory."""
        ...

    def array(self, tensor: Tensor) -> Any:
        """An array of `xp` over the tensor's memory."""
        ...

    def current(self, allocate: Callable[[int], tuple[int, object]]) -> AbstractContextManager[Any]:
        """A block in which this device and its stream are current, and `xp` allocates so."""
        ...

    def capture(self, work: Callable[[], None]) -> CapturedGraph | None:
        """Record what `work` starts, instead of starting it; None when it cannot be recorded."""
        ...

    def selected(self) -> AbstractContextManager[Any]:
        """A block in which this device is current, and nothing else changes.

        Raises:
            EngineError: the process was forked since the device was opened.
        """
        ...

    def measure(self, work: Sequence[Callable[[], None]]) -> float:
        """The seconds that the device needs for all of `work`, which is started several times."""
        ...

    def after_others(self) -> None:
        """Let what is started from now on wait for other libraries' work.

        That is what they started on the default stream, or on the stream that the user gave.
        """
        ...

    def before_others(self) -> None:
        """Let what is started on the user's stream from now on wait for what was started here.

        The default stream does not wait: who reads results there waits for the device.
        """
        ...

    def start(self, graph: CapturedGraph) -> None:
        """Launch a graph after other libraries' work and before what they start later."""
        ...

    def mark(self) -> Any:
        """A point in the device's work."""
        ...

    def elapsed_ns(self, begin: Any, end: Any) -> int:
        """The time between two points, which the device must have passed."""
        ...

    def synchronize(self) -> None:
        """Wait until everything that was started is done."""
        ...
