# SPDX-License-Identifier: Apache-2.0
"""The fusing passes in their order: formulas to operators, products with what is around them."""

from __future__ import annotations

from bascule.optimizer.eliminate_quantized_relu import eliminate_quantized_relu
from bascule.optimizer.eliminate_requantization import (
    eliminate_concat_requantization,
    eliminate_quantize,
    eliminate_requantization,
)
from bascule.optimizer.fuse_activation import fuse_activation, fuse_activation_before_reshape
from bascule.optimizer.fuse_attention import fuse_attention, fuse_attention_groups
from bascule.optimizer.fuse_attention_cache import fuse_attention_cache
from bascule.optimizer.fuse_attention_heads import fuse_attention_heads, fuse_attention_rows
from bascule.optimizer.fuse_gelu import fuse_gelu, fuse_gelu_tanh
from bascule.optimizer.fuse_group_normalization import (
    fuse_group_normalization,
    fuse_group_normalization_bias,
    fuse_group_normalization_scale,
    fuse_instance_normalization,
)
from bascule.optimizer.fuse_hard_swish import fuse_hard_sigmoid, fuse_hard_swish
from bascule.optimizer.fuse_layer_normalization import (
    fuse_layer_normalization,
    fuse_layer_normalization_bias,
    fuse_layer_normalization_casts,
    fuse_layer_normalization_channels,
    fuse_layer_normalization_scale,
)
from bascule.optimizer.fuse_matmul_bias import fuse_gemm, fuse_matmul_bias
from bascule.optimizer.fuse_matmul_reshape import fuse_matmul_reshape
from bascule.optimizer.fuse_matmul_scale import (
    fuse_matmul_column_scale,
    fuse_matmul_operand_scale,
    fuse_matmul_scale,
)
from bascule.optimizer.fuse_matmul_transpose import (
    fuse_matmul_transpose_left,
    fuse_matmul_transpose_right,
)
from bascule.optimizer.fuse_mish import fuse_mish
from bascule.optimizer.fuse_quantized_add import fuse_quantized_add
from bascule.optimizer.fuse_quantized_convolution import fuse_quantized_convolution
from bascule.optimizer.fuse_quantized_gemm import fuse_integer_gemm, fuse_quantized_gemm
from bascule.optimizer.fuse_quantized_matmul import fuse_integer_matmul, fuse_quantized_matmul
from bascule.optimizer.fuse_residual_add import fuse_residual_add
from bascule.optimizer.fuse_rms_normalization import (
    fuse_rms_normalization,
    fuse_rms_normalization_casts,
    fuse_rms_normalization_scale,
)
from bascule.optimizer.fuse_rotary_embedding import (
    fuse_rotary_embedding,
    fuse_rotary_embedding_part,
)
from bascule.optimizer.fuse_skip_layer_normalization import fuse_skip_layer_normalization
from bascule.optimizer.fuse_swish import fuse_swish, fuse_swish_alpha
from bascule.optimizer.move_convolution_before_resize import move_convolution_before_resize
from bascule.optimizer.simplify_attention_mask import simplify_attention_mask

QUANTIZED = (
    eliminate_quantize,
    eliminate_requantization,
    eliminate_concat_requantization,
    eliminate_quantized_relu,
    fuse_quantized_add,
    fuse_quantized_convolution,
    fuse_quantized_matmul,
    fuse_integer_matmul,
    fuse_quantized_gemm,
    fuse_integer_gemm,
)
"""Dequantized operands become integers, as far as what is computed has a form for them."""

FORMULAS = (
    fuse_gelu,
    fuse_gelu_tanh,
    fuse_swish,
    fuse_swish_alpha,
    fuse_hard_swish,
    fuse_hard_sigmoid,
    fuse_mish,
    fuse_layer_normalization,
    fuse_layer_normalization_scale,
    fuse_layer_normalization_bias,
    fuse_layer_normalization_channels,
    fuse_layer_normalization_casts,
    fuse_rms_normalization,
    fuse_rms_normalization_scale,
    fuse_rms_normalization_casts,
    fuse_instance_normalization,
    fuse_group_normalization,
    fuse_group_normalization_scale,
    fuse_group_normalization_bias,
    fuse_rotary_embedding,
    fuse_rotary_embedding_part,
    fuse_attention,
    fuse_attention_groups,
    fuse_attention_cache,
    fuse_attention_rows,
    fuse_attention_heads,
    simplify_attention_mask,
)
"""Standard operators for the formulas that stand for them."""

PRODUCTS = (
    fuse_matmul_scale,
    fuse_matmul_operand_scale,
    fuse_matmul_transpose_left,
    fuse_matmul_transpose_right,
    fuse_matmul_bias,
    fuse_matmul_column_scale,
    fuse_gemm,
    fuse_matmul_reshape,
    move_convolution_before_resize,
)
"""Products take in what changes their operands and what is added to each row."""

EPILOGUES = (
    fuse_activation,
    fuse_activation_before_reshape,
    fuse_residual_add,
    fuse_skip_layer_normalization,
)
"""What follows a product or a sum moves into it."""
