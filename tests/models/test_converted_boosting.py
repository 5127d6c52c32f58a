# SPDX-License-Identifier: Apache-2.0
"""Converted boosted trees of LightGBM, XGBoost and scikit-learn, learnt from data with gaps.

Left out is what the converters write otherwise than the libraries mean it: of LightGBM its random
forests (whose trees are added up where the library averages them), zeros as missing values, linear
trees and the probabilities of one-against-all; of XGBoost several trees a round for several
classes, several targets, logistic regression and the probabilities of multi:softmax. onnxruntime
gives the same numbers for these models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.ensemble

from tests.models.converting import (
    COLUMNS,
    DOUBLE,
    NAMES,
    NUMBER,
    SINGLE,
    T_GAPS,
    THREE,
    TWO,
    X_GAPS,
    Array,
    assert_close,
    assert_same,
    convert,
    expect,
    predict,
    quiet,
)

POSITIVE = np.abs(NUMBER) + 0.1
Maker = tuple[str, str, Array, dict[str, Any]]


def functions_of(estimator: Any) -> tuple[str, ...]:
    classifies = hasattr(estimator, "predict_proba")
    return ("predict", "predict_proba") if classifies else ("predict",)


def parameters(cases: Iterator[Maker]) -> list[Any]:
    return [pytest.param(kind, y, options, id=name) for name, kind, y, options in cases]


def lightgbm_cases() -> Iterator[Maker]:
    yield "2", "LGBMClassifier", TWO, {}
    yield "3", "LGBMClassifier", NAMES, {}
    yield "number", "LGBMRegressor", NUMBER, {}
    for objective in ("poisson", "tweedie", "gamma", "mae", "huber", "quantile"):
        yield objective, "LGBMRegressor", POSITIVE, {"objective": objective}
    yield "dart", "LGBMRegressor", NUMBER, {"boosting_type": "dart"}
    yield "goss", "LGBMRegressor", NUMBER, {"data_sample_strategy": "goss"}
    yield "gaps as zeros", "LGBMRegressor", NUMBER, {"use_missing": False}
    yield "ranker", "LGBMRanker", THREE, {}


def lightgbm_model(estimator: Any, zipmap: bool = False, dtype: Any = SINGLE) -> bytes:
    tools = pytest.importorskip("onnxmltools")
    kinds = tools.convert.common.data_types
    kind = kinds.DoubleTensorType if dtype == DOUBLE else kinds.FloatTensorType
    with quiet():
        model = tools.convert_lightgbm(
            estimator, initial_types=[("X", kind([None, COLUMNS]))], zipmap=zipmap, target_opset=15
        )
    data: bytes = model.SerializeToString()
    return data


def lightgbm_fit(kind: str, x: Array, y: Array, options: dict[str, Any], **more: Any) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    made = getattr(lightgbm, kind)(n_estimators=15, verbose=-1, n_jobs=1, random_state=0, **options)
    with quiet():
        return made.fit(x, y, **more)


@pytest.mark.parametrize("kind, y, options", parameters(lightgbm_cases()))
def test_lightgbm(kind: str, y: Array, options: dict[str, Any]) -> None:
    more = {"group": [50, 50, 50]} if kind == "LGBMRanker" else {}
    estimator = lightgbm_fit(kind, X_GAPS, y, options, **more)
    results = predict(lightgbm_model(estimator), {"X": T_GAPS})
    assert_same(results, expect(estimator, functions_of(estimator), T_GAPS), SINGLE)


def test_lightgbm_takes_doubles() -> None:
    """Thresholds and results of its converter are float32 all the same."""
    estimator = lightgbm_fit("LGBMRegressor", X_GAPS, NUMBER, {})
    x = T_GAPS.astype(DOUBLE)
    results = predict(lightgbm_model(estimator, dtype=DOUBLE), {"X": x})
    assert_same(results, expect(estimator, ("predict",), x), SINGLE)


def test_lightgbm_probabilities_as_maps() -> None:
    estimator = lightgbm_fit("LGBMClassifier", X_GAPS, NAMES, {})
    labels, maps = predict(lightgbm_model(estimator, zipmap=True), {"X": T_GAPS})
    expected = expect(estimator, ("predict", "predict_proba"), T_GAPS)
    np.testing.assert_array_equal(labels, expected[0])
    assert list(maps[0]) == estimator.classes_.tolist()
    assert_close([list(row.values()) for row in maps], expected[1])


def with_categories(x: Array, counts: tuple[int, int], seed: int) -> Array:
    """Columns 2 and 5 become categories."""
    rng = np.random.default_rng(seed)
    categories = rng.integers(0, counts, (len(x), 2))
    return np.column_stack([x[:, :2], categories[:, 0], x[:, 3:5], categories[:, 1]]).astype(SINGLE)


@pytest.mark.parametrize("most", [1, 20], ids=["sets", "one-hot"])
@pytest.mark.parametrize("kind", ["LGBMRegressor", "LGBMClassifier"])
def test_lightgbm_categories(kind: str, most: int) -> None:
    """Known categories, unknown ones, negative ones and missing ones."""
    x, t = with_categories(X_GAPS, (9, 4), 3), with_categories(T_GAPS, (12, 5), 4)
    t[::5, 2], t[1::5, 5] = np.nan, -3
    y = NUMBER + 3 * (x[:, 2] % 3) + 4 * (x[:, 5] == 1)
    if kind == "LGBMClassifier":
        y = (y > np.median(y)).astype(int)
    options = {
        "min_child_samples": 3,
        "min_data_per_group": 1,
        "cat_smooth": 1,
        "cat_l2": 1,
        "max_cat_to_onehot": most,
    }
    estimator = lightgbm_fit(kind, x, y, options, categorical_feature=[2, 5])
    assert ("||" in str(estimator.booster_.dump_model())) == (most == 1)
    assert estimator.feature_importances_.all()  # categories do split nodes
    results = predict(lightgbm_model(estimator), {"X": t})
    assert_same(results, expect(estimator, functions_of(estimator), t), SINGLE)


def xgboost_cases() -> Iterator[Maker]:
    yield "2", "XGBClassifier", TWO, {}
    yield "3", "XGBClassifier", THREE, {}
    yield "hinge", "XGBClassifier", TWO, {"objective": "binary:hinge"}
    yield "biased", "XGBClassifier", TWO, {"base_score": 0.2}
    yield "number", "XGBRegressor", NUMBER, {}
    yield "number from 3", "XGBRegressor", NUMBER, {"base_score": 3.0}
    for objective in ("count:poisson", "reg:tweedie", "reg:gamma"):
        yield objective, "XGBRegressor", POSITIVE, {"objective": objective}
    yield "absolute", "XGBRegressor", NUMBER, {"objective": "reg:absoluteerror"}
    yield "deepest first", "XGBRegressor", NUMBER, {"grow_policy": "lossguide", "max_leaves": 7}
    yield "forest", "XGBRFRegressor", NUMBER, {}
    yield "forest-2", "XGBRFClassifier", TWO, {}


@pytest.mark.parametrize("kind, y, options", parameters(xgboost_cases()))
def test_xgboost(kind: str, y: Array, options: dict[str, Any]) -> None:
    xgboost = pytest.importorskip("xgboost")
    tools = pytest.importorskip("onnxmltools")
    made = getattr(xgboost, kind)(n_estimators=15, n_jobs=1, random_state=0, **options)
    estimator = made.fit(X_GAPS, y)
    types = [("X", tools.convert.common.data_types.FloatTensorType([None, COLUMNS]))]
    with quiet():
        model = tools.convert_xgboost(estimator, initial_types=types, target_opset=15)
    results = predict(model.SerializeToString(), {"X": T_GAPS})
    assert_same(results, expect(estimator, functions_of(estimator), T_GAPS), SINGLE)


@pytest.mark.parametrize(
    "kind, y",
    [("Classifier", TWO), ("Classifier", NAMES), ("Regressor", NUMBER)],
    ids=["2", "3", "number"],
)
def test_histogram_boosting(kind: str, y: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skl2onnx")
    import skl2onnx.common.tree_ensemble
    from skl2onnx.common.data_types import FloatTensorType

    add_node = skl2onnx.common.tree_ensemble.add_node

    def add_numbers(*args: Any, nodes_missing_value_tracks_true: Any = 0, **more: Any) -> None:
        # The converter passes False where onnx demands a number.
        add_node(
            *args, nodes_missing_value_tracks_true=int(nodes_missing_value_tracks_true), **more
        )

    monkeypatch.setattr(skl2onnx.common.tree_ensemble, "add_node", add_numbers)
    estimator = getattr(sklearn.ensemble, f"HistGradientBoosting{kind}")(max_iter=12)
    estimator.fit(X_GAPS, y)
    options = {"zipmap": False} if kind == "Classifier" else None
    model = convert(estimator, [("X", FloatTensorType([None, COLUMNS]))], options)
    results = predict(model, {"X": T_GAPS})
    assert_same(results, expect(estimator, functions_of(estimator), T_GAPS), SINGLE)
