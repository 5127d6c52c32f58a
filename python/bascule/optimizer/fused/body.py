# SPDX-License-Identifier: Apache-2.0
"""Building the body of a definition."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.graph import Graph, Node, Value

OPSET = 28
"""The opset that definitions are written in."""


class Body:
    """The body of a function that defines `node`: its formal inputs stand in the node's order.

    Inputs that the node leaves out are not formal inputs of the body.
    """

    def __init__(self, node: Node, *names: str) -> None:
        self.graph = Graph(node.op_type)
        self._inputs: dict[str, Value] = {}
        for index, value in enumerate(node.inputs):
            name = names[index] if index < len(names) else f"{names[-1]}_{index}"
            formal = self.graph.add_input(Value(name, None if value is None else value.type))
            if value is not None:
                self._inputs[name] = formal

    def input(self, name: str) -> Value:
        return self._inputs[name]

    def optional(self, name: str) -> Value | None:
        """The formal input, or None when the node leaves it out."""
        return self._inputs.get(name)

    def call(self, op_type: str, *inputs: Value | None, **attributes: Any) -> Value:
        """The first output of a new standard node."""
        return self.graph.append(Node(op_type, inputs, attributes=attributes)).output

    def constant(self, array: Any) -> Value:
        """A new constant, as a node: a function has no initializers."""
        return self.call("Constant", value=Constant.from_numpy(np.asarray(array)))

    def number(self, number: float, like: Value) -> Value:
        """A scalar of the element type of `like`."""
        return self.call("CastLike", self.constant(np.float32(number)), like)

    def output(self, *values: Value) -> Body:
        """Make `values` the outputs, and return this body."""
        for value in values:
            self.graph.add_output(value)
        return self
