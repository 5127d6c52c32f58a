# SPDX-License-Identifier: Apache-2.0
"""What profiling and tracing cost where they are on, and where they are off.

    python bench/observing.py [--folder models] [--models mobilenetv2 bert_base] [--runs 1500 80]

Sessions of one model take turns in one process, in a new order each turn: two that nothing was
asked of, whose difference is that of the measurement; one that was profiled and is no longer; one
whose values were traced before; and one that is profiled.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import table

import bascule

HERE = Path(__file__).parent
STATES = ("off", "off, another", "off, profiled before", "off, traced before", "on")


def sessions(path: str, feeds: dict[str, np.ndarray], threads: int) -> list:
    made = []
    for state in STATES:
        options = bascule.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = "profiled" in state or state == "on"
        session = bascule.InferenceSession(path, options)
        session.run(None, feeds)
        if "profiled" in state:
            os.unlink(session.end_profiling())
        if "traced" in state:
            for _ in session.trace(feeds):
                pass
        made.append(session)
    return made


def measure(path: str, feeds: dict[str, np.ndarray], threads: int, runs: int) -> list[list[float]]:
    """Seconds of each run of each session."""
    made = sessions(path, feeds, threads)
    order = list(range(len(made)))
    shuffled = random.Random(0)
    taken: list[list[float]] = [[] for _ in made]
    gc.disable()
    for turn in range(runs + 10):  # the profiler times the first eight runs in full
        shuffled.shuffle(order)
        for index in order:
            start = time.perf_counter()
            made[index].run(None, feeds)
            if turn >= 10:
                taken[index].append(time.perf_counter() - start)
    gc.enable()
    os.unlink(made[-1].end_profiling())
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    parser.add_argument("--models", nargs="+", default=["mobilenetv2", "bert_base"])
    parser.add_argument("--runs", nargs="+", type=int, default=[1500, 80], help="of each model")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    folder = options.folder.resolve()
    rows = [["model", "threads", "off, ms", *STATES[1:]]]
    with tempfile.TemporaryDirectory() as space:
        os.chdir(space)  # profiles are written to the current folder
        for name, runs in zip(options.models, options.runs):
            with np.load(folder / f"{name}.npz") as file:
                feeds = dict(file)
            for threads in options.threads:
                taken = measure(str(folder / f"{name}.onnx"), feeds, threads, runs)
                first = statistics.median(taken[0])
                cells = [f"{statistics.median(each) / first - 1:+.1%}" for each in taken[1:]]
                rows.append([name, str(threads), f"{first * 1e3:.3f}", *cells])
        os.chdir(HERE)
    print(table(rows))


if __name__ == "__main__":
    main()
