# SPDX-License-Identifier: Apache-2.0
"""Nodes that another version of their operator takes as they are, or with a constant moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bascule.ir.types import TensorType, Type

# The version from which an operator means something else by the same words.
_CHANGED = {
    "Softmax": 13,
    "LogSoftmax": 13,
    "Hardmax": 13,
    "Scan": 9,
    "Upsample": 9,
    "Resize": 11,
    "GroupNormalization": 21,
}
# What an operator did before it had an attribute to say so, and the version that has it.
_IMPLIED: dict[tuple[str, str], tuple[int, bytes]] = {
    ("RoiAlign", "coordinate_transformation_mode"): (16, b"output_half_pixel"),
}
_ALIASES = {"input_mean": "mean", "input_var": "var"}
"""Inputs that got another name, and nothing else."""

# Values of attributes by the version that they came with.
_VALUES: dict[tuple[str, str], dict[bytes, int]] = {
    ("ScatterND", "reduction"): {b"max": 18, b"min": 18},
    ("ScatterElements", "reduction"): {b"max": 18, b"min": 18},
    ("Pad", "mode"): {b"wrap": 19},
}
# Values of attributes that have another name since a version.
_RENAMED: dict[tuple[str, str], tuple[int, dict[bytes, bytes]]] = {
    ("GridSample", "mode"): (20, {b"bilinear": b"linear", b"bicubic": b"cubic"}),
}
# Attributes that are inputs of another name in other versions.
_MOVED = {("Pad", "value"): "constant_value"}

Array = np.ndarray[Any, Any]


_AXES_FROM_FRONT = {"Flatten": "axis", "Squeeze": "axes", "Unsqueeze": "axes"}
"""Operators whose axes count from the front alone before opset 11, and where they are."""


def schema_of(node: onnx.NodeProto, version: int) -> onnx.defs.OpSchema | None:
    """The operator of a node in an opset, None where it has none or does not want it any more."""
    try:
        found = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else found


def relabel(
    node: onnx.NodeProto,
    old: onnx.defs.OpSchema,
    new: onnx.defs.OpSchema,
    types: Mapping[str, Type],
    constants: Mapping[str, onnx.TensorProto],
    moved: bool = False,
) -> onnx.NodeProto | None:
    """The node for another version of its operator; None where that means something else.

    With `moved`, its inputs and attributes are those of the new version already.
    """
    if not moved and (_crosses(_CHANGED.get(node.op_type), old, new) or _differs(node, old, new)):
        return None
    if not new.min_input <= len(node.input) <= new.max_input:
        return None
    if not new.min_output <= len(node.output) <= new.max_output:
        return None
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    for name, formal in zip(node.input, new.inputs):
        if not name and formal.option != optional:
            return None
    names = [
        [_ALIASES.get(formal.name, formal.name) for formal in schema.inputs]
        for schema in (old, new)
    ]
    count = min(len(node.input), len(names[0]), len(names[1]))
    if not moved and names[0][:count] != names[1][:count]:
        return None
    if not fits_types(node, new, types):
        return None
    return _with_attributes(node, old, new, constants)


def _differs(node: onnx.NodeProto, old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> bool:
    """Whether a node is of those that mean something else in the other version."""
    given = {each.name: each.i for each in node.attribute}
    if node.op_type == "AveragePool":
        return _crosses(19, old, new) and given.get("ceil_mode", 0) == 1
    if node.op_type == "BatchNormalization":
        training = given.get("training_mode", 0) == 1 or len(node.output) > 1
        return _crosses(14, old, new) and training
    if node.op_type == "Split":
        return _crosses(18, old, new) and len(node.input) < 2
    formals = {formal.name for formal in new.inputs}
    for name, known in old.attributes.items():  # a default that is an input now
        if name in formals and name not in new.attributes and known.default_value.name:
            return True
    return False


def _crosses(version: int | None, old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> bool:
    low, high = sorted((old.since_version, new.since_version))
    return version is not None and low < version <= high


def fits_types(node: onnx.NodeProto, schema: onnx.defs.OpSchema, types: Mapping[str, Type]) -> bool:
    """Whether the operator takes and makes the types of a node, as far as they are known."""
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for i, name in enumerate(names):
            formal = formals[min(i, len(formals) - 1)]
            type_ = types.get(name)
            if isinstance(type_, TensorType) and str(type_) not in formal.types:
                return False
    return True


def _with_attributes(
    node: onnx.NodeProto,
    old: onnx.defs.OpSchema,
    new: onnx.defs.OpSchema,
    constants: Mapping[str, onnx.TensorProto],
) -> onnx.NodeProto | None:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    given = {attribute.name: attribute for attribute in node.attribute}
    is_per_axis = node.op_type in ("QuantizeLinear", "DequantizeLinear")
    if is_per_axis and "axis" not in new.attributes and not _has_one_scale(node, constants):
        return None
    for (operator, name), (since, implied) in _IMPLIED.items():
        if operator != node.op_type or not _crosses(since, old, new):
            continue
        if new.since_version >= since:
            made.attribute.append(helper.make_attribute(name, implied))
        elif name not in given or given[name].s != implied:
            return None
        else:
            del given[name]
    for name, attribute in given.items():
        known = new.attributes.get(name)
        if known is None:
            if not _can_be_left_out(node, attribute, old, constants):
                return None
            continue
        if int(known.type) != attribute.type:
            return None
        values = _VALUES.get((node.op_type, name), {})
        if values.get(attribute.s, 0) > new.since_version:
            return None
        copy = made.attribute.add()
        copy.CopyFrom(attribute)
        since, renamed = _RENAMED.get((node.op_type, name), (0, {}))
        if since and _crosses(since, old, new):
            table = renamed if new.since_version >= since else {v: k for k, v in renamed.items()}
            copy.s = table.get(copy.s, copy.s)
    for name, known in new.attributes.items():
        if name in given:
            continue
        before = old.attributes.get(name)
        if known.required:
            return None
        if before is None or not before.default_value.name:
            continue
        if before.default_value.SerializeToString() != known.default_value.SerializeToString():
            made.attribute.add().CopyFrom(before.default_value)
    return made


def _can_be_left_out(
    node: onnx.NodeProto,
    attribute: onnx.AttributeProto,
    old: onnx.defs.OpSchema,
    constants: Mapping[str, onnx.TensorProto],
) -> bool:
    """Whether an attribute that the new version lacks changes nothing."""
    value = helper.get_attribute_value(attribute)
    known = old.attributes.get(attribute.name)
    if attribute.name == "axis" and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return _has_one_scale(node, constants)
    has_default = known is not None and known.default_value.name
    if has_default and value == helper.get_attribute_value(known.default_value):
        return True
    if attribute.name == "dilations":
        return set(value) <= {1}
    if attribute.name == "allowzero":  # matters only to a shape with a 0
        shape = constants.get(node.input[1])
        return shape is not None and bool((numpy_helper.to_array(shape) != 0).all())
    if attribute.name == "noop_with_empty_axes":
        return any(each.name == "axes" and each.ints for each in node.attribute)
    return False


def _has_one_scale(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    scale = constants.get(node.input[1])
    return scale is not None and not scale.dims


def last_axis_softmax(
    node: onnx.NodeProto,
    old: onnx.defs.OpSchema,
    new: onnx.defs.OpSchema,
    types: Mapping[str, Type],
) -> onnx.NodeProto | None:
    """A Softmax, or one of its kin, along the last axis, for an opset before or after 13.

    Before it the axes from the given one on were taken together, which makes no difference there.
    """
    if node.op_type not in ("Softmax", "LogSoftmax", "Hardmax") or not _crosses(13, old, new):
        return None
    type_ = types.get(node.input[0])
    if not isinstance(type_, TensorType) or type_.shape is None:
        return None
    rank = len(type_.shape)
    default = -1 if old.since_version >= 13 else 1
    axis = next((each.i for each in node.attribute if each.name == "axis"), default)
    if axis % max(rank, 1) != rank - 1 or not fits_types(node, new, types):
        return None
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    made.attribute.append(helper.make_attribute("axis", rank - 1))
    return made


def count_axes_from_front(node: onnx.NodeProto, types: Mapping[str, Type]) -> bool:
    """Make axes below 0, which these operators had not before opset 11, others, in place.

    False where that takes a rank that is not known.
    """
    name = _AXES_FROM_FRONT.get(node.op_type)
    attribute = next((each for each in node.attribute if each.name == name), None)
    if attribute is None:
        return True
    axes = attribute.ints or [attribute.i]
    if min(axes) >= 0:
        return True
    type_ = types.get(node.input[0])
    if not isinstance(type_, TensorType) or type_.shape is None:
        return False
    rank = len(type_.shape) + (len(axes) if node.op_type == "Unsqueeze" else 0)
    found = [axis + rank if axis < 0 else axis for axis in axes]
    attribute.CopyFrom(helper.make_attribute(attribute.name, found if attribute.ints else found[0]))
    return True


def plain_constant(node: onnx.NodeProto, new: onnx.defs.OpSchema | None) -> onnx.NodeProto | None:
    """A Constant whose number or text is a tensor, where the new version knows nothing else."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    (attribute,) = node.attribute
    if new is not None and attribute.name in new.attributes:
        return None
    if not attribute.name.startswith("value_"):
        return None
    kind = attribute.name.removeprefix("value_").rstrip("s")
    dtype: Any = {"float": np.float32, "int": np.int64, "string": object}.get(kind)
    if dtype is None:
        return None
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    array = np.asarray(helper.get_attribute_value(attribute), dtype)
    made.attribute.append(helper.make_attribute("value", numpy_helper.from_array(array)))
    return made


def move_constants(
    node: onnx.NodeProto,
    old: onnx.defs.OpSchema,
    new: onnx.defs.OpSchema,
    constants: Mapping[str, onnx.TensorProto],
    types: Mapping[str, Type],
) -> tuple[onnx.NodeProto, dict[str, Array]] | None:
    """The node with constants as inputs that were attributes, or the other way round.

    Returns it and the arrays of its new inputs, by the names that they have in it for now; None
    where nothing can be moved.
    """
    old_names = [formal.name for formal in old.inputs]
    made = onnx.NodeProto()
    made.CopyFrom(node)
    added: dict[str, Array] = {}
    moved = False
    # To attributes: the last inputs, as long as the new version has attributes of their names.
    while made.input and len(made.input) <= len(old_names):
        name = old_names[len(made.input) - 1]
        attribute = next(
            (a for (op, a), i in _MOVED.items() if (op, i) == (node.op_type, name)), name
        )
        known = new.attributes.get(attribute)
        if known is None:
            break
        given = made.input[-1]
        if given:
            if given not in constants:
                return None
            value = _attribute_value(constants[given], known)
            made.attribute.append(helper.make_attribute(attribute, value))
        del made.input[-1]
        moved = True
    # To inputs.
    formals = [formal.name for formal in new.inputs]
    named = {attribute.name for attribute in made.attribute}
    for name, known in old.attributes.items():
        if name in formals and name not in (*named, *new.attributes) and known.default_value.name:
            made.attribute.add().CopyFrom(known.default_value)
    for attribute in list(made.attribute):
        name = _MOVED.get((node.op_type, attribute.name), attribute.name)
        if attribute.name in new.attributes or name not in formals:
            continue
        place = formals.index(name)
        while len(made.input) <= place:
            made.input.append("")
        made.input[place] = name
        added[name] = _input_array(attribute, new.inputs[place], node, types)
        made.attribute.remove(attribute)
        moved = True
    if node.op_type == "Resize" and new.since_version == 11:
        for place, name in ((1, "roi"), (2, "scales")):  # which may not be left out yet
            if not made.input[place]:
                made.input[place] = name
                added[name] = np.zeros(0, np.float32)
                moved = True
    if node.op_type == "Split" and "num_outputs" not in new.attributes:
        moved = _split_sizes(made, added, new, types) or moved
    return (made, added) if moved else None


def _attribute_value(tensor: onnx.TensorProto, known: Any) -> Any:
    values = numpy_helper.to_array(tensor)
    kinds = onnx.defs.OpSchema.AttrType
    if known.type in (kinds.INTS, kinds.FLOATS):
        return values.reshape(-1).tolist()
    return values.reshape(-1)[0].item()


def _input_array(
    attribute: onnx.AttributeProto, formal: Any, node: onnx.NodeProto, types: Mapping[str, Type]
) -> Array:
    """The value of an attribute as a tensor of a type that the input takes."""
    value = helper.get_attribute_value(attribute)
    first = types.get(node.input[0]) if node.input else None
    if isinstance(value, float) or (
        isinstance(value, list) and value and isinstance(value[0], float)
    ):
        dtype: Any = np.float32
        if isinstance(first, TensorType) and str(first) in formal.types and first.dtype.is_float:
            dtype = first.dtype.numpy
        return np.asarray(value, dtype)
    array = np.asarray(value, np.int64)
    return array.reshape(1) if node.op_type == "TopK" else array


def _split_sizes(
    made: onnx.NodeProto,
    added: dict[str, Array],
    new: onnx.defs.OpSchema,
    types: Mapping[str, Type],
) -> bool:
    """Sizes in place of the number of outputs; whether they are known."""
    counted = [each for each in made.attribute if each.name == "num_outputs"]
    if not counted:
        return False
    axis = next((each.i for each in made.attribute if each.name == "axis"), 0)
    type_ = types.get(made.input[0])
    size = type_.shape[axis] if isinstance(type_, TensorType) and type_.shape else None
    if not isinstance(size, int):
        return False
    count = counted[0].i
    each = -(-size // count)
    sizes = [max(min(each, size - each * i), 0) for i in range(count)]
    made.attribute.remove(counted[0])
    if "split" in new.attributes:
        made.attribute.append(helper.make_attribute("split", sizes))
    else:
        made.input.append("split")
        added["split"] = np.array(sizes, np.int64)
    return True
