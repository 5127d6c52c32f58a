# SPDX-License-Identifier: Apache-2.0
"""What a call from Python costs."""

from __future__ import annotations

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


def calls_table() -> str:
    """Microseconds of a call of models too small to compute anything."""
    calls = run_python("-c", _CALLS)
    rows = [("fusion off, microseconds a call", "bascule", "onnxruntime")]
    for index, title in enumerate(("one node", "200-node elementwise chain")):
        rows.append((title, f"{calls['bascule'][index]:.2f}", f"{calls['onnxruntime'][index]:.2f}"))
    return table(rows)
