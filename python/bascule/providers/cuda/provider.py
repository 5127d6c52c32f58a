# SPDX-License-Identifier: Apache-2.0
"""The CUDA provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bascule.ir.graph import Graph, Node
from bascule.providers.base import Answer, Provider
from bascule.providers.cuda import operators
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.memory import Arena
from bascule.providers.cuda.options import CudaOptions
from bascule.providers.cuda.placement import place
from bascule.providers.cuda.program import CudaProgram, Shared


class CudaProvider:
    """Runs graphs on a GPU; what has no kernel there runs on `cpu`, if the session has listed it.

    Args:
        device: where to run.
        cpu: computes with sizes, and runs what the device cannot.
        captures: whether repeated runs are recorded as CUDA graphs.
        may_use_cpu: whether `cpu` may run nodes for which the device has no kernel.
    """

    name = "CUDAExecutionProvider"
    hosts_others = True
    """Its programs contain the nodes that the CPU provider runs."""

    def __init__(
        self, device: Device, cpu: Provider, captures: bool = True, may_use_cpu: bool = True
    ) -> None:
        operators.load_all()
        self._shared = Shared(device, Arena(device), cpu, captures, may_use_cpu)

    @property
    def device(self) -> Device:
        return self._shared.device

    def capabilities(self, graph: Graph) -> dict[Node, Answer]:
        placed = place(graph, self._shared.cpu, (), self._shared.may_use_cpu)
        return {node: each.answer for node, each in placed.items()}

    def trim(self) -> None:
        """Give back all memory but that of weights and of what callers hold."""
        with self.device.selected(), self._shared.lock:
            self._shared.arena.clear()
            self.device.trim()

    def compile(self, graph: Graph) -> Any:
        return CudaProgram(graph, self._shared)


def make(options: Mapping[str, str], cpu: Provider, may_use_cpu: bool) -> CudaProvider:
    """The provider for a session's provider options.

    Raises:
        EngineError: there is no GPU, or something that it needs is missing.
        InvalidArgument: an option is unknown or has an impossible value.
    """
    from bascule.providers.cuda.cupy_device import CupyDevice

    asked = CudaOptions.of(options)
    device = CupyDevice(
        asked.number, asked.memory_limit, asked.tf32, asked.tuning_seconds, asked.user_stream
    )
    return CudaProvider(device, cpu, asked.captures, may_use_cpu)
