# SPDX-License-Identifier: Apache-2.0
"""Measure everything that bench/RESULTS.md states, and write that file.

    python bench/models.py && python bench/workloads.py     # make the models, once
    python bench/run.py                                     # half an hour on two cores

Each model is measured in a process of its own, bascule, onnxruntime and OpenVINO (those that are
installed) taking turns.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import table

import bascule

HERE = Path(__file__).parent
MODELS = ("resnet50", "mobilenetv2", "vit_b16", "convnext_t", "bert_base", "gpt2")
WORKLOADS = (
    *(f"{name}_batch8" for name in MODELS),
    *("gpt2_decode", "whisper_tiny_encoder", "segformer_b0", "swin_t", "efficientnet_b0"),
    *("unet", "bilstm"),
)
PEERS = tuple(name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name))

_CALLS = """
import json, sys, timeit
import numpy as np, onnx, bascule
from onnx import helper, TensorProto

def chain(length):
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])
    names = ["x"] + [f"v{i}" for i in range(length - 1)] + ["y"]
    kinds = ("Neg", "Abs", "Relu")
    nodes = [helper.make_node(kinds[i % 3], [names[i]], [names[i + 1]]) for i in range(length)]
    graph = helper.make_graph(nodes, "chain", [value("x")], [value("y")])
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()

def microseconds(session):
    feeds = {"x": np.ones(4, np.float32)}
    run = lambda: session.run(None, feeds)
    return min(timeit.repeat(run, number=2000, repeat=15)) / 2000 * 1e6

def bascule_session(length):
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel.ORT_DISABLE_ALL
    return bascule.InferenceSession(chain(length), options)

def onnxruntime_session(length):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(chain(length), options)

print(json.dumps({
    "bascule": [microseconds(bascule_session(n)) for n in (1, 200)],
    "onnxruntime": [microseconds(onnxruntime_session(n)) for n in (1, 200)],
}))
"""

_MEMORY = """
import json, resource, sys, time
start = time.perf_counter()
import numpy as np, bascule
imported = time.perf_counter()
from bascule.ir.load import load_model
load_model(sys.argv[1])
loaded = time.perf_counter()
session = bascule.InferenceSession(sys.argv[1])
with np.load(sys.argv[2]) as feeds:
    session.run(None, dict(feeds))
print(json.dumps({
    "import_s": imported - start,
    "ir_s": loaded - imported,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
}))
"""


def run_python(*arguments: str) -> Any:
    """The JSON on the last line that a Python process prints."""
    result = subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure_model(name: str, folder: Path, threads: int, seconds: float) -> list[dict[str, Any]]:
    arguments = ["-m", "bascule.cli", "bench", str(folder / f"{name}.onnx")]
    arguments += ["-i", str(folder / f"{name}.npz"), "-a", ",".join(PEERS)]
    records: list[dict[str, Any]] = run_python(
        *arguments, "-t", str(threads), "-s", str(seconds), "--json"
    )
    return records


def compare(title: str, names: list[str], folder: Path, threads: int, seconds: float) -> str:
    """A table of medians, and the geometric mean of the ratios to the best peer."""
    rows = [(title, "bascule", *PEERS, "ratio to the best", "difference")]
    product = 1.0
    for name in names:
        ours, *others = measure_model(name, folder, threads, seconds)
        ratio = ours["median_ms"] / min(other["median_ms"] for other in others)
        product *= ratio
        times = [f"{record['median_ms']:.2f}" for record in (ours, *others)]
        difference = max(other["difference"] for other in others)
        rows.append((name, *times, f"{ratio:.2f}", f"{difference:.1e}"))
        print(threads, rows[-1], flush=True)
    mean = f"{product ** (1 / len(names)):.2f}"
    rows.append(("geometric mean", *[""] * (1 + len(PEERS)), mean, ""))
    return table(rows)


def machine() -> str:
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    from bascule.native import _native

    return f"{model}, {os.cpu_count()} CPUs, instruction set {_native.active_isa()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="all unless some are named")
    parser.add_argument("--folder", type=Path, default=HERE / "models")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()

    versions = ", ".join(
        [f"bascule {bascule.__version__}"]
        + [f"{n} {importlib.metadata.version(n)}" for n in (*PEERS, "onnx", "numpy")]
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    text = [
        "# Results\n",
        f"Machine: {machine()}. Python {platform.python_version()}, {versions}. Commit {commit}.\n",
        "Made by `python bench/models.py && python bench/workloads.py && python bench/run.py`. "
        "float32, batch 1, medians in ms, the runtimes taking turns in one process. Ratio: bascule "
        "/ the fastest peer, lower is better. Difference: largest of any output from any peer's, "
        "relative to its largest value.\n",
    ]
    for threads in options.threads:
        text.append(f"## {threads} thread{'s' if threads > 1 else ''}\n")
        for title, names in (("the six", MODELS), ("others", WORKLOADS)):
            chosen = [n for n in names if not options.models or n in options.models]
            made = [n for n in chosen if (options.folder / f"{n}.onnx").exists()]
            if made != chosen:
                print("not made:", *sorted({*chosen} - {*made}), file=sys.stderr)
            if made:
                text.append(compare(title, made, options.folder, threads, options.seconds))

    calls = run_python("-c", _CALLS)
    rows = [("fusion off, microseconds a call", "bascule", "onnxruntime")]
    for index, title in enumerate(("one node", "200-node elementwise chain")):
        rows.append((title, f"{calls['bascule'][index]:.2f}", f"{calls['onnxruntime'][index]:.2f}"))
    text += ["## Cost of a call from Python\n", table(rows)]

    bert = [str(options.folder / f"bert_base.{suffix}") for suffix in ("onnx", "npz")]
    memory = run_python("-c", _MEMORY, *bert)
    weights = os.path.getsize(bert[0]) / 1e6
    rows = [
        ("start-up and memory, BERT-base", ""),
        ("import bascule", f"{memory['import_s']:.3f} s"),
        ("file to graph", f"{memory['ir_s']:.3f} s"),
        ("model file", f"{weights:.0f} MB"),
        ("peak resident set, loaded and run", f"{memory['peak_mb']:.0f} MB"),
    ]
    text += ["## Start-up and memory\n", table(rows)]
    options.output.write_text("\n".join(text))
    print(options.output.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
