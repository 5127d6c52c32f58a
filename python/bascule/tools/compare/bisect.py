# SPDX-License-Identifier: Apache-2.0
"""Which optimizer pass makes a difference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.tools.compare.align import align
from bascule.tools.compare.local import Local, compare_nodes
from bascule.tools.compare.sides import Side, Subject
from bascule.tools.stepping.prepared import feeds_of, load_of
from bascule.tools.verify.check import Dropped


def guilty_pass(
    a: Subject, b: Subject, feeds: Sequence[Mapping[str, Any]]
) -> tuple[str, list[Dropped]]:
    """The pass without which `a` and `b` agree, or '', and its rewrites that are wrong.

    `feeds` are those of both. The first pass that is found wrong by verifying its rewrites counts,
    if leaving it out is enough. Where none is, passes are left out by halves: what is found then
    may be one without which the wrong one has nothing to do.
    """
    for index, subject in ((1, b), (0, a)):
        if not subject.is_optimized:
            continue

        def agrees(disabled: Sequence[str], index: int = index, subject: Subject = subject) -> bool:
            sides = [Side(a, feeds[0]), Side(b, feeds[1])]
            sides[index] = Side(subject, feeds[index], disabled)
            align(*sides)
            found = compare_nodes(sides[0], sides[1], Local(), first_only=True, watched=False)
            return all(each.is_within for each in found)

        wrong = wrong_rewrites(subject, feeds[index])
        names = list(dict.fromkeys(each.pass_name for each in wrong))
        passes = list(Side(subject, feeds[index]).passes)
        name = next((each for each in names if agrees([each])), "") or _find(passes, agrees)
        if name:
            return name, [each for each in wrong if each.pass_name == name]
    return "", []


def wrong_rewrites(subject: Subject, feeds: Mapping[str, Any]) -> list[Dropped]:
    """What verifying the rewrites of a subject finds wrong, on its own inputs."""
    from bascule.compiler import canonical_form, legalize, level_of, selection_of
    from bascule.optimizer import Context
    from bascule.optimizer.fused import definition
    from bascule.providers.cpu.provider import fold_node
    from bascule.tools.verify import optimize_verified

    session = subject.session
    arrays = feeds_of(session, feeds)
    model, providers = load_of(session, session._signature.names_hold(arrays))
    canonical_form(model)
    legalize(model, providers)
    given = {
        value.name: Constant.from_numpy(array)
        for value, array in zip(model.graph.inputs, arrays)
        if isinstance(array, np.ndarray)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, found = optimize_verified(
            model,
            providers,
            level_of(session._options.graph_optimization_level),
            Context(fold_node, definition),
            defaults=given,
            selection=selection_of(session._options, session._disabled),
        )
    return found.dropped


def _find(passes: list[str], agrees: Callable[[Sequence[str]], bool]) -> str:
    """The one of `passes` that has to be left out."""
    if not passes or not agrees(passes):
        return ""
    left = passes
    while len(left) > 1:
        half = left[: len(left) // 2]
        left = half if agrees(half) else left[len(half) :]
    if agrees(left):
        return left[0]
    # Two passes are at it together: the first without which it does not happen.
    return next((name for name in passes if agrees([name])), "")
