# SPDX-License-Identifier: Apache-2.0
"""Fuse scaled dot-product attention, with its masks, into Attention.

Before:
    g (float[2,4,5,8] q, float[2,4,6,8] k, float[2,4,6,8] v, float[2,1,5,6] mask)
        => (float[2,4,5,8] y) {
        c = Constant<value_float = 0.25>()
        kt = Transpose<perm = [0, 1, 3, 2]>(k)
        product = MatMul(q, kt)
        scaled = Mul(product, c)
        scores = Add(scaled, mask)
        p = Softmax<axis = -1>(scores)
        y = MatMul(p, v)
    }
After:
    g (float[2,4,5,8] q, float[2,4,6,8] k, float[2,4,6,8] v, float[2,1,5,6] mask)
        => (float[2,4,5,8] y) {
        y = Attention<scale = 0.25>(q, k, v, mask)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.types import Shape, TensorType
from bascule.optimizer.attention_scores import (
    Scores,
    find_probabilities,
    find_scores,
    with_softcap_undone,
    without_scale,
)
from bascule.optimizer.attribute_precision import fits_attribute
from bascule.optimizer.dims import dims_of, keeps_elements_in_place, same_dim
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

p, v = values("p", "v")


@rule(op.MatMul(p, v))
def fuse_attention(match: Match) -> Value | Reject | None:
    probabilities = find_probabilities(match[p], match.root)
    if probabilities is None:
        return None
    scores = find_scores(probabilities.scores, probabilities.softmax)
    scores = None if scores is None else with_softcap_undone(scores)
    if scores is None:
        return Reject("the scores are not a product with a scale and masks", probabilities.scores)
    query, scale = without_scale(match.build, scores.product.input(0), scores.scale)
    key, scale = _transposed_back(match.build, scores.product.input(1), scale)
    if query is None or key is None:
        return Reject("the key is not transposed", scores.product.output)
    value = match[v]
    if query.rank == 4:
        key, value = _unrepeated(key), _unrepeated(value)
    if not fits_attribute(scale, query.dtype) or not fits_attribute(scores.softcap, query.dtype):
        return Reject("the scale is more precise than an attribute", query)
    reason = _mismatch(query, key, value)
    if reason:
        return Reject(reason, query, key, value)
    mask = _mask(match.build, scores, query, key)
    plain = query.rank == 3
    q_dims, v_dims = dims_of(query), dims_of(value)
    assert query.dtype is not None and q_dims is not None and v_dims is not None
    return match.build.Attention(
        query,
        key,
        value,
        mask,
        scale=scale,
        softcap=scores.softcap or None,
        is_causal=1 if scores.causal else None,
        q_num_heads=1 if plain else None,
        kv_num_heads=1 if plain else None,
        softmax_precision=probabilities.precision,
        type=TensorType(query.dtype, (*q_dims[:-1], v_dims[-1])),
    )


q, k = values("q", "k")


@rule(op.Attention(q, k, v, ...))
def fuse_attention_groups(match: Match) -> Value | None:
    """Heads of key and value that are repeated for groups of query heads."""
    node = match.root
    key, value = _unrepeated(match[k]), _unrepeated(match[v])
    if key is match[k] or value is match[v] or match[q].rank != 4 or len(node.inputs) > 4:
        return None
    if _mismatch(match[q], key, value):
        return None
    inputs = [match[q], key, value, *node.inputs[3:]]
    return match.build.node("Attention", inputs, node.attributes, type=node.output.type).output


def _transposed_back(
    build: Builder, value: Value | None, scale: float
) -> tuple[Value | None, float]:
    """The key of which `value` is the transposed and perhaps scaled one."""
    value, scale = without_scale(build, value, scale)
    node = None if value is None else value.producer
    if value is None or value.rank not in (3, 4):
        return None, scale
    if node is not None and node.is_op("Reshape"):
        flat = _transposed_flat(node) or _split_flat(build, node)
        if flat is not None:
            return without_scale(build, flat, scale)
    permutation = list(range(value.rank))
    source: Value | None = value
    if node is not None and node.is_op("Transpose"):
        permutation = list(node.attribute("perm") or reversed(permutation))
        source, scale = without_scale(build, node.input(0), scale)
    swapped = [*permutation[:-2], permutation[-1], permutation[-2]]
    if swapped == sorted(swapped):
        return source, scale
    return build.Transpose(source, perm=swapped), scale


def _transposed_flat(node: Node) -> Value | None:
    """x of rank 4 in ``Reshape(Transpose(Reshape(x)))`` that swaps its last two axes."""
    transpose = None if node.input(0) is None else node.input(0).producer  # type: ignore[union-attr]
    if transpose is None or not transpose.is_op("Transpose"):
        return None
    flat = None if transpose.input(0) is None else transpose.input(0).producer  # type: ignore[union-attr]
    if list(transpose.attribute("perm") or ()) != [0, 2, 1] or flat is None:
        return None
    source = flat.input(0)
    if not flat.is_op("Reshape") or source is None:
        return None
    before, middle, after = dims_of(source), flat.output.shape, dims_of(node.output)
    if before is None or middle is None or after is None or len(after) != 4:
        return None
    wanted: Shape
    if len(before) == 5 and source.producer is not None and source.producer.is_op("Expand"):
        repeated = _repeated(source, after)
        wanted = (before[0], after[1], before[3], before[4])
        found = repeated
    else:
        wanted, found = before, source
    if found is None or len(wanted) != 4:
        return None
    rows, columns = wanted[2], wanted[3]
    if not same_dim(middle[2], columns) or not same_dim(after[2], columns):
        return None
    swapped = (after[0], after[1], after[3], after[2])
    if not keeps_elements_in_place(wanted, swapped):
        return None
    # [-1, rows, columns]: heads and batch are joined, nothing else.
    return found if same_dim(middle[1], rows) or same_dim(after[3], middle[1]) else None


def _split_flat(build: Builder, node: Node) -> Value | None:
    """x of rank 3, parted into heads, in ``Reshape(Transpose(x))`` that swaps its last two axes."""
    transpose = None if node.input(0) is None else node.input(0).producer  # type: ignore[union-attr]
    if transpose is None or not transpose.is_op("Transpose"):
        return None
    source, after = transpose.input(0), dims_of(node.output)
    before = None if source is None else dims_of(source)
    if list(transpose.attribute("perm") or ()) != [0, 2, 1] or source is None or before is None:
        return None
    if after is None or len(after) != 4 or not all(map(same_dim, after[2:], before[:0:-1])):
        return None
    sizes = [after[0], after[1], after[3], after[2]]
    if sum(not isinstance(dim, int) for dim in sizes) > 1:
        return None
    shape = np.array([dim if isinstance(dim, int) else -1 for dim in sizes], np.int64)
    return build.Reshape(
        source, shape, type=TensorType(source.dtype or DataType.FLOAT, tuple(sizes))
    )


def _repeated(value: Value, after: Shape) -> Value | None:
    """x of ``Expand(Unsqueeze(x, 2))``: each head of x stands for several."""
    expand = value.producer
    unsqueeze = expand.input(0).producer if expand is not None and expand.input(0) else None  # type: ignore[union-attr]
    if expand is None or unsqueeze is None or not expand.is_op("Expand"):
        return None
    source = unsqueeze.input(0)
    if not unsqueeze.is_op("Unsqueeze", "Reshape") or source is None or source.rank != 4:
        return None
    inner, outer = dims_of(source), dims_of(unsqueeze.output)
    if inner is None or outer is None or len(outer) != 5 or outer[2] != 1:
        return None
    if not keeps_elements_in_place((*inner[:2], 1, *inner[2:]), outer):
        return None
    heads, repeated = inner[1], after[1]
    if not isinstance(heads, int) or not isinstance(repeated, int) or repeated % heads:
        return None
    dims = dims_of(value)
    if dims is None or len(dims) != 5 or dims[2] not in (repeated // heads, None):
        return None
    return source


def _unrepeated(value: Value) -> Value:
    """The value whose heads are repeated for groups of query heads, else `value` itself."""
    node, after = value.producer, dims_of(value)
    source = None if node is None else node.input(0)
    if node is None or not node.is_op("Reshape") or source is None or after is None:
        return value
    if source.rank != 5 or len(after) != 4:
        return value
    found = _repeated(source, after)
    dims = None if found is None else dims_of(found)
    if found is None or dims is None or not same_dim(dims[3], after[3]):
        return value
    return found


def _mismatch(query: Value, key: Value, value: Value) -> str:
    """Why these cannot be the inputs of one Attention; empty when they can."""
    shapes = [dims_of(each) for each in (query, key, value)]
    q, k, v = shapes
    if q is None or k is None or v is None or not len(q) == len(k) == len(v):
        return "the ranks are not known to be equal"
    if len(q) not in (3, 4):
        return "the rank is neither 3 nor 4"
    if not same_dim(q[0], k[0]) or not same_dim(k[0], v[0]):
        return "the batch sizes are not known to be equal"
    if len(q) == 4:
        if not same_dim(k[1], v[1]):
            return "key and value are not known to have the same number of heads"
        grouped = isinstance(q[1], int) and isinstance(k[1], int) and k[1] and q[1] % k[1] == 0
        if not same_dim(q[1], k[1]) and not grouped:
            return "the heads of the query are not known to share those of the key"
    return ""


def _mask(build: Builder, scores: Scores, query: Value, key: Value) -> Value | None:
    """One mask that stands for all, made to reach over the whole last axis."""
    assert query.dtype is not None
    dtype = query.dtype.numpy
    masks = list(scores.additive)
    choices = list(scores.choices)
    if not masks and choices and all(each.number == -np.inf for each in choices):
        masks = [each.condition if each.keeps else build.Not(each.condition) for each in choices]
        join = build.And
    else:
        zero = np.zeros((), dtype)
        for each in choices:
            number = np.asarray(each.number, dtype)
            branches = (zero, number) if each.keeps else (number, zero)
            masks.append(build.Where(each.condition, *branches))
        join = build.Add
    if not masks:
        return None
    mask = masks[0]
    for other in masks[1:]:
        mask = join(mask, other)
    return _reaching(build, mask, query, key)


def _length_of(build: Builder, key: Value) -> Value:
    """The length of the key, as a vector of one; parts of a cache are counted one by one."""
    node, rank = key.producer, key.rank or 4
    if node is not None and node.is_op("Concat") and node.attribute("axis") in (-2, rank - 2):
        parts = [_length_of(build, part) for part in node.inputs if part is not None]
        total = parts[0]
        for part in parts[1:]:
            total = build.Add(total, part)
        return total
    return build.Shape(key, start=rank - 2, end=rank - 1)


def _reaching(build: Builder, mask: Value, query: Value, key: Value) -> Value:
    """`mask` with the length of the key as its last size, and with an axis for one head."""
    keys = None if key.shape is None else dims_of(key)
    length = None if keys is None else keys[-2]
    shape = mask.shape
    if shape is None or not shape or not same_dim(shape[-1], length):
        if isinstance(length, int):
            target = build.constant(np.array([length], np.int64))
        else:
            target = _length_of(build, key)
        mask = build.Expand(mask, target)
    if query.rank == 3 and len(shape or ()) == 3:
        mask = build.Unsqueeze(mask, np.array([1], np.int64))
    return mask
