# SPDX-License-Identifier: Apache-2.0
"""Convolutions that fetch the weights of later ones meanwhile compute what they would alone."""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import TensorType
from tests.kernels.test_conv import convolve, last
from tests.kernels.test_matmul import check, normal
from tests.support.native import compile_graph


def test_convolutions_before_a_winograd_convolution() -> None:
    x = normal(1, 128, 14, 14)
    # 1x1, 1x1, 3x3 in Winograd's form, twice.
    shapes = [(256, 128, 1), (256, 256, 1), (256, 256, 3), (192, 256, 1), (256, 192, 1)]
    shapes += [(256, 256, 3), (40, 256, 1)]
    graph = Graph("chain")
    value = graph.add_input(Value("x", TensorType(DataType.FLOAT, (1, 14, 14, 128))))
    expected = x.astype(np.float64)
    for i, (out, channels, kernel) in enumerate(shapes):
        scale = np.float32(1 / (np.sqrt(channels) * kernel))
        w = normal(out, channels, kernel, kernel, seed=i) * scale
        pads = [kernel // 2] * 4
        attributes = {"channels_last": 1, "pads": pads}
        node = Node("Conv", [value, graph.constant(w)], 1, attributes, domain="bascule")
        value = graph.append(node).output
        value.type = TensorType(DataType.FLOAT, (1, 14, 14, out))
        expected = convolve(expected, w, [1, 1], pads, [1, 1])
    # Its weights are used once.
    matrix = normal(14 * 14 * 40, 37, seed=9)
    row = graph.append(Node("Reshape", [value, graph.constant(np.array([1, -1], np.int64))])).output
    row.type = TensorType(DataType.FLOAT, (1, 14 * 14 * 40))
    value = graph.append(Node("MatMul", [row, graph.constant(matrix)])).output
    value.type = TensorType(DataType.FLOAT, (1, 37))
    graph.add_output(value)
    feed = last(x)
    one = np.asarray(compile_graph(graph, 1).run_values([feed], [])[0])
    check(one, last(expected).reshape(1, -1) @ matrix.astype(np.float64), tolerance=2e-5)
    for threads in (2, 3):
        runner = compile_graph(graph, threads)
        for _ in range(2):
            assert np.asarray(runner.run_values([feed], [])[0]).tobytes() == one.tobytes()
