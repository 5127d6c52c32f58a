# SPDX-License-Identifier: Apache-2.0
"""Which passes run, and in which order."""

from __future__ import annotations

from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.fold_constants import fold_constants
from bascule.optimizer.merge_transposes import merge_transposes
from bascule.optimizer.passes import Level, Stage

SIMPLIFY = Stage(
    "simplify",
    Level.BASIC,
    (
        eliminate_dead_code,
        fold_constants,
        merge_transposes,
    ),
)

STAGES = (SIMPLIFY,)
"""In order; each runs from its level up."""
