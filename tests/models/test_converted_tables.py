# SPDX-License-Identifier: Apache-2.0
"""Converted models of texts, categories, gaps and tables of all these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

import sklearn.compose
import sklearn.feature_extraction
import sklearn.impute
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
from skl2onnx.common.data_types import (
    DictionaryType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from tests.models.converting import (
    COLUMNS,
    NAMES,
    T_GAPS,
    THREE,
    X_GAPS,
    Array,
    X,
    assert_close,
    assert_same,
    convert,
    expect,
    fit,
    predict,
)

impute, scaling = sklearn.impute, sklearn.preprocessing
text = sklearn.feature_extraction.text

WORDS = ["The cat sat", "a dog ran fast", "the dog sat", "Cats and dogs run", "a fast fox", "", "x"]
SENTENCES = np.array([f"{WORDS[i % 7]} {WORDS[(3 * i + 1) % 7]}" for i in range(60)], object)
COLORS = np.array([["red", "small"], ["blue", "big"], ["green", "small"], ["red", "huge"]] * 15)
UNKNOWN = COLORS.copy()
UNKNOWN[::4, 0], UNKNOWN[1::7, 1] = "teal", "?"
PATTERN = "[a-zA-Z0-9_]+"  # what the converter writes for the default, which drops single letters


def dense(result: Any) -> Array:
    array: Array = result.toarray() if hasattr(result, "toarray") else np.asarray(result)
    return array


@pytest.mark.parametrize(
    "imputer",
    [
        impute.SimpleImputer(strategy="mean"),
        impute.SimpleImputer(strategy="median"),
        impute.SimpleImputer(strategy="constant", fill_value=2.5),
        impute.KNNImputer(n_neighbors=3),
    ],
    ids=["mean", "median", "constant", "nearest"],
)
def test_gaps_are_filled(imputer: Any) -> None:
    fit(imputer, X_GAPS)
    model = convert(imputer, [("X", FloatTensorType([None, COLUMNS]))])
    assert_same(predict(model, {"X": T_GAPS}), [imputer.transform(T_GAPS)], np.float32)


def test_empty_texts_are_filled() -> None:
    x = COLORS.astype(object)
    x[::5, 0] = ""
    imputer = fit(impute.SimpleImputer(missing_values="", strategy="most_frequent"), x)
    model = convert(imputer, [("X", StringTensorType([None, 2]))])
    np.testing.assert_array_equal(predict(model, {"X": x})[0], imputer.transform(x))


VECTORIZERS: dict[str, Callable[[], Any]] = {
    "counts": lambda: text.CountVectorizer(ngram_range=(1, 2), token_pattern=PATTERN),
    "presence": lambda: text.CountVectorizer(binary=True, lowercase=False, token_pattern=PATTERN),
    "stop words": lambda: text.CountVectorizer(stop_words=["the", "a"], token_pattern=PATTERN),
    "letters": lambda: text.CountVectorizer(analyzer="char", ngram_range=(1, 2)),
    "frequencies": lambda: text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=PATTERN),
    "shares": lambda: text.TfidfVectorizer(norm="l1", token_pattern=PATTERN),
    "terms alone": lambda: text.TfidfVectorizer(use_idf=False, token_pattern=PATTERN),
}


@pytest.mark.parametrize("name", VECTORIZERS)
def test_sentences(name: str) -> None:
    vectorizer = fit(VECTORIZERS[name](), SENTENCES)
    model = convert(vectorizer, [("X", StringTensorType([None]))])
    expected = dense(vectorizer.transform(SENTENCES))
    assert_same(predict(model, {"X": SENTENCES}), [expected], np.float32)


@pytest.mark.parametrize("name", ["counts", "frequencies"])
def test_sentences_are_classified(name: str) -> None:
    estimator = sklearn.pipeline.make_pipeline(
        VECTORIZERS[name](), sklearn.linear_model.LogisticRegression()
    )
    fit(estimator, SENTENCES, np.arange(60) % 3)
    model = convert(estimator, [("X", StringTensorType([None]))], {"zipmap": False})
    expected = expect(estimator, ("predict", "predict_proba"), SENTENCES)
    assert_same(predict(model, {"X": SENTENCES}), expected, np.float32)


@pytest.mark.parametrize(
    "encoder, x",
    [
        (scaling.OneHotEncoder(handle_unknown="ignore"), UNKNOWN),
        (scaling.OneHotEncoder(drop="first"), COLORS),
        (scaling.OrdinalEncoder(), COLORS),
        (scaling.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), UNKNOWN),
        (scaling.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), UNKNOWN),
    ],
    ids=["one-hot", "all but the first", "ordinal", "unknown is -1", "unknown is NaN"],
)
def test_categories(encoder: Any, x: Array) -> None:
    fit(encoder, COLORS)
    model = convert(encoder, [("X", StringTensorType([None, 2]))])
    (y,) = predict(model, {"X": x.astype(object)})
    np.testing.assert_array_equal(y, dense(encoder.transform(x)))


@pytest.mark.parametrize(
    "encoder", [scaling.OneHotEncoder(handle_unknown="ignore"), scaling.OrdinalEncoder()], ids=repr
)
def test_categories_that_are_numbers(encoder: Any) -> None:
    x = np.random.default_rng(5).integers(-2, 3, (40, 3))
    fit(encoder, x)
    x = x + 1 if isinstance(encoder, scaling.OneHotEncoder) else x  # some of them unknown
    model = convert(encoder, [("X", Int64TensorType([None, 3]))])
    np.testing.assert_array_equal(predict(model, {"X": x})[0], dense(encoder.transform(x)))


def test_labels() -> None:
    encoder = scaling.LabelEncoder().fit(NAMES)
    model = convert(encoder, [("X", StringTensorType([None]))])
    np.testing.assert_array_equal(
        predict(model, {"X": NAMES.astype(object)})[0], encoder.transform(NAMES)
    )
    binarizer = scaling.LabelBinarizer().fit(THREE)
    model = convert(binarizer, [("X", Int64TensorType([None, 1]))])
    np.testing.assert_array_equal(
        predict(model, {"X": THREE[:, np.newaxis]})[0], binarizer.transform(THREE)
    )


def test_dictionaries() -> None:
    rows = [{"a": 1.0, "b": 2.5}, {"b": 1.0, "c": 3.0}, {"a": 4.0, "unknown": 5.0}, {}]
    vectorizer = sklearn.feature_extraction.DictVectorizer(sparse=False).fit(rows[:2])
    kind = DictionaryType(StringTensorType([1]), FloatTensorType([1]))
    model = convert(vectorizer, [("X", kind)])
    for row in rows:
        assert_close(predict(model, {"X": row})[0], vectorizer.transform([row]))


def test_columns_of_every_kind() -> None:
    pandas = pytest.importorskip("pandas")
    numbers = sklearn.pipeline.make_pipeline(impute.SimpleImputer(), scaling.StandardScaler())
    columns = sklearn.compose.ColumnTransformer(
        [
            ("numbers", numbers, ["a", "b"]),
            ("names", scaling.OneHotEncoder(handle_unknown="ignore"), ["color"]),
            ("words", text.TfidfVectorizer(token_pattern=PATTERN), "words"),
        ]
    )
    estimator = sklearn.pipeline.make_pipeline(columns, sklearn.linear_model.LogisticRegression())
    table = pandas.DataFrame(X_GAPS[:60, :2], columns=["a", "b"])
    table["color"], table["words"] = COLORS[:, 0], SENTENCES
    fit(estimator, table, NAMES[:60])
    table["a"], table["color"] = X[:60, 2], UNKNOWN[:, 0]
    number, name = FloatTensorType([None, 1]), StringTensorType([None, 1])
    types = [("a", number), ("b", number), ("color", name), ("words", name)]
    feeds = {k: table[[k]].to_numpy() for k in table}
    feeds |= {k: feeds[k].astype(object) for k in ("color", "words")}
    results = predict(convert(estimator, types, {"zipmap": False}), feeds)
    assert_same(results, expect(estimator, ("predict", "predict_proba"), table), np.float32)
