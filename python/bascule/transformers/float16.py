# SPDX-License-Identifier: Apache-2.0
"""convert_float_to_float16: a ModelProto whose float32 tensors are float16."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx

from bascule.tools.convert.rewrite import HALF, Rewriting, declared_floats, narrow_tensor

DEFAULT_OP_BLOCK_LIST = (
    *("NonMaxSuppression", "TopK", "RoiAlign", "Range", "CumSum", "Min", "Max", "Upsample"),
    *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"),
)
"""Operators that stay in float32: for some runtimes lack them in float16, or their results show."""


def convert_float_to_float16(
    model: onnx.ModelProto | str,
    min_positive_val: float = 5.96e-08,
    max_finite_val: float = 65504.0,
    keep_io_types: bool | Collection[str] = False,
    disable_shape_infer: bool = False,
    op_block_list: Collection[str] | None = None,
    node_block_list: Collection[str] | None = None,
    force_fp16_initializers: bool = False,
    **ignored: Any,
) -> onnx.ModelProto:
    """A copy of a model that computes in float16.

    Args:
        model: a ModelProto, or the path of one.
        min_positive_val: weights nearer to zero are moved to this size.
        max_finite_val: greater weights are clipped to this size.
        keep_io_types: all inputs and outputs, or those of these names, stay float32.
        disable_shape_infer: take types from the model alone, without inference.
        op_block_list: operators that stay in float32, by default DEFAULT_OP_BLOCK_LIST.
        node_block_list: names of nodes that stay in float32.
        force_fp16_initializers: accepted; weights of nodes in float32 stay exact.
        **ignored: other options of onnxruntime's function.

    Operators of domain ai.onnx.ml stay, too, and so does what a schema does not have in float16.
    Nested graphs are converted as the graph around them.
    """
    converted = onnx.load(model) if isinstance(model, str) else onnx.ModelProto()
    if isinstance(model, onnx.ModelProto):
        converted.CopyFrom(model)
    source = converted if disable_shape_infer else onnx.shape_inference.infer_shapes(converted)
    ops = set(DEFAULT_OP_BLOCK_LIST if op_block_list is None else op_block_list)
    nodes = set(node_block_list or ())

    def is_blocked(node: onnx.NodeProto) -> bool:
        return node.op_type in ops or node.name in nodes or node.domain == "ai.onnx.ml"

    def narrow(tensor: onnx.TensorProto) -> None:
        narrow_tensor(tensor, HALF, min_positive_val, max_finite_val)

    kept = set(keep_io_types) if isinstance(keep_io_types, Collection) else set()
    if keep_io_types is True:
        kept = {value.name for value in (*converted.graph.input, *converted.graph.output)}
    floats = declared_floats(source)
    Rewriting(converted, floats=floats, is_blocked=is_blocked, narrow=narrow).run(kept)
    return converted
