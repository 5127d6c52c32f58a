# SPDX-License-Identifier: Apache-2.0
"""bascule bench: how fast a model runs, alone or beside other runtimes in one process."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bascule.cli.console import make_console
from bascule.cli.inputs import random_feeds, read_feeds
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_session_arguments,
    dimensions,
    make_session,
)

_BLOCK_SECONDS = 0.25
"""Runtimes take turns of about this length: their idle threads spin for a while after a run, so
turns of a single run would measure one runtime with the other's threads on its cores."""

_SETTLE_SECONDS = 0.02


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "bench",
        help="measure latency, throughput, load time and memory",
        description="Measure a model with random or given inputs. With --against, other runtimes "
        "take turns with bascule in the same process.",
    )
    parser.add_argument("model", help="an .onnx file")
    add_input_arguments(parser)
    parser.add_argument(
        "-a", "--against", default="", help="onnxruntime, openvino (separated by commas)"
    )
    parser.add_argument(
        "-s", "--seconds", type=_seconds, default=5.0, help="measuring time of each"
    )
    add_session_arguments(parser)
    parser.set_defaults(handler=main)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive time")
    return seconds


@dataclass
class Measured:
    """One runtime's figures; times in seconds, memory in bytes."""

    name: str
    load: float
    memory: int
    run: Callable[[], list[np.ndarray[Any, Any]]]
    times: list[float] = field(default_factory=list)

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.times, q))

    def record(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "load_ms": self.load * 1e3,
            "memory_mb": self.memory / 1e6,
            "median_ms": self.percentile(50) * 1e3,
            "p90_ms": self.percentile(90) * 1e3,
            "p99_ms": self.percentile(99) * 1e3,
            "fastest_ms": min(self.times) * 1e3,
            "runs": len(self.times),
        }


def main(options: argparse.Namespace) -> int:
    records = measure(options)
    if options.json:
        print(json.dumps(records))
    else:
        _show(options.model, records)
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of bascule, then of every other runtime, with ratios and differences."""
    names = ["bascule", *[name.strip() for name in options.against.split(",") if name.strip()]]
    for name in names[1:]:
        if name not in _MAKERS or name == "bascule":
            known = ", ".join(other for other in _MAKERS if other != "bascule")
            raise ValueError(f"cannot compare with '{name}': known are {known}")
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is not installed: pip install {name}")
    feeds: dict[str, Any] = {}
    runtimes = []
    for name in names:
        before, started = _resident(), time.perf_counter()
        run, inputs = _MAKERS[name](options)
        load = time.perf_counter() - started
        if not feeds:
            feeds = read_feeds(options.input, inputs)
            missing = [arg for arg in inputs if arg.name not in feeds]
            feeds.update(random_feeds(missing, dimensions(options), options.seed))
        runtimes.append(Measured(name, load, _resident() - before, functools.partial(run, feeds)))
    reference = [runtime.run() for runtime in runtimes]
    _take_turns(runtimes, options.seconds, quiet=options.json)
    records = [runtime.record() for runtime in runtimes]
    for record, outputs in zip(records, reference):
        record["difference"] = _difference(reference[0], outputs)
        record["ratio"] = records[0]["median_ms"] / record["median_ms"]
    return records


def _take_turns(runtimes: list[Measured], seconds: float, quiet: bool) -> None:
    from rich.progress import Progress

    rounds = max(2, round(seconds / _BLOCK_SECONDS))
    block = min(_BLOCK_SECONDS, seconds / rounds)
    with Progress(transient=True, disable=quiet) as progress:
        task = progress.add_task("measuring", total=rounds * len(runtimes))
        for _ in range(rounds):
            for runtime in runtimes:
                time.sleep(_SETTLE_SECONDS)
                runtime.run()  # caches and threads are somebody else's after a change
                deadline = time.perf_counter() + block
                while True:
                    started = time.perf_counter()
                    runtime.run()
                    now = time.perf_counter()
                    runtime.times.append(now - started)
                    if now > deadline:
                        break
                progress.advance(task)


def _difference(expected: list[Any], actual: list[Any]) -> float:
    """The largest difference of any output, relative to that output's largest value."""
    worst = 0.0
    for a, b in zip(expected, actual):
        if np.asarray(a).dtype.kind in "OUST":
            continue
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        largest = float(np.max(np.abs(b), initial=0.0)) or 1.0
        worst = max(worst, float(np.max(np.abs(a - b), initial=0.0)) / largest)
    return worst


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _make_bascule(options: argparse.Namespace) -> tuple[Callable[[Any], Any], Any]:
    session = make_session(options)
    return (lambda feeds: session.run(None, feeds)), session.get_inputs()


def _make_onnxruntime(options: argparse.Namespace) -> tuple[Callable[[Any], Any], Any]:
    import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    for name, size in dimensions(options).items():
        settings.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(
        options.model, settings, providers=["CPUExecutionProvider"]
    )
    return (lambda feeds: session.run(None, feeds)), session.get_inputs()


def _make_openvino(options: argparse.Namespace) -> tuple[Callable[[Any], Any], Any]:
    import openvino  # type: ignore[import-not-found,import-untyped,unused-ignore]

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    model = openvino.Core().compile_model(options.model, "CPU", settings)
    request = model.create_infer_request()

    def run(feeds: Any) -> list[Any]:
        return list(request.infer(feeds).to_tuple())

    return run, []


_MAKERS: dict[str, Callable[[argparse.Namespace], tuple[Callable[[Any], Any], Any]]] = {
    "bascule": _make_bascule,
    "onnxruntime": _make_onnxruntime,
    "openvino": _make_openvino,
}


def _show(model: str, records: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(model))
    table.add_column("runtime", no_wrap=True)
    for title in (
        "median ms",
        "p90",
        "p99",
        "fastest",
        "runs/s",
        "load ms",
        "memory MB",
        "bascule / it",
        "difference",
    ):
        table.add_column(title, justify="right")
    for record in records:
        table.add_row(
            record["runtime"],
            *(f"{record[key]:.3f}" for key in ("median_ms", "p90_ms", "p99_ms", "fastest_ms")),
            f"{1e3 / record['median_ms']:.1f}",
            f"{record['load_ms']:.0f}",
            f"{record['memory_mb']:.0f}",
            f"{record['ratio']:.2f}",
            f"{record['difference']:.1e}",
        )
    make_console().print(table)
