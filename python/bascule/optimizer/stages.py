# SPDX-License-Identifier: Apache-2.0
"""Which passes run, and in which order."""

from __future__ import annotations

from bascule.optimizer.fold_constants import fold_transposed_weights
from bascule.optimizer.fuse_cache_rows import fuse_cache_rows
from bascule.optimizer.fuse_elementwise import fuse_elementwise
from bascule.optimizer.fuse_projections import fuse_projections
from bascule.optimizer.fuse_quantized_residual import fuse_quantized_residual
from bascule.optimizer.fuse_split_matmul import fuse_split_matmul
from bascule.optimizer.fusions import EPILOGUES, FORMULAS, PRODUCTS, QUANTIZED
from bascule.optimizer.move_to_channels_last import move_to_channels_last
from bascule.optimizer.passes import Level, Stage
from bascule.optimizer.simplifications import SIMPLIFICATIONS
from bascule.optimizer.simplify_transpose import simplify_transpose
from bascule.optimizer.transpose_weights import transpose_weights

SIMPLIFY = Stage("simplify", Level.BASIC, SIMPLIFICATIONS)
FUSE_QUANTIZED = Stage("fuse_quantized", Level.EXTENDED, (*QUANTIZED, *SIMPLIFICATIONS))
FUSE_FORMULAS = Stage("fuse_formulas", Level.EXTENDED, (*FORMULAS, *SIMPLIFICATIONS))
FUSE_PRODUCTS = Stage("fuse_products", Level.EXTENDED, (*PRODUCTS, *SIMPLIFICATIONS))
FUSE_EPILOGUES = Stage("fuse_epilogues", Level.EXTENDED, EPILOGUES)
CHANNELS_LAST = Stage(
    "channels_last", Level.ALL, (move_to_channels_last, *SIMPLIFICATIONS, *EPILOGUES)
)
FINISH = Stage(
    "finish", Level.BASIC, (fold_transposed_weights, simplify_transpose, *SIMPLIFICATIONS)
)
QUANTIZED_RESIDUALS = Stage("quantized_residuals", Level.EXTENDED, (fuse_quantized_residual,))
FUSE_ELEMENTWISE = Stage("fuse_elementwise", Level.EXTENDED, (fuse_elementwise,))

PROJECTIONS = Stage("projections", Level.EXTENDED, (fuse_projections, fuse_cache_rows))
FEW_LAUNCHES = Stage("few_launches", Level.EXTENDED, (fuse_split_matmul, transpose_weights))
"""Both for devices on which starting an operation costs more than a small one itself."""

STAGES = (
    SIMPLIFY,
    FUSE_QUANTIZED,
    FUSE_FORMULAS,
    FUSE_PRODUCTS,
    FUSE_EPILOGUES,
    CHANNELS_LAST,
    FINISH,
    QUANTIZED_RESIDUALS,
    FUSE_ELEMENTWISE,
)
"""In order; each runs from its level up."""

STAGES_FOR_FEW_LAUNCHES = (*STAGES[:-2], PROJECTIONS, FUSE_ELEMENTWISE, FEW_LAUNCHES)
