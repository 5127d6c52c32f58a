# SPDX-License-Identifier: Apache-2.0
"""Kernels that start while those before them come to an end."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.providers.cuda import compile, nvrtc, sources
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.launch import DependentLauncher, waits
from bascule.providers.cuda.tensor import Tensor

KERNEL = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(256) copy(const float* x, float* y) {
  wait_for_previous_kernels();
  y[threadIdx.x] = x[threadIdx.x];
}
"""


def test_a_source_waits_if_all_its_kernels_do() -> None:
    assert waits(KERNEL)
    assert waits(KERNEL.replace("\n", " \\\n"))
    assert waits(KERNEL.replace("  wait", "  prefetch_x(x);\n  wait"))
    assert not waits(KERNEL + KERNEL.replace("  wait_for_previous_kernels();", "  y += 1;"))
    assert not waits(KERNEL.replace("  wait", "  y += 1; wait"))
    assert not waits('#include "common.cuh"')


def test_a_kernel_whose_operands_never_change_does_not_wait() -> None:
    """The compiler may read them before the wait."""
    assert not waits(KERNEL.replace("const float* x", "const float* __restrict__ x"))


def test_hot_modules_wait() -> None:
    modules = ("activate", "gather", "layer_normalization.float16", "movement", "pooling")
    for module in (
        *modules,
        "softmax.float16",
        "stream_nbits.4_1_float16",
        "cache_rows",
        "decode_attention.float32_64",
        "decode_tiles.float16_64",
        "stream_matmul.float16",
    ):
        assert waits(sources.source(module)), module


def _compiler_missing() -> str:
    try:
        nvrtc.headers()
    except errors.EngineError as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(_compiler_missing()), reason=_compiler_missing())
@pytest.mark.parametrize("module", ["activate", "gather", "softmax.float16"])
def test_memory_is_touched_after_the_wait(module: str) -> None:
    options = [option.replace("sm_90", "compute_90") for option in compile.options(90)]
    code, _ = nvrtc.compile_program(sources.source(module), f"{module}.cu", options)
    _, *entries = code.decode().split(".entry")
    assert entries
    for entry in entries:
        waiting = entry.index("griddepcontrol.wait")
        found = re.search(r"\b(ld|st|atom|red)\.(volatile\.)?global", entry)
        assert found is None or found.start() > waiting


class _Driver:
    """Takes notes instead of starting kernels."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.started: list[tuple[Any, ...]] = []

        def launch(config: Any, function: int, parameters: Any, extra: Any) -> int:
            c = ctypes.cast(config, ctypes.POINTER(launch.argtypes[0]._type_)).contents
            attribute = c.attributes.contents
            where = (tuple(c.grid), tuple(c.block), c.shared, c.stream)
            values = [ctypes.string_at(parameters[i], size) for i, size in enumerate(self.sizes)]
            self.started.append((function, where, c.count, attribute.id, attribute.value, values))
            return self.status

        launch.argtypes = []  # type: ignore[attr-defined]
        self.cuLaunchKernelEx = launch
        self.sizes: list[int] = []


def test_a_launch_has_the_attribute_and_the_arguments() -> None:
    driver: Any = _Driver()
    launcher = DependentLauncher(driver)
    tensor = Tensor(DataType.FLOAT, (2,), 4096, None)
    arguments: list[Argument] = [tensor, None, Struct(b"abc"), np.int32(-1), np.float64(0.5)]
    driver.sizes = [8, 8, 3, 4, 8]
    launcher.launch(77, (3, 2, 1), (32, 1, 1), arguments, 1024, 5)
    values = [
        (4096).to_bytes(8, "little"),
        bytes(8),
        b"abc",
        b"\xff" * 4,
        np.float64(0.5).tobytes(),
    ]
    assert driver.started == [(77, ((3, 2, 1), (32, 1, 1), 1024, 5), 1, 6, 1, values)]


def test_a_launch_that_fails_is_an_error() -> None:
    driver: Any = _Driver(status=1)
    with pytest.raises(errors.EngineError, match=r"cuLaunchKernelEx failed \(1\)"):
        DependentLauncher(driver).launch(77, (1, 1, 1), (32, 1, 1), [], 0, 0)


def test_the_structs_are_those_of_the_driver() -> None:
    launcher = DependentLauncher(_Driver())  # type: ignore[arg-type]
    config = launcher._launch.argtypes[0]._type_
    assert ctypes.sizeof(config) == 56 and config.stream.offset == 32
    assert ctypes.sizeof(type(launcher._attribute)) == 72
