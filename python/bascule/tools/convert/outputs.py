# SPDX-License-Identifier: Apache-2.0
"""Runs of a model before and after it was converted, and how far their outputs are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bascule.errors import Fail, InvalidArgument
from bascule.ir.types import TensorType
from bascule.options import GraphOptimizationLevel, SessionOptions

if TYPE_CHECKING:
    from bascule.session import InferenceSession
    from bascule.tools.convert.document import Document

Feeds = Mapping[str, Any]
AnyFeeds = Union[Feeds, Sequence[Feeds]]

_SAMPLES = 2
"""Random sets of inputs, where none are given."""


def plain_session(document: Document) -> InferenceSession:
    """A session that runs each node by itself, so that every value has the type it says."""
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return document.session(options)


def all_feeds(
    session: InferenceSession, feeds: AnyFeeds | None, dims: Mapping[str, int] | None, seed: int
) -> list[Feeds]:
    """The sets of inputs to measure with: those given, or seeded random ones for what lacks.

    Raises:
        InvalidArgument: an input is no tensor, and none was given for it; a name is unknown.
    """
    # Imported here: it is a part of the command line.
    from bascule.cli.inputs import random_feeds

    given = [{}] * _SAMPLES if feeds is None else feeds
    sets = [given] if isinstance(given, Mapping) else list(given)
    if not sets:
        raise InvalidArgument("feeds: there is no set of inputs in the list")
    inputs = session.get_inputs()
    known = {arg.name for arg in inputs}
    found: list[Feeds] = []
    for number, each in enumerate(sets):
        unknown = [name for name in each if name not in known]
        if unknown:
            raise InvalidArgument(f"feeds: the model has no inputs {unknown}", inputs=sorted(known))
        missing = [arg for arg in inputs if arg.name not in each]
        try:
            made = random_feeds(missing, dict(dims or {}), seed + number)
        except ValueError as error:
            raise InvalidArgument(f"feeds: {error}") from None
        found.append({**made, **each})
    return found


def run_all(session: InferenceSession, sets: Sequence[Feeds]) -> list[dict[str, Any]]:
    """The outputs for each set of inputs, by name; floats are cast to what the model takes.

    Raises:
        Fail: the model cannot run on these inputs.
    """
    types = session._signature.types
    names = [arg.name for arg in session.get_outputs()]
    found = []
    for feeds in sets:
        cast = {}
        for name, array in feeds.items():
            type_ = types.get(name)
            if isinstance(type_, TensorType) and type_.dtype.is_float and hasattr(array, "astype"):
                with np.errstate(all="ignore"):
                    array = array.astype(type_.dtype.numpy, copy=False)
            cast[name] = array
        try:
            found.append(dict(zip(names, session.run(None, cast))))
        except Exception as error:
            raise Fail(
                f"The model cannot run on these inputs, so what it computes cannot be compared; "
                f"other feeds may help: {error}"
            ) from None
    return found


def errors_of(wanted: Sequence[Feeds], found: Sequence[Feeds]) -> dict[str, float]:
    """How far each output is off, at most, over all sets of inputs.

    Of floats: the largest difference, as a part of the largest element; infinite where one is
    finite and the other is not. Of others: the part of elements that differ.
    """
    errors: dict[str, float] = {}
    for mine, yours in zip(wanted, found):
        for name, value in mine.items():
            errors[name] = max(errors.get(name, 0.0), _error(value, yours[name]))
    return errors


def _error(one: Any, other: Any) -> float:
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return np.inf
        return max((_error(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return np.inf
        return max(map(_error, one, other), default=0.0)
    if one is None or other is None:
        return 0.0 if one is other else np.inf
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape:
        return np.inf
    if not a.size:
        return 0.0
    if a.dtype.kind in "OSUbiu" or b.dtype.kind in "OSUbiu":
        return float(np.mean(a != b))
    kind = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    with np.errstate(all="ignore"):
        x, y = a.astype(kind), b.astype(kind)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        if not (same | finite).all():
            return np.inf
        difference = np.where(same, 0.0, np.abs(x - y))
    largest = float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
    return float(difference.max()) / (largest or 1.0)
