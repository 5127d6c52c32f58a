# SPDX-License-Identifier: Apache-2.0
"""Comparing two backends, precisions or versions of a model, value by value, to the guilty node."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bascule.errors import Fail, InvalidArgument

if TYPE_CHECKING:
    from bascule.tools.compare.alarms import Alarm
    from bascule.tools.compare.local import ComparedValue, Local
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
    random: bool = False
    """Whether it depends on random numbers, so that a difference says nothing."""


@dataclass
class Comparison:
    """What two sides make of the same inputs.

    Attributes:
        a, b: what was compared, in words.
        values: each value that both have, in the order of `b`, with its error and bound.
        first: the first one out of bounds, or None.
        origin: the same with the optimizer off, of one node of the model; None if there is none.
        alarm: where `a` first makes a NaN, or an infinity out of finite inputs, or None. Where only
            `b` does, as if the optimizer of `a` avoids it, that of `b`.
        outputs: how the outputs differ at the end.
        guilty_pass: the optimizer's pass without which both agree, or ''.
        rewrites: where that pass goes wrong, as verifying it shows.
        reproduction: the smallest model that shows the difference, with its inputs, or None.
    """

    a: str
    b: str
    values: list[ComparedValue] = field(default_factory=list)
    first: ComparedValue | None = None
    origin: ComparedValue | None = None
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
        those behind the alarm, from which a value that is not finite on one side alone may come.
        """
        if self.rewrites:
            return tuple(dict.fromkeys(each.maker or each.node for each in self.rewrites))
        first = self.origin or self.first
        if first is not None and (
            self.origin or self.guilty_pass or not _comes_of(first, self.alarm)
        ):
            return first.sources
        return self.alarm.nodes if self.alarm is not None else ()

    def write(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write the reproduction to ``reproduction.onnx`` and ``reproduction.npz`` in `folder`.

        Of two models it is of `b`, and the same part of `a` is ``reproduction_a.onnx``.

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
    from bascule.tools.compare.align import align
    from bascule.tools.compare.local import Local, compare_nodes
    from bascule.tools.compare.sides import Side

    one, other = _subjects(a, b, disabled)
    given = dict(feeds) if feeds is not None else _random(one, other, dims or {}, seed)
    fed = [_cast(given, one), _cast(given, other)]
    sides = [Side(one, fed[0]), Side(other, fed[1])]
    align(*sides)
    result = Comparison(one.label, other.label)
    local = Local()
    for value in compare_nodes(sides[0], sides[1], local):
        result.values.append(value)
        if result.first is None and not value.is_within:
            result.first = value
    result.alarm = local.watch.alarm if local.watch is not None else None
    if outputs:
        result.outputs = _output_differences(sides[0], sides[1], local.outputs or [])
    if bisect:
        _explain(result, one, other, fed, sides, local)
    return result


def _subjects(a: Spec, b: Spec, disabled: Sequence[str]) -> tuple[Subject, Subject]:
    from bascule.optimizer.stages import STAGES
    from bascule.tools.compare.sides import means_backend, subject

    passes = {each.name for stage in STAGES for each in stage.passes}
    for name in disabled:
        if name not in passes:
            similar = get_close_matches(name, passes, 1)
            hint = f"; did you mean '{similar[0]}'?" if similar else ""
            raise InvalidArgument(f"No optimizer pass is called '{name}'{hint}")
    pairs: list[Any] = [spec if isinstance(spec, tuple) else (spec, None) for spec in (a, b)]
    alone = [means_backend(source) and backend is None for source, backend in pairs]
    if all(alone):
        raise InvalidArgument(f"'{a}' and '{b}' are backends: one side must name a model")
    for index in (0, 1):
        if alone[index]:
            pairs[index] = (pairs[1 - index][0], pairs[index][0])
    (mine, where), (yours, there) = pairs
    return subject(mine, where), subject(yours, there, disabled)


def _random(one: Subject, other: Subject, dims: Mapping[str, int], seed: int) -> dict[str, Any]:
    from bascule.cli.inputs import random_values

    found: dict[str, Any] = {}
    for subject in (other, one):
        types = subject.session._signature.types
        inputs = ((arg.name, types[arg.name]) for arg in subject.session.get_inputs())
        known = [(name, type) for name, type in inputs if type is not None]
        found.update(random_values(known, dict(dims), seed))
    return found


def _cast(feeds: Mapping[str, Any], subject: Subject) -> dict[str, Any]:
    """The feeds that a side takes, floats in its own precision."""
    from bascule.ir.types import TensorType
    from bascule.tools.rounding import narrowed

    types = subject.session._signature.types
    found = {}
    for name, array in feeds.items():
        if name not in types:
            continue
        type_ = types[name]
        if isinstance(type_, TensorType) and type_.dtype.is_float and hasattr(array, "astype"):
            array = narrowed(np.asarray(array), type_.dtype.numpy)
        found[name] = array
    return found


def _output_differences(a: Side, b: Side, made: Sequence[Any]) -> list[OutputDifference]:
    from bascule.tools.compare.sides import FOREIGN
    from bascule.tools.rounding import draws

    found = []
    names = [value.name for value in a.graph.outputs]
    try:
        whole = b.whole()
    except Fail:  # another runtime lacks an operator, as the values say that it could not make
        if b.subject.backend not in FOREIGN:
            raise
        return []
    theirs = dict(zip((value.name for value in b.graph.outputs), whole))
    for index, (name, mine) in enumerate(zip(names, made)):
        other = theirs.get(name)
        if other is None and len(theirs) == len(names):
            other = list(theirs.values())[index]
        if isinstance(mine, np.ndarray) and isinstance(other, np.ndarray):
            random = draws(a.source.region(a.source.graph.outputs[index : index + 1], []))
            found.append(OutputDifference(name, *_difference(mine, other), random))
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


def _explain(
    result: Comparison,
    one: Subject,
    other: Subject,
    feeds: Sequence[Mapping[str, Any]],
    sides: Sequence[Side],
    local: Local,
) -> None:
    """Find what is to blame, and cut the smallest reproduction out."""
    from bascule.tools.compare.cause import Place, alarm_behind, find_cause, settle_alarm
    from bascule.tools.compare.reproduction import before, reproduce, reproduce_alarm

    result.alarm, place = settle_alarm(result.alarm, sides[0])
    two_models = one.source != other.source
    if result.first is not None and result.alarm is None and not two_models:
        result.alarm, place = alarm_behind(result.first, sides[1])
    if result.first is None or (not two_models and _comes_of(result.first, result.alarm)):
        if place is not None:
            result.reproduction = reproduce_alarm(place)
        return
    assert local.culprit is not None
    cause = find_cause(result.first, local.culprit, one, other, feeds, sides)
    result.origin, result.guilty_pass = cause.origin, cause.guilty_pass
    result.rewrites = cause.rewrites

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

    place = cause.place or Place(sides[1], before(sides[1], local.culprit))
    # Of two models the nodes of `b` are cut out as they are: there is nothing to run beside them.
    result.reproduction = reproduce(place, None if two_models else fails)


def _comes_of(first: ComparedValue, alarm: Alarm | None) -> bool:
    """Whether a difference comes of bad numbers that the model makes itself."""
    if alarm is None or not alarm.inherent:
        return False
    is_there = alarm.certain and not set(alarm.nodes).isdisjoint(first.sources)
    return is_there or not first.judged.is_finite


def _backend(subject: Subject) -> str:
    """The backend by name, for another model."""
    name, separator, _ = subject.backend.partition(" ")
    if not separator:
        return subject.backend
    from bascule.tools.compare.sides import LEVELS

    level = subject.session._options.graph_optimization_level
    return f"{name}:{next((key for key, each in LEVELS.items() if each == level), 'all')}"
