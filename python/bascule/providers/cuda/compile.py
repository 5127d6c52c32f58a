# SPDX-License-Identifier: Apache-2.0
"""Device code of the kernels: prebuilt, from the cache, or compiled now."""

from __future__ import annotations

from bascule import errors
from bascule.providers.cache import cached
from bascule.providers.cuda import nvrtc, sources


def binary(module: str, capability: int, *, prebuilt: bool = True) -> bytes:
    """What a driver loads as ``kernels/<module>.cu``: a fat binary, or code for one GPU.

    Without `prebuilt` it is compiled even if the package brings a fat binary: an old driver may
    not load what a newer toolkit built.
    """
    path = sources.folder() / f"{module}.fatbin"
    if prebuilt and path.is_file() and _is_prebuilt_for(capability):
        return path.read_bytes()
    return compile_source(sources.source(module), capability, f"{module}.cu")


def compile_source(source: str, capability: int, name: str = "generated.cu") -> bytes:
    """Code of a CUDA C++ source for a GPU; it may include ``kernels/*.cuh``."""
    text = sources.inlined(source, name)
    flags = options(capability)
    key = "\0".join([text, *flags, str(nvrtc.version())])
    return cached("cubin", key, lambda: nvrtc.compile_program(text, name, flags)[0])


def options(capability: int) -> list[str]:
    """As nvcc builds the fat binaries: no fast math, and denormal numbers stay.

    Raises:
        EngineError: the compiler has no code for GPUs as old as this one.
    """
    known = nvrtc.architectures()
    if capability in known:
        target = f"sm_{capability}"
    elif capability < known[0]:  # whose code no driver makes to run on an older GPU
        raise errors.EngineError(
            f"the GPU has compute capability {capability // 10}.{capability % 10}, and NVRTC "
            f"{'.'.join(map(str, nvrtc.version()))} compiles for {known[0] // 10}.{known[0] % 10} "
            'or newer; older ones need pip install "bascule[cuda12]", without packages for CUDA 13'
        )
    else:  # newer than the compiler: the driver translates
        target = f"compute_{max(a for a in known if a < capability)}"
    return ["--std=c++17", f"--gpu-architecture={target}", f"--include-path={nvrtc.headers()}"]


def _is_prebuilt_for(capability: int) -> bool:
    """Whether the fat binaries run there: code for the same major number, or the PTX."""
    built = sources.architectures()
    same = any(a // 10 == capability // 10 and a <= capability for a in built)
    return same or capability >= max(built)
