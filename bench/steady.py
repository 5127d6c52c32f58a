# SPDX-License-Identifier: Apache-2.0
"""Does a process grow while it runs? 100,000 runs with fixed, then with changing shapes.

python bench/steady.py [--runs 100000] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from measure import table

import bascule

MOST_ROWS = 300
WIDTH = 256
WARM_UP = 3000


def resident() -> float:
    """MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def session(threads: int) -> bascule.InferenceSession:
    """Products, an activation, a softmax and a sum over any number of rows."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N,256] x) => (float[N,256] y)'
        " { a = MatMul(x, w) b = Relu(a) c = MatMul(b, w) d = Softmax(c) y = Add(d, x) }"
    )
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    options = bascule.SessionOptions()
    options.intra_op_num_threads = threads
    return bascule.InferenceSession(model.SerializeToString(), options)


def measure(runner: bascule.InferenceSession, rows: Sequence[int]) -> list[float]:
    """MB of growth after each quarter of the runs."""
    generator = np.random.default_rng(1)
    inputs = [generator.standard_normal((n, WIDTH), np.float32) for n in range(1, MOST_ROWS + 1)]
    for n in rows[:WARM_UP]:
        runner.run(None, {"x": inputs[n - 1]})
    before = resident()
    growth = []
    for quarter in range(4):
        for n in rows[len(rows) * quarter // 4 : len(rows) * (quarter + 1) // 4]:
            runner.run(None, {"x": inputs[n - 1]})
        growth.append(resident() - before)
    return growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    runner = session(options.threads)
    changing = np.random.default_rng(2).integers(1, MOST_ROWS + 1, options.runs).tolist()
    quarters = [f"after {options.runs * q // 4}" for q in range(1, 5)]
    lines = [("shapes", "seconds", *(f"MB {quarter}" for quarter in quarters))]
    for name, rows in (("fixed", [32] * options.runs), ("changing", changing)):
        start = time.perf_counter()
        growth = measure(runner, rows)
        seconds = f"{time.perf_counter() - start:.0f}"
        lines.append((name, seconds, *(f"{mb:+.2f}" for mb in growth)))
    print(table(lines))


if __name__ == "__main__":
    main()
