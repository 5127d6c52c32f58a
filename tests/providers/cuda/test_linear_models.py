# SPDX-License-Identifier: Apache-2.0
"""Linear models and support vector machines beside the CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule import errors
from tests.support.cuda_emulation import missing, run_node
from tests.support.native import run_node as run_on_cpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

_DTYPES = [np.float32, np.float64, np.int32, np.int64]
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
_ROWS = 37


def agree(op_type: str, x: Any, attributes: dict[str, Any]) -> list[Any]:
    dtypes = [np.int64, np.float32] if "Classifier" in op_type else [np.float32]
    actual = run_node(op_type, [x], attributes, len(dtypes), "ai.onnx.ml", dtypes)
    expected = run_on_cpu(op_type, [x], attributes, len(dtypes), "ai.onnx.ml")
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
    return actual


def rows(dtype: Any, columns: int = 5, count: int = _ROWS) -> Any:
    x = np.random.default_rng(0).normal(0, 2, (count, columns))
    return x.round().astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def numbers(count: int, seed: int = 1) -> list[float]:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32).tolist()


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("transform", _TRANSFORMS)
def test_linear_regressor(dtype: Any, targets: int, transform: str) -> None:
    attributes = {"coefficients": numbers(5 * targets), "post_transform": transform}
    attributes["targets"] = targets
    agree("LinearRegressor", rows(dtype), attributes)
    agree("LinearRegressor", rows(dtype), attributes | {"intercepts": numbers(targets, 2)})


def test_linear_regressor_of_long_rows_one_row_and_none() -> None:
    attributes = {"coefficients": numbers(600), "targets": 2, "intercepts": [0.5, 1.0]}
    agree("LinearRegressor", rows(np.float32, 300), attributes)
    agree("LinearRegressor", rows(np.float32, 300)[0], attributes)
    agree("LinearRegressor", rows(np.float32, 300, 0), attributes)


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("transform", _TRANSFORMS)
def test_linear_classifier(dtype: Any, classes: int, transform: str) -> None:
    attributes = {
        "coefficients": numbers(5 * classes),
        "intercepts": numbers(classes, 2),
        "classlabels_ints": [7 + i for i in range(classes)],
        "post_transform": transform,
    }
    agree("LinearClassifier", rows(dtype), attributes)


@pytest.mark.parametrize("intercepts", [[], [0.25]])
def test_one_linear_function_for_two_classes(intercepts: list[float]) -> None:
    attributes = {"coefficients": numbers(5), "classlabels_ints": [3, -3]}
    if intercepts:
        attributes["intercepts"] = intercepts
    labels, scores = agree("LinearClassifier", rows(np.float32), attributes)
    np.testing.assert_array_equal(labels == -3, scores[:, 1] > 0)


_KERNELS = [
    ("LINEAR", None),
    ("POLY", [0.5, 1.0, 3.0]),
    ("POLY", [0.1, 9.0, 2.5]),
    ("RBF", [0.25, 0.0, 3.0]),
    ("SIGMOID", [0.1, -0.5, 0.0]),
]


def machine(kernel: str, parameters: list[float] | None, vectors: int) -> dict[str, Any]:
    attributes = {"kernel_type": kernel, "support_vectors": numbers(5 * vectors, 5)}
    return attributes | ({"kernel_params": parameters} if parameters else {})


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize(("kernel", "parameters"), _KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(
    dtype: Any, kernel: str, parameters: list[float] | None, one_class: int
) -> None:
    attributes = machine(kernel, parameters, 9)
    attributes |= {"coefficients": numbers(9), "rho": [0.5], "n_supports": 9}
    agree("SVMRegressor", rows(dtype), attributes | {"one_class": one_class})


def test_svm_regressor_without_vectors() -> None:
    agree("SVMRegressor", rows(np.float64), {"coefficients": numbers(5), "rho": [0.5]})


def test_svm_kernel_of_infinities_and_nan() -> None:
    x = rows(np.float32, 5, 3)
    x[0, 1], x[1, 2] = np.inf, np.nan
    attributes = machine("RBF", [0.25, 0.0, 3.0], 4)
    attributes |= {"coefficients": numbers(4), "rho": [0.5], "n_supports": 4}
    agree("SVMRegressor", x, attributes)


@pytest.mark.parametrize("counts", [[3, 2], [2, 4, 3], [1, 2, 2, 1]])
@pytest.mark.parametrize(("kernel", "parameters"), _KERNELS)
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_svm_classifier(
    counts: list[int],
    kernel: str,
    parameters: list[float] | None,
    probabilities: bool,
    transform: str,
) -> None:
    classes, vectors = len(counts), sum(counts)
    pairs = classes * (classes - 1) // 2
    attributes = machine(kernel, parameters, vectors) | {
        "coefficients": numbers((classes - 1) * vectors),
        "rho": numbers(pairs, 3),
        "vectors_per_class": counts,
        "classlabels_ints": [2 * i + 1 for i in range(classes)],
        "post_transform": transform,
    }
    if probabilities:
        attributes |= {"prob_a": [-0.5] * pairs, "prob_b": numbers(pairs, 4)}
    agree("SVMClassifier", rows(np.float32), attributes)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_svm_classifier_without_vectors(positive: bool, classes: int) -> None:
    weights = np.array(numbers(5 * classes))
    attributes = {
        "coefficients": (np.abs(weights) if positive else weights).tolist(),
        "rho": [0.125],
        "classlabels_ints": [4 + i for i in range(classes)],
    }
    agree("SVMClassifier", rows(np.float64), attributes)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LinearRegressor", {"coefficients": [1.0]}),
        ("LinearRegressor", {"coefficients": numbers(5), "intercepts": [1.0, 2.0]}),
        ("LinearRegressor", {"coefficients": numbers(5), "post_transform": "NOTHING"}),
        ("LinearClassifier", {"coefficients": numbers(10)}),
        ("SVMRegressor", {"coefficients": numbers(5)}),
        ("SVMRegressor", {"coefficients": numbers(3), "rho": [1.0]}),
        ("SVMClassifier", {"coefficients": numbers(3), "classlabels_ints": [1, 2], "rho": [0.0]}),
        (
            "SVMClassifier",
            {"coefficients": numbers(3), "classlabels_ints": [1, 2], "vectors_per_class": [9, 9]},
        ),
    ],
)
def test_bad_attributes_are_errors(op_type: str, attributes: dict[str, Any]) -> None:
    outputs = 2 if "Classifier" in op_type else 1
    with pytest.raises(errors.Fail, match=f"{op_type} node"):
        run_node(op_type, [rows(np.float32)], attributes, outputs, "ai.onnx.ml")
