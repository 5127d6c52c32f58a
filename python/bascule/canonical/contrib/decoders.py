# SPDX-License-Identifier: Apache-2.0
"""The graphs that a search carries, as the body of a Loop and as nodes before it.

Their nodes are moved, not copied: those that wait for their own rewriting stay what they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.constant import Constant
from bascule.ir.copy import interface_of
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Value
from bascule.ir.types import SparseTensorType, TensorType


class Carried:
    """A graph that is an attribute of a search, by the names of its inputs and outputs."""

    def __init__(self, build: ContribBuilder, attribute: str) -> None:
        graph: Graph = build.node.attributes[attribute]
        self.build = build
        self.attribute = attribute
        self.graph = graph
        self.label = graph.fresh_name(build.node.name or build.node.op_type)
        """A name that nothing else has."""
        self.inputs, self.outputs = interface_of(graph)
        self._make_own()

    def _make_own(self) -> None:
        """Give the values names that nothing else has, and no names to their sizes.

        A decoder may call a value as the graph around it does. Its names of sizes say nothing in a
        loop, where a size is another one in each step.
        """
        for each in self.graph.walk_graphs():
            values = [*each.inputs, *each.initializers.values()]
            values += [value for inner in each for value in inner.outputs]
            for value in dict.fromkeys(values):
                value.name = each.fresh_name(f"{self.label}/{value.name}")
                if isinstance(value.type, (TensorType, SparseTensorType)) and value.shape:
                    shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
                    value.type = type(value.type)(value.type.dtype, shape)
            each.initializers = {value.name: value for value in each.initializers.values()}

    def expect(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Refuse a graph whose first inputs and outputs are not called so."""
        for what, names, wanted in (
            ("input", self.inputs, inputs),
            ("output", self.outputs, outputs),
        ):
            for index, name in enumerate(wanted):
                if index >= len(names):
                    raise self.invalid(f"has no {what} '{name}'")
                if names[index] != name:
                    raise self.invalid(f"calls {what} {index} '{names[index]}', expected '{name}'")

    def invalid(self, problem: str) -> Exception:
        return self.build.invalid(f"the graph of attribute '{self.attribute}' {problem}")

    def not_supported(self, what: str) -> Exception:
        return self.build.not_supported(f"{what} of the graph of attribute '{self.attribute}'")

    def size(self, value: Value, name: str, rank: int, axis: int) -> int:
        """A size that the graph must state of the input or output `name`."""
        shape = value.shape
        if shape is None or len(shape) != rank:
            raise self.invalid(f"must state the shape of '{name}', of rank {rank}")
        size = shape[axis]
        if not isinstance(size, int) or size < 1:
            raise self.invalid(f"must state size {axis} of '{name}'")
        return size

    def expect_int32(self, names: Collection[str]) -> None:
        """Refuse a graph that says another type of its inputs of these names."""
        for value, name in zip(self.graph.inputs, self.inputs):
            if name in names and value.dtype is not DataType.INT32:
                raise self.invalid(f"must have input '{name}' of type int32")

    def logits(self, vocab_size: int) -> tuple[int, int]:
        """How many logits output 0 has, and how many of them are of tokens."""
        found = self.size(self.graph.outputs[0], "logits", 3, 2)
        if vocab_size > found:
            raise self.build.invalid(
                f"attribute 'vocab_size' is {vocab_size}, but there are {found} logits"
            )
        return found, vocab_size if vocab_size > 0 else found

    def zeros(self, value: Value, name: str, shape: Value) -> Value:
        """Zeros of the type of the input `value`, which the graph must state."""
        if value.dtype is None:
            raise self.invalid(f"must state the type of '{name}'")
        zero = Constant.from_numpy(np.zeros(1, dtype=value.dtype.numpy))
        return self.build.op("ConstantOfShape", shape, value=zero)

    def unfold(self, inputs: Sequence[Value]) -> list[Value]:
        """Let the nodes stand before the search, and read `inputs`; returns the outputs."""
        for formal, actual in zip(self.graph.inputs, inputs, strict=True):
            formal.replace_uses(actual)
        self._take()
        target = self.build.graph
        for value in self.graph.initializers.values():
            target.add_initializer(value)
        for node in self.graph.nodes:
            target.move_before(self.build.node, node)
        return self._take_outputs()

    def _take(self) -> None:
        del self.build.node.attributes[self.attribute]

    def _take_outputs(self) -> list[Value]:
        outputs, self.graph.outputs = self.graph.outputs, []
        for value in outputs:
            value.output_count -= 1
        return outputs


class DecodingLoop:
    """A Loop over a decoder: what goes round in it, and the nodes behind the decoder's."""

    def __init__(self, decoder: Carried) -> None:
        self.build = decoder.build
        self.decoder = decoder
        self.body = decoder.graph
        self.inside = self.build.within(self.body)
        self.results = decoder._take_outputs()
        """The decoder's outputs."""
        self.formal, self.body.inputs = self.body.inputs, []
        self.iteration = self._add_input("iteration", TensorType(DataType.INT64, ()))
        """How many steps were made, of rank 0."""
        self._add_input("condition", TensorType(DataType.BOOL, ()))
        self._first: list[Value] = []
        self._next: list[Value | None] = []
        self.collected: list[Value] = []

    def _add_input(self, name: str, type: TensorType) -> Value:
        return self.body.add_input(Value(self.body.fresh_name(name), type))

    def carry(self, name: str, first: Value, type: TensorType) -> Value:
        """A value that goes round, beside the decoder's; returns what it is in the body."""
        self._first.append(first)
        self._next.append(None)
        return self._add_input(name, type)

    def feed(self, index: int, first: Value, *shape: int | str) -> Value:
        """Let an input of the decoder go round.

        The names in `shape` stand for sizes, which may change from one step to the next.
        """
        formal = self.formal[index]
        if formal.dtype is None:
            raise self.decoder.invalid(f"must state the type of '{self.decoder.inputs[index]}'")
        sizes = (f"{self.decoder.label}/{d}" if isinstance(d, str) else d for d in shape)
        formal.type = TensorType(formal.dtype, tuple(sizes))
        self._first.append(first)
        self._next.append(None)
        return self.body.add_input(formal)

    def fix(self, index: int, value: Value) -> None:
        """Let an input of the decoder be the same in all steps."""
        self.formal[index].replace_uses(value)

    def follow(self, value: Value, following: Value) -> None:
        """Say what a value that goes round is in the next step."""
        place = self.body.inputs.index(value) - 2
        self._next[place] = following

    def finish(
        self, steps: Value, start: Value | None, goes_on: Value, collected: Sequence[Value] = ()
    ) -> dict[Value, Value]:
        """Insert the Loop; returns the last of each value that goes round, by what it is inside.

        It makes `steps` steps at most, none unless `start`, and ends when not `goes_on`. The values
        of all steps that are `collected` are then in the list of that name.
        """
        self.decoder._take()
        outputs: list[Value] = []
        for value in (goes_on, *self._next, *collected):
            assert value is not None, "what goes round is nothing in the next step"
            again = value in outputs or value in self.body.inputs or value.graph is not self.body
            outputs.append(self.inside.op("Identity", value) if again else value)
        for value in outputs:
            self.body.add_output(value)
        count = len(self._first) + len(collected)
        last = self.build.ops("Loop", steps, start, *self._first, outputs=count, body=self.body)
        self.collected = last[len(self._first) :]
        return dict(zip(self.body.inputs[2:], last))


def all_of(build: ContribBuilder, flags: Value) -> Value:
    """Whether all are true."""
    numbers = build.op("Cast", flags, to=int(DataType.INT32))
    return build.op("Cast", build.op("ReduceMin", numbers, keepdims=0), to=int(DataType.BOOL))
