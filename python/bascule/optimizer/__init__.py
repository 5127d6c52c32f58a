# SPDX-License-Identifier: Apache-2.0
"""The optimizer: stages of small passes that rewrite a canonical graph."""

from __future__ import annotations

from bascule.ir.graph import Model
from bascule.optimizer.context import Context
from bascule.optimizer.manager import PassError, run_stages
from bascule.optimizer.passes import Level
from bascule.optimizer.report import Rejection, Report
from bascule.optimizer.selection import USUAL, Selection

__all__ = ["Context", "Level", "PassError", "Rejection", "Report", "Selection", "optimize"]


def optimize(
    model: Model,
    level: Level,
    *,
    selection: Selection = USUAL,
    context: Context | None = None,
    verify: bool = False,
    few_launches: bool = False,
) -> Report:
    """Rewrite `model` in place, as far as `level` says, with the passes of `selection`.

    With `verify` the graph's structure is checked after every change; with `few_launches`
    operations become fewer and larger, as a GPU has them best.
    """
    from bascule.optimizer.approximations import APPROXIMATIONS
    from bascule.optimizer.stages import OF_QUANTIZED, STAGES, STAGES_FOR_FEW_LAUNCHES

    chosen = STAGES_FOR_FEW_LAUNCHES if few_launches else STAGES
    stages = [stage for stage in chosen if stage.level <= level and level != Level.DISABLED]
    disabled = {*selection.disabled}
    disabled |= {each.name for each in APPROXIMATIONS} - {*selection.approximations}
    if not selection.fuses_quantization:
        disabled |= OF_QUANTIZED
    return run_stages(
        model,
        stages,
        context or Context(),
        disabled=disabled,
        repeats=selection.repeats,
        verify=verify,
    )
