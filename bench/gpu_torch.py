# SPDX-License-Identifier: Apache-2.0
"""The models of bench/models.py in torch, eager and compiled, for bench/gpu.py."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_measure import Lock, Runtime, on_gpu

IMAGE_MODELS = ("resnet50", "mobilenetv2", "convnext_t")
"""Those that torch runs with channels last, which is faster on a GPU."""


class TorchModel:
    """A model in the types that are asked for, on the device."""

    def __init__(self, name: str, module: torch.nn.Module) -> None:
        self._original = module
        self._images = name in IMAGE_MODELS
        self._modules: dict[torch.dtype, torch.nn.Module] = {}
        torch.backends.cudnn.benchmark = True

    def eager(self, kind: str, arrays: Iterable[np.ndarray[Any, Any]]) -> Runtime:
        return self._runtime("torch", self._module(kind), arrays)

    def compiled(self, kind: str, arrays: Iterable[np.ndarray[Any, Any]], mode: str) -> Runtime:
        """Compiled by the first run."""
        function = torch.compile(self._module(kind), mode=mode, dynamic=False)
        return self._runtime("torch.compile", function, arrays)

    def _module(self, kind: str) -> torch.nn.Module:
        dtype = torch.float16 if kind == "float16" else torch.float32
        if dtype not in self._modules:
            module = copy.deepcopy(self._original).to("cuda" if on_gpu() else "cpu", dtype)
            if self._images:
                module = module.to(memory_format=torch.channels_last)
            self._modules[dtype] = module
        return self._modules[dtype]

    def _runtime(self, name: str, function: Any, arrays: Iterable[Any]) -> Runtime:
        inputs = [torch.from_numpy(array).to("cuda" if on_gpu() else "cpu") for array in arrays]
        if self._images:
            inputs = [tensor.to(memory_format=torch.channels_last) for tensor in inputs]

        def start() -> Any:
            with torch.inference_mode():
                return function(*inputs)

        def outputs() -> list[np.ndarray[Any, Any]]:
            result = start()
            results = result if isinstance(result, tuple) else (result,)
            return [tensor.cpu().numpy() for tensor in results]

        return Runtime(name, start, outputs)


def allow_tf32(allow: bool) -> None:
    """Whether products and convolutions of float32 may be computed in TF32."""
    torch.set_float32_matmul_precision("high" if allow else "highest")
    torch.backends.cudnn.allow_tf32 = allow


def load_compiled(path: Path) -> None:
    """Let torch.compile find what `save_compiled` wrote."""
    torch.compiler.load_cache_artifacts(zlib.decompress(path.read_bytes()))


def save_compiled(path: Path) -> None:
    """Write what torch.compile has compiled since this was last called."""
    from torch.compiler._cache import CacheArtifactManager

    saved = torch.compiler.save_cache_artifacts()
    CacheArtifactManager.clear()
    if saved is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".part")
        whole.write_bytes(zlib.compress(saved[0]))
        whole.replace(path)


def cache_hits() -> int:
    """How many graphs torch.compile has found ready in this process."""
    from torch._dynamo.utils import counters

    hits = counters["aot_autograd"]["autograd_cache_hit"], counters["inductor"]["fxgraph_cache_hit"]
    return max(hits)


def tune_in_turns(lock: Lock) -> None:
    """Let torch.compile time its choices only while it holds `lock`."""
    from torch._inductor.runtime.benchmarking import benchmarker

    for name in ("benchmark_gpu", "benchmark_gpu_with_cuda_graph"):
        if hasattr(benchmarker, name):
            setattr(benchmarker, name, lock.around(getattr(benchmarker, name)))
