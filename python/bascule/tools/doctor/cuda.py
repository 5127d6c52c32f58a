# SPDX-License-Identifier: Apache-2.0
"""What the CUDA provider needs: a driver, a GPU, CuPy, and NVIDIA's libraries."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bascule.tools.doctor.finding import Finding
from bascule.tools.doctor.installation import numbers, version_of

_AREA = "cuda"
_NEWEST = 13
_CUPY = {13: "cupy-cuda13x", 12: "cupy-cuda12x"}
CUPY_LEAST = "14.2"
FRONTEND = ("1.22", "1.27")
"""The first version of nvidia-cudnn-frontend that fits, and the first that does not any more."""

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


@dataclass(slots=True)
class Driver:
    """NVIDIA's driver: the newest CUDA that it runs, and what it finds."""

    cuda: tuple[int, int]
    error: str = ""
    gpus: list[str] = field(default_factory=list)


def examine(needed: bool) -> list[Finding]:
    """All that the provider needs; `needed` says whether it must work."""
    driver = find_driver()
    major = _NEWEST if driver is None else min(max(driver.cuda[0], min(_CUPY)), _NEWEST)
    fix = f'pip install "bascule[cuda{major}]"'
    return [
        _of_driver(driver, needed),
        _of_gpus(driver, needed),
        _of_cupy(major, fix, needed),
        *(_of_library(name, major, fix, needed and name in _NEEDED) for name in _LIBRARIES),
        _of_frontend(fix),
        _of_headers(fix, needed),
    ]


def _of_driver(driver: Driver | None, needed: bool) -> Finding:
    if driver is None:
        fix = "install NVIDIA's driver, 580 or newer for CUDA 13, 525 or newer for CUDA 12"
        return Finding(_AREA, "driver", None, "missing", needed, fix)
    found = f"runs CUDA {driver.cuda[0]}.{driver.cuda[1]}{_module_version()}"
    if driver.cuda[0] < min(_CUPY):
        return Finding(_AREA, "driver", found, "wrong", needed, "install driver 525 or newer")
    return Finding(_AREA, "driver", found, needed=needed)


def _of_gpus(driver: Driver | None, needed: bool) -> Finding:
    if driver is not None and driver.gpus:
        return Finding(_AREA, "GPUs", driver.gpus, needed=needed)
    fix = "" if driver is None else "see what nvidia-smi says; give a container its GPUs"
    found = driver.error or None if driver is not None else None
    return Finding(_AREA, "GPUs", found, "missing", needed, fix)


def _of_cupy(major: int, fix: str, needed: bool) -> Finding:
    names = {name: of for of, name in _CUPY.items()} | {"cupy": 0}
    found = {name: version for name in names if (version := version_of(name)) is not None}
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if not found:
        return Finding(_AREA, "CuPy", None, "missing", needed, fix)
    if len(found) > 1:
        fix = f"pip uninstall {' '.join(found)}, then {fix}: they overwrite each other"
        return Finding(_AREA, "CuPy", text, "wrong", needed, fix)
    (name,) = found
    if names[name] > major:
        fix = f"pip uninstall {name}, then {fix}: the driver runs CUDA {major}"
        return Finding(_AREA, "CuPy", text, "wrong", needed, fix)
    if numbers(found[name]) < numbers(CUPY_LEAST):
        return Finding(_AREA, "CuPy", text, "wrong", needed, f'pip install "{name}>={CUPY_LEAST}"')
    return Finding(_AREA, "CuPy", text, needed=needed)


def _of_library(name: str, major: int, fix: str, needed: bool) -> Finding:
    soname, ask = _LIBRARIES[name]
    try:
        version = ask(load(soname))
    except Exception:  # of cuda-pathfinder's own types, by reason
        return Finding(_AREA, name, None, "missing", needed, fix)
    text = ".".join(str(part) for part in version)
    if soname != "cudnn" and version[0] > major:
        return Finding(_AREA, name, text, "wrong", needed, f"{fix}: the driver runs CUDA {major}")
    return Finding(_AREA, name, text, needed=needed)


def _of_frontend(fix: str) -> Finding:
    name = "nvidia-cudnn-frontend"
    version = version_of(name)
    if version is None:
        return Finding(_AREA, "cuDNN frontend", None, "missing", fix=fix)
    first, last = (numbers(bound) for bound in FRONTEND)
    if not first <= numbers(version) < last:
        fix = f'pip install "{name}>={FRONTEND[0]},<{FRONTEND[1]}"'
        return Finding(_AREA, "cuDNN frontend", version, "wrong", fix=fix)
    return Finding(_AREA, "cuDNN frontend", version)


def _of_headers(fix: str, needed: bool) -> Finding:
    folder = find_headers()
    if folder is None:
        return Finding(_AREA, "CUDA headers", None, "missing", needed, fix)
    return Finding(_AREA, "CUDA headers", folder, needed=needed)


# --- the libraries


def load(soname: str) -> Any:
    """A library of a wheel, of conda or of the system."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return ctypes.CDLL(load_nvidia_dynamic_lib(soname).abs_path)


def find_headers() -> str | None:
    """The folder with the headers that kernels are compiled with."""
    try:
        from cuda.pathfinder import find_nvidia_header_directory

        found: str | None = find_nvidia_header_directory("cudart")
        return found
    except Exception:  # of cuda-pathfinder's own types, by reason
        return None


def _cudart(library: Any) -> tuple[int, ...]:
    version = ctypes.c_int()
    library.cudaRuntimeGetVersion(ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def _nvrtc(library: Any) -> tuple[int, ...]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _in_hundreds(function: str) -> Callable[[Any], tuple[int, ...]]:
    def ask(library: Any) -> tuple[int, ...]:
        call = getattr(library, function)
        call.restype = ctypes.c_size_t
        version = int(call())
        return version // 10000, version // 100 % 100, version % 100

    return ask


_LIBRARIES: dict[str, tuple[str, Callable[[Any], tuple[int, ...]]]] = {
    "CUDA runtime": ("cudart", _cudart),
    "NVRTC": ("nvrtc", _nvrtc),
    "cuBLASLt": ("cublasLt", _in_hundreds("cublasLtGetVersion")),
    "cuDNN": ("cudnn", _in_hundreds("cudnnGetVersion")),
}
"""What cuda-pathfinder calls a library, and what asks for its version."""

_NEEDED = ("CUDA runtime", "NVRTC")
"""Of these; without the others the provider's own, slower kernels are used."""

# --- the driver


def find_driver() -> Driver | None:
    """What the driver says of itself and its GPUs; None if there is no driver."""
    try:
        library: Any = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    driver = Driver((version.value // 1000, version.value % 1000 // 10))
    status = library.cuInit(0)
    count = ctypes.c_int()
    if not status:
        status = library.cuDeviceGetCount(ctypes.byref(count))
    if status:
        text = ctypes.c_char_p()
        library.cuGetErrorName(status, ctypes.byref(text))
        driver.error = (text.value or b"").decode() or f"error {status}"
    driver.gpus = [_gpu(library, number) for number in range(count.value)]
    return driver


def _gpu(library: Any, number: int) -> str:
    device, nbytes = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(nbytes), device)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return (
        f"{number}: {name.value.decode()}, compute capability {capability[0]}.{capability[1]}, "
        f"{nbytes.value / 2**30:.0f} GiB"
    )


def _module_version() -> str:
    """The kernel module's version, where the system tells."""
    try:
        first = Path("/proc/driver/nvidia/version").read_text().split("\n", 1)[0]
    except OSError:
        return ""
    versions = [word for word in first.split() if word[:1].isdigit() and "." in word]
    return f", version {versions[0]}" if versions else ""
