# SPDX-License-Identifier: Apache-2.0
"""A device of the CUDA provider without a GPU: its kernels, compiled as host code.

``cuda_emulator/`` holds what CUDA C++ has beyond C++. BASCULE_EMULATOR_SANITIZE=1 compiles the
kernels with AddressSanitizer, whose library then has to be loaded first (see CONTRIBUTING). On a
GPU BASCULE_EXACT_MEMORY=1 takes each tensor from the driver, for compute-sanitizer to see its end.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.ir.graph import Model, Node
from bascule.ir.infer import infer_types
from bascule.ir.types import SequenceType, TensorType
from bascule.optimizer.fused import definition
from bascule.optimizer.fused.body import OPSET
from bascule.providers.cuda import operators, registry
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.cupy_device import CupyDevice
from bascule.providers.cuda.device import Argument, Dim3, Struct
from bascule.providers.cuda.entry import Entry
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.weight import Weight
from tests.support.cuda_emulator import build
from tests.support.cuda_emulator.build import Function
from tests.support.native import node_graph

_LIMITS = (2**31 - 1, 65535, 65535)
_IS_EXACT = os.environ.get("BASCULE_EXACT_MEMORY") == "1"
_VERSIONS = {"": OPSET, "ai.onnx.ml": 5}
"""Of the domains whose newest form is not the first."""


@functools.cache
def _libc() -> Any:
    library = ctypes.CDLL(None)
    library.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.free.restype = None
    return library


class _Memory:
    """Memory of exactly the size asked for, so that AddressSanitizer sees every overrun."""

    __slots__ = ("_device", "_free", "_nbytes", "address")

    def __init__(self, device: EmulatedDevice, nbytes: int) -> None:
        address = ctypes.c_void_p()
        if _libc().posix_memalign(ctypes.byref(address), 256, max(nbytes, 1)):
            raise MemoryError(f"{nbytes} bytes")
        self.address: int = address.value or 0
        self._free = _libc().free
        self._device, self._nbytes = device, nbytes
        device.used += nbytes

    def __del__(self) -> None:
        self._device.used -= self._nbytes
        self._free(self.address)


class EmulatedDevice:
    """A device whose memory is the host's; a launch returns when the grid is done."""

    def __init__(self, memory_limit: int = 0) -> None:
        self.xp: Any = np
        self.number = 0
        self.name = "emulated"
        self.tunes = False
        self.tuning_seconds = math.inf
        self.capability = 90
        self.processors = 132
        self.shared_memory = 232448
        self.tf32 = False
        self.cublas: Any = None
        self.cudnn: Any = None
        self.stream: Any = None
        self.launches: list[str] = []
        """The names of the kernels started so far."""
        self.replays = 0
        """How often a captured graph was started."""
        self.used = 0
        """Bytes that are allocated."""
        self._limit = memory_limit
        self._recording: list[Callable[[], None]] | None = None
        self._is_recordable = True

    def allocate(self, nbytes: int) -> tuple[int, object]:
        if self._limit and self.used + nbytes > self._limit:
            raise MemoryError(f"{nbytes:,} bytes, of {self._limit:,} are {self.used:,} in use")
        memory = _Memory(self, nbytes)
        ctypes.memset(memory.address, 0xFF, nbytes)  # what it holds is undefined: NaN shows
        return memory.address, memory

    def trim(self) -> None:
        pass

    def function(self, module: str, name: str) -> Function:
        return build.function(module, name)

    def generated(self, source: str, name: str) -> Function:
        return build.generated(source, name)

    def _do(self, work: Callable[[], None]) -> None:
        """Now, or whenever the graph that is being captured is started."""
        if self._recording is None:
            work()
        else:
            self._recording.append(work)

    def launch(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Argument],
        shared: int,
    ) -> None:
        self.launches.append(function.name)
        assert all(0 < size <= limit for size, limit in zip(grid, _LIMITS)), grid
        assert min(block) > 0 and block[0] * block[1] * block[2] <= 1024 and block[2] <= 64, block
        assert shared >= 0, shared
        packed = _packed(function, arguments)
        sizes = (ctypes.c_uint * 8)(*grid, *block, shared, self.shared_memory)

        def start() -> None:
            error = function.launch(packed, sizes)
            if error:
                raise RuntimeError(f"{function.name}: {error.decode()}")

        self._do(start)

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray[Any, Any], address: int) -> None:
        assert array.flags.c_contiguous
        assert self._recording is None, "nothing can be read back while a graph is captured"
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def arrays(self, tensors: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
        return [_downloaded(self, tensor) for tensor in tensors]

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self._do(lambda: ctypes.memmove(target, source, nbytes) and None)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        self._do(lambda: ctypes.memset(address, byte, nbytes) and None)

    def measure(self, work: Sequence[Callable[[], None]]) -> float:
        raise NotImplementedError("an emulated device has no speed")

    @contextlib.contextmanager
    def current(self, allocate: Any) -> Iterator[None]:
        yield

    def capture(self, work: Callable[[], None]) -> Any:
        """Work with arrays is done by NumPy at once, so it cannot be captured here."""
        self._recording, self._is_recordable = [], True
        try:
            work()
            recorded = self._recording
        except Exception:
            self._is_recordable = False
        finally:
            self._recording = None
        return _Replay(self, recorded) if self._is_recordable else None

    def array(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        self._is_recordable = False
        if tensor.nbytes == 0:
            return np.empty(tensor.shape, tensor.dtype.numpy)
        view = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.address)
        view.owner = tensor.owner
        return np.frombuffer(view, tensor.dtype.numpy).reshape(tensor.shape)

    def selected(self) -> Any:
        return contextlib.nullcontext()

    def after_others(self) -> None:
        pass

    def before_others(self) -> None:
        pass

    def start(self, graph: Any) -> None:
        graph.launch()

    def mark(self) -> int:
        return time.monotonic_ns()

    def elapsed_ns(self, begin: int, end: int) -> int:
        return end - begin

    def synchronize(self) -> None:
        pass


@dataclass(frozen=True)
class _Replay:
    """A captured graph."""

    device: EmulatedDevice
    work: Sequence[Callable[[], None]]

    def launch(self) -> None:
        self.device.replays += 1
        for each in self.work:
            each()


class _RecordedGpu(CupyDevice):
    """A GPU that notes the kernels and the graphs started."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.launches: list[str] = []
        self.replays = 0
        self._names: dict[int, str] = {}  # of functions by identity: the device keeps them

    @property
    def used(self) -> int:
        return int(self._pool.used_bytes())

    def allocate(self, nbytes: int) -> tuple[int, object]:
        if not _IS_EXACT:
            return super().allocate(nbytes)
        with self._device:
            memory = self.xp.cuda.Memory(max(nbytes, 1))
        return int(memory.ptr), memory

    def function(self, module: str, name: str) -> Any:
        found = super().function(module, name)
        self._names[id(found)] = name
        return found

    def generated(self, source: str, name: str) -> Any:
        found = super().generated(source, name)
        self._names[id(found)] = name
        return found

    def launch(
        self,
        function: Any,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Argument],
        shared: int,
    ) -> None:
        self.launches.append(self._names[id(function)])
        super().launch(function, grid, block, arguments, shared)

    def capture(self, work: Callable[[], None]) -> Any:
        graph = super().capture(work)
        return graph and _CountedGraph(self, graph)


@dataclass(frozen=True)
class _CountedGraph:
    """A captured graph of a GPU."""

    device: _RecordedGpu
    graph: Any

    def launch(self, *stream: int) -> None:
        self.device.replays += 1
        self.graph.launch(*stream)


_is_gpu = False


def use_gpu() -> None:
    """Let a real GPU take the place of the emulated device."""
    global _is_gpu
    _is_gpu = True


def on_gpu() -> bool:
    """Whether a real GPU has taken the place of the emulated device."""
    return _is_gpu


def new_device(memory_limit: int = 0, tunes: bool = False) -> Any:
    """A device with memory of its own, of which it gives out no more than the limit.

    If it tunes, a GPU chooses algorithms by timing them; else tests do the same in every run.
    """
    if on_gpu():
        return _RecordedGpu(
            memory_limit=memory_limit, tf32=False, tuning_seconds=math.inf if tunes else 0
        )
    return EmulatedDevice(memory_limit)


@functools.cache
def emulated_device() -> Any:
    """The device that tests share."""
    return new_device()


def unused_device() -> Any:
    """The device that tests share, of which no launch has been noted yet."""
    device = emulated_device()
    device.launches.clear()
    return device


def missing() -> str:
    """Why there is no such device here; empty when there is."""
    if not on_gpu():
        return build.missing()
    try:
        emulated_device()
    except errors.EngineError as error:
        return str(error)
    return ""


def _packed(function: Function, arguments: Sequence[Argument]) -> bytes:
    """The arguments as bytes; they have to be of the very types that the kernel declares."""
    parameters = function.parameters
    if len(parameters) != len(arguments):
        counts = f"{len(parameters)} arguments, not {len(arguments)}"
        raise TypeError(f"{function.name} takes {counts}")
    pieces = []
    for index, (parameter, argument) in enumerate(zip(parameters, arguments)):
        if argument is None or isinstance(argument, Tensor):
            found = "p8"
            pieces.append((0 if argument is None else argument.address).to_bytes(8, "little"))
        elif isinstance(argument, Struct):
            found = f"s{len(argument.data)}"
            pieces.append(argument.data)
        else:
            kind = argument.dtype.kind  # V for ml_dtypes' bfloat16
            found = f"{'f' if kind == 'V' else kind}{argument.dtype.itemsize}"
            pieces.append(argument.tobytes())
        if found != parameter:
            raise TypeError(f"argument {index} of {function.name} is {found}, not {parameter}")
    return b"".join(pieces)


# --- one operator


def blank_call() -> Call:
    """A call of no operator, to launch kernels of one's own."""
    device = emulated_device()
    return Call(Node("Test", []), device, device.allocate, {}, {})


def run_node(
    op_type: str,
    inputs: Sequence[Any],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    output_dtypes: Sequence[Any] | None = None,
    device: Any = None,
    constants: Collection[int] = (),
) -> list[Any]:
    """The outputs of one node, in its newest form, by the kernel that takes it.

    An input is an array, None, or a list of arrays for a sequence. Those numbered in `constants`
    are constants of the graph. Output types are inferred where `output_dtypes` does not give them.
    """
    node = _typed_node(op_type, inputs, attributes, outputs, domain, output_dtypes, constants)
    operators.load_all()
    kernel, reason = registry.find(node)
    if kernel is None:
        raise NotImplementedError(f"{op_type}: {reason}")
    device = device or emulated_device()
    call = Call(node, device, device.allocate, {}, {})
    given = [
        x
        if x is None or i in kernel.host
        else _weight(device, x, i in constants)
        if i in kernel.weights
        else _uploaded(device, x)
        for i, x in enumerate(inputs)
    ]
    with device.current(device.allocate):
        results = kernel.function(call, *given)
    device.synchronize()
    for index, (array, tensor) in enumerate(zip(inputs, given)):
        if isinstance(tensor, Tensor):
            unchanged = _downloaded(device, tensor).tobytes() == np.asarray(array).tobytes()
            assert unchanged, f"{kernel.name} wrote into input {index}"
    results = results if isinstance(results, tuple) else (results,)
    for value, result in zip(node.outputs, results):
        if isinstance(result, Tensor) and value.dtype is not None:
            assert result.dtype is value.dtype, (result.dtype, value.dtype)
    return [_downloaded(device, result) for result in results]


def _typed_node(
    op_type: str,
    inputs: Sequence[Any],
    attributes: dict[str, Any] | None,
    outputs: int,
    domain: str,
    output_dtypes: Sequence[Any] | None,
    constants: Collection[int],
) -> Node:
    first = [x[0] if isinstance(x, list) else x for x in inputs]
    graph = node_graph(op_type, first, attributes, outputs, domain, constants, static=True)
    (node,) = graph
    for given, value in zip(inputs, node.inputs):
        if isinstance(given, list) and value is not None and isinstance(value.type, TensorType):
            value.type = SequenceType(TensorType(value.type.dtype, None))
    for value, dtype in zip(node.outputs, output_dtypes or ()):
        value.type = TensorType(DataType.from_numpy(np.dtype(dtype)), None)
    infer_types(Model(graph, {domain: 1} | _VERSIONS), definition, check=False)
    return node


def _weight(device: Any, array: np.ndarray[Any, Any], is_constant: bool) -> Weight:
    entry = Entry(host=array, is_constant=is_constant)
    return Weight(entry, device, lambda: entry.on_device(device, device.allocate))


def _uploaded(device: Any, array: Any) -> Any:
    if array is None:
        return None
    if isinstance(array, list):
        return [_uploaded(device, each) for each in array]
    array = np.asarray(array)
    dense = np.ascontiguousarray(array).reshape(array.shape)
    address, owner = device.allocate(max(dense.nbytes, 1))
    if dense.nbytes:
        device.upload(address, dense)
    return Tensor(DataType.from_numpy(dense.dtype), dense.shape, address, owner)


def _downloaded(device: Any, tensor: Any) -> Any:
    if isinstance(tensor, list):
        return [_downloaded(device, each) for each in tensor]
    if not isinstance(tensor, Tensor):
        return tensor
    array = np.empty(tensor.shape, tensor.dtype.numpy)
    if array.nbytes:
        device.download(array, tensor.address)
    return array
