# SPDX-License-Identifier: Apache-2.0
"""The optimizer verified: each rewrite is run beside what it replaces, on seeded inputs.

A rewrite whose result is further from the model, computed in float64 on the same inputs, than
rounding explains is dropped, and so named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bascule.ir.constant import Constant
from bascule.ir.copy import copy_graph
from bascule.ir.graph import Model
from bascule.optimizer import Context, Level, Report, Selection, optimize
from bascule.optimizer.context import Spoiled
from bascule.optimizer.selection import USUAL
from bascule.providers.base import Provider
from bascule.tools.stepping.prepared import Source, mark_origins
from bascule.tools.verify.check import Dropped, RewriteCheck
from bascule.tools.verify.values import SeededValues

__all__ = ["Dropped", "Verification", "optimize_verified"]


class Verification:
    """What verifying the rewrites of a model has come to."""

    def __init__(self) -> None:
        self.dropped: list[Dropped] = []
        self.checked = 0
        """Rewrites that were run beside what they replace."""
        self.unchecked = 0
        """Rewrites of values that no run could be had of, as in a loop of no iterations."""
        self.note = ""
        """Why nothing was verified, if that is so."""

    def __str__(self) -> str:
        if self.note:
            return f"not verified: {self.note}"
        text = f"{self.checked} rewrites verified, {self.unchecked} could not be run"
        return "\n".join([text, *(f"dropped {each}" for each in self.dropped)])


def optimize_verified(
    model: Model,
    providers: Sequence[Provider],
    level: Level,
    context: Context,
    *,
    defaults: Mapping[str, Constant],
    selection: Selection = USUAL,
) -> tuple[Report, Verification]:
    """Optimize `model`, a legal one, in place, without the rewrites that are wrong."""
    few_launches = providers[0].hosts_others
    mark_origins(model.graph)
    pristine = copy_graph(model.graph)
    source = Source(pristine)
    found = Verification()
    values = SeededValues(source, providers, defaults)
    check = RewriteCheck(source, values, model.opset_imports, providers, context.definitions)
    if values.problem:
        found.note = values.problem
        warnings.warn(f"the optimizer was not verified: {values.problem}", stacklevel=2)
        return optimize(
            model, level, selection=selection, context=context, few_launches=few_launches
        ), found
    watched = Context(context.fold, context.definitions, check, context.note)
    report = _until_it_holds(
        lambda: optimize(
            model, level, selection=selection, context=watched, few_launches=few_launches
        ),
        lambda: _start_again(model, pristine, check),
    )
    found.dropped, found.checked, found.unchecked = check.dropped, check.checked, check.unchecked
    for each in found.dropped:
        warnings.warn(f"the optimizer dropped {each}", stacklevel=2)
    return report, found


def _until_it_holds(attempt: Callable[[], Report], again: Callable[[], None]) -> Report:
    """Each failed attempt drops a rewrite or a pass for good, so that there is an end."""
    while True:
        try:
            return attempt()
        except Spoiled:
            again()


def _start_again(model: Model, pristine: Any, check: RewriteCheck) -> None:
    model.graph = copy_graph(pristine)
    check.forget()
