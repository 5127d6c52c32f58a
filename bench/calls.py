# SPDX-License-Identifier: Apache-2.0
"""What a call from Python costs, and what loading BERT-base takes."""

from __future__ import annotations

import os
from pathlib import Path

from measure import run_python, table

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


def calls_table() -> str:
    """Microseconds of a call of models too small to compute anything."""
    calls = run_python("-c", _CALLS)
    rows = [("fusion off, microseconds a call", "bascule", "onnxruntime")]
    for index, title in enumerate(("one node", "200-node elementwise chain")):
        rows.append((title, f"{calls['bascule'][index]:.2f}", f"{calls['onnxruntime'][index]:.2f}"))
    return table(rows)


def memory_table(folder: Path) -> str:
    bert = [str(folder / f"bert_base.{suffix}") for suffix in ("onnx", "npz")]
    memory = run_python("-c", _MEMORY, *bert)
    return table(
        [
            ("start-up and memory, BERT-base", ""),
            ("import bascule", f"{memory['import_s']:.3f} s"),
            ("file to graph", f"{memory['ir_s']:.3f} s"),
            ("model file", f"{os.path.getsize(bert[0]) / 1e6:.0f} MB"),
            ("peak resident set, loaded and run", f"{memory['peak_mb']:.0f} MB"),
        ]
    )
