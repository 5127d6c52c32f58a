# SPDX-License-Identifier: Apache-2.0
"""Programmatic dependent launch: kernels that start while those before them come to an end.

Such a kernel takes its place on the multiprocessors early, and waits there until the memory of the
kernels before it is final. Its source begins with ``wait_for_previous_kernels();``
(``kernels/common.cuh``); CuPy's launches cannot ask for it, so this is the driver's own function.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Sequence

from bascule import errors
from bascule.providers.cuda.device import Argument, Dim3, Struct
from bascule.providers.cuda.tensor import Tensor

_KERNEL = re.compile(r"\b__global__ ")
_WAITING = re.compile(
    r"\b__global__ [^{};]*\{[\s\\]*(?:prefetch_\w+\([^;{}]*\);[\s\\]*)?"
    r"wait_for_previous_kernels\(\);"
)
_CONSTANT = re.compile(r"__restrict__|__ldg\b")
_FIRST_CAPABILITY = 90
_FIRST_DRIVER = 12030
"""The first that keeps the attribute in a captured graph."""
_PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CU_LAUNCH_ATTRIBUTE_...
_DRIVERS = ("libcuda.so.1", "nvcuda.dll")


@functools.cache
def waits(source: str) -> bool:
    """Whether each kernel of a CUDA C++ source begins by waiting for those before it.

    It may ask for memory to be brought nearer before that.

    A compiler may read what it knows to be constant at any time, so nothing must say that.
    """
    kernels, waiting = (len(each.findall(source)) for each in (_KERNEL, _WAITING))
    return kernels == waiting > 0 and not _CONSTANT.search(source)


class _Attribute(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("value", ctypes.c_int),
        ("rest_of_union", ctypes.c_int * 15),
    )


class _Config(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    )


class DependentLauncher:
    """The driver's launch with the attribute.

    Args:
        library: the driver.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._launch = library.cuLaunchKernelEx
        self._launch.argtypes = [ctypes.POINTER(_Config), *[ctypes.c_void_p] * 3]
        self._attribute = _Attribute(_PROGRAMMATIC_STREAM_SERIALIZATION, 0, 1)

    def launch(
        self,
        function: int,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Argument],
        shared: int,
        stream: int,
    ) -> None:
        """Start a kernel that waits for those before it."""
        values = [ctypes.create_string_buffer(bytes_of(each)) for each in arguments]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        attribute = ctypes.pointer(self._attribute)
        config = _Config(grid, block, shared, stream, attribute, 1)
        status = self._launch(ctypes.byref(config), function, pointers, None)
        if status:
            raise errors.EngineError(f"cuLaunchKernelEx failed ({status})")


def bytes_of(argument: Argument) -> bytes:
    """A kernel argument as it lies in memory."""
    if isinstance(argument, Struct):
        return argument.data
    if argument is None or isinstance(argument, Tensor):
        return (0 if argument is None else argument.address).to_bytes(8, "little")
    data: bytes = argument.tobytes()
    return data


def dependent_launcher(capability: int) -> DependentLauncher | None:
    """None where the GPU or the driver is too old for it."""
    if capability < _FIRST_CAPABILITY:
        return None
    version = ctypes.c_int()
    for name in _DRIVERS:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if library.cuDriverGetVersion(ctypes.byref(version)) or version.value < _FIRST_DRIVER:
            return None
        return DependentLauncher(library)
    return None
