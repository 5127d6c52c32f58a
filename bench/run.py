# SPDX-License-Identifier: Apache-2.0
"""Measure everything that bench/RESULTS.md states, and write that file.

    python bench/models.py && python bench/workloads.py     # make the models, once
    python bench/run.py                                     # half an hour on two cores
    python bench/run.py resnet50 bert_base                  # again only these
    python bench/run.py --isa avx2                          # the table of the AVX2 kernels

Each model is measured in a process of its own, bascule, onnxruntime and OpenVINO (those that are
installed) taking turns. Every figure goes to bench/results.json at once, so that a part can be
measured again and the rest stays; RESULTS.md and RESULTS.svg are written from that file.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from calls import calls_table
from measure import run_python
from plot import draw
from report import GROUPS, MODELS, section_key, write

import bascule
from bascule.cli.info import describe

HERE = Path(__file__).parent
PEERS = tuple(name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name))


@functools.cache
def isa_variables(isa: str) -> dict[str, str]:
    """The environment that holds a process, peers included, to older instructions."""
    if not isa:
        return {}
    library = Path(tempfile.mkdtemp()) / "only_avx2.so"
    source = HERE / "only_avx2.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {"BASCULE_ISA": isa, "LD_PRELOAD": str(library)}


_PEAKS = """
import json, sys
from bascule.native import _native
threads, bytes = map(int, sys.argv[1:])
print(json.dumps({
    "gflops": _native.peak_gflops(threads),
    "gigabytes_s": _native.read_bandwidth(threads, bytes=bytes),
}))
"""
_MEMORY = 1 << 30
"""Bytes read to measure the memory: a last cache of 480 MB holds a part of half of them."""


def measure_peaks(threads: int, isa: str, read: int = _MEMORY) -> dict[str, float]:
    """GFLOP/s, and GB/s of reading so many bytes."""
    made: dict[str, float] = run_python(
        "-c", _PEAKS, str(threads), str(read), variables=isa_variables(isa)
    )
    return made


def inputs_of(name: str, folder: Path) -> Path:
    """Quantized networks (NAME-HOW) take what the float one takes."""
    own = folder / f"{name}.npz"
    return own if own.exists() else folder / f"{name.partition('-')[0]}.npz"


def costs(model: Path, inputs: Path) -> dict[str, int]:
    """Operations of the products, and bytes of the weights that a run reads."""
    sizes: dict[str, int] = {}
    with np.load(inputs) as feeds:
        for argument in describe(str(model), {})["inputs"]:
            if argument["name"] in feeds.files:
                given = feeds[argument["name"]].shape
                sizes.update({d: n for d, n in zip(argument["shape"], given) if isinstance(d, str)})
    record = describe(str(model), sizes)
    return {key: record[key] for key in ("product_flops", "streamed_bytes")}


def measure_model(
    name: str, folder: Path, threads: int, seconds: float, isa: str
) -> dict[str, Any]:
    """One workload's figures; a runtime that cannot run it has an error instead of a time."""
    model, inputs = folder / f"{name}.onnx", inputs_of(name, folder)
    command = ["-m", "bascule.cli", "bench", str(model), "-i", str(inputs), "--json"]
    command += ["-t", str(threads)]
    variables = isa_variables(isa)

    def bench(peers: list[str], length: float) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = run_python(
            *command, "-s", str(length), "-a", ",".join(peers), variables=variables
        )
        return records

    row: dict[str, Any] = {"errors": {}, **costs(model, inputs)}
    peers = list(PEERS)
    try:
        records = bench(peers, seconds)
    except RuntimeError:
        for peer in PEERS:
            try:
                bench([peer], 0.1)
            except RuntimeError as error:
                row["errors"][peer] = str(error)
                peers.remove(peer)
        try:
            records = bench(peers, seconds)
        except RuntimeError as error:
            row["errors"]["bascule"] = str(error)
            records = []
    row["runtimes"] = {record["runtime"]: record for record in records}
    if "decode" in name:
        peaks = measure_peaks(threads, isa, row["streamed_bytes"])
        row["gigabytes_s"] = peaks["gigabytes_s"]
    return row


def machine() -> str:
    from bascule.native import _native

    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} CPUs, instruction set {_native.active_isa()}"


def commit() -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    )
    return result.stdout.strip()


def optional_tables(module: str) -> list[str] | None:
    """The Markdown tables of a part of the benchmarks that stands in a file of its own."""
    if not (HERE / f"{module}.py").exists():
        return None
    return list(importlib.import_module(module).tables())


def select(options: argparse.Namespace) -> list[str]:
    """The models to measure, in the report's order; RuntimeError for a name nobody knows."""
    known = [name for _, names in GROUPS for name in names]
    unknown = sorted({*options.names} - {*known, "calls", "startup", "lengths"})
    if unknown:
        raise RuntimeError(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    wanted = options.names or (MODELS if options.isa else known)
    chosen = [name for name in known if name in wanted]
    made = [name for name in chosen if (options.folder / f"{name}.onnx").exists()]
    missing = [name for name in chosen if name not in made]
    if missing:
        print("not made:", *missing, file=sys.stderr)
    return made


def measure_models(options: argparse.Namespace, results: dict[str, Any]) -> None:
    names = select(options)
    for threads in options.threads if names else ():
        section = results["sections"].setdefault(section_key(options.isa, threads), {"rows": {}})
        section["peaks"] = measure_peaks(threads, options.isa)
        for name in names:
            row = measure_model(name, options.folder, threads, options.seconds, options.isa)
            section["rows"][name] = {**row, "commit": results["commit"]}
            times = {n: round(r["median_ms"], 2) for n, r in row["runtimes"].items()}
            print(threads, name, times, row["errors"] or "", flush=True)
            save(options.output, results)


def save(folder: Path, results: dict[str, Any]) -> None:
    text = json.dumps(results, indent=1) + "\n"
    part = folder / "results.json.part"
    part.write_text(text)
    part.replace(folder / "results.json")
    (folder / "RESULTS.md").write_text(write(results, PEERS))
    (folder / "RESULTS.svg").write_text(draw(results, PEERS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="models, calls, startup or lengths; all unless some are named"
    )
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each runtime and model")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--isa", choices=["avx2"], default="", help="run with older instructions")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args()

    options.output.mkdir(parents=True, exist_ok=True)
    stored = options.output / "results.json"
    results: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    results.setdefault("sections", {})
    results["machine"], results["commit"] = machine(), commit()
    results["versions"] = [f"Python {platform.python_version()}", f"bascule {bascule.__version__}"]
    results["versions"] += [f"{n} {importlib.metadata.version(n)}" for n in (*PEERS, "onnx")]

    measure_models(options, results)
    everything = not options.names and not options.isa
    if everything or "calls" in options.names:
        results["calls"] = [calls_table()]
    if everything or "startup" in options.names:
        results["startup"] = optional_tables("startup") or []
    if everything or "lengths" in options.names:
        results["lengths"] = optional_tables("lengths") or []
    save(options.output, results)
    print((options.output / "RESULTS.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
