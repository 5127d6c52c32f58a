# SPDX-License-Identifier: Apache-2.0
"""Operators of domain ai.onnx.ml."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node


@rewrite("LabelEncoder", until=1, types=True, domain="ai.onnx.ml")
def label_encoder(node: Node, build: Builder) -> None:
    """A list of strings, looked up by position or by content depending on the input's type."""
    classes = node.attributes.pop("classes_strings", None)
    if classes is None:
        raise build.invalid("attribute 'classes_strings' is missing")
    default_int = node.attributes.pop("default_int64", -1)
    default_string = node.attributes.pop("default_string", "_Unused")
    x = node.inputs[0]
    assert x is not None
    positions = list(range(len(classes)))
    if x.dtype is DataType.STRING or node.output.dtype is DataType.INT64:
        node.attributes.update(
            keys_strings=classes, values_int64s=positions, default_int64=default_int
        )
    elif x.dtype is DataType.INT64 or node.output.dtype is DataType.STRING:
        node.attributes.update(
            keys_int64s=positions, values_strings=classes, default_string=default_string
        )
    else:
        raise build.invalid("the type of the input is not known")
