# SPDX-License-Identifier: Apache-2.0
"""The process of one model for bench/gpu.py, which tells it by lines what to do and how long.

It answers by lines: a word and JSON. What else is printed goes to the standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gpu_measure import Lock, Runtime, difference, kernels, measure, on_gpu
from half import to_half
from weights import fill

COMPARED = 3
"""Samples of a batch whose results are compared: the CPU provider takes long for many."""


@dataclass
class Options:
    """What the parent asks for."""

    model: str
    stripped: str
    work: str
    """Where the models with weights are written."""
    cache: str
    types: list[str]
    batches: list[int]
    peers: list[str]
    compile_mode: str
    seconds: float
    kernels: int
    explain: bool
    threads: int
    skip: list[str] = field(default_factory=list)
    """Cases that ended an earlier process."""


@dataclass
class Case:
    model: str
    kind: str
    batch: int
    path: Path
    feeds: dict[str, np.ndarray[Any, Any]]
    runtimes: list[Runtime] = field(default_factory=list)
    compiled: list[Runtime] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.model} {self.kind} {self.batch}"


class OutOfTime(BaseException):
    """Not an Exception, which torch would take for its own."""


class Reporter:
    """Lines for the parent, on what was the standard output."""

    def __init__(self) -> None:
        self._lines = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def emit(self, kind: str, record: Any) -> None:
        self._lines.write(f"{kind} {json.dumps(record)}\n")

    def attempt(self, title: str, make: Callable[[], Any]) -> Any:
        """What `make` returns; None, and a message, if it fails."""
        try:
            return make()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:2000]
            print(f"{title}: {text}", file=sys.stderr, flush=True)
            self.emit("ERROR", {"case": title, "error": text})
            return None


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# --- models and inputs


def example_inputs(name: str, batch: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The model's example inputs as a batch of different samples, the first being the example."""
    generator = np.random.default_rng(batch)
    made = {}
    for key, tensor in inputs.items():
        array = tensor.numpy()
        if array.dtype == np.float32:
            rest = generator.standard_normal((batch - 1, *array.shape[1:]), np.float32)
        elif key == "input_ids":
            rest = generator.permuted(np.repeat(array, batch - 1, 0), axis=1)
        else:
            rest = np.repeat(array, batch - 1, 0)
        made[key] = np.concatenate([array, rest])
    return made


def as_type(inputs: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The inputs of a model of that type."""
    dtype = np.float16 if kind == "float16" else np.float32
    return {k: a.astype(dtype) if a.dtype == np.float32 else a for k, a in inputs.items()}


def write_model(options: Options, batch: int, kind: str) -> Path:
    """The model with its weights filled in; the same file for all types of float32."""
    dtype = "float16" if kind == "float16" else "float32"
    path = Path(options.work) / f"{options.model}-{batch}-{dtype}.onnx"
    if not path.exists():
        suffix = "" if batch == 1 else f"_batch{batch}"
        stripped = Path(options.stripped) / f"{options.model}{suffix}.onnx.stripped"
        proto = fill(stripped.read_bytes())
        onnx.save(to_half(proto) if dtype == "float16" else proto, path)
    return path


# --- bascule


def open_session(module: Any, path: Path, kind: str) -> Any:
    """A session of bascule or of onnxruntime, on the GPU if there is one."""
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0" if kind == "float32" else "1"})
    providers = [cuda, "CPUExecutionProvider"] if on_gpu() else ["CPUExecutionProvider"]
    return module.InferenceSession(str(path), providers=providers)


def bind(name: str, module: Any, session: Any, feeds: Mapping[str, Any]) -> Runtime:
    """Inputs and outputs stay on the device."""
    device = "cuda" if on_gpu() else "cpu"
    binding = session.io_binding()
    for key, array in feeds.items():
        value = module.OrtValue.ortvalue_from_numpy(array, device, 0)
        binding.bind_ortvalue_input(key, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    unwaited = module.RunOptions()
    unwaited.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def outputs() -> list[np.ndarray[Any, Any]]:
        session.run_with_iobinding(binding)
        return [np.asarray(array) for array in binding.copy_outputs_to_cpu()]

    return Runtime(
        name,
        lambda: session.run_with_iobinding(binding),
        outputs,
        lambda: session.run_with_iobinding(binding, unwaited),
    )


def tune_in_turns(lock: Lock) -> None:
    """Let bascule time its choices only while it holds `lock`."""
    if on_gpu():
        from bascule.providers.cuda.cupy_device import CupyDevice

        CupyDevice.measure = lock.around(CupyDevice.measure)  # type: ignore[method-assign]


def make_bascule(case: Case, explain: bool) -> list[Runtime]:
    import bascule

    session = open_session(bascule, case.path, case.kind)
    bound = bind("bascule", bascule, session, case.feeds)
    first = bound.outputs()
    rows = session.explain().rows
    elsewhere = [row for row in rows if row.provider != "CUDAExecutionProvider"]
    bound.facts = {
        "nodes": len(rows),
        "nodes_not_on_gpu": len(elsewhere),
        "same_bits": all(map(np.array_equal, first, bound.outputs())),
    }
    if explain:
        bound.facts["elsewhere"] = [f"{row.name} {row.op_type}: {row.reasons}" for row in elsewhere]
    feeds = case.feeds

    def from_numpy() -> Any:
        return session.run(None, feeds)

    return [bound, Runtime("bascule, numpy", from_numpy, from_numpy)]


def make_onnxruntime(case: Case) -> list[Runtime]:
    """Nothing where onnxruntime, or its CUDA provider, is missing."""
    try:
        import onnxruntime
    except ImportError:
        return []
    if on_gpu() and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return []
    session = open_session(onnxruntime, case.path, case.kind)
    return [bind("onnxruntime", onnxruntime, session, case.feeds)]


# --- what the parent asks for


class Child:
    """Each public method is a step that the parent may ask for."""

    def __init__(self, options: Options, reporter: Reporter) -> None:
        self._options = options
        self._report = reporter
        self._cases: list[Case] = []
        self._torch: Any = None
        self._expected: list[np.ndarray[Any, Any]] = []

    def prepare(self) -> None:
        """All sessions and modules, the most wanted first."""
        import gpu_torch
        import torch

        from models import MODELS as MAKE

        options, attempt = self._options, self._report.attempt
        lock = Lock(Path(options.work) / "tuning")
        attempt("tuning in turns", lambda: tune_in_turns(lock))
        torch.set_num_threads(options.threads)
        example = MAKE[options.model]()
        self._torch = gpu_torch.TorchModel(options.model, example.module)
        inputs = {
            batch: example_inputs(options.model, batch, example.inputs)
            for batch in sorted({*options.batches, 1})
        }
        self._expected = self._reference(inputs[max(inputs)])
        for kind in options.types:
            for batch in options.batches:
                self._prepare_case(kind, batch, inputs[batch])
        self._strict(inputs[1])

    def _reference(self, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        """What the CPU provider makes of the first samples, one by one, in float32."""
        import bascule

        settings = bascule.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        path = write_model(self._options, 1, "float32")
        session = bascule.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
        samples = [
            session.run(None, {key: array[i : i + 1] for key, array in inputs.items()})
            for i in range(min(COMPARED, len(next(iter(inputs.values())))))
        ]
        return [np.concatenate(parts) for parts in zip(*samples)]

    def _prepare_case(self, kind: str, batch: int, inputs: Mapping[str, Any]) -> None:
        feeds = as_type(inputs, kind)
        path = write_model(self._options, batch, kind)
        case = Case(self._options.model, kind, batch, path, feeds)
        if case.key in self._options.skip:
            return
        self._report.emit("BEGIN", case.key)
        attempt, peers = self._report.attempt, self._options.peers
        ours = attempt(f"{case.key} bascule", lambda: make_bascule(case, self._options.explain))
        case.runtimes += ours or []
        if "eager" in peers:
            arrays = feeds.values()
            eager = attempt(f"{case.key} torch", lambda: self._torch.eager(kind, arrays))
            case.runtimes += [eager] if eager else []
        if "onnxruntime" in peers:
            theirs = attempt(f"{case.key} onnxruntime", lambda: make_onnxruntime(case))
            case.runtimes += theirs or []
        self._cases.append(case)

    def _strict(self, inputs: dict[str, Any]) -> None:
        """How far strict float32 is from the CPU provider's."""
        import bascule

        def compare() -> None:
            session = open_session(bascule, write_model(self._options, 1, "float32"), "float32")
            found = difference([want[:1] for want in self._expected], session.run(None, inputs))
            self._report.emit(
                "RECORD",
                {"row": "strict float32", "model": self._options.model, "difference": found},
            )

        self._report.attempt(f"{self._options.model} strict float32", compare)

    def measure(self) -> None:
        """bascule beside all that is not compiled."""
        for case in self._cases:
            self._measure(case, "eager", case.runtimes)

    def compare(self) -> None:
        """bascule beside torch.compile."""
        for case in self._cases:
            if case.compiled:
                ours = [runtime for runtime in case.runtimes if runtime.name == "bascule"]
                self._measure(case, "compile", [*ours, *case.compiled])

    def _measure(self, case: Case, beside: str, runtimes: list[Runtime]) -> None:
        from gpu_torch import allow_tf32

        self._report.emit("BEGIN", case.key)
        allow_tf32(case.kind == "tf32")
        seconds = self._options.seconds
        times = self._report.attempt(case.key, lambda: measure(runtimes, seconds)) or {}
        for runtime in runtimes:
            if runtime.name not in times:
                continue
            record = {"model": case.model, "type": case.kind, "batch": case.batch}
            record |= {"beside": beside, "runtime": runtime.name}
            record |= {**times[runtime.name], **runtime.facts}
            if runtime.name.startswith(("bascule", "onnxruntime")):  # torch has other weights
                expected = [want[: case.batch] for want in self._expected]
                record["difference"] = difference(expected, runtime.outputs())
            self._report.emit("RECORD", record)

    def compile(self) -> None:
        """torch.compile of what bench/gpu_ahead.py has left in torch's cache."""
        from gpu_torch import allow_tf32

        for case in self._cases:
            if not (Path(self._options.work) / f"{case.key.replace(' ', '-')}.ready").exists():
                continue
            title = f"{case.key} torch.compile"
            self._report.emit("BEGIN", title)
            allow_tf32(case.kind == "tf32")
            compiled = self._report.attempt(title, lambda c=case: self._compile(c))
            case.compiled = [compiled] if compiled else []

    def _compile(self, case: Case) -> Runtime:
        from gpu_torch import cache_hits

        begin, hits = time.perf_counter(), cache_hits()
        mode = self._options.compile_mode
        runtime: Runtime = self._torch.compiled(case.kind, case.feeds.values(), mode)
        runtime.outputs()
        taken = time.perf_counter() - begin
        runtime.facts = {"load_s": taken, "from_cache": cache_hits() > hits}
        return runtime

    def profile(self) -> None:
        """The costliest kernels of bascule and of torch, compiled where it could be."""
        count = self._options.kernels
        for case in self._cases:
            for runtime in (*case.runtimes, *case.compiled):
                if runtime.name == "bascule, numpy" or (runtime.name == "torch" and case.compiled):
                    continue
                title = f"{case.key} kernels of {runtime.name}"
                self._report.emit("BEGIN", title)
                found = self._report.attempt(title, lambda r=runtime: kernels(r, count))
                if found:
                    record = {"row": "kernels", "model": case.model, "type": case.kind}
                    record |= {"batch": case.batch, "runtime": runtime.name, "kernels": found}
                    self._report.emit("RECORD", record)


def main() -> None:
    reporter = Reporter()
    child = Child(Options(**json.loads(sys.argv[1])), reporter)
    for line in sys.stdin:
        step, seconds = line.split()
        begin = time.perf_counter()
        late = False
        try:
            with at_most(float(seconds)):
                getattr(child, step)()
        except OutOfTime:
            late = True
        reporter.emit("DONE", {"step": step, "late": late, "s": time.perf_counter() - begin})


if __name__ == "__main__":
    main()
