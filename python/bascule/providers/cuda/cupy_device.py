# SPDX-License-Identifier: Apache-2.0
"""A GPU through CuPy: memory, streams, launches, graphs."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from bascule import errors
from bascule.logging import LOGGER
from bascule.providers.cuda import compile as kernels
from bascule.providers.cuda import sources
from bascule.providers.cuda.device import Argument, Dim3, Struct
from bascule.providers.cuda.host_memory import Downloads
from bascule.providers.cuda.launch import dependent_launcher, waits
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.names import has_driver

_TO_DEVICE, _TO_HOST, _WITHIN = 1, 2, 3  # cudaMemcpyKind
_REPEATS = 3
_LEGACY = 1  # CU_STREAM_LEGACY
_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()
_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_FORK = (
    "no CUDA context survives a fork: start the process by 'spawn' "
    "(multiprocessing.set_start_method) or make its first session of CUDA after the fork"
)
_PIP = 'pip install "bascule[cuda13]" (or "bascule[cuda12]" for a driver of CUDA 12)'


class CupyDevice:
    """GPU number `number`, with a stream and a memory pool of its own.

    Args:
        number: which GPU.
        memory_limit: most bytes that the pool takes, 0 for all there are.
        tf32: whether float32 products may round their factors to 10 bits of mantissa.
        tuning_seconds: how long ways to compute the same may be timed to find the fastest.
        user_stream: address of the stream that callers work on, 0 for the default stream.

    Raises:
        EngineError: CuPy, the driver or the GPU is missing; the message says what mends it.
    """

    def __init__(
        self,
        number: int = 0,
        memory_limit: int = 0,
        tf32: bool = True,
        tuning_seconds: float = math.inf,
        user_stream: int = 0,
    ) -> None:
        cupy = _cupy()
        count = _device_count(cupy)
        if not 0 <= number < count:
            raise errors.EngineError(f"there is no GPU number {number}: this machine has {count}")
        self.xp: Any = cupy
        self.number = number
        self._may_tune = tuning_seconds > 0
        self.tuning_seconds = tuning_seconds
        self.tf32 = tf32
        self._device = cupy.cuda.Device(number)
        self._runtime = cupy.cuda.runtime
        with self._device:
            self.capability = int(self._device.compute_capability)
            gpu = self._runtime.getDeviceProperties(number)["name"]
            self.name = f"{gpu!r} driver {self._runtime.driverGetVersion()}"
            attributes = self._device.attributes
            self.processors = int(attributes["MultiProcessorCount"])
            self.shared_memory = int(attributes["MaxSharedMemoryPerBlockOptin"])
            self.stream: Any = cupy.cuda.Stream(non_blocking=True)
            self._stream_ptr = int(self.stream.ptr)
            self._user_stream = user_stream
            self._event = cupy.cuda.Event(disable_timing=True)
            self._pool = cupy.cuda.MemoryPool()
            if memory_limit:
                self._pool.set_limit(size=memory_limit)
        self._query = _stream_query()
        self._downloads = Downloads(self._locked, self._to_host, self._wait)
        self._modules: dict[str, Any] = {}
        self._functions: dict[tuple[str, str], Any] = {}
        self._dependent = dependent_launcher(self.capability)
        self._waiting: set[int] = set()
        """The functions that may start before those in front of them are done."""
        self._is_capturing = False
        self._process = os.getpid()

    # The libraries take long to load: not before a node wants them.
    @functools.cached_property
    def cublas(self) -> Any:
        with self._device:
            return _cublas(self.capability, self.tf32)

    @functools.cached_property
    def cudnn(self) -> Any:
        with self._device:
            return _cudnn(self._stream_ptr, self.tf32)

    @property
    def tunes(self) -> bool:
        return self._may_tune and not self._is_capturing

    # --- memory

    def allocate(self, nbytes: int) -> tuple[int, object]:
        with self._device, self.stream:
            try:
                memory = self._pool.malloc(max(nbytes, 1))
            except self.xp.cuda.memory.OutOfMemoryError:
                self._pool.free_all_blocks()
                memory = self._pool.malloc(max(nbytes, 1))
        return int(memory.ptr), memory

    def trim(self) -> None:
        self._pool.free_all_blocks()

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        # Copied to a buffer of the driver's before the call returns: the array may change.
        self._runtime.memcpyAsync(
            address, array.ctypes.data, array.nbytes, _TO_DEVICE, self._stream_ptr
        )

    def download(self, array: np.ndarray[Any, Any], address: int) -> None:
        self._to_host(array.ctypes.data, address, array.nbytes)
        self._wait()

    def arrays(self, tensors: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
        return self._downloads.arrays(tensors)

    def _to_host(self, target: int, source: int, nbytes: int) -> None:
        self._runtime.memcpyAsync(target, source, nbytes, _TO_HOST, self._stream_ptr)

    def _wait(self) -> None:
        self._runtime.streamSynchronize(self._stream_ptr)

    def _locked(self, nbytes: int) -> tuple[int, object]:
        """Page-locked memory of the host."""
        memory = self.xp.cuda.PinnedMemory(nbytes)
        return int(memory.ptr), memory

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self._runtime.memcpyAsync(target, source, nbytes, _WITHIN, self._stream_ptr)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        self._runtime.memsetAsync(address, byte, nbytes, self._stream_ptr)

    def array(self, tensor: Tensor) -> Any:
        memory = self.xp.cuda.UnownedMemory(
            tensor.address, max(tensor.nbytes, 1), tensor.owner, self.number
        )
        pointer = self.xp.cuda.MemoryPointer(memory, 0)
        return self.xp.ndarray(tensor.shape, tensor.dtype.numpy, memptr=pointer)

    # --- kernels

    def function(self, module: str, name: str) -> Any:
        found = self._functions.get((module, name))
        if found is None:
            found = self._of_module(module).get_function(name)
            self._functions[module, name] = found
            if waits(sources.source(module)):
                self._waiting.add(found.ptr)
        return found

    def _of_module(self, name: str) -> Any:
        try:
            return self._module(name, lambda: kernels.binary(name, self.capability))
        except self.xp.cuda.driver.CUDADriverError:
            # The driver is older than the toolkit that the fat binary was built by.
            code = lambda: kernels.binary(name, self.capability, prebuilt=False)  # noqa: E731
            return self._module(name, code)

    def generated(self, source: str, name: str) -> Any:
        found = self._functions.get((source, name))
        if found is None:
            code = lambda: kernels.compile_source(source, self.capability)  # noqa: E731
            found = self._module(source, code).get_function(name)
            self._functions[source, name] = found
            if waits(source):
                self._waiting.add(found.ptr)
        return found

    def _module(self, key: str, code: Callable[[], bytes]) -> Any:
        module = self._modules.get(key)
        if module is None:
            module = self.xp.cuda.function.Module()
            module.load(code())
            self._modules[key] = module
        return module

    def launch(
        self,
        function: Any,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Argument],
        shared: int,
    ) -> None:
        if shared:  # with what a kernel has of its own it may be more than is usual
            self.xp.cuda.driver.funcSetAttribute(function.ptr, _DYNAMIC_SHARED, shared)
        if self._is_capturing and self._dependent is not None and function.ptr in self._waiting:
            self._dependent.launch(function.ptr, grid, block, arguments, shared, self._stream_ptr)
            return
        function(grid, block, tuple(map(_packed, arguments)), shared, stream=self.stream)

    # --- order

    @contextlib.contextmanager
    def current(self, allocate: Callable[[int], tuple[int, object]]) -> Iterator[None]:
        def malloc(nbytes: int) -> Any:
            address, owner = allocate(max(nbytes, 1))
            memory = self.xp.cuda.UnownedMemory(address, max(nbytes, 1), owner, self.number)
            return self.xp.cuda.MemoryPointer(memory, 0)

        with self._device, self.stream, self.xp.cuda.using_allocator(malloc):
            yield

    def selected(self) -> AbstractContextManager[Any]:
        if os.getpid() != self._process:
            raise errors.EngineError(
                "this session was made by CUDAExecutionProvider before the process was forked, "
                f"and {_FORK}"
            )
        if self._runtime.getDevice() == self.number:
            return _NOTHING
        other: AbstractContextManager[Any] = self._device
        return other

    def capture(self, work: Callable[[], None]) -> Any:
        self.stream.begin_capture()
        self._is_capturing = True
        failure: BaseException | None = None
        graph: Any = None
        try:
            work()
        except BaseException as error:  # a stream whose capture does not end runs nothing any more
            failure = error
        finally:
            self._is_capturing = False
        try:
            graph = self.stream.end_capture()
        except Exception as error:
            failure = failure or error
        if failure is not None and not isinstance(failure, Exception):
            raise failure
        if failure is not None:
            LOGGER.info("work that cannot be captured as a CUDA graph runs by hand: %s", failure)
            return None
        graph.upload(self.stream)
        return _Graph(graph, self._runtime.graphLaunch, self._stream_ptr)

    def start(self, graph: Any) -> None:
        if self._user_stream:
            graph.launch(self._user_stream)
        else:
            self.after_others()
            graph.launch()

    def measure(self, work: Sequence[Callable[[], None]]) -> float:
        begun = time.perf_counter()
        try:
            return self._measured(work)
        finally:
            self.tuning_seconds -= time.perf_counter() - begun

    def _measured(self, work: Sequence[Callable[[], None]]) -> float:
        def start() -> None:
            for each in work:
                each()

        graph = self.capture(start)
        if graph is None:
            raise errors.Fail("what is to be timed cannot be captured")
        graph.launch()
        seconds = math.inf
        for _ in range(_REPEATS):
            begin = self.mark()
            graph.launch()
            end = self.mark()
            end.synchronize()
            seconds = min(seconds, self.elapsed_ns(begin, end) / 1e9)
        return seconds

    def after_others(self) -> None:
        # Most often nothing is left to wait for on the default stream.
        if self._user_stream or self._query(_LEGACY):
            self._follow(self._stream_ptr, self._user_stream)

    def before_others(self) -> None:
        if self._user_stream:
            self._follow(self._user_stream, self._stream_ptr)

    def _follow(self, stream: int, other: int) -> None:
        """Let what `stream` does next wait for what `other` was given so far."""
        self._runtime.eventRecord(self._event.ptr, other)
        self._runtime.streamWaitEvent(stream, self._event.ptr)

    def synchronize(self) -> None:
        self._wait()
        if self._user_stream:
            self._runtime.streamSynchronize(self._user_stream)

    def mark(self) -> Any:
        event = self.xp.cuda.Event()
        event.record(self.stream)
        return event

    def elapsed_ns(self, begin: Any, end: Any) -> int:
        milliseconds: float = self.xp.cuda.get_elapsed_time(begin, end)
        return round(milliseconds * 1e6)


class _Graph:
    """A captured graph; `graph` keeps what `launch` starts."""

    __slots__ = ("_exec", "_graph", "_launch", "_stream")

    def __init__(self, graph: Any, launch: Callable[[int, int], None], stream: int) -> None:
        self._graph = graph
        self._exec = graph.graphExec
        self._launch = launch
        self._stream = stream

    def launch(self, stream: int = 0) -> None:
        self._launch(self._exec, stream or self._stream)


def _stream_query() -> Callable[[int], int]:
    """cuStreamQuery, which says whether a stream has work left.

    The runtime's cudaStreamQuery would leave "not ready" behind as the last error, where other
    libraries that share the runtime look for errors of their own.
    """
    try:
        driver = ctypes.PyDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        query = driver.cuStreamQuery
    except (OSError, AttributeError):
        return lambda stream: 1
    query.argtypes = [ctypes.c_void_p]
    query.restype = ctypes.c_int
    found: Callable[[int], int] = query
    return found


def _packed(argument: Argument) -> Any:
    if isinstance(argument, Tensor):
        return argument.address
    if argument is None:
        return 0
    if isinstance(argument, Struct):
        return np.frombuffer(argument.data, np.dtype([("bytes", "u1", (len(argument.data),))]))
    return argument


def _cupy() -> Any:
    try:
        import cupy
    except Exception as error:  # ValueError and others too, of builds that do not fit together
        cause = str(error).rpartition("Original error:")[-1].strip("= \n")
        raise errors.EngineError(
            f"CUDAExecutionProvider needs CuPy, which cannot be imported ({cause}); {_PIP}"
        ) from None
    return cupy


def _device_count(cupy: Any) -> int:
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:
        if "cudaErrorInitializationError" in str(error):
            raise errors.EngineError(
                f"CUDAExecutionProvider cannot start: {error}. If this process was forked from one "
                f"that had used CUDA: {_FORK}"
            ) from None
        raise errors.EngineError(
            f"CUDAExecutionProvider finds no GPU ({error}): {_remedy(str(error))}"
        ) from None


def _remedy(error: str) -> str:
    """What helps where the runtime counts no GPU."""
    if not has_driver():
        return (
            "there is no NVIDIA driver here; install 580 or newer for CUDA 13, 525 or newer for "
            "CUDA 12"
        )
    if "cudaErrorInsufficientDriver" in error:
        return (
            "the driver is older than the CUDA of CuPy; install driver 580 or newer, or "
            'pip uninstall cupy-cuda13x and pip install "bascule[cuda12]"'
        )
    return "see what nvidia-smi says, and CUDA_VISIBLE_DEVICES; give a container its GPUs"


def _cublas(capability: int, tf32: bool) -> Any:
    try:
        from bascule.providers.cuda.libraries.cublaslt import CublasLt

        return CublasLt(capability, tf32)
    except (ImportError, OSError, errors.EngineError) as error:
        _slower("cuBLASLt", "matrix products", error)
        return None


def _cudnn(stream: int, tf32: bool) -> Any:
    try:
        from bascule.providers.cuda.libraries.cudnn import Cudnn

        return Cudnn(stream, tf32)
    except (ImportError, OSError, errors.EngineError) as error:
        _slower("cuDNN", "convolutions", error)
        return None


def _slower(library: str, what: str, error: Exception) -> None:
    cause = str(error).removeprefix("[ONNXRuntimeError] : 5 : ENGINE_ERROR : ")
    remedy = "" if "pip install" in cause else f"; {_PIP}"
    text = "%s cannot be used, so %s run by slower kernels: %s%s"
    LOGGER.warning(text, library, what, cause, remedy)
