# SPDX-License-Identifier: Apache-2.0
"""Single figures for bench/gpu.py, each in a fresh process, as one line of JSON.

python bench/gpu_rows.py machine
python bench/gpu_rows.py start
python bench/gpu_rows.py session MODEL.onnx TYPE
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What the GPU does at best: bytes read and written by a copy, and products."""
    import torch
    from gpu_torch import allow_tf32

    if not torch.cuda.is_available():
        return {"gpu": "none"}
    source = torch.randn(1 << 30, device="cuda")
    target = torch.empty_like(source)
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name()}
    copied = 2 * source.nbytes / _seconds(lambda x=source, y=target: y.copy_(x))
    figures["copy_tb_s"] = copied / 1e12
    del source, target  # 8 GiB
    allow_tf32(True)
    size = 8192
    for name, dtype in (("float16", torch.float16), ("tf32", torch.float32)):
        left, right = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
        seconds = _seconds(lambda x=left, y=right: x @ y)
        figures[f"{name}_tflops"] = 2 * size**3 / seconds / 1e12
    return figures


def _seconds(function: Callable[[], Any], repeats: int = 11) -> float:
    """The median of runs timed on the device."""
    import torch

    times = []
    for _ in range(repeats + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times[3:])[repeats // 2]


def session(path: Path, kind: str) -> dict[str, Any]:
    """From nothing to the first result, with the kernels in the cache, and a second session.

    The first starts CuPy and CUDA, and loads the libraries that its nodes want.
    """
    begin = time.perf_counter()
    import numpy as np

    import bascule

    imported = time.perf_counter()
    first = _open(path, kind)
    made = time.perf_counter()
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
    feeds = {each.name: np.ones(each.shape, types[each.type]) for each in first.get_inputs()}
    first.run(None, feeds)
    ran = time.perf_counter()
    second = _open(path, kind)
    again = time.perf_counter()
    second.run(None, feeds)
    return {
        "bascule": bascule.__version__,
        "import_s": imported - begin,
        "session_s": made - imported,
        "first_run_s": ran - made,
        "second_session_s": again - ran,
        "second_first_run_s": time.perf_counter() - again,
    }


def start() -> dict[str, float]:
    """Seconds for what a first session, or its first run, may have to start, in this order."""
    import bascule

    def cupy() -> None:
        bascule.get_available_providers()  # imports it

    def cuda() -> None:
        import cupy

        cupy.cuda.runtime.free(0)  # makes the context

    def cublas() -> None:
        from bascule.providers.cuda.libraries.cublaslt import CublasLt

        kept.append(CublasLt(90, True))

    def cudnn() -> None:
        from bascule.providers.cuda.libraries.cudnn import Cudnn

        kept.append(Cudnn(0, True))

    kept: list[Any] = []
    seconds = {}
    for part in (cupy, cuda, cublas, cudnn) if _has_gpu_library() else ():
        begin = time.perf_counter()
        part()
        seconds[f"{part.__name__}_s"] = time.perf_counter() - begin
    return seconds


def _has_gpu_library() -> bool:
    return importlib.util.find_spec("cupy") is not None


def _has_gpu() -> bool:
    import bascule

    return "CUDAExecutionProvider" in bascule.get_available_providers()


def _open(path: Path, kind: str) -> Any:
    import bascule

    cuda = ("CUDAExecutionProvider", {"use_tf32": "0" if kind == "float32" else "1"})
    providers = [cuda, "CPUExecutionProvider"] if _has_gpu() else ["CPUExecutionProvider"]
    return bascule.InferenceSession(str(path), providers=providers)


def main() -> None:
    name, *arguments = sys.argv[1:]
    if name in ("machine", "start"):
        print(json.dumps({"machine": machine, "start": start}[name]()))
    else:
        print(json.dumps(session(Path(arguments[0]), arguments[1])))


if __name__ == "__main__":
    main()
