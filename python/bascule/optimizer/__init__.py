# SPDX-License-Identifier: Apache-2.0
"""The optimizer: stages of small passes that rewrite a canonical graph."""

from __future__ import annotations

from collections.abc import Collection

from bascule.ir.graph import Model
from bascule.optimizer.context import Context
from bascule.optimizer.manager import PassError, run_stages
from bascule.optimizer.passes import Level
from bascule.optimizer.report import Rejection, Report

__all__ = ["Context", "Level", "PassError", "Rejection", "Report", "optimize"]


def optimize(
    model: Model,
    level: Level,
    *,
    disabled: Collection[str] = (),
    context: Context | None = None,
    verify: bool = False,
    few_launches: bool = False,
) -> Report:
    """Rewrite `model` in place, as far as `level` says, without the passes named in `disabled`.

    With `verify` the graph's structure is checked after every change; with `few_launches`
    operations become fewer and larger, as a GPU has them best.
    """
    from bascule.optimizer.stages import STAGES, STAGES_FOR_FEW_LAUNCHES

    chosen = STAGES_FOR_FEW_LAUNCHES if few_launches else STAGES
    stages = [stage for stage in chosen if stage.level <= level and level != Level.DISABLED]
    return run_stages(model, stages, context or Context(), disabled=disabled, verify=verify)
