# SPDX-License-Identifier: Apache-2.0
"""The process that compiles one model for torch, for bench/gpu.py, while others prepare.

What it compiles goes to torch's cache, where the process that measures finds it, and to a file for
each case in the folder for later runs. It may be stopped and ended at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gpu_torch
import torch
from gpu_case import Options, Reporter, as_type, example_inputs
from gpu_measure import Lock

from models import MODELS as MAKE


def compile_all(options: Options, report: Reporter) -> None:
    """The cases in the order in which they are wanted."""
    report.attempt("tuning", lambda: gpu_torch.tune_in_turns(Lock(Path(options.work) / "tuning")))
    torch.set_num_threads(options.threads)
    example = MAKE[options.model]()
    model = gpu_torch.TorchModel(options.model, example.module)
    case = _case
    if options.compile_mode.startswith("max-autotune"):
        # It mostly times choices, one process at a time: side by side all would be ready late.
        case = Lock(Path(options.work) / "compiling").around(_case)
    for kind in options.types:
        for batch in options.batches:
            title = f"{options.model} {kind} {batch} torch.compile"
            report.emit("BEGIN", title)
            inputs = as_type(example_inputs(options.model, batch, example.inputs), kind)
            report.attempt(
                title, lambda k=kind, b=batch, i=inputs: case(options, report, model, k, b, i)
            )


def _case(
    options: Options,
    report: Reporter,
    model: gpu_torch.TorchModel,
    kind: str,
    batch: int,
    inputs: dict[str, Any],
) -> None:
    name = f"{options.model}-{kind}-{batch}"
    kept = Path(options.cache) / f"{name}.compiled"
    begin = time.perf_counter()
    was_kept = kept.exists()
    if was_kept:
        gpu_torch.load_compiled(kept)
    else:
        gpu_torch.allow_tf32(kind == "tf32")
        model.compiled(kind, inputs.values(), options.compile_mode).outputs()
        gpu_torch.save_compiled(kept)
    (Path(options.work) / f"{name}.ready").touch()
    taken = time.perf_counter() - begin
    record = {"row": "compiled", "model": options.model, "type": kind, "batch": batch}
    size = kept.stat().st_size if kept.exists() else 0
    report.emit("RECORD", {**record, "s": taken, "was_kept": was_kept, "bytes": size})


def _end_with_parent() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    os.nice(10)  # the processes that prepare go first
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin, report = time.perf_counter(), Reporter()
    compile_all(Options(**json.loads(sys.argv[1])), report)
    taken = time.perf_counter() - begin
    report.emit("DONE", {"step": "compile ahead", "late": False, "s": taken})


if __name__ == "__main__":
    main()
