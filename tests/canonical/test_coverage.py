# SPDX-License-Identifier: Apache-2.0
"""Every version of every operator either has a rewrite or needs none.

A change between a version and the newest one that the schemas show must be covered by a rewrite, or
be listed below with what the older version meant. A newer onnx with new changes fails here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import onnx.defs
import pytest
from onnx import helper
from onnx.defs import OpSchema

from bascule.canonical import ML_DOMAIN, ML_OPSET
from bascule.canonical.registry import outside_standard, rewrites
from bascule.ir.check import OUTSIDE_STANDARD

# Attributes that came later, with a default that says what the versions before them did.
ADDED = {
    "ArgMax": {"select_last_index"},
    "ArgMin": {"select_last_index"},
    "Attention": {"left_window_size", "right_window_size"},
    "AveragePool": {"ceil_mode", "count_include_pad", "dilations"},
    "Cast": {"round_mode", "saturate"},
    "CastLike": {"round_mode", "saturate"},
    "DepthToSpace": {"mode"},
    "DequantizeLinear": {"axis", "block_size", "output_dtype"},
    "Dropout": {"seed"},
    "GRU": {"layout", "linear_before_reset"},
    "GatherND": {"batch_dims"},
    "GroupNormalization": {"stash_type"},
    "LSTM": {"layout"},
    "LpPool": {"ceil_mode", "dilations"},
    "MaxPool": {"ceil_mode", "dilations", "storage_order"},
    "QuantizeLinear": {"axis", "block_size", "output_dtype", "precision", "saturate"},
    "RNN": {"layout"},
    "Range": {"stash_type"},
    "Reshape": {"allowzero"},
    "Resize": {"antialias", "axes", "keep_aspect_ratio_policy"},
    "ScatterElements": {"reduction"},
    "ScatterND": {"reduction"},
    "Shape": {"end", "start"},
    "SpaceToDepth": {"mode"},
    "TopK": {"largest", "sorted"},
}
ADDED_ML = {
    "LabelEncoder": {"default_tensor", "keys_tensor", "values_tensor"},
    "TreeEnsembleClassifier": {
        "base_values_as_tensor",
        "class_weights_as_tensor",
        "nodes_hitrates_as_tensor",
        "nodes_values_as_tensor",
    },
    "TreeEnsembleRegressor": {
        "base_values_as_tensor",
        "nodes_hitrates_as_tensor",
        "nodes_values_as_tensor",
        "target_weights_as_tensor",
    },
}

# Changes of meaning that the schemas do not show.
CHANGED = [
    ("Cast", 19),
    ("CastLike", 19),
    ("Dropout", 7),
    ("GroupNormalization", 18),
    ("GridSample", 16),
    ("OneHot", 9),
    ("Resize", 11),
    ("RoiAlign", 10),
    ("QuantizeLinear", 10),
    ("DequantizeLinear", 10),
]


def versions() -> Iterator[tuple[OpSchema, OpSchema | None]]:
    """Each older schema with the newest of its operator, None if that is deprecated."""
    found: dict[tuple[str, str], list[OpSchema]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" or (schema.domain == ML_DOMAIN and schema.since_version <= ML_OPSET):
            found[schema.domain, schema.name].append(schema)
    for schemas in found.values():
        schemas.sort(key=lambda schema: schema.since_version)
        newest = schemas[-1]
        for schema in schemas[:-1] if not newest.deprecated else schemas:
            if not schema.deprecated or schema.name == "GroupNormalization":
                yield schema, None if newest.deprecated else newest


def changes(old: OpSchema, new: OpSchema) -> Iterator[str]:
    """What a node in the old form may say that the new form rejects or reads otherwise."""
    added = (ADDED_ML if old.domain else ADDED).get(old.name, set())
    for name, attribute in old.attributes.items():
        other = new.attributes.get(name)
        if other is None:
            yield f"attribute {name} is gone"
        elif attribute.type != other.type:
            yield f"attribute {name} has another type"
        elif other.required and not attribute.required:
            yield f"attribute {name} is required"
        elif not attribute.required and default_of(attribute) != default_of(other):
            yield f"attribute {name} has another default"
    for name, attribute in new.attributes.items():
        if name not in old.attributes and (attribute.required or name not in added):
            yield f"attribute {name} is new"
    if old.min_input < new.min_input or old.max_input > new.max_input:
        yield "the number of inputs"
    if old.max_output > new.max_output or old.min_output > new.min_output > 1:
        yield "the number of outputs"
    for what in ("inputs", "outputs"):
        for one, other in zip(getattr(old, what), getattr(new, what), strict=False):
            lost = types_of(old, one) - types_of(new, other)
            if lost:
                yield f"{what} {one.name} has lost {sorted(lost)}"
    for one, other in zip(old.inputs, new.inputs, strict=False):
        if one.option != other.option and other.option == OpSchema.FormalParameterOption.Single:
            yield f"input {one.name} is required"


def default_of(attribute: OpSchema.Attribute) -> object:
    if not attribute.default_value.type:
        return None
    return helper.get_attribute_value(attribute.default_value)


def types_of(schema: OpSchema, parameter: OpSchema.FormalParameter) -> set[str]:
    for constraint in schema.type_constraints:
        if constraint.type_param_str == parameter.type_str:
            return set(constraint.allowed_type_strs)
    return {parameter.type_str}


VERSIONS = list(versions())


@pytest.mark.parametrize(
    "old, new", VERSIONS, ids=[f"{old.name}-{old.since_version}" for old, _ in VERSIONS]
)
def test_changes_are_covered(old: OpSchema, new: OpSchema | None) -> None:
    found = ["it is deprecated"] if new is None else list(changes(old, new))
    assert not found or rewrites(old.name, old.since_version, old.domain)


@pytest.mark.parametrize("op_type, version", CHANGED)
def test_hidden_changes_are_covered(op_type: str, version: int) -> None:
    assert rewrites(op_type, version)


def test_operators_of_the_newest_opset_are_left_alone() -> None:
    newest = onnx.defs.onnx_opset_version()
    # Resize by scales that are fed is what the standard's suite expects, not what its text says.
    # LinearAttention has a definition that is slower than what it is rewritten to.
    changed = ("Constant", "LinearAttention", "Resize")
    for schema in onnx.defs.get_all_schemas():
        if schema.domain == "" and not schema.deprecated and schema.name not in changed:
            version = onnx.defs.get_schema(schema.name, newest, "").since_version
            assert not rewrites(schema.name, version), schema.name


def test_operators_outside_the_standard() -> None:
    assert outside_standard() == OUTSIDE_STANDARD
