# SPDX-License-Identifier: Apache-2.0
"""Operators of domain ai.onnx.ml."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import EVERY_VERSION, rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node

ML_DOMAIN = "ai.onnx.ml"


@rewrite("LabelEncoder", until=1, types=True, domain=ML_DOMAIN)
def label_encoder(node: Node, build: Builder) -> None:
    """A list of strings, looked up by position or by content depending on the input's type."""
    classes = node.attributes.pop("classes_strings", None)
    if classes is None:
        raise build.invalid("attribute 'classes_strings' is missing")
    _between_strings_and_integers(node, build, classes, list(range(len(classes))))


@rewrite("CategoryMapper", until=EVERY_VERSION, types=True, domain=ML_DOMAIN)
def category_mapper(node: Node, build: Builder) -> None:
    """LabelEncoder from strings to integers or back, depending on the input's type."""
    strings = node.attributes.pop("cats_strings", [])
    integers = node.attributes.pop("cats_int64s", [])
    if len(strings) != len(integers):
        raise build.invalid(f"{len(strings)} cats_strings and {len(integers)} cats_int64s")
    _between_strings_and_integers(node, build, strings, integers)
    node.op_type = "LabelEncoder"


def _between_strings_and_integers(
    node: Node, build: Builder, strings: list[str], integers: list[int]
) -> None:
    default_int = node.attributes.pop("default_int64", -1)
    default_string = node.attributes.pop("default_string", "_Unused")
    x = node.inputs[0]
    assert x is not None
    if x.dtype is DataType.STRING or node.output.dtype is DataType.INT64:
        node.attributes.update(
            keys_strings=strings, values_int64s=integers, default_int64=default_int
        )
    elif x.dtype is DataType.INT64 or node.output.dtype is DataType.STRING:
        node.attributes.update(
            keys_int64s=integers, values_strings=strings, default_string=default_string
        )
    else:
        raise build.invalid("the type of the input is not known")


@rewrite("ArrayFeatureExtractor", until=EVERY_VERSION, types=True, domain=ML_DOMAIN)
def array_feature_extractor(node: Node, build: Builder) -> None:
    """Gather along the last axis, where a vector is one row."""
    x, indices = node.inputs
    assert x is not None and indices is not None
    flat = build.as_vector(indices)
    if x.rank is not None and x.rank > 1:
        build.become("Gather", x, flat, axis=-1)
        return
    gathered = build.op("Gather", x, flat, axis=-1)
    if x.rank == 1:
        build.become("Unsqueeze", gathered, build.ints(0))
        return
    # A leading 1 if the rank is 1: the first 2 - rank elements of [1], none if that is negative.
    missing = build.op("Sub", build.ints(2), build.as_vector(build.rank(x)))
    lead = build.op("Slice", build.ints(1), build.ints(0), build.op("Max", missing, build.ints(0)))
    shape = build.op("Concat", lead, build.op("Shape", gathered), axis=0)
    build.become("Reshape", gathered, shape, allowzero=1)
