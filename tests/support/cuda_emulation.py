# SPDX-License-Identifier: Apache-2.0
"""A device of the CUDA provider without a GPU: its kernels, compiled as host code.

``cuda_emulator/`` holds what CUDA C++ has beyond C++. BASCULE_EMULATOR_SANITIZE=1 compiles the
kernels with AddressSanitizer, whose library then has to be loaded first (see CONTRIBUTING).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Model, Node
from bascule.ir.infer import infer_types
from bascule.ir.types import SequenceType, TensorType
from bascule.optimizer.fused import definition
from bascule.optimizer.fused.body import OPSET
from bascule.providers.cuda import operators, registry, sources
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Argument, Dim3, Struct
from bascule.providers.cuda.tensor import Tensor
from tests.support.native import node_graph

_EMULATOR = Path(__file__).parent / "cuda_emulator"
_COMPILER = shutil.which(os.environ.get("CXX", "g++"))
_SANITIZE = os.environ.get("BASCULE_EMULATOR_SANITIZE") == "1"
_FLAGS = (
    *("-std=c++17", "-O1", "-g0", "-fPIC", "-w", "-DBASCULE_EMULATED"),
    *("-ffp-contract=off", "-fno-strict-aliasing", "-fno-math-errno"),
    # Each module keeps its own copy of the runtime and of its shared memory.
    *("-fvisibility=hidden", "-fno-gnu-unique"),
    *(("-fsanitize=address",) if _SANITIZE else ()),
)
# The marker that emulator.h puts in the place of __global__.
_ENTRY = re.compile(r'extern "C" __attribute__\(\(used\)\)\s+void\s+(\w+)\s*\(')
_LIMITS = (2**31 - 1, 65535, 65535)

_libc = ctypes.CDLL(None)
_libc.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.free.restype = None


@functools.cache
def _include_folders() -> tuple[str, ...]:
    """The folders of the CUDA toolkit that hold what its headers need on a host, or none."""
    site = Path(sysconfig.get_path("purelib"), "nvidia")
    roots = [site / "cu13", *site.glob("*"), Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))]
    found = []
    for header in ("cuda_fp16.h", "crt/host_defines.h", "nv/target"):
        folders = (root / part for root in roots for part in ("include", "include/cccl"))
        folder = next((str(f) for f in folders if (f / header).is_file()), None)
        if folder is None:
            return ()
        found.append(folder)
    return tuple(dict.fromkeys(found))


def missing() -> str:
    """Why kernels cannot be emulated here; empty when they can."""
    if os.name != "posix" or _COMPILER is None:
        return "needs g++"
    if not _include_folders():
        return "needs the headers of CUDA"
    return ""


class _Memory:
    """Memory of exactly the size asked for, so that AddressSanitizer sees every overrun."""

    __slots__ = ("__weakref__", "address")

    def __init__(self, nbytes: int) -> None:
        address = ctypes.c_void_p()
        if _libc.posix_memalign(ctypes.byref(address), 256, max(nbytes, 1)) or not address.value:
            raise MemoryError(f"{nbytes} bytes")
        self.address = address.value
        weakref.finalize(self, _libc.free, self.address)


@dataclass(frozen=True, slots=True)
class Function:
    """A kernel, and what it takes: a letter and a size for each parameter."""

    name: str
    launch: Any
    parameters: tuple[str, ...]


class EmulatedDevice:
    """A device whose memory is the host's; a launch returns when the grid is done."""

    def __init__(self) -> None:
        self.xp: Any = np
        self.number = 0
        self.capability = 90
        self.processors = 132
        self.shared_memory = 232448
        self.cublas: Any = None
        self.cudnn: Any = None
        self.stream: Any = None
        self.launches: list[str] = []
        """The names of the kernels started so far."""

    def allocate(self, nbytes: int) -> tuple[int, object]:
        memory = _Memory(nbytes)
        ctypes.memset(memory.address, 0xFF, nbytes)  # what it holds is undefined: NaN shows
        return memory.address, memory

    def function(self, module: str, name: str) -> Function:
        return _functions(sources.source(module), f"{module}.cu", name)

    def generated(self, source: str, name: str) -> Function:
        return _functions(sources.inlined(source, "generated.cu"), "generated.cu", name)

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
        assert 0 <= shared <= self.shared_memory, shared
        packed = _packed(function, arguments)
        sizes = (ctypes.c_uint * 7)(*grid, *block, shared)
        error = function.launch(packed, sizes)
        if error:
            raise RuntimeError(f"{function.name}: {error.decode()}")

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray[Any, Any], address: int) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        ctypes.memmove(target, source, nbytes)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        ctypes.memset(address, byte, nbytes)

    def array(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        if tensor.nbytes == 0:
            return np.empty(tensor.shape, tensor.dtype.numpy)
        view = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.address)
        view.owner = tensor.owner
        return np.frombuffer(view, tensor.dtype.numpy).reshape(tensor.shape)

    def synchronize(self) -> None:
        pass


@functools.cache
def emulated_device() -> EmulatedDevice:
    """The device that tests share."""
    return EmulatedDevice()


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


@functools.cache
def _functions(source: str, label: str, name: str) -> Function:
    library = _library(source, label)
    try:
        launch = getattr(library, f"{name}__launch")
    except AttributeError:
        raise LookupError(f"there is no kernel {name} in {label}") from None
    launch.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    launch.restype = ctypes.c_char_p
    text = ctypes.create_string_buffer(1024)
    getattr(library, f"{name}__signature")(text)
    return Function(name, launch, tuple(text.value.decode().split()))


@functools.cache
def _library(source: str, label: str) -> ctypes.PyDLL:
    """The compiled module. Calls keep Python's lock: the runtime holds one grid at a time."""
    return ctypes.PyDLL(str(_compiled(source, label)))


def _compiled(source: str, label: str) -> Path:
    """The shared library of a source, from the cache if it was compiled before."""
    headers = [path.read_text() for path in sorted(_EMULATOR.glob("*.h"))]
    flags = [*_FLAGS, *(f"-isystem{path}" for path in _include_folders())]
    key = hashlib.sha256("\0".join([source, *headers, _version(), *flags]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"bascule-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{label.split('.')[0]}-{key[:32]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = _compile(Path(work), source, flags, label)
            os.replace(made, path)
    return path


def _compile(work: Path, source: str, flags: list[str], label: str) -> Path:
    """Preprocess to find the kernels, of which macros may have made the names; then compile."""
    text, expanded, made = work / "source.cpp", work / "expanded.ii", work / "module.so"
    text.write_text(source)
    header = str(_EMULATOR / "emulator.h")
    _run([*flags, "-include", header, "-E", str(text), "-o", str(expanded)], label)
    names = _ENTRY.findall(expanded.read_text())
    text.write_text(source + "\n" + "".join(f"BASCULE_ENTRY({name})\n" for name in names))
    _run([*flags, "-include", header, "-shared", str(text), "-o", str(made)], label)
    return made


def _run(arguments: list[str], label: str) -> None:
    done = subprocess.run([str(_COMPILER), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{label} does not compile for the emulator:\n{done.stderr[:5000]}")


@functools.cache
def _version() -> str:
    done = subprocess.run([str(_COMPILER), "--version"], capture_output=True, text=True)
    return done.stdout


# --- one operator


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
    call = Call(node, device, device.allocate, {})
    given = [x if i in kernel.host else _uploaded(device, x) for i, x in enumerate(inputs)]
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
    domains = {"": OPSET, domain: OPSET if domain == "" else 1}
    infer_types(Model(graph, domains), definition, check=False)
    return node


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
