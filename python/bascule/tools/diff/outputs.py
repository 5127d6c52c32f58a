# SPDX-License-Identifier: Apache-2.0
"""How outputs differ when two models are run on the same inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.cli.inputs import random_feeds
from bascule.errors import InvalidArgument
from bascule.ir.dtype import DataType
from bascule.ir.load import load_model
from bascule.session import InferenceSession
from bascule.tools.diff.models import pair_values
from bascule.tools.diff.result import OutputChange
from bascule.tools.diff.weights import array_statistics, type_text

if TYPE_CHECKING:
    from bascule.ir.load import Source


def compare_outputs(
    old: Source, new: Source, feeds: Mapping[str, Any], dims: Mapping[str, int], seed: int
) -> list[OutputChange]:
    """A record for each output that both models have; both see the same inputs.

    Raises:
        InvalidArgument: the new model has an input that must be fed and that the old one lacks.
    """
    graphs = [load_model(source).graph for source in (old, new)]
    names = {
        b.name: a.name
        for a, b in pair_values(graphs[0].inputs, graphs[1].inputs)
        if a is not None and b is not None
    }
    one, two = _session(old), _session(new)
    unknown = [name for name in feeds if name not in {v.name for v in graphs[0].inputs}]
    if unknown:
        raise InvalidArgument(f"The old model has no inputs {unknown}")
    missing = [arg for arg in one.get_inputs() if arg.name not in feeds]
    given = {**feeds, **random_feeds(missing, dict(dims), seed)}
    lacking = [arg.name for arg in two.get_inputs() if arg.name not in names]
    if lacking:
        raise InvalidArgument(
            f"The old model has nothing to feed to the new one's inputs {lacking}, so outputs "
            "cannot be compared"
        )
    before = dict(zip((arg.name for arg in one.get_outputs()), one.run(None, given)))
    theirs = {name: given[source] for name, source in names.items() if source in given}
    after = dict(zip((arg.name for arg in two.get_outputs()), two.run(None, theirs)))
    return [
        _compare(a.name, b.name, before[a.name], after[b.name])
        for a, b in pair_values(graphs[0].outputs, graphs[1].outputs)
        if a is not None and b is not None
    ]


def _session(source: Any) -> InferenceSession:
    if isinstance(source, (str, os.PathLike)):
        return InferenceSession(source)
    if hasattr(source, "SerializeToString"):
        source = source.SerializeToString()
    return InferenceSession(bytes(source))


def _compare(old_name: str, new_name: str, old: Any, new: Any) -> OutputChange:
    if not isinstance(old, np.ndarray) or not isinstance(new, np.ndarray):
        kinds = type(old).__name__, type(new).__name__
        return OutputChange(old_name, new_name, _same(old, new), *kinds)
    types = [type_text(DataType.from_numpy(x.dtype), x.shape) for x in (old, new)]
    numeric = old.dtype != object and new.dtype != object and old.shape == new.shape
    found = array_statistics(old, new) if numeric else None
    return OutputChange(old_name, new_name, _same(old, new), types[0], types[1], found)


def _same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, np.ndarray):
        if old.dtype != new.dtype or old.shape != new.shape:
            return False
        return old.tobytes() == new.tobytes() if old.dtype != object else bool((old == new).all())
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(old[k], new[k]) for k in old)
    if isinstance(old, (list, tuple)):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new))
    return bool(old == new)
