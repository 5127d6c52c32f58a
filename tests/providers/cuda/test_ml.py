# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml that prepare features, beside the CPU provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.providers.cuda import operators, registry
from tests.support.cuda_emulation import missing, run_node
from tests.support.native import run_node as run_on_cpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

_DOMAIN = "ai.onnx.ml"


def agree(op_type: str, inputs: list[Any], attributes: dict[str, Any], dtype: Any) -> Any:
    (y,) = run_node(op_type, inputs, attributes, domain=_DOMAIN, output_dtypes=[dtype])
    (expected,) = run_on_cpu(op_type, inputs, attributes, domain=_DOMAIN)
    assert y.dtype == expected.dtype and y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("threshold", [1.0, 0.5, -1.5, 1e30, -1e30, np.nan])
def test_binarizer(dtype: Any, threshold: float) -> None:
    x = np.array([[0.5, 1.0, 2.0], [1.5, -2.0, 7.0]], dtype)
    agree("Binarizer", [x], {"threshold": threshold}, dtype)


def test_binarizer_of_what_is_no_number() -> None:
    x = np.array([[0.5, 1.0, np.nan], [1.5, -2.0, np.inf]], np.float32)
    y = agree("Binarizer", [x], {"threshold": 1.0}, np.float32)
    np.testing.assert_array_equal(y, [[0, 0, 0], [1, 0, 1]])


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.uint8])
@pytest.mark.parametrize("bands", [0, 1, 8])
def test_mel_weights(bands: int, kind: Any) -> None:
    numbers = [np.array(v, np.int64) for v in (bands, 64, 8000)]
    inputs = [*numbers, np.array(100.0, np.float32), np.array(3000.0, np.float32)]
    attributes = {"output_datatype": int(DataType.from_numpy(np.dtype(kind)))}
    (y,) = run_node("MelWeightMatrix", inputs, attributes)
    (expected,) = run_on_cpu("MelWeightMatrix", inputs, attributes)
    np.testing.assert_array_equal(y, expected)


_NUMBERS = [
    ("Scaler", {"offset": [1.0, 2.0, 3.0], "scale": [0.5]}),
    ("Scaler", {}),
    ("Normalizer", {"norm": "MAX"}),
    ("Normalizer", {"norm": "L1"}),
    ("Normalizer", {"norm": "L2"}),
]


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        *_NUMBERS,
        ("Imputer", {"imputed_value_floats": [7.0], "replaced_value_float": float("nan")}),
        ("Imputer", {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": 0.0}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features(op_type: str, attributes: dict[str, Any], dtype: Any) -> None:
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(dtype)
    x[1], x[2, 1] = 0, np.nan
    agree(op_type, [x], attributes, dtype if op_type == "Imputer" else np.float32)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        *_NUMBERS,
        ("Imputer", {"imputed_value_int64s": [7, 8, 9], "replaced_value_int64": 2}),
        ("Imputer", {"imputed_value_int64s": [7], "replaced_value_int64": 2**40}),
    ],
)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_whole_features(op_type: str, attributes: dict[str, Any], dtype: Any) -> None:
    x = np.random.default_rng(1).integers(-3, 4, (9, 3)).astype(dtype)
    x[1] = 0
    agree(op_type, [x], attributes, dtype if op_type == "Imputer" else np.float32)


@pytest.mark.parametrize("widths", [None, [4, 1, 2]])
def test_feature_vectors(widths: list[int] | None) -> None:
    rng = np.random.default_rng(2)
    x, n = rng.standard_normal((3, 2)), rng.integers(-(2**40), 2**40, (3, 2))
    inputs = [x, n, x.astype(np.float32)]
    attributes = {} if widths is None else {"inputdimensions": widths}
    agree("FeatureVectorizer", inputs, attributes, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (5,), (2, 6), (0, 3)])
def test_one_hot(dtype: Any, shape: tuple[int, ...]) -> None:
    x = (np.random.default_rng(3).integers(-8, 30, shape) / 4).astype(dtype)
    agree("OneHotEncoder", [x], {"cats_int64s": [0, 3, 5, 3, -1]}, np.float32)


def test_one_hot_of_what_is_no_category() -> None:
    x = np.array([np.nan, np.inf, 1e30, -1e30, 3.9], np.float32)
    y = agree("OneHotEncoder", [x], {"cats_int64s": [3]}, np.float32)
    np.testing.assert_array_equal(y[:, 0], [0, 0, 0, 0, 1])
    attributes = {"cats_int64s": [3], "zeros": 0}
    agree("OneHotEncoder", [x[4:]], attributes, np.float32)
    with pytest.raises(Exception, match="no category"):
        run_node("OneHotEncoder", [x], attributes, domain=_DOMAIN, output_dtypes=[np.float32])


_KINDS = {"int16": np.int16, "int32": np.int32, "int64": np.int64, "f32": np.float32}


@pytest.mark.parametrize("value", ["int16", "int64", "f32"])
@pytest.mark.parametrize("key", list(_KINDS))
def test_labels(key: str, value: str) -> None:
    x = np.random.default_rng(4).integers(-2, 6, (3, 7)).astype(_KINDS[key])
    attributes = {
        "keys_tensor": np.array([3, 1, -1, 3, 0], _KINDS[key]),
        "values_tensor": np.array([10, 20, 30, 40, 50], _KINDS[value]),
    }
    agree("LabelEncoder", [x], attributes, _KINDS[value])
    default = {"default_tensor": np.array([7], _KINDS[value])}
    agree("LabelEncoder", [x], attributes | default, _KINDS[value])


def test_labels_of_zeros_and_nan() -> None:
    x = np.array([0.0, -0.0, np.nan, 2.5, 7.0], np.float32)
    keys = [-0.0, float("nan"), 2.5, float("nan")]
    attributes = {"keys_floats": keys, "values_int64s": [1, 2, 3, 4], "default_int64": -5}
    y = agree("LabelEncoder", [x], attributes, np.int64)
    np.testing.assert_array_equal(y, [1, 1, 4, 3, -5])


def test_strings_stay_on_the_cpu() -> None:
    node = Node(
        "LabelEncoder",
        [Value("x", TensorType(DataType.INT64, (3,)))],
        1,
        {"keys_int64s": [1], "values_strings": ["one"]},
        domain=_DOMAIN,
    )
    operators.load_all()
    found, reason = registry.find(node)
    assert found is None and "not both numbers" in reason
