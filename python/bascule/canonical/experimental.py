# SPDX-License-Identifier: Apache-2.0
"""Operators that no version of the standard has, yet models do.

ONNX dropped its experiments in opset 10 and earlier; other runtimes have registered a few operators
of their own in the default domain.
"""

from __future__ import annotations

import numpy as np

from bascule.canonical.builder import INT64_MAX, Builder
from bascule.canonical.registry import rewrite
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value


@rewrite("LayerNormalization", "ThresholdedRelu", until=0)
def as_in_the_standard(node: Node, build: Builder) -> None:
    """Used before the opset that has it, with the meaning that the standard gave it later."""


@rewrite("MemcpyFromHost", "MemcpyToHost", until=0)
def copy_between_devices(node: Node, build: Builder) -> None:
    """Written by a runtime that had given its nodes to devices; here a session does that anew."""
    build.become("Identity", _input(node, build))


@rewrite("Affine", until=0)
def affine(node: Node, build: Builder) -> None:
    x = _input(node, build)
    product = build.op("Mul", x, build.like(node.attribute("alpha", 1.0), x))
    build.become("Add", product, build.like(node.attribute("beta", 0.0), x))


@rewrite("Scale", until=0)
def scale(node: Node, build: Builder) -> None:
    x = _input(node, build)
    build.become("Mul", x, build.like(node.attribute("scale", 1.0), x))


@rewrite("ImageScaler", until=0)
def image_scaler(node: Node, build: Builder) -> None:
    """The bias is one number for each channel of an image."""
    x = _input(node, build)
    product = build.op("Mul", x, build.like(node.attribute("scale", 1.0), x))
    bias = np.array(node.attribute("bias", [0.0]), dtype=np.float32).reshape(-1, 1, 1)
    build.become("Add", product, build.like(bias, x))


@rewrite("ParametricSoftplus", until=0)
def parametric_softplus(node: Node, build: Builder) -> None:
    x = _input(node, build)
    inner = build.op("Mul", x, build.like(node.attribute("beta", 1.0), x))
    softplus = build.op("Softplus", inner)
    build.become("Mul", softplus, build.like(node.attribute("alpha", 1.0), x))


@rewrite("ScaledTanh", until=0)
def scaled_tanh(node: Node, build: Builder) -> None:
    x = _input(node, build)
    inner = build.op("Mul", x, build.like(node.attribute("beta", 1.0), x))
    build.become("Mul", build.op("Tanh", inner), build.like(node.attribute("alpha", 1.0), x))


@rewrite("MeanVarianceNormalization", until=0)
def mean_variance_normalization(node: Node, build: Builder) -> None:
    """Over the pixels of all images, as the standard's, and over their channels if told so."""
    x = _input(node, build)
    axes = [0, 1, 2, 3] if node.attribute("across_channels", 0) else [0, 2, 3]
    if node.attribute("normalize_variance", 1):
        build.become("MeanVarianceNormalization", x, axes=axes)
    else:
        build.become("Sub", x, build.op("ReduceMean", x, build.ints(*axes)))


@rewrite("Crop", until=0)
def crop(node: Node, build: Builder) -> None:
    """Cut the borders off an image, or take a window of size `scale` at the left and top ones."""
    border = node.attributes.get("border", [])
    if len(border) != 4:
        raise build.invalid("attribute 'border' must be left, top, right, bottom")
    left, top, right, bottom = border
    size = node.attributes.get("scale")
    if size is not None:
        if len(size) != 2:
            raise build.invalid("attribute 'scale' must be height, width")
        ends = [top + size[0], left + size[1]]
    else:
        ends = [-bottom or INT64_MAX, -right or INT64_MAX]
    x = _input(node, build)
    build.become("Slice", x, build.ints(top, left), build.ints(*ends), build.ints(2, 3))


@rewrite("DynamicSlice", until=0)
def dynamic_slice(node: Node, build: Builder) -> None:
    build.become("Slice", *node.inputs)


@rewrite("ConstantFill", until=0)
def constant_fill(node: Node, build: Builder) -> None:
    dtype = DataType(node.attribute("dtype", int(DataType.FLOAT)))
    value = Constant.from_numpy(np.array([node.attribute("value", 0.0)]).astype(dtype.numpy))
    build.become("ConstantOfShape", _fill_shape(node, build), value=value)


@rewrite("GivenTensorFill", until=0)
def given_tensor_fill(node: Node, build: Builder) -> None:
    values = build.floats(*node.attribute("values", []))
    build.become("Reshape", values, _fill_shape(node, build), allowzero=1)


def _fill_shape(node: Node, build: Builder) -> Value:
    """From the attribute; or the input's shape or, if told so, its content, and more after it."""
    source = node.input(0)
    if source is None:
        return build.ints(*node.attribute("shape", []))
    if node.attribute("input_as_shape", 0):
        shape = build.cast(source, DataType.INT64)
    else:
        shape = build.shape(source)
    extra = node.attribute("extra_shape", [])
    return build.op("Concat", shape, build.ints(*extra), axis=0) if extra else shape


@rewrite("SimplifiedLayerNormalization", until=0)
def simplified_layer_normalization(node: Node, build: Builder) -> None:
    """RMSNormalization, with the reciprocal of the root of the mean square as second output."""
    x = _input(node, build)
    for inverse in build.drop_outputs(1):
        if inverse.is_unused:
            continue
        epsilon = build.floats(node.attribute("epsilon", 1e-5))
        wide = build.cast(x, DataType.FLOAT)
        axes = build.op(
            "Range",
            *_range_from_axis(build, x, node.attribute("axis", -1)),
            build.int_scalar(1),
        )
        mean = build.op("ReduceMean", build.op("Mul", wide, wide), axes)
        root = build.op("Sqrt", build.op("Add", mean, epsilon))
        build.op("Reciprocal", root, outputs=[inverse])
    build.become("RMSNormalization", *node.inputs, **node.attributes)


def _range_from_axis(build: Builder, x: Value, axis: int) -> tuple[Value, Value]:
    if axis < 0:
        return build.int_scalar(axis), build.int_scalar(0)
    return build.int_scalar(axis), build.rank(x)


def _input(node: Node, build: Builder) -> Value:
    if not node.inputs or node.inputs[0] is None:
        raise build.invalid("the input is missing")
    return node.inputs[0]
