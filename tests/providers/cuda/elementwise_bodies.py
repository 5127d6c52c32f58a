# SPDX-License-Identifier: Apache-2.0
"""Graphs of elementwise nodes, run as one kernel of the emulated device and node by node on the
CPU provider. Many operators share a body, because every body is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.types import TensorType
from tests.support.cuda_emulation import run_node
from tests.support.native import compile_graph


class Body:
    """Builds the body of a node from the arrays that it will get."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.graph = Graph("body")
        self.feeds: list[np.ndarray] = []
        self.inputs = [self.input(array) for array in arrays]

    def input(self, array: np.ndarray) -> Value:
        self.feeds.append(array)
        type = TensorType(DataType.from_numpy(array.dtype), tuple(None for _ in array.shape))
        return self.graph.add_input(Value(f"x{len(self.feeds)}", type))

    def number(self, value: Any, dtype: Any = np.float32) -> Value:
        constant = Constant.from_numpy(np.asarray(value, dtype))
        name = f"number{len(self.graph.initializers)}"
        return self.graph.add_initializer(Value(name, constant=constant))

    def node(
        self, op_type: str, *inputs: Value | None, dtype: Any = None, **attributes: Any
    ) -> Value:
        """A node whose result is of type `dtype`, by default that of its first input."""
        first = inputs[0]
        assert first is not None
        result = first.dtype if dtype is None else DataType.from_numpy(np.dtype(dtype))
        node = Node(op_type, list(inputs), 1, attributes, name=op_type)
        node.output.type = TensorType(result, None)
        return self.graph.append(node).output

    def output(
        self, op_type: str, *inputs: Value | None, dtype: Any = None, **attributes: Any
    ) -> None:
        """A node whose result is an output."""
        self.graph.add_output(self.node(op_type, *inputs, dtype=dtype, **attributes))

    def run(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What the emulated device and the CPU provider compute, by operator and number."""
        expected = compile_graph(self.graph).run_values(self.feeds, [])
        actual = run_node(
            "Elementwise",
            self.feeds,
            {"body": self.graph},
            outputs=len(self.graph.outputs),
            domain=FUSED_DOMAIN,
            output_dtypes=[value.dtype.numpy for value in self.graph.outputs if value.dtype],
        )
        found = {}
        for index, value in enumerate(self.graph.outputs):
            assert value.producer is not None
            found[f"{value.producer.op_type} {index}"] = (actual[index], expected[index])
        return found

    def check(self, rtol: float = 0, atol: float = 0) -> None:
        """Both are the same, up to the tolerances."""
        for name, (actual, expected) in self.run().items():
            assert actual.dtype == expected.dtype and actual.shape == expected.shape, name
            kind = actual.dtype.kind
            if rtol == 0 and atol == 0 and kind in "biu":
                np.testing.assert_array_equal(actual, expected, name)
            else:
                wide = np.float64 if kind != "c" else np.complex128
                np.testing.assert_allclose(
                    actual.astype(wide), expected.astype(wide), rtol, atol, err_msg=name
                )
