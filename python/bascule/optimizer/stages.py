# SPDX-License-Identifier: Apache-2.0
"""Which passes run, and in which order."""

from __future__ import annotations

from bascule.optimizer.approximations import APPROXIMATIONS
from bascule.optimizer.fold_constants import fold_transposed_weights
from bascule.optimizer.fold_small_dequantize import fold_small_dequantize
from bascule.optimizer.fuse_cache_rows import fuse_cache_rows
from bascule.optimizer.fuse_cache_update import fuse_cache_update
from bascule.optimizer.fuse_channel_scale import fuse_channel_scale
from bascule.optimizer.fuse_convolution_transpose import fuse_convolution_transpose
from bascule.optimizer.fuse_elementwise import fuse_elementwise
from bascule.optimizer.fuse_matmul_transpose import cancel_matmul_transpose
from bascule.optimizer.fuse_pointwise_depthwise import fuse_pointwise_depthwise
from bascule.optimizer.fuse_projections import fuse_projections
from bascule.optimizer.fuse_quantized_residual import fuse_quantized_bias, fuse_quantized_residual
from bascule.optimizer.fuse_resize_sum import fuse_resize_sum
from bascule.optimizer.fuse_split_matmul import fuse_split_matmul
from bascule.optimizer.fusions import EPILOGUES, FORMULAS, PRODUCTS, QUANTIZED
from bascule.optimizer.merge_linear_maps import merge_linear_maps
from bascule.optimizer.move_split_to_weights import move_split_to_weights
from bascule.optimizer.move_to_channels_last import move_to_channels_last
from bascule.optimizer.move_to_unsigned import move_to_unsigned
from bascule.optimizer.passes import Level, Stage
from bascule.optimizer.simplifications import SIMPLIFICATIONS
from bascule.optimizer.simplify_transpose import simplify_transpose
from bascule.optimizer.transpose_weights import transpose_weights

SIMPLIFY = Stage("simplify", Level.BASIC, SIMPLIFICATIONS)
FUSE_QUANTIZED = Stage("fuse_quantized", Level.EXTENDED, (*QUANTIZED, *SIMPLIFICATIONS))
FUSE_FORMULAS = Stage("fuse_formulas", Level.EXTENDED, (*FORMULAS, *SIMPLIFICATIONS))
FUSE_PRODUCTS = Stage("fuse_products", Level.EXTENDED, (*PRODUCTS, *SIMPLIFICATIONS))
APPROXIMATE = Stage("approximate", Level.EXTENDED, APPROXIMATIONS)
FUSE_EPILOGUES = Stage("fuse_epilogues", Level.EXTENDED, EPILOGUES)
CHANNELS_LAST = Stage(
    "channels_last",
    Level.ALL,
    (
        move_to_channels_last,
        *SIMPLIFICATIONS,
        cancel_matmul_transpose,
        merge_linear_maps,
        *EPILOGUES,
    ),
)
FINISH = Stage(
    "finish",
    Level.BASIC,
    (fold_transposed_weights, fold_small_dequantize, simplify_transpose, *SIMPLIFICATIONS),
)
FUSE_CONVOLUTIONS = Stage(
    "fuse_convolutions",
    Level.ALL,
    (fuse_pointwise_depthwise, fuse_convolution_transpose, fuse_channel_scale),
)
"""For caches that hold what lies between two operations."""

FEW_COPIES = Stage(
    "few_copies",
    Level.EXTENDED,
    (
        *(move_split_to_weights, fuse_resize_sum, fuse_cache_update),
        *(fuse_quantized_bias, fuse_quantized_residual, move_to_unsigned),
    ),
)
"""For processors, on which a pass over memory costs more than starting an operation."""
FUSE_ELEMENTWISE = Stage("fuse_elementwise", Level.EXTENDED, (fuse_elementwise,))

PROJECTIONS = Stage("projections", Level.EXTENDED, (fuse_projections, fuse_cache_rows))
FEW_LAUNCHES = Stage("few_launches", Level.EXTENDED, (fuse_split_matmul, transpose_weights))
"""Both for devices on which starting an operation costs more than a small one itself."""

STAGES = (
    SIMPLIFY,
    FUSE_QUANTIZED,
    FUSE_FORMULAS,
    FUSE_PRODUCTS,
    APPROXIMATE,
    FUSE_EPILOGUES,
    CHANNELS_LAST,
    FINISH,
    FUSE_CONVOLUTIONS,
    FEW_COPIES,
    FUSE_ELEMENTWISE,
)
"""In order; each runs from its level up."""

STAGES_FOR_FEW_LAUNCHES = (*STAGES[:-3], PROJECTIONS, FUSE_ELEMENTWISE, FEW_LAUNCHES)

OF_QUANTIZED = frozenset(
    each.name
    for each in (*QUANTIZED, fuse_quantized_bias, fuse_quantized_residual, move_to_unsigned)
)
"""The passes that compute in integers what lies between DequantizeLinear and QuantizeLinear."""
