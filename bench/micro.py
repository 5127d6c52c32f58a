# SPDX-License-Identifier: Apache-2.0
"""Each kernel alone, beside what the machine can do at most.

    python bench/micro.py [--threads 1 2] [--seconds 0.3] [--output FILE.md] [part of a name...]

A kernel's limit is the longer of two times: its operations at the machine's peak, and the bytes
that it reads and writes at least at the bandwidth of reading a working set as large. Both peaks
are measured just before. Weights are constant, everything is warm, nothing else should run.
bench/MICRO.md keeps the figures: `--output bench/MICRO.md`.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "python")]

from measure import table  # noqa: E402
from micro_cases import CASES  # noqa: E402
from micro_graphs import Case  # noqa: E402
from tests.support.native import compile_graph  # noqa: E402

from bascule.native import _native  # noqa: E402

MIB = 1 << 20
HEAD = ("kernel", "threads", "best, us", "median, us", "rate", "of the limit", "limited by")
EXPLANATION = """\
The limit of a kernel is the longer of two times: its operations at the float32 peak, and the bytes
that it reads and writes at least at the bandwidth of reading a working set as large, both measured
in the same run. More than 100 % is possible: 8-bit integers have a higher peak than float32,
Winograd's convolutions need fewer operations than are counted, and the cache that a kernel leaves
its data in may be nearer than that of the yardstick. Less than 100 % can be the limit: writing
costs more than reading. Functions of elements and forests have no limit here.
"""


@functools.cache
def peak_gflops(threads: int) -> float:
    return float(_native.peak_gflops(threads, seconds=0.2))


@functools.cache
def bandwidth(threads: int, mebibytes: int) -> float:
    return float(_native.read_bandwidth(threads, seconds=0.2, bytes=mebibytes * MIB))


def bandwidth_of(threads: int, size: int) -> float:
    """GB/s of a working set of the next power of two."""
    mebibytes = max(threads, -(-size // MIB))
    return bandwidth(threads, 1 << (mebibytes - 1).bit_length())


def run_times(runner: Any, feeds: list[Any], seconds: float) -> list[float]:
    """Seconds of each of the runs that fit into `seconds`, at least five."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        runner.run_values(feeds, [])
        times.append(time.perf_counter() - start)
    return times


def rate_and_limit(case: Case, size: int, threads: int, best: float) -> tuple[str, str, str]:
    if case.items:
        return f"{case.items / best / 1e6:.5g} M {case.unit}/s", "", ""
    computing = case.flops / peak_gflops(threads) / 1e9
    moving = size / bandwidth_of(threads, size) / 1e9
    share = f"{max(computing, moving) / best:.0%}"
    if computing > moving:
        return f"{case.flops / best / 1e9:.1f} GFLOP/s", share, "operations"
    return f"{size / best / 1e9:.1f} GB/s", share, "bytes"


def measure(name: str, case: Case, threads: int, seconds: float) -> tuple[str, ...]:
    runner = compile_graph(case.graph, threads)
    outputs = runner.run_values(case.feeds, [])
    size = case.read + sum(output.nbytes for output in outputs)
    del outputs
    times = run_times(runner, case.feeds, seconds)
    best = min(times)
    columns = (f"{best * 1e6:.1f}", f"{statistics.median(times) * 1e6:.1f}")
    return (name, str(threads), *columns, *rate_and_limit(case, size, threads, best))


def peaks(threads: int) -> str:
    """In words, after everything was measured."""
    reads = [f"{bandwidth(threads, size):.0f} GB/s of {size} MiB" for size in (2, 8, 512)]
    count = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{count}: {peak_gflops(threads):.0f} GFLOP/s; reads {', '.join(reads)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    rows = []
    for name, build in CASES.items():
        if options.names and not any(part in name for part in options.names):
            continue
        case = build()
        for threads in options.threads:
            rows.append(measure(name, case, threads, options.seconds))
            print("{:36} {} {:>9} {:>9} {:>20} {:>5} {}".format(*rows[-1]), flush=True)
    machine = [peaks(threads) for threads in options.threads]
    print("\n".join(machine))
    if options.output:
        lines = ["# Kernels alone", EXPLANATION, *machine, table([HEAD, *rows])]
        options.output.write_text("\n\n".join(line.strip() for line in lines) + "\n")


if __name__ == "__main__":
    main()
