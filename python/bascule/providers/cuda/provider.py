# SPDX-License-Identifier: Apache-2.0
"""The CUDA provider."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bascule import errors
from bascule.ir.graph import Graph, Node
from bascule.providers.base import Answer, Provider
from bascule.providers.cuda import operators
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.memory import Arena
from bascule.providers.cuda.placement import place
from bascule.providers.cuda.program import CudaProgram, Shared

_DEFAULTS = {
    "device_id": "0",
    "gpu_mem_limit": "0",
    "use_tf32": "1",
    "user_compute_stream": "0",
    "enable_cuda_graph": "1",
    "tunable_op_tuning_enable": "1",
    "tunable_op_max_tuning_duration_ms": "10000",
}
"""onnxruntime's names; graphs and the choice of algorithms by timing are on, which it has off.

The duration is that of a session, not of an operator; 0 sets no limit.
"""

# fmt: off
_IGNORED = frozenset((
    "arena_extend_strategy", "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_algo_search",
    "cudnn_conv_use_max_workspace", "do_copy_in_default_stream",
    "enable_skip_layer_norm_strict_mode", "has_user_compute_stream", "prefer_nhwc", "sdpa_kernel",
    "tunable_op_enable", "use_ep_level_unified_stream",
))
# fmt: on
"""Options of onnxruntime that have nothing to say here."""


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
        with self._shared.lock, self.device.selected():
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

    chosen = dict(_DEFAULTS)
    for name, value in options.items():
        if name in chosen:
            chosen[name] = str(value)
        elif name not in _IGNORED:
            raise errors.InvalidArgument(
                f"CUDAExecutionProvider has no option '{name}'", options=sorted(chosen)
            )
    try:
        number, limit = int(chosen["device_id"]), int(chosen["gpu_mem_limit"])
        stream = int(chosen["user_compute_stream"])
        tuning_seconds = int(chosen["tunable_op_max_tuning_duration_ms"]) / 1e3 or math.inf
    except ValueError:
        raise errors.InvalidArgument(
            "device_id, gpu_mem_limit, user_compute_stream and tunable_op_max_tuning_duration_ms "
            "of CUDAExecutionProvider are numbers",
            **chosen,
        ) from None
    tf32, captures, tunes = (
        chosen[name] in ("1", "true", "True")
        for name in ("use_tf32", "enable_cuda_graph", "tunable_op_tuning_enable")
    )
    device = CupyDevice(number, limit % 2**63, tf32, tuning_seconds if tunes else 0, stream)
    return CudaProvider(device, cpu, captures, may_use_cpu)
