# SPDX-License-Identifier: Apache-2.0
"""Sessions whose CUDA provider has the emulated device."""

from __future__ import annotations

from typing import Any

import pytest

import bascule
from bascule.providers import names
from bascule.providers.cpu.provider import CpuProvider
from bascule.providers.cuda import cupy_device
from bascule.providers.cuda.provider import CudaProvider
from tests.support.cuda_emulation import emulated_device


class EmulatedSession(bascule.InferenceSession):
    """An InferenceSession on the emulated device, with the CPU provider under it."""

    device: Any = None
    """Another device than the one that tests share."""

    def _executors(self, record: bool) -> list[Any]:
        cpu = CpuProvider(self._options.intra_op_num_threads, record)
        if self._cuda is None:  # programs of a session share one
            self._cuda = CudaProvider(self.device or emulated_device(), cpu)
        return [self._cuda, cpu]


def floats_on_cpu(session: Any) -> list[str]:
    """The operators with floating-point results that run on the CPU, and why."""
    return [
        f"{row.op_type}: {'; '.join(reason for _, reason in row.reasons)}"
        for row in session._compiled.rows
        if row.provider == "CPUExecutionProvider"
        and any("float" in kind or "double" in kind for _, kind, _ in row.outputs)
    ]


def use(patch: pytest.MonkeyPatch) -> None:
    """Until `patch` is undone, the emulated device is the GPU of every session that asks for one.

    Those that ask for no provider get it too, as on a machine with a GPU. Unlike EmulatedSession
    this reaches the sessions that tools make themselves.
    """
    patch.setattr(names, "_has_gpu", lambda: True)
    patch.setattr(cupy_device, "CupyDevice", lambda *options: emulated_device())
