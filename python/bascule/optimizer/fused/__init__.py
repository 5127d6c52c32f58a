# SPDX-License-Identifier: Apache-2.0
"""The fused operators of domain ``bascule``, and their definitions in standard operators.

========================  ========================================================================
MatMul                    ``(A, B, bias?, residual?) -> Y``, attributes transA, transB, alpha:
                          ``activation(alpha * A' @ B' + bias + residual)``, batched like
                          NumPy's; transA and transB swap the last two axes, bias is
                          ``[N]``, residual has exactly the shape of Y.
SplitMatMul               ``(A, B, bias?) -> (Y1, ..., Yn)``: the columns of ``A @ B + bias`` in
                          n equal parts; B is a matrix, bias a row.
Project                   ``(A, B, bias?, residual?, scale, norm_bias?) -> Y``: MatMul of the
                          LayerNormalization or RMSNormalization of A over its last axis, as
                          attribute normalization says, with epsilon.
Conv, ConvTranspose       The standard operator with an activation. Conv adds a residual,
                          of the shape of Y, before it. With ``channels_last=1`` X,
                          residual and Y are ``[N, spatial..., C]``; W is unchanged. With
                          ``planes=1`` X of Conv remains ``[N, C, spatial...]``. A fifth input of
                          Conv, ``scale``, ``[N, 1..., C]``, multiplies X with channels last.
PointwiseDepthwiseConv    ``(X, W, B?, taps, taps_B?) -> Y``: a 1x1 Conv with W and B, an activation
                          with the attributes of one after ``inner_``, and the depthwise Conv
                          with taps and taps_B that the other attributes describe; all with
                          channels last.
ConvInteger, QLinearConv  The standard operator; with ``channels_last=1`` X and Y are
                          ``[N, spatial..., C]``, W is unchanged. QLinearConv may have five more
                          inputs, ``(residual, residual_scale, residual_zero?, sum_scale,
                          sum_zero?)``: the result is QLinearAdd of Y and residual, or with
                          ``residual_first=1`` of residual and Y.
MaxPool, AveragePool,     The standard operator on ``[N, spatial..., C]``, with
InstanceNormalization,    ``channels_last=1``; MaxPool has only its first output.
GroupNormalization
SkipLayerNormalization,   ``(X, skip, scale, bias?) -> (Y, sum)``, attribute epsilon: the
SkipRMSNormalization      normalization over the last axis of ``sum = X + skip``.
Attention                 The standard operator, where Q may have three axes and K and V four (then
                          without attribute kv_num_heads), with up to three more inputs:
                          ``sink``, ``[heads of Q]``: one more score for each head, of a key
                          without a value, and ``starts, length``: the presents, which are attended
                          to, are UpdateCache of the pasts and of K and V of three axes.
MatMulNBits               ``(A, B, scales, zero_points?, g_idx?, bias?) -> Y``, attributes K, N,
                          bits and block_size: a product with weights of 2, 4 or 8 bits that
                          are packed along K, and have a scale and a zero point for each
                          block; ``values`` names what the patterns stand for.
ProjectNBits              ``(X, B, scales, zero_points?, bias?, norm?, residual?) -> Y``:
                          MatMulNBits of ``RMSNormalization(X, norm)``, attribute epsilon; with
                          ``gated=1`` swish(first half of the columns) * second half; plus
                          residual, of the shape of Y.
QLinearAdd                ``(A, A_scale, A_zero?, B, B_scale, B_zero?, Y_scale, Y_zero?) -> Y``:
                          the sum of bytes with a scale and a zero point each.
QLinearMatMul             The standard operator, with up to ten more inputs: ``(row, row_scale,
                          row_zero?, row_sum_scale, row_sum_zero?, residual, residual_scale,
                          residual_zero?, sum_scale, sum_zero?)``. The result is QLinearAdd of
                          Y and row, ``[N]``, and then of that and residual, of the shape of Y;
                          ``row_first=1`` and ``residual_first=1`` swap the operands.
ResizeSum                 ``(X1, ..., Xn) -> Y``: the sum of images ``[N, H, W, C]``, each resized
                          to attribute sizes, with the attributes of Resize.
UpdateCache               ``(cache, rows, starts, length) -> Y``: in ``cache``, ``[batch, heads, L,
                          size]``, ``rows``, ``[batch, N, heads * size]``, go to where each
                          sample starts. Y is ``length`` long if L is less.
CacheRows                 ``(Q?, K, V, past_key, past_value, starts, length, cos?, sin?, ids?) ->
                          (Y, present_key, present_value)``: UpdateCache of both caches, after
                          RotaryEmbedding of Q, which gives Y, and of K where there are angles;
                          attributes num_heads, kv_num_heads, interleaved and
                          rotary_embedding_dim.
Elementwise               ``(inputs...) -> outputs``, attribute ``body``: a graph of
                          standard elementwise operators, broadcasting as these do.
========================  ========================================================================

``activation`` names a standard operator (or GeluTanh); ``activation_alpha`` and ``activation_beta``
are its parameters, and for Clip the bounds.
"""

from __future__ import annotations

from collections.abc import Callable

from bascule.ir.graph import FUSED_DOMAIN, Function, Node
from bascule.optimizer.fused.attention import (
    define_attention,
    define_cache_rows,
    define_update_cache,
)
from bascule.optimizer.fused.body import OPSET, Body
from bascule.optimizer.fused.channels_last import define_channels_last
from bascule.optimizer.fused.convolution import (
    define_convolution,
    define_integer_convolution,
    define_pointwise_depthwise,
)
from bascule.optimizer.fused.elementwise import define_elementwise
from bascule.optimizer.fused.matmul import define_matmul, define_project, define_qlinear_matmul
from bascule.optimizer.fused.packed_weights import define_matmul_nbits, define_project_nbits
from bascule.optimizer.fused.quantized_sum import define_qlinear_add
from bascule.optimizer.fused.resize_sum import define_resize_sum
from bascule.optimizer.fused.skip_normalization import (
    define_skip_layer_normalization,
    define_skip_rms_normalization,
)
from bascule.optimizer.fused.split_matmul import define_split_matmul

__all__ = ["definition"]

_DEFINITIONS: dict[str, Callable[[Node], Body | None]] = {
    "MatMul": define_matmul,
    "Project": define_project,
    "SplitMatMul": define_split_matmul,
    "Conv": define_convolution,
    "ConvTranspose": define_convolution,
    "PointwiseDepthwiseConv": define_pointwise_depthwise,
    "ConvInteger": define_integer_convolution,
    "QLinearConv": define_integer_convolution,
    "MaxPool": define_channels_last,
    "AveragePool": define_channels_last,
    "InstanceNormalization": define_channels_last,
    "GroupNormalization": define_channels_last,
    "SkipLayerNormalization": define_skip_layer_normalization,
    "SkipRMSNormalization": define_skip_rms_normalization,
    "Attention": define_attention,
    "MatMulNBits": define_matmul_nbits,
    "ProjectNBits": define_project_nbits,
    "QLinearAdd": define_qlinear_add,
    "QLinearMatMul": define_qlinear_matmul,
    "ResizeSum": define_resize_sum,
    "UpdateCache": define_update_cache,
    "CacheRows": define_cache_rows,
    "Elementwise": define_elementwise,
}


def definition(node: Node) -> Function | None:
    """What `node` of domain ``bascule`` computes, made of standard operators of the newest opset.

    The attributes, the optional inputs that are present and the ranks of the inputs are worked
    into the body, so each node has a definition of its own. None if the operator is not a fused
    one, or if a rank that the definition depends on is unknown.
    """
    define = _DEFINITIONS.get(node.op_type) if node.domain == FUSED_DOMAIN else None
    body = None if define is None else define(node)
    if body is None:
        return None
    return Function(
        domain=FUSED_DOMAIN,
        name=node.op_type,
        overload=node.overload,
        body=body.graph,
        opset_imports={"": OPSET},
    )
