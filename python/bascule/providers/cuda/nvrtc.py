# SPDX-License-Identifier: Apache-2.0
"""NVRTC, the compiler in a library, by ctypes: it needs neither a GPU nor a driver."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

from bascule import errors

_INSTALL = "pip install 'bascule[cuda13]' (or cuda12)"


@functools.cache
def _library() -> Any:
    try:
        from cuda import pathfinder
    except ImportError:
        raise errors.EngineError(f"cuda-pathfinder is not installed: {_INSTALL}") from None
    try:
        found = pathfinder.load_nvidia_dynamic_lib("nvrtc")
    except Exception as error:  # of the library's own types, by reason
        raise errors.EngineError(f"the CUDA library nvrtc is not found: {_INSTALL}") from error
    library = ctypes.CDLL(found.abs_path)
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def headers() -> str:
    """The folder with cuda_fp16.h."""
    _library()
    from cuda import pathfinder

    folder = pathfinder.find_nvidia_header_directory("cudart")
    if folder is None:
        raise errors.EngineError(f"the headers of the CUDA runtime are not found: {_INSTALL}")
    return str(folder)


@functools.cache
def version() -> tuple[int, int]:
    """(major, minor) of the compiler."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


@functools.cache
def architectures() -> tuple[int, ...]:
    """The compute capabilities that it makes code for, as 10 * major + minor."""
    count = ctypes.c_int()
    _check(_library().nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _check(_library().nvrtcGetSupportedArchs(found))
    return tuple(found)


def compile_program(source: str, name: str, options: Sequence[str]) -> tuple[bytes, str]:
    """Device code, or PTX if the architecture is a ``compute_`` one, and the compiler's log."""
    library = _library()
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), name.encode(), 0, None, None
    )
    _check(created)
    try:
        texts = [option.encode() for option in options]
        result = library.nvrtcCompileProgram(
            program, len(texts), (ctypes.c_char_p * len(texts))(*texts)
        )
        log = _part(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
        text = log.rstrip(b"\0\n").decode(errors="replace")
        if result:
            raise errors.EngineError(f"{name} does not compile:\n{text}")
        if any("compute_" in option for option in options):
            return _part(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program), text
        return _part(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program), text
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _part(get_size: Any, get: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(get_size(program, ctypes.byref(size)))
    data = ctypes.create_string_buffer(max(size.value, 1))
    _check(get(program, data))
    return data.raw[: size.value]


def _check(result: int) -> None:
    if result:
        raise errors.EngineError(f"NVRTC: {_library().nvrtcGetErrorString(result).decode()}")
