# SPDX-License-Identifier: Apache-2.0
"""The values of a graph on seeded inputs, computed when they are asked for."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.graph import Node, Value
from bascule.ir.types import Dim, TensorType
from bascule.providers.base import Provider
from bascule.tools.stepping.part import reads_of
from bascule.tools.stepping.prepared import Source
from bascule.tools.stepping.steps import Environment, Stepper, Steps, enters_body

_LIMIT = 1 << 30
"""Bytes of values that are kept; others are computed again."""

_SIZES = (3, 8, 16, 1, 32, 64, 224)
"""For sizes that the model leaves open: the first with which it runs."""


class _Everywhere(Stepper):
    """Steps through the branch that is not taken as well, as far as it runs."""

    def _if(self, node: Node, environment: Environment, inside: str) -> Steps:
        for key in ("then_branch", "else_branch"):
            with contextlib.suppress(Exception):  # what a branch is there to avoid
                yield from self.steps(node.attributes[key], Environment(environment), inside)
        return (yield from super()._if(node, environment, inside))


class SeededValues:
    """Of every value of `source` what it is on one seeded input.

    In nested graphs it is what the value is the first time, in both branches of an If; where it is
    never made, as in a loop of no iterations, there is none.
    `problem` says why the model does not run on such inputs, if it does not.
    """

    def __init__(
        self, source: Source, providers: Sequence[Provider], defaults: Mapping[str, Constant]
    ) -> None:
        self._source = source
        self._defaults = defaults
        self._stepper = _Everywhere(providers, enters=enters_body)
        self._inputs: dict[int, Any] = {}
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._bytes = 0
        self._nested: dict[int, Any] | None = None
        self.problem = self._find_inputs()

    def get(self, value: Value) -> Any:
        """The array.

        Raises:
            KeyError: the value is never made.
            Fail: a node cannot run.
        """
        if value.constant is not None:
            return value.constant.numpy()
        if id(value) in self._inputs:
            return self._inputs[id(value)]
        if id(value) in self._kept:
            self._kept.move_to_end(id(value))
            return self._kept[id(value)]
        if value.graph is not self._source.graph:
            return self._in_nested(value)
        self._compute(value)
        return self._kept[id(value)]

    def _compute(self, value: Value) -> None:
        known = [v for node in self._source.graph for v in node.outputs if id(v) in self._kept]
        environment = Environment()
        for each in self._source.graph.inputs:
            environment[each] = self._inputs[id(each)]
        for each in known:
            environment[each] = self._kept[id(each)]
        nodes = self._source.region([value], known)
        last = {id(each): node for node in nodes for each in reads_of(node)}
        for node in nodes:
            results = self._stepper.run(node, environment)
            made = [each for each in node.outputs if not each.is_unused]
            for each, array in zip(made, results):
                environment[each] = array
                self._keep(each, array)
            for each in reads_of(node):
                if last[id(each)] is node:
                    environment.drop(each)

    def _keep(self, value: Value, array: Any) -> None:
        self._kept[id(value)] = array
        self._bytes += _nbytes(array)
        while self._bytes > _LIMIT and len(self._kept) > 1:
            self._bytes -= _nbytes(self._kept.popitem(last=False)[1])

    def _in_nested(self, value: Value) -> Any:
        if self._nested is None:
            self._nested = {}
            environment = Environment()
            for each in self._source.graph.inputs:
                environment[each] = self._inputs[id(each)]
            for step in self._stepper.steps(self._source.graph, environment):
                if step.inside:
                    for each, array in [*step.inputs, *step.outputs]:
                        self._nested.setdefault(id(each), array)
        return self._nested[id(value)]

    # --- inputs

    def _find_inputs(self) -> str:
        """Find inputs on which the model runs; why there are none, if so."""
        problem = ""
        for feeds in self._candidates():
            self._inputs = feeds
            self._kept.clear()
            self._bytes = 0
            try:
                for value in self._source.graph.outputs:
                    self.get(value)
                return ""
            except Exception as error:  # whatever a model says about such inputs
                problem = problem or str(error)
        return problem or "an input is no tensor, or of unknown rank"

    def _candidates(self) -> Iterator[dict[int, Any]]:
        inputs = self._source.graph.inputs
        if not all(_can_be_random(value) for value in inputs if value.name not in self._defaults):
            return
        is_open = any(not isinstance(dim, int) for value in inputs for dim in value.shape or ())
        for size in _SIZES if is_open else _SIZES[:1]:
            for small in (False, True):
                yield {id(value): self._random(value, size, small) for value in inputs}

    def _random(self, value: Value, size: int, small: bool) -> Any:
        """Normal numbers, or small integers; attention masks are 1. Seeded by the input's name."""
        default = self._defaults.get(value.name)
        if default is not None:
            return default.numpy()
        assert isinstance(value.type, TensorType)
        shape = [_size(dim, size) for dim in value.type.shape or ()]
        dtype = value.type.dtype
        generator = np.random.default_rng(list(value.name.encode()))
        if "mask" in value.name.lower() and not dtype.is_float:
            return np.ones(shape, dtype.numpy)
        if dtype.is_float:
            return generator.standard_normal(shape, np.float32).astype(dtype.numpy)
        if not shape:  # as the number of iterations
            return generator.integers(1, 2 if small else 8, shape).astype(dtype.numpy)
        return generator.integers(0, 2 if small else 100, shape).astype(dtype.numpy)


def _size(dim: Dim, size: int) -> int:
    """What an open size is; sums of two, as of a cache and what comes to it, are twice that."""
    if isinstance(dim, int):
        return dim
    is_sum = dim is not None and ("+" in dim or "total" in dim.lower())
    return 2 * size if is_sum else size


def _can_be_random(value: Value) -> bool:
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.shape is None:
        return False
    return type_.dtype.numpy != np.dtype(object) and type_.dtype.numpy.kind != "c"


def _nbytes(array: Any) -> int:
    return int(getattr(array, "nbytes", 0))
