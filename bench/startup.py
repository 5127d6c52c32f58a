# SPDX-License-Identifier: Apache-2.0
"""How long processes and sessions take to start, and what memory they need.

    python bench/startup.py [--folder models] [--repeats 7]

Everything is measured in processes of its own, the runtimes taking turns, byte code of all of them
allowed and written beforehand.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import table

HERE = Path(__file__).parent

_FIRST_RESULT = """
import sys
import numpy as np
runtime, model, feeds, cache = sys.argv[1:]
with np.load(feeds) as file:
    inputs = dict(file)
if runtime == "openvino":
    import openvino
    compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    compiled(inputs)
else:
    ort = __import__(runtime)
    options = ort.SessionOptions()
    if cache:
        options.add_session_config_entry("session.cache_dir", cache)
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, inputs)
"""

_SESSION = """
import json, sys, time
import numpy as np
runtime, model, feeds, cache, sessions = sys.argv[1:]
with np.load(feeds) as file:
    inputs = dict(file)

def memory():
    with open("/proc/self/smaps_rollup") as file:
        sizes = dict(line.split(":") for line in file if ":" in line and line[0] in "RP")
    return {name: int(sizes[name].split()[0]) * 1024 / 1e6 for name in ("Rss", "Pss")}

if runtime == "openvino":
    import openvino
    make = lambda: openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    run = lambda session: session(inputs)
else:
    ort = __import__(runtime)
    options = ort.SessionOptions()
    if cache:
        options.add_session_config_entry("session.cache_dir", cache)
    make = lambda: ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = lambda session: session.run(None, inputs)
before, seconds, after, kept = memory(), [], [], []
for _ in range(int(sessions)):
    start = time.perf_counter()
    kept.append(make())
    seconds.append(time.perf_counter() - start)
    run(kept[-1])
    after.append(memory())
import resource
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps({"before": before, "seconds": seconds, "after": after, "peak": peak}))
"""


class Starter:
    """Starts processes that find the byte code of every module ready."""

    def __init__(self, folder: Path, space: Path) -> None:
        self.folder = folder
        self.cache = space / "plans"
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(space / "bytecode")}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def process(self, code: str, runtime: str, model: str, *more: str) -> str:
        """What a process prints; `runtime` is bascule, bascule with cache, onnxruntime..."""
        name, _, cached = runtime.partition(" ")
        files = [str(self.folder / f"{model}.{suffix}") for suffix in ("onnx", "npz")]
        arguments = [name, *files, str(self.cache) if cached else "", *more]
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=self.environment
        ).stdout

    def session(self, runtime: str, model: str, sessions: int = 1) -> dict[str, Any]:
        result = self.process(_SESSION, runtime, model, str(sessions))
        found: dict[str, Any] = json.loads(result.splitlines()[-1])
        return found


def runtimes() -> list[str]:
    peers = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]
    return ["bascule", "bascule with a plan cache", *peers]


def process_starts(starter: Starter, models: list[str], repeats: int) -> str:
    """Medians, from the start of a process to the end of it with one result."""
    rows = [("process start to first result, ms", *runtimes())]
    for model in models:
        times: dict[str, list[float]] = {name: [] for name in runtimes()}
        for turn in range(repeats + 2):  # the first two write byte code and plans
            for name in runtimes():
                start = time.perf_counter()
                starter.process(_FIRST_RESULT, name, model)
                if turn >= 2:
                    times[name].append(time.perf_counter() - start)
        rows.append((model, *(f"{statistics.median(t) * 1e3:.0f}" for t in times.values())))
    return table(rows)


def sessions(starter: Starter, models: list[str]) -> str:
    """Seconds to make a session, and the most memory it took to make and run it."""
    rows = [("session, ms / peak MB", *runtimes())]
    for model in models:
        cells = []
        for name in runtimes():
            try:
                if " " in name:
                    starter.session(name, model)  # writes the plan
                found = starter.session(name, model)
            except subprocess.CalledProcessError:
                if name.startswith("bascule"):
                    raise
                cells.append("-")  # OpenVINO runs no forests
                continue
            cells.append(f"{found['seconds'][0] * 1e3:.0f} / {found['peak']:.0f}")
        rows.append((model, *cells))
    return table(rows)


def second_session(starter: Starter, model: str) -> str:
    """What a second session on the same model adds, of its own (Pss) and in all (Rss)."""
    rows = [(f"a second session, {model}", "first adds, MB", "second adds, MB", "share")]
    for name in runtimes():
        found = starter.session(name, model, 2)
        first, second = (state["Rss"] for state in found["after"])
        added = first - found["before"]["Rss"]
        share = (second - first) / added
        rows.append((name, f"{added:.0f}", f"{second - first:.1f}", f"{share:.1%}"))
    return table(rows)


def tables(folder: Path = HERE / "models", repeats: int = 7) -> Iterator[str]:
    """Markdown tables of everything here, as they are measured."""
    here = sorted(path.stem for path in folder.glob("*.npz"))
    models = [name for name in here if (folder / f"{name}.onnx").exists() and "batch" not in name]
    with tempfile.TemporaryDirectory() as space:
        starter = Starter(folder, Path(space))
        yield process_starts(starter, ["mobilenetv2", "bert_base"], repeats)
        yield sessions(starter, models)
        yield second_session(starter, "bert_base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    for each in tables(options.folder, options.repeats):
        print(each, flush=True)


if __name__ == "__main__":
    main()
