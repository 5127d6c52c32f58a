# SPDX-License-Identifier: Apache-2.0
"""CUDA C++ compiled as host code, each source once: the libraries stay in the temporary folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bascule.providers.cuda import sources

_EMULATOR = Path(__file__).parent
_COMPILER = shutil.which("g++")
_SANITIZE = os.environ.get("BASCULE_EMULATOR_SANITIZE") == "1"
_FLAGS = (
    *("-std=c++17", "-O1", "-g0", "-fPIC", "-w", "-DBASCULE_EMULATED"),
    *("-ffp-contract=off", "-fno-strict-aliasing", "-fno-math-errno"),
    *("-fsanitize=alignment", "-fno-threadsafe-statics"),
    # Each module keeps its own copy of the runtime and of its shared memory.
    *("-fvisibility=hidden", "-fno-gnu-unique"),
    *(("-fsanitize=address",) if _SANITIZE else ()),
)
# The marker that emulator.h puts in the place of __global__.
_DECLARATOR = r"\w+(?:\[[^]]*\])*"
_SHARED = re.compile(rf"(?<!extern )__shared__ ([^;()]+?) ({_DECLARATOR}(?:, {_DECLARATOR})*);")
_ENTRY = re.compile(r'extern "C" __attribute__\(\(used\)\)\s+void\s+(\w+)\s*\(')


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
    if sys.platform != "linux" or _COMPILER is None:
        return "needs Linux and g++"
    if not _include_folders():
        return "needs the headers of CUDA"
    return ""


@functools.cache
def _sanitizer() -> str:
    """The library of AddressSanitizer, or nothing."""
    done = subprocess.run(
        [str(_COMPILER), "-print-file-name=libasan.so"], capture_output=True, text=True
    )
    path = done.stdout.strip()
    return path if os.path.isabs(path) else ""


def sanitizer_missing() -> str:
    """Why kernels cannot be run with AddressSanitizer; empty when they can."""
    return "" if _COMPILER is not None and _sanitizer() else "needs libasan"


def sanitizer_environment() -> dict[str, str]:
    """The environment variables of a Python process that is to check the kernels' accesses."""
    return {
        "BASCULE_EMULATOR_SANITIZE": "1",
        "LD_PRELOAD": _sanitizer(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


@dataclass(frozen=True, slots=True)
class Function:
    """A kernel, and what it takes: a letter and a size for each parameter."""

    name: str
    launch: Any
    parameters: tuple[str, ...]


@functools.cache
def function(module: str, name: str) -> Function:
    return _loaded(sources.source(module), f"{module}.cu", name)


@functools.cache
def generated(source: str, name: str) -> Function:
    return _loaded(sources.inlined(source, "generated.cu"), "generated.cu", name)


def _loaded(source: str, label: str, name: str) -> Function:
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
    assert folder.stat().st_uid == os.getuid(), f"{folder} is somebody else's"
    path = folder / f"{label.split('.')[0]}-{key[:32]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = _compile(Path(work), source, flags, label)
            os.replace(made, path)
    return path


def _compile(work: Path, source: str, flags: list[str], label: str) -> Path:
    """Preprocess to find the kernels, of which macros may have made the names; then compile."""
    text, expanded, made = work / "source.cpp", work / "expanded.ii", work / "module.so"
    source = _SHARED.sub(_shared, source)
    text.write_text(source)
    header = str(_EMULATOR / "emulator.h")
    _run([*flags, "-include", header, "-E", str(text), "-o", str(expanded)], label)
    names = _ENTRY.findall(expanded.read_text())
    text.write_text(source + "\n" + "".join(f"BASCULE_ENTRY({name})\n" for name in names))
    _run([*flags, "-include", header, "-shared", str(text), "-o", str(made)], label)
    return made


def _shared(found: re.Match[str]) -> str:
    """The declaration of variables that a block shares, as emulator.h has it."""
    declared = (each.partition("[") for each in found[2].split(", "))
    return " ".join(
        f"BASCULE_SHARED({name}, {found[1]} {bracket}{sizes});" for name, bracket, sizes in declared
    )


def _run(arguments: list[str], label: str) -> None:
    done = subprocess.run([str(_COMPILER), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{label} does not compile for the emulator:\n{done.stderr[:5000]}")


@functools.cache
def _version() -> str:
    done = subprocess.run([str(_COMPILER), "--version"], capture_output=True, text=True)
    return done.stdout
