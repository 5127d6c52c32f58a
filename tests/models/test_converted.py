# SPDX-License-Identifier: Apache-2.0
"""Models converted from scikit-learn, LightGBM and XGBoost predict what the libraries predict.

Labels are equal. Scores are equal within 1e-6 of the largest for models in float32, and within
1e-12 where the converter keeps the estimator's doubles. Left out is what the converters cannot say:
neighbours weighted by distance and LightGBM's random forests (both come out with other weights),
trees on doubles (their result is declared as a double, which the operator does not give; see the
last test), and histogram boosting, whose converter fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

import skl2onnx
import sklearn.calibration
import sklearn.cluster
import sklearn.compose
import sklearn.cross_decomposition
import sklearn.decomposition
import sklearn.discriminant_analysis
import sklearn.ensemble
import sklearn.feature_extraction.text
import sklearn.feature_selection
import sklearn.gaussian_process
import sklearn.impute
import sklearn.linear_model
import sklearn.mixture
import sklearn.multiclass
import sklearn.multioutput
import sklearn.naive_bayes
import sklearn.neighbors
import sklearn.neural_network
import sklearn.pipeline
import sklearn.preprocessing
import sklearn.svm
import sklearn.tree
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

import bascule
from tests.support.native import run_node

Array = np.ndarray[Any, Any]

OPSETS = {"": 21, "ai.onnx.ml": 3}
COLUMNS = 6
SINGLE, DOUBLE = np.float32, np.float64

_rng = np.random.default_rng(0)
X = _rng.normal(size=(150, COLUMNS)).astype(SINGLE)
T = _rng.normal(size=(60, COLUMNS)).astype(SINGLE)
_weights = _rng.normal(size=(COLUMNS, 3))
_noisy = X @ _weights + 0.3 * _rng.normal(size=(150, 3))
TWO = (_noisy[:, 0] > 0).astype(int)
THREE = np.argmax(_noisy, 1)
NAMES = np.array(["red", "green", "blue"])[THREE]
NUMBER = X @ _weights[:, 0] + np.sin(X[:, 1])
NUMBERS = np.stack([NUMBER, X @ _weights[:, 1]], 1)


def with_gaps(x: Array, seed: int) -> Array:
    return np.where(np.random.default_rng(seed).random(x.shape) < 0.1, np.nan, x).astype(SINGLE)


X_GAPS, T_GAPS = with_gaps(X, 1), with_gaps(T, 2)


@dataclass(frozen=True)
class Case:
    """An estimator, what it learns from, and which of its functions the model's outputs give."""

    name: str
    make: Callable[[], Any]
    y: Array | None = None
    functions: tuple[str, ...] = ("predict",)
    types: tuple[Any, ...] = (SINGLE, DOUBLE)


def classifier(name: str, make: Callable[[], Any], y: Array = THREE, **options: Any) -> Case:
    return Case(name, make, y, ("predict", "predict_proba"), **options)


def regressor(name: str, make: Callable[[], Any], y: Array = NUMBER, **options: Any) -> Case:
    return Case(name, make, y, **options)


def transformer(name: str, make: Callable[[], Any], y: Array | None = None, **options: Any) -> Case:
    return Case(name, make, y, ("transform",), **options)


def cases() -> Iterator[Case]:
    linear, svm, tree = sklearn.linear_model, sklearn.svm, sklearn.tree
    ensemble, neighbors = sklearn.ensemble, sklearn.neighbors
    bayes, scaling = sklearn.naive_bayes, sklearn.preprocessing
    pipeline = sklearn.pipeline.make_pipeline
    seed = {"random_state": 0}
    few = {"n_estimators": 12, **seed}
    single = {"types": (SINGLE,)}

    yield classifier("LogisticRegression-2", linear.LogisticRegression, TWO)
    yield classifier("LogisticRegression-3", linear.LogisticRegression)
    yield classifier("LogisticRegression-text", linear.LogisticRegression, NAMES)
    yield classifier(
        "SGDClassifier",
        lambda: linear.SGDClassifier(loss="log_loss", **seed),
        types=(DOUBLE,),  # the sigmoids of several classes are 1 in float32
    )
    yield Case("Perceptron", lambda: linear.Perceptron(**seed), THREE, **single)
    for name in ("LinearRegression", "Ridge", "BayesianRidge", "ARDRegression", "HuberRegressor"):
        yield regressor(name, getattr(linear, name))
    yield regressor("Lasso", lambda: linear.Lasso(0.01))
    yield regressor("ElasticNet", lambda: linear.ElasticNet(0.01))
    yield regressor("PoissonRegressor", linear.PoissonRegressor, np.abs(NUMBER))
    yield regressor("RANSACRegressor", lambda: linear.RANSACRegressor(**seed))
    yield regressor("PLSRegression", lambda: sklearn.cross_decomposition.PLSRegression(2), NUMBERS)

    margins = ("predict", "decision_function")
    yield Case("LinearSVC", svm.LinearSVC, THREE, margins, **single)
    for kernel in ("rbf", "poly", "sigmoid", "linear"):
        yield Case(f"SVC-{kernel}", lambda k=kernel: svm.SVC(kernel=k), THREE, **single)
    yield Case("NuSVC", lambda: svm.NuSVC(nu=0.3), THREE, **single)
    for kernel in ("rbf", "poly", "sigmoid", "linear"):
        yield regressor(f"SVR-{kernel}", lambda k=kernel: svm.SVR(kernel=k), **single)
    yield regressor("NuSVR", svm.NuSVR, **single)
    yield Case("OneClassSVM", svm.OneClassSVM, None, margins, **single)

    process, kernels = sklearn.gaussian_process, sklearn.gaussian_process.kernels
    yield regressor(
        "GaussianProcessRegressor",
        lambda: process.GaussianProcessRegressor(kernels.RBF(), alpha=1e-2),
        types=(DOUBLE,),  # its coefficients cancel too far for float32
    )
    yield classifier("KNeighborsClassifier", neighbors.KNeighborsClassifier)
    yield regressor("KNeighborsRegressor", neighbors.KNeighborsRegressor)
    yield classifier("RadiusNeighborsClassifier", lambda: neighbors.RadiusNeighborsClassifier(5.0))
    yield regressor("RadiusNeighborsRegressor", lambda: neighbors.RadiusNeighborsRegressor(5.0))
    yield Case(
        "LocalOutlierFactor", lambda: neighbors.LocalOutlierFactor(novelty=True), None, margins
    )

    yield classifier(
        "DecisionTreeClassifier", lambda: tree.DecisionTreeClassifier(**seed), **single
    )
    yield regressor(
        "DecisionTreeRegressor", lambda: tree.DecisionTreeRegressor(**seed), NUMBERS, **single
    )
    for y, count in ((TWO, 2), (THREE, 3)):
        for name in ("RandomForest", "ExtraTrees", "GradientBoosting"):
            kind = getattr(ensemble, f"{name}Classifier")
            yield classifier(f"{name}Classifier-{count}", lambda k=kind: k(**few), y, **single)
    for name in ("RandomForest", "ExtraTrees", "GradientBoosting", "AdaBoost", "Bagging"):
        kind = getattr(ensemble, f"{name}Regressor")
        yield regressor(f"{name}Regressor", lambda k=kind: k(**few), **single)
    yield classifier("AdaBoostClassifier", lambda: ensemble.AdaBoostClassifier(**few), **single)
    yield classifier("BaggingClassifier", lambda: ensemble.BaggingClassifier(**few), **single)
    yield Case("IsolationForest", lambda: ensemble.IsolationForest(**few), None, margins, **single)
    pair = [("a", linear.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=4))]
    yield classifier(
        "VotingClassifier",
        lambda: ensemble.VotingClassifier(pair, voting="soft", flatten_transform=False),
        **single,
    )
    yield classifier("StackingClassifier", lambda: ensemble.StackingClassifier(pair), TWO, **single)
    yield classifier(
        "CalibratedClassifierCV",
        lambda: sklearn.calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
    )

    network = sklearn.neural_network
    yield classifier("MLPClassifier", lambda: network.MLPClassifier(max_iter=100, **seed))
    yield regressor(
        "MLPRegressor", lambda: network.MLPRegressor(activation="tanh", max_iter=100, **seed)
    )
    yield classifier("GaussianNB", bayes.GaussianNB)
    yield classifier("BernoulliNB", bayes.BernoulliNB, **single)
    for name in ("MultinomialNB", "ComplementNB"):
        kind = getattr(bayes, name)
        yield classifier(name, lambda k=kind: pipeline(scaling.MinMaxScaler(clip=True), k()))
    discriminants = sklearn.discriminant_analysis
    yield classifier("LinearDiscriminantAnalysis", discriminants.LinearDiscriminantAnalysis)
    yield classifier(
        "QuadraticDiscriminantAnalysis",
        discriminants.QuadraticDiscriminantAnalysis,
        **single,  # it is float32 inside, whatever the input is
    )
    yield Case(
        "KMeans",
        lambda: sklearn.cluster.KMeans(4, n_init=2, **seed),
        None,
        ("predict", "transform"),
        **single,
    )
    yield classifier(
        "OneVsRestClassifier",
        lambda: sklearn.multiclass.OneVsRestClassifier(linear.LogisticRegression()),
    )
    yield Case(
        "OneVsOneClassifier",
        lambda: sklearn.multiclass.OneVsOneClassifier(linear.LogisticRegression()),
        THREE,
        **single,
    )
    yield regressor(
        "MultiOutputRegressor",
        lambda: sklearn.multioutput.MultiOutputRegressor(linear.Ridge()),
        NUMBERS,
    )

    parts = sklearn.decomposition
    yield transformer("PCA", lambda: parts.PCA(3), **single)
    yield transformer("TruncatedSVD", lambda: parts.TruncatedSVD(3, **seed))
    yield transformer("KernelPCA", lambda: parts.KernelPCA(3, kernel="rbf"))
    for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer"):
        yield transformer(name, getattr(scaling, name))
    yield transformer("PolynomialFeatures", lambda: scaling.PolynomialFeatures(2), **single)
    yield transformer("PowerTransformer", scaling.PowerTransformer, **single)
    yield transformer("Binarizer", lambda: scaling.Binarizer(threshold=0.1))
    yield transformer("QuantileTransformer", lambda: scaling.QuantileTransformer(n_quantiles=20))
    yield transformer(
        "KBinsDiscretizer",
        lambda: scaling.KBinsDiscretizer(
            4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"
        ),
    )
    yield transformer("SelectKBest", lambda: sklearn.feature_selection.SelectKBest(k=3), THREE)
    yield classifier(
        "pipeline",
        lambda: pipeline(scaling.StandardScaler(), parts.PCA(4), linear.LogisticRegression()),
    )


CASES = {case.name: case for case in cases()}


def fit(estimator: Any, x: Array, y: Array | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of learning from so little
        return estimator.fit(x, y)


def convert(estimator: Any, types: list[tuple[str, Any]], options: Any = None) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converters' own making
        model = skl2onnx.to_onnx(
            estimator, initial_types=types, options=options, target_opset=OPSETS
        )
    data: bytes = model.SerializeToString()
    return data


def predict(model: bytes, feeds: dict[str, Array]) -> list[Any]:
    results: list[Any] = bascule.InferenceSession(model).run(None, feeds)
    return results


def assert_equal(actual: Any, expected: Any, dtype: Any) -> None:
    """Equal labels, or scores within the bound of their type."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    actual = actual.reshape(expected.shape)
    if actual.dtype.kind in "iO":
        np.testing.assert_array_equal(actual, expected)
        return
    bound = 1e-12 if dtype == DOUBLE else 1e-6
    scale = np.abs(expected).max()
    assert np.abs(actual - expected).max() <= bound * scale


@pytest.mark.parametrize(
    "name, dtype", [(c.name, t) for c in CASES.values() for t in c.types], ids=str
)
def test_scikit_learn(name: str, dtype: Any) -> None:
    case = CASES[name]
    estimator = fit(case.make(), X.astype(DOUBLE), case.y)
    options = {id(estimator): {"zipmap": False}} if "predict_proba" in case.functions else None
    types = [("X", skl2onnx.common.data_types.guess_data_type(T[:1].astype(dtype))[0][1])]
    types = [("X", type(types[0][1])([None, COLUMNS]))]
    results = predict(convert(estimator, types, options), {"X": T.astype(dtype)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [getattr(estimator, f)(T.astype(DOUBLE)) for f in case.functions]
    for actual, wanted in zip(results, expected):
        assert_equal(actual, wanted, dtype)


def test_probabilities_of_support_vectors() -> None:
    """Platt's sigmoid over pairs of classes, as libsvm couples them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = sklearn.svm.SVC(probability=True, random_state=0).fit(X, THREE)
    model = convert(
        estimator, [("X", FloatTensorType([None, COLUMNS]))], {id(estimator): {"zipmap": False}}
    )
    labels, probabilities = predict(model, {"X": T})
    assert_equal(probabilities, estimator.predict_proba(T), SINGLE)
    np.testing.assert_array_equal(labels, estimator.predict(T))


@pytest.mark.parametrize("y", [TWO, NAMES], ids=["numbers", "names"])
def test_probabilities_as_maps(y: Array) -> None:
    estimator = fit(sklearn.linear_model.LogisticRegression(), X, y)
    model = convert(estimator, [("X", FloatTensorType([None, COLUMNS]))])
    labels, maps = predict(model, {"X": T})
    np.testing.assert_array_equal(labels, estimator.predict(T))
    assert isinstance(maps, list)
    assert [list(row) for row in maps] == [estimator.classes_.tolist()] * len(T)
    rows = np.array([list(row.values()) for row in maps])
    assert_equal(rows, estimator.predict_proba(T), SINGLE)


def test_several_labels() -> None:
    estimator = fit(
        sklearn.multioutput.MultiOutputClassifier(sklearn.linear_model.LogisticRegression()),
        X,
        np.stack([TWO, THREE], 1),
    )
    model = convert(
        estimator, [("X", FloatTensorType([None, COLUMNS]))], {id(estimator): {"zipmap": False}}
    )
    labels, probabilities = predict(model, {"X": T})
    np.testing.assert_array_equal(labels, estimator.predict(T))
    for actual, wanted in zip(probabilities, estimator.predict_proba(T)):
        assert_equal(actual, wanted, SINGLE)


@pytest.mark.parametrize("strategy", ["mean", "median", "nearest"])
def test_gaps_are_filled(strategy: str) -> None:
    impute = sklearn.impute
    estimator = (
        impute.KNNImputer(n_neighbors=3)
        if strategy == "nearest"
        else impute.SimpleImputer(strategy=strategy)
    )
    fit(estimator, X_GAPS, None)
    model = convert(estimator, [("X", FloatTensorType([None, COLUMNS]))])
    assert_equal(predict(model, {"X": T_GAPS})[0], estimator.transform(T_GAPS), SINGLE)


WORDS = ["the cat sat", "a dog ran fast", "the dog sat", "cats and dogs run", "a fast fox", "", "x"]
SENTENCES = np.array([f"{WORDS[i % 7]} {WORDS[(3 * i + 1) % 7]}" for i in range(60)], object)
COLORS = np.array([["red", "small"], ["blue", "big"], ["green", "small"], ["red", "huge"]] * 15)


@pytest.mark.parametrize("vectorizer", ["TfidfVectorizer", "CountVectorizer"])
def test_sentences(vectorizer: str) -> None:
    kind = getattr(sklearn.feature_extraction.text, vectorizer)
    estimator = sklearn.pipeline.make_pipeline(
        # What the converter writes for the default expression, which leaves out single letters.
        kind(ngram_range=(1, 2), token_pattern="[a-zA-Z0-9_]+"),
        sklearn.linear_model.LogisticRegression(),
    )
    fit(estimator, SENTENCES, np.arange(60) % 3)
    model = convert(
        estimator, [("X", StringTensorType([None]))], {id(estimator): {"zipmap": False}}
    )
    labels, probabilities = predict(model, {"X": SENTENCES})
    np.testing.assert_array_equal(labels, estimator.predict(SENTENCES))
    assert_equal(probabilities, estimator.predict_proba(SENTENCES), SINGLE)


def test_categories() -> None:
    scaling = sklearn.preprocessing
    for estimator in (
        scaling.OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        scaling.OrdinalEncoder(),
    ):
        fit(estimator, COLORS, None)
        model = convert(estimator, [("X", StringTensorType([None, 2]))])
        actual = predict(model, {"X": COLORS.astype(object)})[0]
        np.testing.assert_array_equal(actual, estimator.transform(COLORS))


def test_numbers_and_categories_together() -> None:
    pandas = pytest.importorskip("pandas")
    scaling = sklearn.preprocessing
    table = pandas.DataFrame(X[:60, :2].astype(SINGLE), columns=["a", "b"])
    table["color"] = COLORS[:, 0]
    numbers = sklearn.pipeline.make_pipeline(
        sklearn.impute.SimpleImputer(), scaling.StandardScaler()
    )
    columns = sklearn.compose.ColumnTransformer(
        [
            ("numbers", numbers, ["a", "b"]),
            ("names", scaling.OneHotEncoder(handle_unknown="ignore"), ["color"]),
        ]
    )
    estimator = sklearn.pipeline.make_pipeline(columns, sklearn.linear_model.LogisticRegression())
    fit(estimator, table, TWO[:60])
    types = [("a", FloatTensorType([None, 1])), ("b", FloatTensorType([None, 1]))]
    model = convert(
        estimator,
        [*types, ("color", StringTensorType([None, 1]))],
        {id(estimator): {"zipmap": False}},
    )
    feeds = {name: table[[name]].to_numpy() for name in table}
    feeds["color"] = feeds["color"].astype(object)
    labels, probabilities = predict(model, feeds)
    np.testing.assert_array_equal(labels, estimator.predict(table))
    assert_equal(probabilities, estimator.predict_proba(table), SINGLE)


@pytest.mark.parametrize("kind", ["2", "3", "number", "ranker"])
def test_lightgbm(kind: str) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    tools = pytest.importorskip("onnxmltools")
    options = {"n_estimators": 15, "verbose": -1, "n_jobs": 1, "random_state": 0}
    y: Array = {"2": TWO, "3": NAMES, "ranker": THREE}.get(kind, NUMBER)
    if kind == "ranker":
        estimator = lightgbm.LGBMRanker(**options).fit(X_GAPS, y, group=[50, 50, 50])
    else:
        name = "LGBMRegressor" if kind == "number" else "LGBMClassifier"
        estimator = getattr(lightgbm, name)(**options).fit(X_GAPS, y)
    types = [("X", tools.convert.common.data_types.FloatTensorType([None, COLUMNS]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tools.convert_lightgbm(
            estimator, initial_types=types, zipmap=False, target_opset=15
        )
        expected = [estimator.predict(T_GAPS)]
        if hasattr(estimator, "predict_proba"):
            expected.append(estimator.predict_proba(T_GAPS))
    for actual, wanted in zip(predict(model.SerializeToString(), {"X": T_GAPS}), expected):
        assert_equal(actual, wanted, SINGLE)


@pytest.mark.parametrize("kind", ["2", "3", "number", "forest", "forest-2"])
def test_xgboost(kind: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    tools = pytest.importorskip("onnxmltools")
    options = {"n_estimators": 15, "n_jobs": 1, "random_state": 0}
    y: Array = {"2": TWO, "forest-2": TWO, "3": THREE}.get(kind, NUMBER)
    name = {"number": "XGBRegressor", "forest": "XGBRFRegressor", "forest-2": "XGBRFClassifier"}
    estimator = getattr(xgboost, name.get(kind, "XGBClassifier"))(**options).fit(X_GAPS, y)
    types = [("X", tools.convert.common.data_types.FloatTensorType([None, COLUMNS]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tools.convert_xgboost(estimator, initial_types=types, target_opset=15)
        expected = [estimator.predict(T_GAPS)]
        if hasattr(estimator, "predict_proba"):
            expected.append(estimator.predict_proba(T_GAPS))
    for actual, wanted in zip(predict(model.SerializeToString(), {"X": T_GAPS}), expected):
        assert_equal(actual, wanted, SINGLE)


@pytest.mark.parametrize("kind", ["RandomForestRegressor", "GradientBoostingRegressor"])
def test_trees_in_double(kind: str) -> None:
    """The newest operator keeps thresholds and weights in double; no converter writes it yet."""
    estimator = getattr(sklearn.ensemble, kind)(n_estimators=20, random_state=0)
    fit(estimator, X, NUMBER)
    trees = [t.tree_ for t in np.ravel(estimator.estimators_)]
    boosted = kind.startswith("Gradient")
    scale = estimator.learning_rate if boosted else 1 / len(trees)
    lists: dict[str, list[Any]] = {}

    def put(**items: Any) -> None:
        for name, item in items.items():
            lists.setdefault(name, []).append(item)

    roots, splits, weights = [], [], []
    for tree in trees:
        branches = np.flatnonzero(tree.children_left >= 0)
        place = {int(n): len(splits) + i for i, n in enumerate(branches)}
        leaf: dict[int, int] = {}
        for n in np.flatnonzero(tree.children_left < 0):
            leaf[int(n)] = len(weights)
            weights.append(tree.value[n, 0, 0] * scale)
            put(leaf_targetids=0)
        roots.append(place[0])
        for n in branches:
            yes, no = int(tree.children_left[n]), int(tree.children_right[n])
            splits.append(tree.threshold[n])
            put(
                nodes_featureids=int(tree.feature[n]),
                nodes_truenodeids=leaf.get(yes, place.get(yes)),
                nodes_falsenodeids=leaf.get(no, place.get(no)),
                nodes_trueleafs=int(yes in leaf),
                nodes_falseleafs=int(no in leaf),
            )
    attributes = {
        **lists,
        "tree_roots": roots,
        "nodes_splits": np.array(splits),
        "nodes_modes": np.zeros(len(splits), np.uint8),
        "leaf_weights": np.array(weights),
        "n_targets": 1,
    }
    y = run_node("TreeEnsemble", [T.astype(DOUBLE)], attributes, domain="ai.onnx.ml")[0][:, 0]
    if boosted:
        y = y + estimator.init_.constant_[0, 0]
    assert_equal(y, estimator.predict(T), DOUBLE)
