# SPDX-License-Identifier: Apache-2.0
"""Types of the operators for which onnx has no inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bascule.ir.dtype import DataType
from bascule.ir.graph import Model, Node, Value
from bascule.ir.types import Dim, Shape, TensorType, Type

_Rule = Callable[[Node], tuple["Type | None", ...]]


def add_type_rule(domain: str, op_type: str, rule: _Rule | None) -> None:
    """Say what types the outputs of an operator have; None takes the rule away."""
    _RULES.pop((domain, op_type), None)
    if rule is not None:
        _RULES[domain, op_type] = rule


def uncovered_types(model: Model) -> Iterator[tuple[Value, Type]]:
    """What follows for the outputs of these operators from what is known of their inputs."""
    for node in model.graph.walk_nodes():
        rule = _RULES.get((node.domain, node.op_type))
        if node.binding is not None:
            rule = node.binding.types
        for value, found in zip(node.outputs, rule(node)) if rule is not None else ():
            if found is not None:
                yield value, found


def _input_shape(node: Node) -> Shape | None:
    x = node.inputs[0] if node.inputs else None
    return x.shape if x is not None else None


def _rows(node: Node) -> Dim:
    """How many examples the first input holds; a vector is one."""
    shape = _input_shape(node)
    if not shape:
        return None
    return 1 if len(shape) == 1 else shape[0]


def _count(node: Node, attribute: str) -> int:
    return len(node.attributes.get(attribute, ()))


def _like_input(node: Node) -> tuple[Type | None, ...]:
    x = node.inputs[0] if node.inputs else None
    return (x.type if x is not None else None,)


def _floats_like_input(node: Node) -> tuple[Type | None, ...]:
    return (TensorType(DataType.FLOAT, _input_shape(node)),)


def _linear_regressor(node: Node) -> tuple[Type | None, ...]:
    return (TensorType(DataType.FLOAT, (_rows(node), node.attributes.get("targets", 1))),)


def _svm_regressor(node: Node) -> tuple[Type | None, ...]:
    return (TensorType(DataType.FLOAT, (_rows(node), 1)),)


def _svm_classifier(node: Node) -> tuple[Type | None, ...]:
    strings = _count(node, "classlabels_strings")
    classes = strings or _count(node, "classlabels_ints")
    by_pair = any(node.attributes.get("vectors_per_class", ())) and not _count(node, "prob_a")
    columns = classes * (classes - 1) // 2 if by_pair and classes > 2 else classes
    rows = _rows(node)
    label = DataType.STRING if strings else DataType.INT64
    return TensorType(label, (rows,)), TensorType(DataType.FLOAT, (rows, columns))


def _feature_vectorizer(node: Node) -> tuple[Type | None, ...]:
    widths = node.attributes.get("inputdimensions")
    width = sum(widths) if widths else -1
    return (TensorType(DataType.FLOAT, (_rows(node), width if 0 <= width < 2**63 else None)),)


def _tokenizer(node: Node) -> tuple[Type | None, ...]:
    """A row of tokens for each text. Without any text there is no such axis."""
    shape = _input_shape(node)
    empty = shape is None or any(size is None or size == 0 for size in shape)
    return (TensorType(DataType.STRING, None if empty or shape is None else (*shape, None)),)


def _murmur_hash3(node: Node) -> tuple[Type | None, ...]:
    """A number of 32 bits for each element."""
    dtype = DataType.UINT32 if node.attributes.get("positive", 1) else DataType.INT32
    return (TensorType(dtype, _input_shape(node)),)


def _split(node: Node) -> tuple[Type | None, ...]:
    """The ranks, where the sizes of the parts are computed."""
    x, axis = node.inputs[0] if node.inputs else None, node.attributes.get("axis", 0)
    if x is None or x.dtype is None or x.shape is None or not -len(x.shape) <= axis < len(x.shape):
        return ()
    shape = list(x.shape)
    shape[axis] = None
    return (TensorType(x.dtype, tuple(shape)),) * len(node.outputs)


def _layer_normalization(node: Node) -> tuple[Type | None, ...]:
    """The mean and deviation, which onnx gives no element type where stash_type is left out."""
    x, axis = node.inputs[0] if node.inputs else None, node.attributes.get("axis", -1)
    stash = node.attributes.get("stash_type", int(DataType.FLOAT))
    if x is None or x.shape is None or not isinstance(axis, int) or not isinstance(stash, int):
        return ()
    rank = len(x.shape)
    if stash not in (DataType.FLOAT, DataType.BFLOAT16) or not -rank <= axis < rank:
        return ()
    shape = tuple(1 if i >= axis % rank else size for i, size in enumerate(x.shape))
    return None, *[TensorType(DataType(stash), shape)] * (len(node.outputs) - 1)


_ML = "ai.onnx.ml"
_RULES: dict[tuple[str, str], _Rule] = {
    (_ML, "FeatureVectorizer"): _feature_vectorizer,
    (_ML, "Imputer"): _like_input,
    (_ML, "LinearRegressor"): _linear_regressor,
    (_ML, "Normalizer"): _floats_like_input,
    (_ML, "SVMClassifier"): _svm_classifier,
    (_ML, "SVMRegressor"): _svm_regressor,
    (_ML, "Scaler"): _floats_like_input,
    ("", "GroupNormalization"): _like_input,
    ("", "LayerNormalization"): _layer_normalization,
    ("", "MeanVarianceNormalization"): _like_input,
    ("", "Split"): _split,
    ("com.microsoft", "MurmurHash3"): _murmur_hash3,
    ("com.microsoft", "Tokenizer"): _tokenizer,
}
