# SPDX-License-Identifier: Apache-2.0
"""LinearRegressor, LinearClassifier, SVMRegressor and SVMClassifier of ai.onnx.ml.

Computed in float64; the scores of float32 inputs of the linear ones are rounded to float32 before
classes are told apart.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor

FEATURES = frozenset((DataType.FLOAT, DataType.DOUBLE, DataType.INT32, DataType.INT64))
"""What most operators of ai.onnx.ml take."""
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""post_transform, as kernels/post_transform.cuh numbers it."""

_DOMAIN = "ai.onnx.ml"
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
_BLOCK = 128
_WARPS = _BLOCK // 32

Array = np.ndarray[Any, Any]


def transform_of(call: Call) -> int:
    """The number of the node's post_transform."""
    return _number_of(call, "post_transform", TRANSFORMS, "NONE")


def _number_of(call: Call, name: str, known: tuple[str, ...], usual: str) -> int:
    value = call.attribute(name, usual)
    if value not in known:
        raise call.error(f"{name} '{value}' is not one of {', '.join(known)}")
    return known.index(value)


def rows_of(call: Call, x: Tensor) -> tuple[int, int]:
    """Rows and columns: [N, C], or [C] as one row."""
    if x.rank not in (1, 2):
        raise call.error(f"input has shape {x.shape}, expected one or two axes")
    return (x.shape[0] if x.rank == 2 else 1), x.shape[-1]


def _doubles(call: Call, name: str, least: int = 0) -> Array:
    values = np.asarray(call.attribute(name) or [], np.float32).astype(np.float64)
    if len(values) < least:
        raise call.error(f"{name} has {len(values)} elements, expected {least}")
    return values


def _has_numbered_labels(node: Node) -> str:
    strings = node.attributes.get("classlabels_strings")
    return "labels that are strings stay on the CPU" if strings else ""


def _labels(call: Call) -> Array:
    labels = np.asarray(call.attribute("classlabels_ints") or [], np.int64)
    if not len(labels):
        raise call.error("one of classlabels_ints and classlabels_strings is needed")
    return labels


def _scores(
    call: Call, x: Tensor, weights: Tensor, offsets: Tensor | None, outputs: int, single: bool
) -> Tensor:
    """The values of linear functions of rows, densely."""
    rows, columns = (1, *x.shape)[-2:]
    scores = call.empty((rows, outputs), DataType.DOUBLE)
    step = int(offsets is not None and offsets.size > 1)
    call.launch(
        "linear_models",
        f"linear_scores_{type_name(x.dtype)}",
        -(-scores.size // _WARPS),
        _BLOCK,
        *(x, weights, offsets, scores),
        *(Struct(struct.pack("<4q", rows, columns, outputs, step)), np.int32(single)),
    )
    return scores


def _regression(call: Call, scores: Tensor, one_class: bool = False) -> Tensor:
    y = call.empty(scores.shape, DataType.FLOAT)
    rows, targets = scores.shape
    numbers = (np.int64(rows), np.int64(targets), np.int32(transform_of(call)), np.int32(one_class))
    call.launch(
        "linear_models", "regressor_values", -(-rows // _BLOCK), _BLOCK, scores, y, *numbers
    )
    return y


def _classification(
    call: Call, scores: Tensor, labels: Array, positive: int
) -> tuple[Tensor, Tensor]:
    """Labels, and scores for all classes. `positive`: -1 for LinearClassifier's lone class."""
    rows, outputs = scores.shape
    named = call.empty((rows,), DataType.INT64)
    y = call.empty((rows, len(labels)), DataType.FLOAT)
    space = call.empty(y.shape, DataType.DOUBLE)
    classes = struct.pack("<q4i", rows, len(labels), outputs, transform_of(call), positive)
    arguments = (scores, space, call.upload(labels), named, y, Struct(classes))
    call.launch("linear_models", "classifier_values", -(-rows // _BLOCK), _BLOCK, *arguments)
    return named, y


# --- linear functions


def _functions(call: Call, x: Tensor, outputs: int) -> Tensor:
    """The scores of `outputs` functions with coefficients and intercepts."""
    coefficients, intercepts = _doubles(call, "coefficients"), _doubles(call, "intercepts")
    if not 1 <= outputs <= len(coefficients):
        found = f"coefficients has {len(coefficients)} elements"
        raise call.error(f"{found}, too few for {outputs} targets or classes")
    if len(intercepts) not in (0, outputs):
        raise call.error(f"intercepts has {len(intercepts)} elements, expected {outputs}")
    _, columns = rows_of(call, x)
    if columns > len(coefficients) // outputs:
        found = f"input has {columns} columns, coefficients has {len(coefficients)} elements"
        raise call.error(f"{found}: too few for {outputs} targets or classes")
    offsets = call.upload(intercepts) if len(intercepts) else None
    single = x.dtype is DataType.FLOAT
    return _scores(call, x, call.upload(coefficients), offsets, outputs, single)


@kernel("LinearRegressor", domain=_DOMAIN, dtypes=FEATURES)
def linear_regressor(call: Call, x: Tensor) -> Tensor:
    """A linear function for each target."""
    return _regression(call, _functions(call, x, int(call.attribute("targets", 1))))


@kernel("LinearClassifier", domain=_DOMAIN, dtypes=FEATURES, accepts=_has_numbered_labels)
def linear_classifier(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """A linear function for each class, or one for two classes."""
    labels = _labels(call)
    intercepts = len(call.attribute("intercepts") or ())
    outputs = intercepts or len(labels)
    if outputs != len(labels) and (outputs, len(labels)) != (1, 2):
        raise call.error(f"intercepts has {intercepts} elements for {len(labels)} class labels")
    # Without intercepts the number of columns tells one function from two.
    weights = len(call.attribute("coefficients") or ())
    if not intercepts and len(labels) == 2 and rows_of(call, x)[1] == weights:
        outputs = 1
    return _classification(call, _functions(call, x, outputs), labels, -1)


# --- support vector machines


def _nearness(call: Call, x: Tensor, vectors: int) -> Tensor:
    """The kernel's value for each row and support vector."""
    kind = _number_of(call, "kernel_type", _KERNELS, "LINEAR")
    parameters = _doubles(call, "kernel_params")
    if len(parameters) in (1, 2):
        raise call.error(f"kernel_params has {len(parameters)} elements, expected 3")
    gamma, offset, degree = parameters[:3] if len(parameters) else (0.0, 0.0, 0.0)
    given = _doubles(call, "support_vectors")
    if not len(given) or len(given) % vectors:
        raise call.error(
            f"support_vectors has {len(given)} elements, not {vectors} vectors of one length"
        )
    rows, columns = rows_of(call, x)
    _check_columns(call, columns, len(given) // vectors)
    values = call.empty((rows, vectors), DataType.DOUBLE)
    call.launch(
        "linear_models",
        f"svm_kernel_{type_name(x.dtype)}",
        -(-values.size // _WARPS),
        _BLOCK,
        *(x, call.upload(given), values),
        Struct(struct.pack("<4q", rows, columns, vectors, 0)),
        Struct(struct.pack("<2i3d", kind, 0, gamma, offset, degree)),
    )
    return values


def _check_columns(call: Call, columns: int, features: int) -> None:
    if columns != features:
        raise call.error(f"input has {columns} columns, expected {features}")


@kernel("SVMRegressor", domain=_DOMAIN, dtypes=FEATURES)
def svm_regressor(call: Call, x: Tensor) -> Tensor:
    """A sum over support vectors, or without them a linear function."""
    vectors = int(call.attribute("n_supports", 0))
    if vectors < 0:
        raise call.error(f"n_supports is {vectors}")
    rho, coefficients = _doubles(call, "rho", 1), _doubles(call, "coefficients", max(vectors, 1))
    if vectors:
        x, coefficients = _nearness(call, x, vectors), coefficients[:vectors]
    _check_columns(call, rows_of(call, x)[1], len(coefficients))
    weights, offsets = call.upload(coefficients), call.upload(rho[:1])
    scores = _scores(call, x, weights, offsets, 1, False)
    return _regression(call, scores, bool(call.attribute("one_class", 0)))


@kernel("SVMClassifier", domain=_DOMAIN, dtypes=FEATURES, accepts=_has_numbered_labels)
def svm_classifier(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Every pair of classes votes; without support vectors each class has a linear score."""
    labels, coefficients = _labels(call), _doubles(call, "coefficients", 1)
    counts = np.asarray(call.attribute("vectors_per_class") or [], np.int64)
    classes, vectors = len(labels), int(counts.sum())
    if (counts < 0).any() or vectors > len(coefficients):
        raise call.error("coefficients has a size that does not fit vectors_per_class")
    if vectors:
        return _pairs(call, x, labels, coefficients, counts)
    rho = _doubles(call, "rho", 1)
    if len(coefficients) % classes:
        raise call.error(f"coefficients has {len(coefficients)} elements for {classes} classes")
    _check_columns(call, rows_of(call, x)[1], len(coefficients) // classes)
    weights, offsets = call.upload(coefficients), call.upload(rho[:1])
    scores = _scores(call, x, weights, offsets, classes, False)
    positive = classes == 2 and bool((coefficients >= 0).all())
    return _classification(call, scores, labels, int(positive))


def _pairs(
    call: Call, x: Tensor, labels: Array, coefficients: Array, counts: Array
) -> tuple[Tensor, Tensor]:
    """The decisions of the pairs of classes, or the probabilities that follow from them."""
    classes, vectors = len(labels), int(counts.sum())
    if classes < 2 or len(counts) != classes:
        raise call.error(f"vectors_per_class has {len(counts)} elements for {classes} class labels")
    if len(coefficients) < (classes - 1) * vectors:
        found = f"coefficients has {len(coefficients)} elements"
        raise call.error(f"{found} for {classes} classes and {vectors} vectors")
    pairs = classes * (classes - 1) // 2
    rho = _doubles(call, "rho", pairs)
    a = b = None
    if call.attribute("prob_a") or call.attribute("prob_b"):
        a, b = (call.upload(_doubles(call, name, pairs)) for name in ("prob_a", "prob_b"))
    values = _nearness(call, x, vectors)
    rows = values.shape[0]
    decisions = call.empty((rows, pairs), DataType.DOUBLE)
    starts = call.upload(np.concatenate([[0], np.cumsum(counts)]))
    weights = call.upload(coefficients), call.upload(rho)
    call.launch(
        "linear_models",
        "svm_decisions",
        -(-decisions.size // _WARPS),
        _BLOCK,
        *(values, *weights, starts, decisions, np.int64(rows), np.int64(classes)),
    )
    named = call.empty((rows,), DataType.INT64)
    y = call.empty((rows, pairs if a is None and pairs > 1 else classes), DataType.FLOAT)
    space = call.empty((rows, 2 * classes * (classes + 1)), DataType.DOUBLE)
    numbers = (np.int64(rows), np.int64(classes), np.int32(transform_of(call)))
    arguments = (decisions, a, b, space, call.upload(labels), named, y, *numbers)
    call.launch("linear_models", "svm_values", -(-rows // _BLOCK), _BLOCK, *arguments)
    return named, y
