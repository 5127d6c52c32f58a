# SPDX-License-Identifier: Apache-2.0
"""Types of the operators of domain ai.onnx.ml for which onnx has no inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bascule.ir.dtype import DataType
from bascule.ir.graph import Model, Node, Value
from bascule.ir.types import Dim, Shape, TensorType, Type

_Rule = Callable[[Node], tuple["Type | None", ...]]


def ml_types(model: Model) -> Iterator[tuple[Value, Type]]:
    """What follows for the outputs of these operators from what is known of their inputs."""
    for node in model.graph.walk_nodes():
        if node.domain != "ai.onnx.ml" or node.op_type not in _RULES:
            continue
        for value, found in zip(node.outputs, _RULES[node.op_type](node)):
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
    return (TensorType(DataType.FLOAT, (_rows(node), sum(widths) if widths else None)),)


_RULES: dict[str, _Rule] = {
    "FeatureVectorizer": _feature_vectorizer,
    "Imputer": _like_input,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _floats_like_input,
    "SVMClassifier": _svm_classifier,
    "SVMRegressor": _svm_regressor,
    "Scaler": _floats_like_input,
}
