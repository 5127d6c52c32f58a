# SPDX-License-Identifier: Apache-2.0
"""Let Attention split and join the heads, in place of the Reshapes and Transposes around it.

Before:
    g (float[2,5,16] q, float[2,6,16] k, float[2,6,16] v) => (float[2,5,16] y) {
        heads = Constant<value_ints = [0, 0, 4, 4]>()
        whole = Constant<value_ints = [0, 0, 16]>()
        q4 = Reshape(q, heads)
        qh = Transpose<perm = [0, 2, 1, 3]>(q4)
        k4 = Reshape(k, heads)
        kh = Transpose<perm = [0, 2, 1, 3]>(k4)
        v4 = Reshape(v, heads)
        vh = Transpose<perm = [0, 2, 1, 3]>(v4)
        yh = Attention<scale = 0.5>(qh, kh, vh)
        y4 = Transpose<perm = [0, 2, 1, 3]>(yh)
        y = Reshape(y4, whole)
    }
After:
    g (float[2,5,16] q, float[2,6,16] k, float[2,6,16] v) => (float[2,5,16] y) {
        y = Attention<scale = 0.5, q_num_heads = 4, kv_num_heads = 4>(q, k, v)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.attention_scores import number_of, without_scale
from bascule.optimizer.attribute_precision import fits_attribute
from bascule.optimizer.dims import before_reshape, dims_of, keeps_elements_in_place, same_dim
from bascule.optimizer.pattern import any_of, op, shared, values
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

q, k, v, shape, inner_shape = values("q", "k", "v", "shape", "inner_shape")

_ATTENTION = shared(op.Attention(q, k, v, ..., outputs=3))
_SAME = op.Reshape(_ATTENTION, inner_shape)
_JOINED = op.Transpose(any_of(_ATTENTION, _SAME), perm=[0, 2, 1, 3])


@rule(op.Reshape(_JOINED, shape))
def fuse_attention_heads(match: Match) -> Value | Reject | None:
    node, y = match.node(_ATTENTION), match.root.output
    if match[q].rank != 4 or len(node.inputs) > 6:
        return None
    if len(match[_ATTENTION].uses) > 1 or match[_ATTENTION].is_graph_output:
        return Reject("the heads are read one by one too", match[_ATTENTION])
    if any(value.uses for value in node.outputs[1:]):
        return Reject("the cache has readers here", *node.outputs[1:])
    outer = dims_of(match[_ATTENTION])
    if _SAME in match and not keeps_elements_in_place(outer, match[_SAME].shape):
        return Reject("the heads are not known to stay", match[_SAME])
    splits = [_split(match.build, match[each]) for each in (q, k, v)]
    if any(each is None for each in splits):
        return Reject("query, key and value are not split into heads the same way", match[_JOINED])
    flat, heads = zip(*(each for each in splits if each is not None))
    query, scale = without_scale(match.build, flat[0], float(node.attribute("scale", 0.0)))
    fits = node.attribute("scale") and fits_attribute(scale, y.dtype)
    if query is not None and fits:
        flat = (query, *flat[1:])
    if heads[1] != heads[2]:
        return Reject("key and value have different heads", match[k], match[v])
    q_dims, v_dims = dims_of(flat[0]), dims_of(flat[2])
    if q_dims is None or v_dims is None or not isinstance(v_dims[2], int) or y.dtype is None:
        return None
    columns = v_dims[2] // heads[1] * heads[0]
    joined = (q_dims[0], q_dims[1], columns)
    attributes = node.attributes | {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
    if fits:
        attributes["scale"] = scale
    made = match.build.node(
        "Attention",
        [*flat, *node.inputs[3:]],
        attributes,
        outputs=len(node.outputs),
        type=TensorType(y.dtype, joined),
    )
    for old, new in zip(node.outputs[1:], made.outputs[1:]):
        new.type = old.type
        old.replace_uses(new)
    if y.rank == 3 and keeps_elements_in_place(joined, y.shape):
        return made.output
    return match.build.Reshape(
        made.output, match[shape], allowzero=match.root.attribute("allowzero"), type=y.type
    )


_ROWS = op.Attention(q, k, v, ...)


@rule(op.Reshape(_ROWS, shape))
def fuse_attention_rows(match: Match) -> Value | Reject | None:
    """Batch and heads were one axis, of which each element was attended alone."""
    node, y = match.node(_ROWS), match.root.output
    if node.attribute("q_num_heads") != 1 or y.rank != 4 or len(node.inputs) > 4:
        return None
    parted = [_before_joining(match[each]) for each in (q, k, v)]
    dims = [None if each is None else dims_of(each) for each in parted]
    query, key, value = dims
    if query is None or key is None or value is None:
        return None
    if not all(map(same_dim, query[:2], key[:2])) or not all(map(same_dim, key[:2], value[:2])):
        return Reject("query, key and value do not have the same heads", match[q], match[k])
    mask = node.input(3)
    if mask is not None and (mask.shape is None or mask.shape[0] != 1):
        return Reject("each head has a mask of its own", mask)
    result = (*query[:3], value[3])
    if not keeps_elements_in_place(result, y.shape):
        return Reject("the heads are not known to come back", y)
    attributes = {k: v for k, v in node.attributes.items() if not k.endswith("_num_heads")}
    inputs = [*parted, *node.inputs[3:]]
    return match.build.node("Attention", inputs, attributes, type=y.type).output


def _before_joining(value: Value) -> Value | None:
    """x of rank 4 when `value` is x with its first two axes joined."""
    node = value.producer
    source = None if node is None or not node.is_op("Reshape") else node.input(0)
    before, after = None if source is None else dims_of(source), dims_of(value)
    if before is None or after is None or len(before) != 4 or len(after) != 3:
        return None
    return source if all(map(same_dim, before[2:], after[1:])) else None


def _split(build: Builder, value: Value) -> tuple[Value, int] | None:
    """x of rank 3 and the number of heads when `value` is ``Transpose(Reshape(x))``."""
    bare = before_reshape(value)
    node = None if bare is None else bare.producer
    if node is None:
        return None
    if node.is_op("RotaryEmbedding") and node.output.rank == 4:
        return _split_rotary(build, node)
    if node.is_op("Squeeze", "Gather", "Reshape"):
        return _split_packed(build, node)
    if not node.is_op("Transpose") or list(node.attribute("perm") or ()) != [0, 2, 1, 3]:
        return None
    split = node.input(0)
    if split is None or split.producer is None or not split.producer.is_op("Reshape"):
        return None
    source, four = split.producer.input(0), dims_of(split)
    three = None if source is None else dims_of(source)
    if source is None or three is None or four is None or len(three) != 3:
        return None
    heads, size = four[2], four[3]
    if not isinstance(heads, int) or not isinstance(size, int) or not heads:
        return None
    if three[2] != heads * size or not keeps_elements_in_place(three[:2], four[:2]):
        return None
    return source, heads


def _split_packed(build: Builder, node: Node) -> tuple[Value, int] | None:
    """The same where query, key and value are parts of one ``Transpose(Reshape(x))``.

    x is ``[batch, sequence, parts * heads * size]`` and becomes ``[parts, batch, heads, sequence,
    size]``, of which one part is taken.
    """
    part = _part_of(node)
    transpose = None if part is None else part[0].producer
    if part is None or transpose is None or not transpose.is_op("Transpose"):
        return None
    split = transpose.input(0)
    if list(transpose.attribute("perm") or ()) != [2, 0, 3, 1, 4] or split is None:
        return None
    if split.producer is None or not split.producer.is_op("Reshape"):
        return None
    source, five = split.producer.input(0), dims_of(split)
    three = None if source is None else dims_of(source)
    if source is None or three is None or five is None or len(three) != 3 or len(five) != 5:
        return None
    parts, heads, size = five[2:]
    if not isinstance(parts, int) or not isinstance(heads, int) or not isinstance(size, int):
        return None
    if three[2] != parts * heads * size or not keeps_elements_in_place(three[:2], five[:2]):
        return None
    made = build.node("Split", [source], {"axis": 2, "num_outputs": parts}, outputs=parts)
    for output in made.outputs:
        output.type = TensorType(source.dtype or DataType.FLOAT, (*three[:2], heads * size))
    return made.outputs[part[1]], heads


def _part_of(node: Node) -> tuple[Value, int] | None:
    """The value of which `node` takes one element of the first axis, and which."""
    source = node.input(0)
    if source is None:
        return None
    if node.is_op("Gather"):
        index = number_of(node.input(1))
        scalar = node.input(1) is not None and node.input(1).rank == 0  # type: ignore[union-attr]
        if index is None or not scalar or node.attribute("axis", 0) != 0 or index < 0:
            return None
        return source, int(index)
    one = source.producer
    if one is None or source.rank != 5 or not dims_of(source) or dims_of(source)[0] != 1:  # type: ignore[index]
        return None
    whole = one.input(0)
    if node.output.rank != 4 or whole is None:
        return None
    if one.is_op("Split") and one.attribute("axis", 0) == 0:
        if any(each.shape is None or each.shape[0] != 1 for each in one.outputs):
            return None
        return whole, one.outputs.index(source)
    if one.is_op("Slice"):
        numbers = [number_of(one.input(index)) for index in range(1, 4)]
        start = numbers[0]
        if start is None or start < 0 or numbers[2] != 0:
            return None
        return whole, int(start)
    return None


def _split_rotary(build: Builder, node: Node) -> tuple[Value, int] | None:
    """The same behind a RotaryEmbedding, which then works on rank 3 too."""
    source = node.input(0)
    found = None if source is None else _split(build, source)
    if found is None:
        return None
    flat, heads = found
    rotated = build.node(
        "RotaryEmbedding",
        [flat, *node.inputs[1:]],
        node.attributes | {"num_heads": heads},
        type=flat.type,
    )
    return rotated.output, heads
