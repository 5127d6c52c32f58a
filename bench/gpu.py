# SPDX-License-Identifier: Apache-2.0
"""Time bascule on a GPU beside torch, torch.compile and onnxruntime.

    python bench/weights.py strip bench/models/*.onnx --out bench/models/stripped
    python bench/gpu.py bench/models/stripped --minutes 8 --json gpu.json

Needs no network. FOLDER holds NAME.onnx.stripped and NAME_batch32.onnx.stripped, made by
bench/weights.py from what bench/models.py exports. Each model is measured in a process of its own,
which is given up when its share of the minutes is over or when it dies; the others go on. All
runtimes take turns. Without a GPU everything runs on the CPU: a rehearsal, not a measurement.

Times are medians in ms. "latency" waits for the result of each call; "stream" starts several calls
before it waits. Each output is compared with the CPU provider's in float32, relative to its largest
value.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measure import table

MODELS = ("resnet50", "mobilenetv2", "vit_b16", "convnext_t", "bert_base", "gpt2")
IMAGE_MODELS = ("resnet50", "mobilenetv2", "convnext_t")
"""Those that torch runs with channels last, which is faster on a GPU."""
PEERS = ("eager", "compile", "onnxruntime")
MOST_AT_ONCE, TURN = 10, 0.2
"""Calls of a runtime's turn, and about how many seconds they may take."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--types", nargs="+", default=["float16", "float32"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--compile-mode", default="max-autotune", help="of torch.compile")
    parser.add_argument("--seconds", type=float, default=1.5, help="of measuring each case")
    parser.add_argument("--no-tf32", action="store_true", help="float32 products in full precision")
    parser.add_argument("--kernels", type=int, default=0, help="show the N costliest GPU kernels")
    parser.add_argument("--explain", action="store_true", help="show nodes that run on the CPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--skip", nargs="*", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the runtimes; each is a function that starts a run, and one that gives its first outputs


@dataclass
class Runtime:
    name: str
    start: Callable[[], Any]
    outputs: Callable[[], list[np.ndarray[Any, Any]]]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    model: str
    dtype: str
    batch: int
    path: Path
    feeds: dict[str, np.ndarray[Any, Any]]
    expected: list[np.ndarray[Any, Any]]
    module: Any

    @property
    def key(self) -> str:
        return f"{self.model} {self.dtype} {self.batch}"


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _session(module: Any, case: Case, options: argparse.Namespace) -> Any:
    """A session of bascule or of onnxruntime."""
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0" if options.no_tf32 else "1"})
    providers = [cuda, "CPUExecutionProvider"] if on_gpu() else ["CPUExecutionProvider"]
    return module.InferenceSession(str(case.path), providers=providers)


def _bound(name: str, module: Any, session: Any, case: Case) -> Runtime:
    """Inputs and outputs stay on the device."""
    device = "cuda" if on_gpu() else "cpu"
    binding = session.io_binding()
    for key, array in case.feeds.items():
        value = module.OrtValue.ortvalue_from_numpy(array, device, 0)
        binding.bind_ortvalue_input(key, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, device)

    def outputs() -> list[np.ndarray[Any, Any]]:
        session.run_with_iobinding(binding)
        return [np.asarray(array) for array in binding.copy_outputs_to_cpu()]

    return Runtime(name, lambda: session.run_with_iobinding(binding), outputs)


def make_bascule(case: Case, options: argparse.Namespace) -> list[Runtime]:
    import bascule

    begin = time.perf_counter()
    session = _session(bascule, case, options)
    made = time.perf_counter()
    bound = _bound("bascule", bascule, session, case)
    first = bound.outputs()
    ran = time.perf_counter()
    rows = session.explain().rows
    elsewhere = [row for row in rows if row.provider != "CUDAExecutionProvider"]
    bound.facts = {
        "load_s": made - begin,
        "first_run_s": ran - made,
        "nodes": len(rows),
        "nodes_not_on_gpu": len(elsewhere),
        "same_bits": all(map(np.array_equal, first, bound.outputs())),
    }
    if options.explain:
        for row in elsewhere:
            print(case.key, row.name, row.op_type, row.reasons, file=sys.stderr)
    feeds = case.feeds
    host = Runtime(
        "bascule, numpy", lambda: session.run(None, feeds), lambda: session.run(None, feeds)
    )
    return [bound, host]


def make_onnxruntime(case: Case, options: argparse.Namespace) -> list[Runtime]:
    import onnxruntime

    if on_gpu() and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return []
    session = _session(onnxruntime, case, options)
    return [_bound("onnxruntime", onnxruntime, session, case)]


def make_torch(case: Case, compiled: str = "") -> list[Runtime]:
    """Eager, or compiled with the mode `compiled`."""
    import torch

    device = "cuda" if on_gpu() else "cpu"
    module = case.module.to(device, getattr(torch, case.dtype))
    inputs = [torch.from_numpy(array).to(device) for array in case.feeds.values()]
    if case.model in IMAGE_MODELS:
        module = module.to(memory_format=torch.channels_last)
        inputs = [tensor.to(memory_format=torch.channels_last) for tensor in inputs]
    if compiled:
        torch._dynamo.reset()
    function = torch.compile(module, mode=compiled) if compiled else module

    def start() -> Any:
        with torch.inference_mode():
            return function(*inputs)

    def outputs() -> list[np.ndarray[Any, Any]]:
        result = start()
        return [t.cpu().numpy() for t in (result if isinstance(result, tuple) else (result,))]

    begin = time.perf_counter()
    runtime = Runtime("torch.compile" if compiled else "torch", start, outputs)
    outputs()
    runtime.facts = {"first_run_s": time.perf_counter() - begin}
    return [runtime]


# --- measuring


def measure(runtimes: list[Runtime], seconds: float) -> dict[str, dict[str, float]]:
    """Latency and time in a stream of calls, in ms, of runtimes that take turns."""
    calls = {}
    for runtime in runtimes:
        for _ in range(3):
            begin = time.perf_counter()
            runtime.start()
            wait()
        once = time.perf_counter() - begin
        calls[runtime.name] = min(max(int(TURN / once), 2), MOST_AT_ONCE)
    latencies: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    streams: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < (end if turns >= 3 or not turns else end + 4 * seconds):
        turns += 1
        for runtime in runtimes:
            count = calls[runtime.name]
            runtime.start()  # fills the caches again
            wait()
            for _ in range(count):
                begin = time.perf_counter()
                runtime.start()
                wait()
                latencies[runtime.name].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            for _ in range(count):
                runtime.start()
            wait()
            streams[runtime.name].append((time.perf_counter() - begin) / count)
    return {
        name: {
            "latency_ms": statistics.median(latencies[name]) * 1e3,
            "stream_ms": statistics.median(streams[name]) * 1e3,
            "calls": len(latencies[name]),
        }
        for name in latencies
    }


def difference(expected: Iterable[Any], actual: Iterable[Any]) -> float:
    """The largest difference of any output, relative to its largest value; NaN if there is one."""
    worst = 0.0
    for want, got in zip(expected, actual, strict=True):
        part = got[: len(want)].astype(np.float32)
        worst = max(worst, float(np.abs(want - part).max() / np.abs(want).max()))
        if not np.isfinite(part).all():
            return float("nan")
    return worst


def kernels(runtime: Runtime, count: int) -> list[dict[str, Any]]:
    """The GPU kernels that a run of `runtime` spends its time in."""
    import torch

    calls = 5
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(calls):
            runtime.start()
        wait()
    events = [event for event in profile.key_averages() if event.self_device_time_total]
    events.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events) / calls
    rows = [{"kernel": "all", "us": total, "launches": sum(e.count for e in events) / calls}]
    for event in events[:count]:
        spent = {"us": event.self_device_time_total / calls, "launches": event.count / calls}
        rows.append({"kernel": event.key[:120], **spent})
    return rows


# --- the process of one model


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


def write_model(options: argparse.Namespace, model: str, batch: int, folder: Path) -> None:
    """Both types of a model with its weights filled in, in `folder`."""
    from half import to_half
    from weights import fill

    suffix = "" if batch == 1 else f"_batch{batch}"
    proto = fill((options.folder / f"{model}{suffix}.onnx.stripped").read_bytes())
    for dtype in ("float32", "float16"):
        if dtype == "float16":
            if dtype not in options.types:
                break
            to_half(proto)
        onnx.save(proto, folder / f"{model}-{batch}-{dtype}.onnx")


def reference(path: Path, feeds: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
    """What the CPU provider makes of the inputs."""
    import bascule

    session = bascule.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def emit(kind: str, record: Any) -> None:
    print(f"{kind} {json.dumps(record)}", flush=True)


def attempt(title: str, make: Callable[[], Any]) -> Any:
    """What `make` returns; an empty list, and a message, if it fails."""
    try:
        return make()
    except Exception as error:
        text = f"{title}: {type(error).__name__}: {error}"
        print(text[:2000], file=sys.stderr, flush=True)
        emit("ERROR", {"case": title, "error": text[:2000]})
        return []


def run_child(options: argparse.Namespace, folder: Path) -> None:
    import torch

    from models import MODELS as MAKE

    torch.set_float32_matmul_precision("highest" if options.no_tf32 else "high")
    torch.backends.cudnn.allow_tf32 = not options.no_tf32
    torch.backends.cudnn.benchmark = True
    name = options.child
    example = MAKE[name]()
    cases: list[tuple[Case, list[Runtime]]] = []
    for batch in options.batches:
        inputs = example_inputs(name, batch, example.inputs)
        write_model(options, name, batch, folder)
        # Of its own file: the exports of two batch sizes may name their weights differently.
        expected = reference(folder / f"{name}-{batch}-float32.onnx", inputs)
        for dtype in options.types:
            feeds = {
                key: array.astype(dtype) if array.dtype == np.float32 else array
                for key, array in inputs.items()
            }
            path = folder / f"{name}-{batch}-{dtype}.onnx"
            case = Case(name, dtype, batch, path, feeds, expected, example.module)
            if case.key in options.skip:
                continue
            emit("BEGIN", case.key)
            runtimes = attempt(f"{case.key} bascule", lambda c=case: make_bascule(c, options))
            if "eager" in options.peers:
                runtimes += attempt(f"{case.key} torch", lambda c=case: make_torch(c))
            if "onnxruntime" in options.peers:
                title = f"{case.key} onnxruntime"
                runtimes += attempt(title, lambda c=case: make_onnxruntime(c, options))
            report(case, runtimes, options)
            if "compile" in options.peers:
                cases.append((case, [r for r in runtimes if r.name == "bascule"]))
    for case, runtimes in cases:
        title = f"{case.key} torch.compile"
        emit("BEGIN", title)
        made = attempt(title, lambda c=case: make_torch(c, options.compile_mode))
        if made:
            report(case, [*runtimes, *made], options)


def report(case: Case, runtimes: list[Runtime], options: argparse.Namespace) -> None:
    """Measure and print the runtimes of a case."""
    times = attempt(case.key, lambda: measure(runtimes, options.seconds))
    for runtime in runtimes:
        if not times or runtime.name not in times:
            continue
        record = {"model": case.model, "type": case.dtype, "batch": case.batch}
        record |= {"runtime": runtime.name, **times[runtime.name], **runtime.facts}
        if runtime.name.startswith(("bascule", "onnxruntime")):  # torch has other weights
            record["difference"] = difference(case.expected, runtime.outputs())
        if options.kernels and on_gpu() and runtime.name != "bascule, numpy":
            title = f"{case.key} kernels of {runtime.name}"
            record["kernels"] = attempt(title, lambda r=runtime: kernels(r, options.kernels))
        emit("RECORD", record)


# --- the parent


def run_model(
    options: argparse.Namespace, name: str, end: float, folder: str, records: list[Any]
) -> None:
    """Measure a model, again without the case at fault if the process dies."""
    skip: list[str] = []
    while time.monotonic() < end - 10:
        command = [sys.executable, *sys.argv, "--child", name, "--skip", *skip]
        environment = {**os.environ, "TMPDIR": folder, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/i"}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        current = _follow(child, end, records)
        if child.returncode == 0 or time.monotonic() > end - 10:
            return
        records.append({"case": current or name, "error": f"ended with {child.returncode}"})
        print(f"{current or name}: the process ended with {child.returncode}", flush=True)
        if not current:
            return
        skip.append(current)
        for record in records:  # those that are done need not be measured again
            if "runtime" in record:
                skip.append(f"{record['model']} {record['type']} {record['batch']}")


def _follow(child: subprocess.Popen[str], end: float, records: list[Any]) -> str:
    """Take in what a child reports until it ends or its time is over; the last case begun."""
    import threading

    timer = threading.Timer(max(end - time.monotonic(), 1), child.kill)
    timer.start()
    current = ""
    assert child.stdout is not None
    for line in child.stdout:
        kind, _, text = line.partition(" ")
        if kind == "BEGIN":
            current = json.loads(text)
        elif kind in ("RECORD", "ERROR"):
            records.append(json.loads(text))
            print(_line(records[-1]), flush=True)
    child.wait()
    timer.cancel()
    return current


def _line(record: Mapping[str, Any]) -> str:
    if "error" in record:
        return f"{record['case']}: {record['error'][:300]}"
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in record.items()}
    lines = [" ".join(f"{k}={v}" for k, v in shown.items() if k != "kernels")]
    for row in record.get("kernels", ()):
        lines.append(f"    {row['us']:9.1f} us {row['launches']:6.0f}x  {row['kernel']}")
    return "\n".join(lines)


def summary(records: list[dict[str, Any]]) -> str:
    """One table: latency / stream of each runtime, and bascule's latency over the best peer's."""
    names = ("bascule", "bascule, numpy", "torch", "torch.compile", "onnxruntime")
    cases: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for record in records:
        if "runtime" in record:
            key = (record["model"], record["type"], str(record["batch"]))
            # Later figures, beside torch.compile, stand for bascule too.
            cases.setdefault(key, {})[record["runtime"]] = record
    rows = [("model", "type", "batch", *names, "ratio", "difference")]
    for key, found in cases.items():
        times = []
        for name in names:
            record = found.get(name)
            times.append(
                f"{record['latency_ms']:.3f} / {record['stream_ms']:.3f}" if record else ""
            )
        peers = [found[name]["latency_ms"] for name in names[2:] if name in found]
        ours = found.get("bascule")
        ratio = f"{ours['latency_ms'] / min(peers):.2f}" if ours and peers else ""
        worst = max((r["difference"] for r in found.values() if "difference" in r), default=None)
        rows.append((*key, *times, ratio, "" if worst is None else f"{worst:.1e}"))
    return table(rows)


def main() -> int:
    options = parse_arguments()
    if options.child:
        with tempfile.TemporaryDirectory() as folder:
            run_child(options, Path(folder))
        return 0
    end = time.monotonic() + options.minutes * 60
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(options.models):
            now = time.monotonic()
            share = now + (end - now) / (len(options.models) - index)
            run_model(options, name, share, folder, records)
            if options.json:
                options.json.write_text(json.dumps(records, indent=1))
    print(summary(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
