# SPDX-License-Identifier: Apache-2.0
"""Elementwise arithmetic, logic, activations and casts."""

from __future__ import annotations

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value

_HINTED = (
    "Abs",
    "Add",
    "BatchNormalization",
    "Ceil",
    "Clip",
    "Div",
    "Dropout",
    "Elu",
    "Exp",
    "Floor",
    "HardSigmoid",
    "InstanceNormalization",
    "LeakyRelu",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Reshape",
    "Selu",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
)


@rewrite(*_HINTED, until=1)
def consumed_inputs(node: Node, build: Builder) -> None:
    """A hint about memory, which has no meaning for the result."""
    node.attributes.pop("consumed_inputs", None)


@rewrite("Selu", until=1)
def selu(node: Node, build: Builder) -> None:
    """The defaults had fewer digits."""
    node.attributes.setdefault("alpha", 1.673200011253357)
    node.attributes.setdefault("gamma", 1.0506999492645264)


@rewrite(
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "And",
    "Or",
    "Xor",
    "Equal",
    "Greater",
    "Less",
    until=6,
    types=True,
)
def limited_broadcast(node: Node, build: Builder) -> None:
    """`axis` says where the shape of B lies in the shape of A; NumPy wants ones after it."""
    broadcast = node.attributes.pop("broadcast", 0)
    axis = node.attributes.pop("axis", None)
    if not broadcast or axis is None:
        return  # without an axis the shapes are matched from the end, as NumPy does
    a, b = node.inputs
    assert a is not None and b is not None
    node.set_input(1, _append_ones(build, a, b, axis))


def _append_ones(build: Builder, a: Value, b: Value, axis: int) -> Value:
    if a.rank is not None and b.rank is not None:
        start = axis + a.rank if axis < 0 else axis
        if start + b.rank > a.rank and axis >= 0:
            raise build.invalid(f"axis {axis} leaves no room for the {b.rank} dimensions of B")
        trailing = max(a.rank - start - b.rank, 0)
        if not trailing:
            return b
        return build.op("Unsqueeze", b, build.ints(*range(b.rank, b.rank + trailing)))
    if axis < 0:
        room = build.int_scalar(-axis)
    else:
        room = build.op("Sub", build.rank(a), build.int_scalar(axis))
    trailing_ones = build.ones(build.op("Sub", room, build.rank(b)))
    shape = build.op("Concat", build.shape(b), trailing_ones, axis=0)
    return build.op("Reshape", b, shape, allowzero=1)


@rewrite("PRelu", until=6, types=True)
def prelu(node: Node, build: Builder) -> None:
    """A slope for each channel was a vector; it has to be broadcast from the second axis."""
    x, slope = node.inputs
    assert x is not None and slope is not None
    if slope.rank != 1 or slope.shape == (1,) or (x.rank is not None and x.rank <= 2):
        return
    if x.rank is not None:
        node.set_input(1, build.op("Unsqueeze", slope, build.ints(*range(1, x.rank - 1))))
        return
    trailing = build.ones(build.op("Sub", build.rank(x), build.int_scalar(2)))
    shape = build.op("Concat", build.ints(-1), trailing, axis=0)
    node.set_input(1, build.op("Reshape", slope, shape))


@rewrite("Clip", until=10, types=True)
def clip(node: Node, build: Builder) -> None:
    """The bounds are inputs."""
    x = node.inputs[0]
    assert x is not None
    bounds = [node.attributes.pop(name, None) for name in ("min", "max")]
    node.set_inputs([x, *(None if bound is None else build.like(bound, x) for bound in bounds)])


@rewrite("Cast", until=5)
def cast_to_name(node: Node, build: Builder) -> None:
    """The type was given by its name."""
    name = node.attributes["to"]
    try:
        node.attributes["to"] = int(DataType[name.upper()])
    except KeyError:
        raise build.invalid(f"there is no element type '{name}'") from None


_FNUZ = (DataType.FLOAT8E4M3FNUZ, DataType.FLOAT8E5M2FNUZ)
_WITHOUT_INFINITY = frozenset(
    dtype for dtype in DataType if not dtype.is_float and dtype is not DataType.UNDEFINED
) - {DataType.STRING}


@rewrite("Cast", "CastLike", since=19, until=23, types=True)
def cast_infinity_to_fnuz(node: Node, build: Builder) -> None:
    """Infinity became NaN in the types without infinity and negative zero; now it saturates."""
    x = node.inputs[0]
    assert x is not None
    if node.op_type == "Cast":
        target = node.attributes["to"]
    else:
        like = node.inputs[1]
        target = like.dtype if like is not None else None
    if target not in _FNUZ or not node.attribute("saturate", 1) or x.dtype in _WITHOUT_INFINITY:
        return
    if x.dtype not in (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16, DataType.DOUBLE):
        # Exact for every type that has infinities; Where takes no 8-bit types.
        x = build.op("Cast", x, to=int(DataType.DOUBLE))
        x_nan = build.op("Cast", build.floats(float("nan")), to=int(DataType.DOUBLE))
    else:
        x_nan = build.like(float("nan"), x)
    node.set_input(0, build.op("Where", build.op("IsInf", x), x_nan, x))


@rewrite("Erf", until=9, types=True)
def erf_of_integers(node: Node, build: Builder) -> None:
    """Erf took integers, and gave integers back."""
    build.through_double()


@rewrite("Dropout", until=11, types=True)
def dropout(node: Node, build: Builder) -> None:
    """Dropout for inference is the identity, with a mask that keeps everything."""
    x = node.inputs[0]
    assert x is not None
    ratio = node.attributes.pop("ratio", 0.5)
    trains = build.version < 7 and not node.attributes.pop("is_test", 0)
    mask_is_bool = build.version >= 10
    if trains:
        node.set_inputs([x, build.like(ratio, x), _true(build)])
        if len(node.outputs) > 1 and not mask_is_bool:
            build.convert_output(1, "CastLike", x)
        return
    for mask in build.drop_outputs(1):
        if not mask.is_unused:
            keep = _true(build) if mask_is_bool else build.like(1.0, x)
            build.op("Expand", keep, build.shape(x), outputs=[mask])
    build.become("Identity", x)


def _true(build: Builder) -> Value:
    return build.constant(np.array(True))
