# SPDX-License-Identifier: Apache-2.0
"""Comparing two backends, precisions or versions of a model, value by value, to the guilty node."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bascule.errors import InvalidArgument

if TYPE_CHECKING:
    from bascule.tools.compare.local import Alarm, ComparedValue
    from bascule.tools.compare.reproduction import Reproduction
    from bascule.tools.compare.sides import ModelSource, Side, Subject
    from bascule.tools.verify.check import Dropped

    Spec = Union[ModelSource, str, tuple[ModelSource, str]]

__all__ = ["Comparison", "OutputDifference", "compare"]


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How an output differs when both models run in one piece, errors of all nodes added up."""

    name: str
    """The output, as `a` calls it."""
    error: float
    """The largest absolute difference; infinite where only one is finite, or shapes differ."""
    largest: float
    """The largest finite element of `a`."""


@dataclass
class Comparison:
    """What two sides make of the same inputs.

    Attributes:
        a, b: what was compared, in words.
        values: each value that both have, in the order of `b`, with its error and bound.
        first: the first one out of bounds, or None.
        alarm: where `a` first makes a NaN, or an infinity out of finite inputs, or None.
        outputs: how the outputs differ at the end.
        guilty_pass: the optimizer's pass without which both agree, or ''.
        rewrites: where that pass goes wrong, as verifying it shows.
        reproduction: the smallest model that shows the difference, with its inputs, or None.
    """

    a: str
    b: str
    values: list[ComparedValue] = field(default_factory=list)
    first: ComparedValue | None = None
    alarm: Alarm | None = None
    outputs: list[OutputDifference] = field(default_factory=list)
    guilty_pass: str = ""
    rewrites: list[Dropped] = field(default_factory=list)
    reproduction: Reproduction | None = None

    @property
    def agrees(self) -> bool:
        """Whether every value is within its bound."""
        return self.first is None

    @property
    def guilty_nodes(self) -> tuple[str, ...]:
        """The nodes of the model that are to blame.

        Those of the rewrites that are wrong, else those behind the first value out of bounds, else
        those behind the alarm.
        """
        if self.rewrites:
            return tuple(dict.fromkeys(each.node for each in self.rewrites))
        if self.first is not None:
            return self.first.sources
        return self.alarm.nodes if self.alarm is not None else ()

    def write(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write the reproduction to ``reproduction.onnx`` and ``reproduction.npz`` in `folder`.

        Raises:
            InvalidArgument: all values agree, so that there is none.
        """
        if self.reproduction is None:
            raise InvalidArgument("There is nothing to reproduce: all values are within bounds")
        return self.reproduction.write(os.fspath(folder))

    def __str__(self) -> str:
        from bascule.tools.compare.show import as_text

        return as_text(self)

    __repr__ = __str__


def compare(
    a: Spec,
    b: Spec = "reference",
    feeds: Mapping[str, Any] | None = None,
    *,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    disabled: Sequence[str] = (),
    bisect: bool = True,
    outputs: bool = True,
) -> Comparison:
    """As bascule.compare, which tells the arguments."""
    # Imported here: they import onnx.
    from bascule.tools.compare.local import Local, compare_nodes
    from bascule.tools.compare.sides import Side

    one, other = _subjects(a, b, disabled)
    given = dict(feeds) if feeds is not None else _random(one, other, dims or {}, seed)
    fed = [_cast(given, one), _cast(given, other)]
    sides = [Side(one, fed[0]), Side(other, fed[1])]
    align(sides[0], sides[1])
    result = Comparison(one.label, other.label)
    local = Local()
    for value in compare_nodes(sides[0], sides[1], local):
        result.values.append(value)
        if result.first is None and not value.is_within:
            result.first = value
    result.alarm = local.alarm
    if outputs:
        result.outputs = _output_differences(sides[0], sides[1], local.outputs or [])
    if result.first is not None and bisect:
        _find_cause(result, one, other, fed, sides, local)
    return result


def _subjects(a: Spec, b: Spec, disabled: Sequence[str]) -> tuple[Subject, Subject]:
    from bascule.tools.compare.sides import is_backend, subject

    pairs: list[Any] = [spec if isinstance(spec, tuple) else (spec, None) for spec in (a, b)]
    alone = [is_backend(source) and backend is None for source, backend in pairs]
    if all(alone):
        raise InvalidArgument(f"'{a}' and '{b}' are backends: one side must name a model")
    for index in (0, 1):
        if alone[index]:
            pairs[index] = (pairs[1 - index][0], pairs[index][0])
    (mine, where), (yours, there) = pairs
    return subject(mine, where), subject(yours, there, disabled)


def _random(one: Subject, other: Subject, dims: Mapping[str, int], seed: int) -> dict[str, Any]:
    from bascule.cli.inputs import random_feeds

    found = random_feeds(other.session.get_inputs(), dict(dims), seed)
    found.update(random_feeds(one.session.get_inputs(), dict(dims), seed))
    return found


def _cast(feeds: Mapping[str, Any], subject: Subject) -> dict[str, Any]:
    """The feeds that a side takes, floats in its own precision."""
    from bascule.ir.types import TensorType

    types = subject.session._signature.types
    found = {}
    for name, array in feeds.items():
        if name not in types:
            continue
        type_ = types[name]
        if isinstance(type_, TensorType) and type_.dtype.is_float and hasattr(array, "astype"):
            with np.errstate(all="ignore"):
                array = array.astype(type_.dtype.numpy, copy=False)
        found[name] = array
    return found


def align(a: Side, b: Side) -> None:
    """Where the models share no names but do the same in the same order, go by the order."""
    names = {name for node in a.graph for value in node.outputs for name in value.origins}
    nodes_a, nodes_b = list(a.graph), list(b.graph)
    known = sum(any(n in names for n in v.origins) for node in nodes_b for v in node.outputs)
    if 2 * known > sum(len(node.outputs) for node in nodes_b):
        return
    kinds = [[(node.op_type, len(node.outputs)) for node in nodes] for nodes in (nodes_a, nodes_b)]
    if kinds[0] != kinds[1]:
        return
    for one, other in zip(nodes_a, nodes_b):
        for value, twin in zip(one.outputs, other.outputs):
            twin.origins = value.origins
    for value, twin in zip(a.graph.inputs, b.graph.inputs):
        twin.origins = value.origins


def _output_differences(a: Side, b: Side, made: Sequence[Any]) -> list[OutputDifference]:
    found = []
    names = [value.name for value in a.graph.outputs]
    theirs = dict(zip((value.name for value in b.graph.outputs), b.whole()))
    for index, (name, mine) in enumerate(zip(names, made)):
        other = theirs.get(name)
        if other is None and len(theirs) == len(names):
            other = list(theirs.values())[index]
        if isinstance(mine, np.ndarray) and isinstance(other, np.ndarray):
            found.append(OutputDifference(name, *_difference(mine, other)))
    return found


def _difference(one: Any, other: Any) -> tuple[float, float]:
    if one.shape != other.shape:
        return np.inf, 0.0
    if one.dtype.kind in "OSUc" or other.dtype.kind in "OSUc":
        return (0.0 if np.array_equal(one, other) else np.inf), 0.0
    with np.errstate(all="ignore"):
        x, y = one.astype(np.float64), other.astype(np.float64)
        error = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
        error = np.where(np.isnan(error), np.inf, error)
    finite = np.abs(x[np.isfinite(x)])
    return float(error.max(initial=0.0)), float(finite.max(initial=0.0))


def _find_cause(
    result: Comparison,
    one: Subject,
    other: Subject,
    feeds: Sequence[Mapping[str, Any]],
    sides: Sequence[Side],
    local: Any,
) -> None:
    """Bisect the passes, and cut the smallest reproduction out."""
    from bascule.tools.compare.bisect import guilty_pass, wrong_rewrites
    from bascule.tools.compare.reproduction import reproduce

    result.guilty_pass, index = guilty_pass(one, other, feeds)
    if result.guilty_pass:
        result.rewrites = wrong_rewrites((one, other)[index], result.guilty_pass, feeds[index])
    two_models = one.source != other.source

    def fails(found: Reproduction) -> bool:
        again = compare(
            (found.model, _backend(one)),
            (found.model, _backend(other)),
            found.feeds,
            disabled=other.session._disabled,
            bisect=False,
            outputs=False,
        )
        return not again.agrees

    assert local.culprit is not None
    # Of two models the nodes of `b` are cut out as they are: there is nothing to run beside them.
    result.reproduction = reproduce(sides[1], local.culprit, None if two_models else fails)


def _backend(subject: Subject) -> str:
    """The backend by name, for another model."""
    name, separator, _ = subject.backend.partition(" ")
    if not separator:
        return subject.backend
    from bascule.tools.compare.sides import LEVELS

    level = subject.session._options.graph_optimization_level
    return f"{name}:{next((key for key, each in LEVELS.items() if each == level), 'all')}"
