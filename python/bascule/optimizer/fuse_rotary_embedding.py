# SPDX-License-Identifier: Apache-2.0
"""Fuse the rotation of halves by a position's angles into RotaryEmbedding.

The formula has cos and sin of ``Concat(angles, angles)``; the operator takes each angle once.

Before:
    g (float[1,2,3,4] x, float[1,3,2] angles) => (float[1,2,3,4] y) {
        zero = Constant<value_ints = [0]>()
        half = Constant<value_ints = [2]>()
        whole = Constant<value_ints = [4]>()
        one = Constant<value_ints = [1]>()
        last = Constant<value_ints = [3]>()
        both = Concat<axis = -1>(angles, angles)
        c = Cos(both)
        s = Sin(both)
        cos = Unsqueeze(c, one)
        sin = Unsqueeze(s, one)
        straight = Mul(x, cos)
        x1 = Slice(x, zero, half, last)
        x2 = Slice(x, half, whole, last)
        minus = Neg(x2)
        turned = Concat<axis = -1>(minus, x1)
        across = Mul(turned, sin)
        y = Add(straight, across)
    }
After:
    g (float[1,2,3,4] x, float[1,3,2] angles) => (float[1,2,3,4] y) {
        c = Cos(angles)
        s = Sin(angles)
        y = RotaryEmbedding(x, c, s)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.ir.types import TensorType
from bascule.optimizer.attention_scores import number_of
from bascule.optimizer.dims import dims_of, same_dim, with_same_batch
from bascule.optimizer.pattern import any_of, constant_of, constants, op, values
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

x, cos, sin = values("x", "cos", "sin")
start_1, end_1, start_2, end_2, axes_1, axes_2, size = constants(
    "start_1", "end_1", "start_2", "end_2", "axes_1", "axes_2", "size"
)

_FIRST, _SECOND = op.Slice(x, start_1, end_1, axes_1, ...), op.Slice(x, start_2, end_2, axes_2, ...)
_SPLIT = op.Split(x, ..., outputs=2)
_TURNED = any_of(op.Concat(op.Neg(_SECOND), _FIRST), op.Concat(op.Neg(_SPLIT[1]), _SPLIT[0]))


@rule(op.Add(op.Mul(x, cos), op.Mul(_TURNED, sin)))
def fuse_rotary_embedding(match: Match) -> Value | Reject | None:
    value, turned = match[x], match.node(_TURNED)
    shape = dims_of(value)
    if shape is None or len(shape) != 4 or not isinstance(shape[3], int) or shape[3] % 2:
        return Reject("x is not of rank 4 with a known, even last size", value)
    if turned.attribute("axis") not in (-1, 3) or not _are_halves(match, shape[3]):
        return Reject("x is not turned by halves", value)
    halves = [_half(match.build, match[each], shape[3]) for each in (cos, sin)]
    caches = [None if half is None else _cache(match.build, half, value) for half in halves]
    if any(each is None for each in caches):
        return Reject("cos and sin are not known to repeat", match[cos], match[sin])
    return match.build.RotaryEmbedding(value, *caches, type=value.type)


def _are_halves(match: Match, columns: int) -> bool:
    half = columns // 2
    if _SPLIT in match:
        node = match.node(_SPLIT)
        last = node.outputs[0].shape
        return node.attribute("axis", 0) in (-1, 3) and last is not None and last[-1] == half
    for node, axes in ((match.node(_FIRST), axes_1), (match.node(_SECOND), axes_2)):
        steps = number_of(node.input(4)) if node.input(4) is not None else 1
        if match.array(axes).reshape(-1).tolist() not in ([-1], [3]) or steps != 1:
            return False
    first = _range(match, start_1, end_1, columns)
    second = _range(match, start_2, end_2, columns)
    return first == (0, half) and second == (half, columns)


def _range(match: Match, start: object, end: object, columns: int) -> tuple[int, int]:
    found = []
    for each in (start, end):
        index = int(match.array(each).reshape(-1)[0])  # type: ignore[arg-type]
        found.append(min(max(index + columns if index < 0 else index, 0), columns))
    return found[0], found[1]


def _half(build: Builder, value: Value, columns: int) -> Value | None:
    """The first half along the last axis of a value whose halves are equal."""
    constant = constant_of(value)
    if constant is not None and constant.shape and constant.shape[-1] == columns:
        array = constant.numpy()
        first, second = array[..., : columns // 2], array[..., columns // 2 :]
        return build.constant(np.ascontiguousarray(first)) if (first == second).all() else None
    node = value.producer
    if node is None or value.shape is None:
        return None
    if node.is_op("Concat") and node.attribute("axis") in (-1, len(value.shape) - 1):
        same = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
        return node.inputs[0] if same else None
    source = node.input(0)
    if source is None:
        return None
    if node.is_op("Cos", "Sin", "Cast", "Unsqueeze"):
        if node.is_op("Unsqueeze") and (source.rank != 3 or value.shape[1] != 1):
            return None
        inner = _half(build, source, columns)
        if inner is None or node.is_op("Unsqueeze"):
            return inner
        return build.node(node.op_type, [inner], node.attributes).output
    if node.is_op("Mul"):
        for factor, other in zip(node.inputs, reversed(node.inputs)):
            if number_of(factor) is not None and other is not None:
                inner = _half(build, other, columns)
                return None if inner is None else build.Mul(inner, factor)
    return None


def _cache(build: Builder, half: Value, value: Value) -> Value | None:
    """`half` as ``[batch, sequence, columns / 2]`` for this value."""
    shape, dims = half.shape, dims_of(value)
    if shape is None or dims is None:
        return None
    constant = constant_of(half)
    if len(shape) == 4:
        if shape[1] != 1:
            return None
        if constant is not None:
            half = build.constant(np.squeeze(constant.numpy(), 1))
        else:
            half = build.Squeeze(half, np.array([1], np.int64))
    elif len(shape) == 2:
        half = build.Unsqueeze(half, np.array([0], np.int64))
    elif len(shape) != 3:
        return None
    rows = (half.shape or shape)[-2]
    if not same_dim(rows, dims[2]):
        return None
    batch = half.shape[0] if half.shape is not None else shape[0] if len(shape) > 2 else 1
    if same_dim(batch, dims[0]):
        return half
    if batch != 1 or half.dtype is None:
        return None
    count = build.Shape(with_same_batch(value), start=0, end=1)
    sizes = build.Concat(count, build.Shape(half, start=1, end=3), axis=0)
    return build.Expand(half, sizes, type=TensorType(half.dtype, (dims[0], rows, shape[-1])))


_ROTATED = op.RotaryEmbedding(_FIRST, cos, sin)


@rule(op.Concat(_ROTATED, _SECOND))
def fuse_rotary_embedding_part(match: Match) -> Value | None:
    """The rest of x, behind the columns that turn, passes through the operator too."""
    value, node = match[x], match.node(_ROTATED)
    shape = dims_of(value)
    if shape is None or len(shape) != 4 or not isinstance(shape[3], int) or node.attributes:
        return None
    if match.root.attribute("axis") not in (-1, 3):
        return None
    for part, axes in ((match.node(_FIRST), axes_1), (match.node(_SECOND), axes_2)):
        steps = number_of(part.input(4)) if part.input(4) is not None else 1
        if match.array(axes).reshape(-1).tolist() not in ([-1], [3]) or steps != 1:
            return None
    first = _range(match, start_1, end_1, shape[3])
    if first[0] != 0 or _range(match, start_2, end_2, shape[3]) != (first[1], shape[3]):
        return None
    return match.build.RotaryEmbedding(
        value, match[cos], match[sin], rotary_embedding_dim=first[1], type=value.type
    )
