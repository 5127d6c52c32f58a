# SPDX-License-Identifier: Apache-2.0
"""Options of the CUDA provider, by onnxruntime's names. Light: nothing of CUDA is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bascule.errors import InvalidArgument

_READ = {
    "device_id": "0",
    "gpu_mem_limit": str(2**64 - 1),
    "use_tf32": "1",
    "user_compute_stream": "0",
    "enable_cuda_graph": "1",
    "tunable_op_tuning_enable": "1",
    "tunable_op_max_tuning_duration_ms": "10000",
}
"""With their defaults: graphs and the choice of algorithms by timing are on, which onnxruntime has
off. The duration is that of a session, not of an operator; 0 sets no limit."""

_ACCEPTED = {
    "arena_extend_strategy": "kNextPowerOfTwo",
    "cudnn_conv1d_pad_to_nc1d": "0",
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "cudnn_conv_use_max_workspace": "1",
    "do_copy_in_default_stream": "1",
    "enable_skip_layer_norm_strict_mode": "0",
    "fuse_conv_bias": "0",
    "prefer_nhwc": "0",
    "sdpa_kernel": "0",
    "tunable_op_enable": "0",
    "use_ep_level_unified_stream": "0",
}
"""They have nothing to say here."""

_SWITCHES = {"0": False, "false": False, "False": False, "1": True, "true": True, "True": True}
"""What onnxruntime takes for a switch."""

_ALLOCATORS = ("gpu_external_alloc", "gpu_external_free", "gpu_external_empty_cache")
"""Addresses of functions, which are not called: 0 is the only value."""


@dataclass(frozen=True)
class CudaOptions:
    """What a session asks of the provider."""

    number: int
    """Which GPU."""
    memory_limit: int
    """Most bytes of its memory pool, 0 for all that there are."""
    tf32: bool
    """Whether float32 products may round their factors to 10 bits of mantissa."""
    captures: bool
    """Whether repeated runs are recorded as CUDA graphs."""
    tuning_seconds: float
    """How long ways to compute the same may be timed."""
    user_stream: int
    """Address of the stream that callers work on, 0 for the default one."""

    @staticmethod
    def of(options: Mapping[str, str]) -> CudaOptions:
        """What a session's provider options say.

        Raises:
            InvalidArgument: one is unknown, or has an impossible value.
        """
        chosen = effective(options)
        for name in _ALLOCATORS:
            if chosen[name] != "0":
                raise InvalidArgument(
                    f"CUDAExecutionProvider calls no allocator of others: {name} must be 0",
                    got=chosen[name],
                    fix="pass gpu_mem_limit to share the GPU's memory",
                )
        limit = _whole(chosen, "gpu_mem_limit")
        seconds = _whole(chosen, "tunable_op_max_tuning_duration_ms") / 1e3 or math.inf
        return CudaOptions(
            _whole(chosen, "device_id"),
            limit if limit < 2**63 else 0,
            _switch(chosen, "use_tf32"),
            _switch(chosen, "enable_cuda_graph"),
            seconds if _switch(chosen, "tunable_op_tuning_enable") else 0,
            _whole(chosen, "user_compute_stream"),
        )


def _whole(options: Mapping[str, str], name: str) -> int:
    try:
        number = int(options[name])
    except ValueError:
        number = -1
    if not 0 <= number < 2**64:
        raise InvalidArgument(
            f"{name} of CUDAExecutionProvider is a whole number from 0 on", got=options[name]
        )
    return number


def _switch(options: Mapping[str, str], name: str) -> bool:
    found = _SWITCHES.get(options[name])
    if found is None:
        raise InvalidArgument(f"{name} of CUDAExecutionProvider is 0 or 1", got=options[name])
    return found


def effective(options: Mapping[str, str]) -> dict[str, str]:
    """All options, the defaults of those that are not given included.

    Raises:
        InvalidArgument: one is unknown.
    """
    found = {**_READ, **_ACCEPTED, **dict.fromkeys(_ALLOCATORS, "0")}
    for name, value in options.items():
        if name not in found and name != "has_user_compute_stream":
            raise InvalidArgument(
                f"CUDAExecutionProvider has no option '{name}'", options=sorted(found)
            )
        found[name] = str(value)
    found["has_user_compute_stream"] = str(int(found["user_compute_stream"] != "0"))
    return found
