# SPDX-License-Identifier: Apache-2.0
"""Runs do not add to the memory of the process, with one shape or with many in turn."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule

WIDTH = 32
BOUND = 2 << 20
"""Bytes; an array of a few hundred that every run leaked would pass it."""


def network() -> bytes:
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((WIDTH, WIDTH), np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["product"]),
        helper.make_node("Relu", ["product"], ["positive"]),
        helper.make_node("Softmax", ["positive"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", WIDTH]) for name in "xy"
    )
    graph = helper.make_graph(
        nodes, "steady", [x], [y], [numpy_helper.from_array(weights, "weights")]
    )
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("lengths", [[64], list(range(1, 101))], ids=["fixed", "changing"])
def test_resident_memory_stays(lengths: list[int]) -> None:
    session = bascule.InferenceSession(network())
    generator = np.random.default_rng(1)
    feeds = [{"x": generator.standard_normal((n, WIDTH), np.float32)} for n in lengths]

    def run(count: int) -> None:
        for index in range(count):
            session.run(None, feeds[index % len(feeds)])

    run(1000)
    before = resident()
    run(5000)
    assert resident() - before < BOUND


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sessions_leave_no_weights_behind() -> None:
    """Large packed weights share memory, which goes with the last of them."""
    width, count = 1024, 10
    generator = np.random.default_rng(2)
    nodes, weights = [], []
    for i in range(count):
        weight = generator.standard_normal((width, width), np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name in ("x0", f"x{count}")
    )
    graph = helper.make_graph(nodes, "large", [x], [y], weights)
    imports = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()
    feeds = {"x0": generator.standard_normal((1, width), np.float32)}

    def use() -> None:
        bascule.InferenceSession(model).run(None, feeds)
        gc.collect()

    for _ in range(2):
        use()
    before = resident()
    for _ in range(4):
        use()
    assert resident() - before < count * width * width * 4 / 2
