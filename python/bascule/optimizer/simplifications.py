# SPDX-License-Identifier: Apache-2.0
"""The passes that make a graph simpler for every provider, in order."""

from __future__ import annotations

from bascule.optimizer import eliminate_identity as identity
from bascule.optimizer import simplify_arithmetic as arithmetic
from bascule.optimizer.eliminate_common_subexpressions import eliminate_common_subexpressions
from bascule.optimizer.eliminate_constant_if import eliminate_constant_if
from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.fold_batch_normalization import fold_batch_normalization
from bascule.optimizer.fold_constants import fold_constants
from bascule.optimizer.fold_pad import fold_pad
from bascule.optimizer.fold_reshaped_constants import fold_reshaped_constants
from bascule.optimizer.fold_scale_bias import fold_scale_bias
from bascule.optimizer.fold_shapes import fold_shapes
from bascule.optimizer.merge_batched_transpose import merge_batched_transpose
from bascule.optimizer.merge_casts import merge_casts
from bascule.optimizer.merge_concats import merge_concats
from bascule.optimizer.merge_reshapes import merge_reshapes
from bascule.optimizer.merge_slices import merge_slices
from bascule.optimizer.merge_transposes import merge_transposes
from bascule.optimizer.move_dequantize import move_dequantize
from bascule.optimizer.move_transposes import move_transposes, move_transposes_unary
from bascule.optimizer.passes import Pass
from bascule.optimizer.simplify_where import (
    eliminate_expand_operand,
    eliminate_where,
    simplify_where,
)

SIMPLIFICATIONS: tuple[Pass, ...] = (
    eliminate_dead_code,
    eliminate_constant_if,
    fold_reshaped_constants,
    fold_constants,
    fold_shapes,
    identity.eliminate_identity,
    identity.eliminate_dropout,
    identity.eliminate_cast,
    identity.eliminate_reshape,
    identity.eliminate_transpose,
    identity.eliminate_expand,
    identity.eliminate_slice,
    identity.eliminate_pad,
    identity.eliminate_split,
    identity.eliminate_resize,
    identity.eliminate_neutral_operand,
    arithmetic.simplify_pow,
    arithmetic.simplify_div,
    arithmetic.simplify_mul,
    arithmetic.eliminate_double_negation,
    arithmetic.eliminate_repetition,
    arithmetic.simplify_abs,
    arithmetic.simplify_add,
    arithmetic.simplify_sub,
    arithmetic.simplify_clip,
    simplify_where,
    eliminate_where,
    eliminate_expand_operand,
    merge_casts,
    merge_concats,
    merge_reshapes,
    merge_slices,
    merge_transposes,
    merge_batched_transpose,
    move_transposes_unary,
    move_transposes,
    move_dequantize,
    fold_batch_normalization,
    fold_scale_bias,
    fold_pad,
    eliminate_common_subexpressions,
)
