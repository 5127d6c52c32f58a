# SPDX-License-Identifier: Apache-2.0
"""How each operator works on channels-last values: with its axes moved, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.ir.types import Shape, TensorType
from bascule.optimizer.channels_last import (
    RANKS,
    Layouts,
    Result,
    last_axis,
    last_type,
    permuted,
    to_first,
    to_last,
    weight_of,
)
from bascule.optimizer.dims import dims_of, same_dim
from bascule.optimizer.fuse_elementwise import BROADCASTING, UNARY
from bascule.optimizer.pattern import attribute_of, constant_of

Carrier = Callable[[Node, Layouts], "list[Result] | None"]


def carry_convolution(node: Node, layouts: Layouts) -> list[Result] | None:
    x, weight = node.input(0), node.input(1)
    if x is None or weight is None or weight.rank not in RANKS or x.rank not in (None, weight.rank):
        return None
    if x.rank is None:
        return None
    inputs = [layouts.last(x), *node.inputs[1:]]
    residual = node.input(3)
    if residual is not None:
        inputs[3] = layouts.last(residual)
    return _fused(node, layouts, inputs)


def carry_integer_convolution(node: Node, layouts: Layouts) -> list[Result] | None:
    x, rank = node.input(0), node.output.rank
    if x is None or rank not in RANKS or x.rank != rank:
        return None
    return _fused(node, layouts, [layouts.last(x), *node.inputs[1:]])


def carry_quantized_sum(node: Node, layouts: Layouts) -> list[Result] | None:
    """QLinearAdd of two tensors of one rank."""
    a, b, rank = node.input(0), node.input(3), node.output.rank
    if a is None or b is None or rank not in RANKS or a.rank != rank or b.rank != rank:
        return None
    if sum(weight_of(v) * (1 if layouts.has_last(v) else -1) for v in (a, b)) < 0:
        return None
    inputs = [layouts.last(a), *node.inputs[1:3], layouts.last(b), *node.inputs[4:]]
    type = last_type(node.output, a, rank or 0)
    made = layouts.build.node(node.op_type, inputs, domain=FUSED_DOMAIN, type=type)
    return [Result(made.output)]


def _carry_pool(node: Node, layouts: Layouts) -> list[Result] | None:
    x = node.input(0)
    if x is None or x.rank not in RANKS or any(not each.is_unused for each in node.outputs[1:]):
        return None
    if attribute_of(node, "storage_order"):
        return None
    return _fused(node, layouts, [layouts.last(x), *node.inputs[1:]])


def _fused(node: Node, layouts: Layouts, inputs: list[Value | None]) -> list[Result]:
    """The operator's own channels-last form."""
    x = inputs[0]
    assert x is not None and x.rank is not None
    made = layouts.build.node(
        node.op_type,
        inputs,
        node.attributes | {"channels_last": 1},
        domain=FUSED_DOMAIN,
        type=last_type(node.output, x, x.rank),
    )
    return [Result(made.output)]


def _again(
    node: Node, layouts: Layouts, inputs: Sequence[Value | None], **attributes: object
) -> list[Result]:
    """The same operator on other inputs, with some attributes changed."""
    made = layouts.build.node(
        node.op_type, inputs, node.attributes | attributes, outputs=len(node.outputs)
    )
    for old, new in zip(node.outputs, made.outputs):
        if new.type is None:
            # A result of unknown type has the rank of what it is made of.
            rank = old.rank or next(v.rank for v in inputs if v is not None and v.rank)
            new.type = last_type(old, inputs[0], rank)
    return [Result(value) for value in made.outputs]


def _carry_unary(node: Node, layouts: Layouts) -> list[Result] | None:
    x = node.input(0)
    others = [value for value in node.inputs[1:] if value is not None]
    if x is None or not layouts.has_last(x) or any(value.rank != 0 for value in others):
        return None
    return _again(node, layouts, [layouts.known_last(x), *node.inputs[1:]])


def _carry_broadcasting(node: Node, layouts: Layouts) -> list[Result] | None:
    rank = node.output.rank
    values = [value for value in node.inputs if value is not None]
    if rank not in RANKS or any(value.rank is None for value in values):
        return None
    gain = 0
    for value in values:
        constant = constant_of(value)
        if value.rank == rank and layouts.has_last(value):
            gain += weight_of(value)
        elif value.rank == rank and constant is None:
            gain -= weight_of(value)
        elif value.rank not in (0, rank) and constant is None:
            return None
    if gain < 0 or not any(value.rank == rank and layouts.has_last(value) for value in values):
        return None
    return _again(node, layouts, [_broadcast(v, rank or 0, layouts) for v in node.inputs])


def _broadcast(value: Value | None, rank: int, layouts: Layouts) -> Value | None:
    if value is None or value.rank == 0:
        return value
    constant = constant_of(value)
    if constant is None or value.rank == rank:
        return layouts.last(value)
    array = constant.numpy().reshape((1,) * (rank - len(constant.shape)) + constant.shape)
    return layouts.build.constant(np.ascontiguousarray(array.transpose(to_last(rank))), value.name)


def _carry_concat(node: Node, layouts: Layouts) -> list[Result] | None:
    rank = node.output.rank
    values = [value for value in node.inputs if value is not None]
    moving = sum(weight_of(v) for v in values if not layouts.has_last(v) and not constant_of(v))
    staying = sum(weight_of(v) for v in values if layouts.has_last(v))
    if rank not in RANKS or moving > staying or any(value.rank != rank for value in values):
        return None
    axis = last_axis(node.attribute("axis"), rank or 0)
    return _again(node, layouts, [layouts.last(value) for value in values], axis=axis)


def _carry_axis(node: Node, layouts: Layouts) -> list[Result] | None:
    """Operators whose only axis is an attribute: Split, Softmax."""
    x = node.input(0)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    rank = x.rank or 0
    axis = last_axis(attribute_of(node, "axis"), rank)
    if not node.is_op("Split") and axis != rank - 1:
        return None  # kernels work along the last axis
    return _again(node, layouts, [layouts.known_last(x), *node.inputs[1:]], axis=axis)


def _carry_normalization(node: Node, layouts: Layouts) -> list[Result] | None:
    x = node.input(0)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    return _fused(node, layouts, [layouts.known_last(x), *node.inputs[1:]])


def _carry_batch_normalization(node: Node, layouts: Layouts) -> list[Result] | None:
    """With constants it is a scale and a shift of each channel."""
    x = node.input(0)
    arrays = [constant_of(value) for value in node.inputs[1:5]]
    if x is None or not layouts.has_last(x) or any(each is None for each in arrays):
        return None
    if node.attribute("training_mode", 0) or x.dtype is None:
        return None
    scale, bias, mean, variance = (a.numpy().astype(np.float64) for a in arrays if a is not None)
    factor = scale / np.sqrt(variance + attribute_of(node, "epsilon"))
    shift = bias - mean * factor
    source, dtype = layouts.known_last(x), x.dtype.numpy
    scaled = layouts.build.Mul(source, factor.astype(dtype), type=source.type)
    return [Result(layouts.build.Add(scaled, shift.astype(dtype), type=source.type))]


def _carry_reduction(node: Node, layouts: Layouts) -> list[Result] | None:
    x, axes_input = node.input(0), constant_of(node.input(1))
    if x is None or not layouts.has_last(x) or x.rank not in RANKS or axes_input is None:
        return None
    rank = x.rank or 0
    axes = [int(axis) % rank for axis in axes_input.numpy().reshape(-1)]
    if not axes:
        return None
    keep = attribute_of(node, "keepdims")
    spatial = set(range(2, rank))
    if not keep and 1 not in axes and not spatial <= set(axes):
        return None  # the remaining axes would come in another order
    moved = np.array(sorted(last_axis(axis, rank) for axis in axes), np.int64)
    inputs = [layouts.known_last(x), layouts.build.constant(moved, "axes")]
    if keep:
        return _again(node, layouts, inputs)
    made = layouts.build.node(node.op_type, inputs, node.attributes, type=node.output.type)
    return [Result(made.output, is_last=False)]


def _carry_position(node: Node, layouts: Layouts) -> list[Result] | None:
    """ArgMax and ArgMin."""
    x = node.input(0)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    rank, keep = x.rank or 0, attribute_of(node, "keepdims")
    axis = attribute_of(node, "axis") % rank
    if not keep and axis != 1:
        return None  # the remaining axes would come in another order
    moved = {"axis": last_axis(axis, rank)}
    type = last_type(node.output, node.output, rank) if keep else node.output.type
    made = layouts.build.node(
        node.op_type, [layouts.known_last(x)], node.attributes | moved, type=type
    )
    return None if made.output.rank is None else [Result(made.output, is_last=bool(keep))]


def _carry_global_pool(node: Node, layouts: Layouts) -> list[Result] | None:
    x = node.input(0)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    axes = np.arange(1, (x.rank or 0) - 1, dtype=np.int64)
    reduce = "ReduceMean" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    inputs = [layouts.known_last(x), layouts.build.constant(axes, "axes")]
    type = last_type(node.output, x, x.rank or 0)
    return [Result(layouts.build.node(reduce, inputs, {"keepdims": 1}, type=type).output)]


def _carry_slice(node: Node, layouts: Layouts) -> list[Result] | None:
    x, axes = node.input(0), constant_of(node.input(3))
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    starts = node.input(1)
    count = None if starts is None or not starts.static_shape else starts.static_shape[0]
    if starts is None or count is None or (axes is None and node.input(3) is not None):
        return None
    rank = x.rank or 0
    listed = range(count) if axes is None else axes.numpy().reshape(-1)
    indices = np.int32 if starts.dtype is DataType.INT32 else np.int64
    moved = np.array([last_axis(int(axis), rank) for axis in listed], indices)
    inputs = [layouts.known_last(x), *node.inputs[1:3], layouts.build.constant(moved, "axes")]
    return _again(node, layouts, [*inputs, *node.inputs[4:]])


def _carry_pad(node: Node, layouts: Layouts) -> list[Result] | None:
    x, pads, axes = node.input(0), constant_of(node.input(1)), constant_of(node.input(3))
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    rank = x.rank or 0
    if axes is not None:
        moved = np.array([last_axis(int(a), rank) for a in axes.numpy().reshape(-1)], np.int64)
        listed = layouts.build.constant(moved, "axes")
        return _again(node, layouts, [layouts.known_last(x), *node.inputs[1:3], listed])
    if pads is None or node.input(3) is not None:
        return None
    per_axis = pads.numpy().reshape(2, rank)[:, to_last(rank)].reshape(-1)
    inputs = [layouts.known_last(x), layouts.build.constant(per_axis, "pads"), node.input(2)]
    return _again(node, layouts, inputs)


def _carry_resize(node: Node, layouts: Layouts) -> list[Result] | None:
    x, roi = node.input(0), node.input(1)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    rank = x.rank or 0
    if attribute_of(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    inputs: list[Value | None] = [layouts.known_last(x), None, None, None]
    if roi is not None and roi.is_graph_output:
        return None
    axes = node.attribute("axes")
    if axes is not None:
        inputs[2:] = [node.input(2), node.input(3)]
        return _again(node, layouts, inputs, axes=[last_axis(axis, rank) for axis in axes])
    for index in (2, 3):
        value = node.input(index)
        if value is not None and value.shape != (0,):
            inputs[index] = _permuted_vector(value, to_last(rank), layouts)
    return _again(node, layouts, inputs)


def _permuted_vector(value: Value, permutation: list[int], layouts: Layouts) -> Value:
    """A vector with an element for each axis, in another order."""
    constant = constant_of(value)
    if constant is not None:
        return layouts.build.constant(constant.numpy().reshape(-1)[permutation], value.name)
    indices = layouts.build.constant(np.array(permutation, np.int64), "order")
    return layouts.build.Gather(value, indices, axis=0)


def _carry_transpose(node: Node, layouts: Layouts) -> list[Result] | None:
    """A Transpose of a value that has a channels-last form reads that one."""
    x = node.input(0)
    permutation = node.attribute("perm")
    if x is None or not layouts.has_last(x) or permutation is None:
        return None
    first = to_first(len(permutation))
    both = [first[axis] for axis in permutation]
    source = layouts.known_last(x)
    if both == sorted(both):
        return [Result(source, is_last=False)]
    if x.producer is not None and x.producer.input(0) is source:
        return None  # the model's own Transposes; merging them is another pass
    made = layouts.build.Transpose(source, perm=both, type=node.output.type)
    return [Result(made, is_last=False)]


def _carry_shape(node: Node, layouts: Layouts) -> list[Result] | None:
    x = node.input(0)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    rank = x.rank or 0
    start, end = node.attribute("start", 0), node.attribute("end", rank)
    wanted = to_first(rank)[slice(start, end)]
    whole = layouts.build.Shape(layouts.known_last(x))
    indices = layouts.build.constant(np.array(wanted, np.int64), "order")
    return [Result(layouts.build.Gather(whole, indices, axis=0), is_last=False)]


def _carry_reshape(node: Node, layouts: Layouts) -> list[Result] | None:
    """Spatial axes may be joined or parted while batch and channels stay.

    Without spatial axes (all are 1) both layouts have their elements in the same order.
    """
    x = node.input(0)
    if x is None or not layouts.has_last(x) or x.rank not in RANKS:
        return None
    before, after = dims_of(x), dims_of(node.output)
    if before is None or after is None or 0 in (*before, *after):
        return None
    source = layouts.known_last(x)
    if all(dim == 1 for dim in before[2:]):
        return _carry_flat(node, layouts, source)
    if not node.is_op("Reshape"):
        return None
    if len(after) == len(before) + 1 and _same_ends(before, after):
        return _carry_channel_split(node, layouts, before, after)
    if len(after) not in RANKS:
        return None
    if not same_dim(before[0], after[0]) or not same_dim(before[1], after[1]):
        return None
    rank = len(after)
    order = to_last(rank)
    shape = node.input(1)
    unknown = [axis for axis in range(2, rank) if not isinstance(after[axis], int)]
    if len(unknown) <= 1 and isinstance(after[1], int):
        sizes = [0, *(dim if isinstance(dim, int) else -1 for dim in after[2:]), after[1]]
        moved = layouts.build.constant(np.array(sizes, np.int64), "shape")
    elif shape is not None and constant_of(shape) is None and node.attribute("allowzero", 0):
        moved = _permuted_vector(shape, order, layouts)
    else:
        return None
    type = permuted(node.output.type, order)
    return [Result(layouts.build.Reshape(source, moved, type=type))]


def _carry_block_move(node: Node, layouts: Layouts) -> list[Result] | None:
    """DepthToSpace and SpaceToDepth, as the Transpose of their blocks that they are."""
    x = node.input(0)
    shape = None if x is None else dims_of(x)
    if x is None or not layouts.has_last(x) or shape is None or len(shape) != 4:
        return None
    if not all(isinstance(dim, int) and dim for dim in shape[1:]):
        return None
    block = node.attribute("blocksize")
    _, channels, height, width = (dim if isinstance(dim, int) else 0 for dim in shape)
    if node.is_op("SpaceToDepth"):
        parted = [0, height // block, block, width // block, block, channels]
        order, joined = [0, 1, 3, 2, 4, 5], [height // block, width // block, channels * block**2]
    else:
        depth = channels // block**2
        if attribute_of(node, "mode") == "CRD":
            parted, order = [0, height, width, depth, block, block], [0, 1, 4, 2, 5, 3]
        else:
            parted, order = [0, height, width, block, block, depth], [0, 1, 3, 2, 4, 5]
        joined = [height * block, width * block, depth]
    build = layouts.build
    dtype = x.dtype
    if dtype is None:
        return None
    blocks = build.Reshape(
        layouts.known_last(x),
        np.array(parted, np.int64),
        type=TensorType(dtype, (shape[0], *parted[1:])),
    )
    moved = build.Transpose(blocks, perm=order, type=permuted(blocks.type, order))
    sizes = np.array([0, *joined], np.int64)
    return [Result(build.Reshape(moved, sizes, type=TensorType(dtype, (shape[0], *joined))))]


def _same_ends(before: Shape, after: Shape) -> bool:
    """True when batch and spatial sizes stay, and channels are known numbers."""
    spatial = len(before) - 2
    return (
        same_dim(before[0], after[0])
        and all(map(same_dim, before[2:], after[len(after) - spatial :]))
        and all(isinstance(dim, int) for dim in (before[1], *after[1 : len(after) - spatial]))
    )


def _carry_channel_split(
    node: Node, layouts: Layouts, before: Shape, after: Shape
) -> list[Result] | None:
    """``[N, C, spatial...]`` as ``[N, A, B, spatial...]``: a Transpose comes after the Reshape."""
    x = node.input(0)
    assert x is not None
    spatial = len(before) - 2
    sizes = [0, *before[2:], *after[1:3]]
    unknown = [index for index, dim in enumerate(sizes) if not isinstance(dim, int)]
    if len(unknown) > 1:
        return None
    shape = np.array([-1 if index in unknown else sizes[index] for index in range(len(sizes))])
    order = [0, spatial + 1, spatial + 2, *range(1, spatial + 1)]
    back = [order.index(axis) for axis in range(len(order))]
    split = layouts.build.Reshape(
        layouts.known_last(x), shape.astype(np.int64), type=permuted(node.output.type, back)
    )
    made = layouts.build.Transpose(split, perm=order, type=node.output.type)
    return [Result(made, is_last=False)]


def _carry_flat(node: Node, layouts: Layouts, source: Value) -> list[Result] | None:
    x, type = node.input(0), node.output.type
    assert x is not None
    if node.is_op("Flatten"):
        if node.attribute("axis", 1) != 1:
            return None
        return [Result(layouts.build.Flatten(source, axis=1, type=type), is_last=False)]
    if node.is_op("Squeeze"):
        axes = constant_of(node.input(1))
        if axes is None:
            return None
        rank = x.rank or 0
        gone = {int(axis) % rank for axis in axes.numpy().reshape(-1)}
        left = [axis for axis in to_last(rank) if axis not in gone]
        if left != sorted(left):  # an axis of the image would stay in front of the channels
            return _carry_known_shape(node, layouts, source)
        moved = np.array(sorted(last_axis(axis, rank) for axis in gone))
        return [Result(layouts.build.Squeeze(source, moved.astype(np.int64), type=type), False)]
    sizes = constant_of(node.input(1))
    if sizes is None or (not node.attribute("allowzero", 0) and 0 in sizes.numpy()[1:]):
        return _carry_known_shape(node, layouts, source)
    shape = node.input(1)
    made = layouts.build.Reshape(source, shape, allowzero=node.attribute("allowzero"), type=type)
    return [Result(made, is_last=False)]


def _carry_known_shape(node: Node, layouts: Layouts, source: Value) -> list[Result] | None:
    """The sizes that the result is known to have, where zeros would copy others."""
    after = dims_of(node.output)
    if after is None or sum(not isinstance(dim, int) for dim in after) > 1 or 0 in after:
        return None
    sizes = [dim if isinstance(dim, int) else -1 for dim in after]
    shape = layouts.build.constant(np.array(sizes, np.int64), "shape")
    return [Result(layouts.build.Reshape(source, shape, type=node.output.type), is_last=False)]


def _carry_quantization(node: Node, layouts: Layouts) -> list[Result] | None:
    """QuantizeLinear and DequantizeLinear, per tensor or along one axis."""
    x, scale = node.input(0), node.input(1)
    if x is None or scale is None or not layouts.has_last(x) or scale.rank not in (0, 1):
        return None
    rank = x.rank or 0
    axis = last_axis(attribute_of(node, "axis"), rank)
    changed = {} if scale.rank == 0 else {"axis": axis}
    return _again(node, layouts, [layouts.known_last(x), *node.inputs[1:]], **changed)


def _carry_dynamic_quantization(node: Node, layouts: Layouts) -> list[Result] | None:
    x = node.input(0)
    if x is None or not layouts.has_last(x) or node.output.rank not in RANKS:
        return None
    made = layouts.build.node(node.op_type, [layouts.known_last(x)], outputs=3)
    for old, new in zip(node.outputs[1:], made.outputs[1:]):
        new.type = old.type
    made.outputs[0].type = last_type(node.output, x, node.output.rank or 0)
    quantized, *others = made.outputs
    return [Result(quantized), *(Result(value, is_last=False) for value in others)]


CARRIERS: dict[str, Carrier] = {
    **dict.fromkeys(UNARY, _carry_unary),
    **dict.fromkeys(("Identity", "Selu", "Clip"), _carry_unary),
    **dict.fromkeys(BROADCASTING, _carry_broadcasting),
    **dict.fromkeys(("MaxPool", "AveragePool"), _carry_pool),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _carry_normalization),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _carry_global_pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Split"), _carry_axis),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), _carry_reshape),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _carry_quantization),
    **dict.fromkeys(
        ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceL2"), _carry_reduction
    ),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _carry_block_move),
    **dict.fromkeys(("ArgMax", "ArgMin"), _carry_position),
    "BatchNormalization": _carry_batch_normalization,
    "Concat": _carry_concat,
    "DynamicQuantizeLinear": _carry_dynamic_quantization,
    "Pad": _carry_pad,
    "Resize": _carry_resize,
    "Shape": _carry_shape,
    "Slice": _carry_slice,
    "Transpose": _carry_transpose,
}
"""By operator: what makes its channels-last form, given that an input has one."""
