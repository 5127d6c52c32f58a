# SPDX-License-Identifier: Apache-2.0
"""Models that skl2onnx converts from scikit-learn predict what scikit-learn predicts.

Labels are equal. Scores are equal within 1e-6 of the column's largest for models in float32, and
within 1e-12 where the converter keeps the estimator's doubles.

What cannot be said in ONNX is left out. ClassifierChain has no converter; Gaussian processes that
classify need an operator, Solve, that no runtime has; isotonic calibration is converted as steps
where scikit-learn interpolates, the modified Huber loss with other labels, and sublinear term
frequencies as log(1 + n) for 1 + log(n). Trees on doubles come out with a result declared as a
double, which the operator does not give: test_trees_in_double writes what it can.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

import sklearn.calibration
import sklearn.cluster
import sklearn.cross_decomposition
import sklearn.decomposition
import sklearn.discriminant_analysis
import sklearn.ensemble
import sklearn.feature_selection
import sklearn.gaussian_process
import sklearn.linear_model
import sklearn.mixture
import sklearn.multiclass
import sklearn.multioutput
import sklearn.naive_bayes
import sklearn.neighbors
import sklearn.neural_network
import sklearn.pipeline
import sklearn.preprocessing
import sklearn.random_projection
import sklearn.svm
import sklearn.tree
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

from tests.models.converting import (
    BOTH,
    COLUMNS,
    DOUBLE,
    NAMES,
    NUMBER,
    NUMBERS,
    OPSETS,
    SINGLE,
    THREE,
    TWO,
    Array,
    T,
    X,
    assert_close,
    assert_same,
    convert,
    expect,
    fit,
    predict,
)
from tests.support.native import run_node

TYPES = {SINGLE: FloatTensorType([None, COLUMNS]), DOUBLE: DoubleTensorType([None, COLUMNS])}
PROBABILITIES = {"zipmap": False}
MARGINS = {"zipmap": False, "raw_scores": True}

Function = str | Callable[[Any, Array], Any]


@dataclass(frozen=True)
class Case:
    """An estimator, what it learns from, and which of its functions the model's outputs give."""

    name: str
    make: Callable[[], Any]
    y: Array | None = None
    functions: tuple[Function, ...] = ("predict",)
    types: tuple[Any, ...] = (SINGLE, DOUBLE)
    options: dict[str, bool] | None = None
    opsets: Any = field(default_factory=lambda: OPSETS)


def classifier(name: str, make: Callable[[], Any], y: Array = THREE, **options: Any) -> Case:
    options = {"options": PROBABILITIES, **options}
    return Case(name, make, y, ("predict", "predict_proba"), **options)


def decider(name: str, make: Callable[[], Any], y: Array | None = THREE, **options: Any) -> Case:
    return Case(name, make, y, ("predict", "decision_function"), **options)


def regressor(name: str, make: Callable[[], Any], y: Array = NUMBER, **options: Any) -> Case:
    return Case(name, make, y, **options)


def transformer(name: str, make: Callable[[], Any], y: Array | None = None, **options: Any) -> Case:
    return Case(name, make, y, ("transform",), **options)


def both_signs(estimator: Any, x: Array) -> Array:
    """The decision of two classes as a score for each."""
    decision = estimator.decision_function(x)
    return np.stack([-decision, decision], 1)


def as_uniform(estimator: Any, x: Array) -> Any:
    return copy.copy(estimator).set_params(weights="uniform").predict(x)


SINGLY: dict[str, Any] = {"types": (SINGLE,)}
SEED: dict[str, Any] = {"random_state": 0}
pipeline = sklearn.pipeline.make_pipeline


def linear_cases() -> Iterator[Case]:
    linear = sklearn.linear_model
    yield classifier("LogisticRegression-2", linear.LogisticRegression, TWO)
    yield classifier("LogisticRegression-3", linear.LogisticRegression)
    yield classifier("LogisticRegression-text", linear.LogisticRegression, NAMES)
    yield classifier(
        "SGDClassifier-log",
        lambda: linear.SGDClassifier(loss="log_loss", **SEED),
        types=(DOUBLE,),  # the sigmoids of several classes are 1 in float32
    )
    yield decider("SGDClassifier", lambda: linear.SGDClassifier(**SEED), options=MARGINS)
    yield decider("RidgeClassifier", linear.RidgeClassifier, options=MARGINS)
    yield Case("Perceptron", lambda: linear.Perceptron(**SEED), THREE, options=PROBABILITIES)
    for name in ("LinearRegression", "Ridge", "BayesianRidge", "ARDRegression", "HuberRegressor"):
        yield regressor(name, getattr(linear, name))
    for name in ("SGDRegressor", "RANSACRegressor", "TheilSenRegressor"):
        yield regressor(name, functools.partial(getattr(linear, name), **SEED))
    for name in ("Lasso", "ElasticNet", "QuantileRegressor"):
        yield regressor(name, functools.partial(getattr(linear, name), alpha=0.01))
    for name in ("PoissonRegressor", "GammaRegressor", "TweedieRegressor"):
        yield regressor(name, getattr(linear, name), np.abs(NUMBER) + 0.1)
    yield regressor("PLSRegression", lambda: sklearn.cross_decomposition.PLSRegression(2), NUMBERS)
    discriminants = sklearn.discriminant_analysis
    yield classifier("LinearDiscriminantAnalysis", discriminants.LinearDiscriminantAnalysis)
    yield classifier("QuadraticDiscriminantAnalysis", discriminants.QuadraticDiscriminantAnalysis)


def svm_cases() -> Iterator[Case]:
    """In float32 alone: the operators keep support vectors and coefficients so."""
    svm = sklearn.svm
    for y, count in ((TWO, 2), (THREE, 3)):
        yield decider(f"LinearSVC-{count}", svm.LinearSVC, y, **SINGLY)
    for kernel in ("rbf", "poly", "sigmoid", "linear"):
        make = functools.partial(svm.SVC, kernel=kernel)
        yield decider(f"SVC-{kernel}", make, **SINGLY, options=MARGINS)
        yield regressor(f"SVR-{kernel}", lambda k=kernel: svm.SVR(kernel=k), **SINGLY)
    signs = ("predict", both_signs)
    yield Case("SVC-2", svm.SVC, TWO, signs, **SINGLY, options=MARGINS)
    pairs = functools.partial(svm.SVC, decision_function_shape="ovo")
    yield decider("SVC-pairs", pairs, NAMES, **SINGLY, options=MARGINS)
    for y, count in ((TWO, 2), (THREE, 3)):  # Platt's sigmoid over pairs, as libsvm couples them
        make = functools.partial(svm.SVC, probability=True, **SEED)
        yield classifier(f"SVC-probability-{count}", make, y, **SINGLY)
    yield decider("NuSVC", lambda: svm.NuSVC(nu=0.3), **SINGLY, options=MARGINS)
    make = functools.partial(svm.NuSVC, nu=0.3, probability=True, **SEED)
    yield classifier("NuSVC-probability", make, **SINGLY)
    yield regressor("NuSVR", svm.NuSVR, **SINGLY)
    yield regressor("LinearSVR", svm.LinearSVR)
    yield decider("OneClassSVM", svm.OneClassSVM, None, **SINGLY)


def neighbor_cases() -> Iterator[Case]:
    neighbors, process = sklearn.neighbors, sklearn.gaussian_process
    kernels = process.kernels
    doubly: dict[str, Any] = {"types": (DOUBLE,)}  # coefficients cancel too far for float32
    for name, kernel in (
        ("rbf", kernels.RBF()),
        ("matern", kernels.Matern(nu=1.5)),
        ("product", kernels.ConstantKernel(0.5) * kernels.DotProduct() + kernels.WhiteKernel(0.1)),
    ):
        yield regressor(
            f"GaussianProcessRegressor-{name}",
            lambda k=kernel: process.GaussianProcessRegressor(
                k, alpha=1e-2, optimizer=None, normalize_y=True
            ),
            **doubly,
        )
    yield classifier("KNeighborsClassifier", neighbors.KNeighborsClassifier)
    yield regressor("KNeighborsRegressor", neighbors.KNeighborsRegressor)
    yield regressor(
        "KNeighborsRegressor-manhattan",
        lambda: neighbors.KNeighborsRegressor(metric="manhattan"),
        NUMBERS,
    )
    yield regressor("KNeighborsRegressor-minkowski", lambda: neighbors.KNeighborsRegressor(p=3))
    yield Case(
        # The converter clips distances after it has negated them: all neighbours weigh the same.
        "KNeighborsRegressor-distance",
        lambda: neighbors.KNeighborsRegressor(weights="distance"),
        NUMBER,
        (as_uniform,),
    )
    yield classifier("RadiusNeighborsClassifier", lambda: neighbors.RadiusNeighborsClassifier(5.0))
    yield regressor("RadiusNeighborsRegressor", lambda: neighbors.RadiusNeighborsRegressor(5.0))
    yield decider("LocalOutlierFactor", lambda: neighbors.LocalOutlierFactor(novelty=True), None)
    for name in ("KMeans", "MiniBatchKMeans"):
        make = functools.partial(getattr(sklearn.cluster, name), 4, n_init=2, **SEED)
        yield Case(name, make, None, ("predict", "transform"))
    for covariance in ("full", "tied", "diag", "spherical"):
        yield Case(
            f"GaussianMixture-{covariance}",
            lambda c=covariance: sklearn.mixture.GaussianMixture(3, covariance_type=c, **SEED),
            None,
            ("predict", "predict_proba", "score_samples"),
            options={"score_samples": True},
            opsets=OPSETS[""],  # their converter takes no other domains
        )
    make = functools.partial(sklearn.mixture.BayesianGaussianMixture, n_components=3, **SEED)
    functions = ("predict", "predict_proba")
    yield Case("BayesianGaussianMixture", make, None, functions, opsets=OPSETS[""])


def tree_cases() -> Iterator[Case]:
    tree, ensemble = sklearn.tree, sklearn.ensemble
    few = {"n_estimators": 12, **SEED}
    yield classifier(
        "DecisionTreeClassifier", lambda: tree.DecisionTreeClassifier(**SEED), **SINGLY
    )
    yield regressor(
        "DecisionTreeRegressor", lambda: tree.DecisionTreeRegressor(**SEED), NUMBERS, **SINGLY
    )
    yield regressor("ExtraTreeRegressor", lambda: tree.ExtraTreeRegressor(**SEED), **SINGLY)
    for y, count in ((TWO, 2), (NAMES, 3)):
        for name in ("RandomForest", "ExtraTrees", "GradientBoosting", "AdaBoost", "Bagging"):
            kind = getattr(ensemble, f"{name}Classifier")
            yield classifier(f"{name}Classifier-{count}", lambda k=kind: k(**few), y, **SINGLY)
    for name in ("RandomForest", "ExtraTrees", "GradientBoosting", "AdaBoost", "Bagging"):
        kind = getattr(ensemble, f"{name}Regressor")
        yield regressor(f"{name}Regressor", lambda k=kind: k(**few), **SINGLY)
    yield decider("IsolationForest", lambda: ensemble.IsolationForest(**few), None, **SINGLY)
    yield transformer(
        "RandomTreesEmbedding",
        lambda: ensemble.RandomTreesEmbedding(sparse_output=False, **few),
        **SINGLY,
    )


def composed_cases() -> Iterator[Case]:
    ensemble, linear = sklearn.ensemble, sklearn.linear_model
    tree, bayes = sklearn.tree, sklearn.naive_bayes
    few = {"n_estimators": 5, **SEED}
    with_tree = [("a", linear.LogisticRegression()), ("b", tree.DecisionTreeClassifier(**SEED))]
    smooth = [("a", linear.LogisticRegression()), ("b", bayes.GaussianNB())]
    lines = [("a", linear.Ridge()), ("b", linear.Lasso(0.1))]
    branches = [("a", linear.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4, **SEED))]
    for voting in ("soft", "hard"):
        make = functools.partial(
            ensemble.VotingClassifier, with_tree, voting=voting, flatten_transform=False
        )
        functions = ("predict", "predict_proba")[: 2 if voting == "soft" else 1]
        yield Case(
            f"VotingClassifier-{voting}", make, THREE, functions, **SINGLY, options=PROBABILITIES
        )
    yield regressor("VotingRegressor", lambda: ensemble.VotingRegressor(lines))
    yield regressor("VotingRegressor-tree", lambda: ensemble.VotingRegressor(branches), **SINGLY)
    yield classifier(
        "StackingClassifier-2", lambda: ensemble.StackingClassifier(with_tree), TWO, **SINGLY
    )
    yield classifier("StackingClassifier-3", lambda: ensemble.StackingClassifier(smooth))
    yield regressor("StackingRegressor", lambda: ensemble.StackingRegressor(lines))
    yield regressor(
        "StackingRegressor-tree", lambda: ensemble.StackingRegressor(branches), **SINGLY
    )
    yield regressor(
        "AdaBoostRegressor-linear", lambda: ensemble.AdaBoostRegressor(linear.Ridge(), **few)
    )
    yield classifier(
        "BaggingClassifier-linear",
        lambda: ensemble.BaggingClassifier(linear.LogisticRegression(), **few),
    )
    yield classifier(
        "CalibratedClassifierCV",
        lambda: sklearn.calibration.CalibratedClassifierCV(sklearn.svm.LinearSVC(), cv=2),
    )
    several, multiple = sklearn.multiclass, sklearn.multioutput
    yield classifier(
        "OneVsRestClassifier", lambda: several.OneVsRestClassifier(linear.LogisticRegression())
    )
    yield Case(
        "OneVsOneClassifier",
        lambda: several.OneVsOneClassifier(linear.LogisticRegression()),
        THREE,
        options=PROBABILITIES,
    )
    yield regressor(
        "MultiOutputRegressor", lambda: multiple.MultiOutputRegressor(linear.Ridge()), NUMBERS
    )
    network = functools.partial(sklearn.neural_network.MLPClassifier, max_iter=60, **SEED)
    yield classifier("MLPClassifier-2", lambda: network(activation="logistic"), TWO)
    yield classifier("MLPClassifier-3", network)
    for activation in ("tanh", "identity"):
        make = functools.partial(
            sklearn.neural_network.MLPRegressor, activation=activation, max_iter=60, **SEED
        )
        yield regressor(f"MLPRegressor-{activation}", make)

    scaling = sklearn.preprocessing
    yield classifier("GaussianNB", bayes.GaussianNB)
    yield classifier("BernoulliNB", bayes.BernoulliNB, **SINGLY)
    for name in ("MultinomialNB", "ComplementNB"):
        kind = getattr(bayes, name)
        yield classifier(name, lambda k=kind: pipeline(scaling.MinMaxScaler(clip=True), k()))
    yield classifier(
        "CategoricalNB", lambda: pipeline(binned("ordinal"), bayes.CategoricalNB()), **SINGLY
    )
    yield classifier(
        "pipeline",
        lambda: pipeline(
            scaling.StandardScaler(),
            sklearn.decomposition.PCA(4),
            linear.LogisticRegression(),
        ),
    )


def binned(encode: str) -> Any:
    return sklearn.preprocessing.KBinsDiscretizer(
        4, encode=encode, quantile_method="averaged_inverted_cdf"
    )


def transformer_cases() -> Iterator[Case]:
    parts, scaling = sklearn.decomposition, sklearn.preprocessing
    selection = sklearn.feature_selection
    yield transformer("PCA", lambda: parts.PCA(3))
    yield transformer("PCA-whiten", lambda: parts.PCA(3, whiten=True))
    yield transformer("IncrementalPCA", lambda: parts.IncrementalPCA(3))
    yield transformer("TruncatedSVD", lambda: parts.TruncatedSVD(3, **SEED))
    yield transformer("KernelPCA", lambda: parts.KernelPCA(3, kernel="rbf"))
    for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        yield transformer(name, getattr(scaling, name))
    for norm in ("l1", "l2"):
        yield transformer(f"Normalizer-{norm}", lambda n=norm: scaling.Normalizer(n))
    yield transformer("Normalizer-max", lambda: scaling.Normalizer("max"), **SINGLY)
    yield transformer("PolynomialFeatures", lambda: scaling.PolynomialFeatures(2), **SINGLY)
    yield transformer("PowerTransformer", scaling.PowerTransformer, **SINGLY)
    yield transformer("Binarizer", lambda: scaling.Binarizer(threshold=0.1))
    yield transformer("QuantileTransformer", lambda: scaling.QuantileTransformer(n_quantiles=20))
    for encode in ("onehot-dense", "ordinal"):
        yield transformer(f"KBinsDiscretizer-{encode}", lambda e=encode: binned(e), **SINGLY)
    yield transformer("SelectKBest", lambda: selection.SelectKBest(k=3), THREE)
    yield transformer("VarianceThreshold", lambda: selection.VarianceThreshold(0.9))
    yield transformer(
        "NeighborhoodComponentsAnalysis",
        lambda: sklearn.neighbors.NeighborhoodComponentsAnalysis(3, max_iter=5, **SEED),
        THREE,
    )
    yield transformer(
        "GaussianRandomProjection",
        lambda: sklearn.random_projection.GaussianRandomProjection(3, **SEED),
    )


GROUPS = (linear_cases, svm_cases, neighbor_cases, tree_cases, composed_cases, transformer_cases)
CASES = {case.name: case for group in GROUPS for case in group()}


@functools.cache
def fitted(name: str) -> Any:
    return fit(CASES[name].make(), X.astype(DOUBLE), CASES[name].y)


@pytest.mark.parametrize(
    "name, dtype",
    [
        pytest.param(case.name, dtype, id=f"{case.name}-{np.dtype(dtype).name}")
        for case in CASES.values()
        for dtype in case.types
    ],
)
def test_scikit_learn(name: str, dtype: Any) -> None:
    case, estimator = CASES[name], fitted(name)
    model = convert(estimator, [("X", TYPES[dtype])], case.options, case.opsets)
    expected = expect(estimator, case.functions, T.astype(DOUBLE))
    assert_same(predict(model, {"X": T.astype(dtype)}), expected, dtype)


@pytest.mark.parametrize("y", [TWO, NAMES], ids=["numbers", "names"])
def test_probabilities_as_maps(y: Array) -> None:
    estimator = fit(sklearn.linear_model.LogisticRegression(), X, y)
    labels, maps = predict(convert(estimator, [("X", TYPES[SINGLE])]), {"X": T})
    np.testing.assert_array_equal(labels, estimator.predict(T))
    assert isinstance(maps, list)
    assert [list(row) for row in maps] == [estimator.classes_.tolist()] * len(T)
    assert_close([list(row.values()) for row in maps], estimator.predict_proba(T))


def test_probabilities_as_columns() -> None:
    estimator = fit(sklearn.linear_model.LogisticRegression(), X, NAMES)
    model = convert(estimator, [("X", TYPES[SINGLE])], {"zipmap": "columns"})
    labels, *columns = predict(model, {"X": T})
    assert_same([labels, *columns], [estimator.predict(T), *estimator.predict_proba(T).T], SINGLE)


@pytest.mark.parametrize("kind", ["one by one", "together"])
def test_several_labels(kind: str) -> None:
    estimator = (
        sklearn.multioutput.MultiOutputClassifier(sklearn.linear_model.LogisticRegression())
        if kind == "one by one"
        else sklearn.ensemble.RandomForestClassifier(5, random_state=0)
    )
    fit(estimator, X, BOTH)
    labels, scores = predict(convert(estimator, [("X", TYPES[SINGLE])], PROBABILITIES), {"X": T})
    np.testing.assert_array_equal(labels, estimator.predict(T))
    expected = estimator.predict_proba(T)
    if kind == "together":  # each label has as many columns as that with most classes
        scores = [columns[:, : wanted.shape[1]] for columns, wanted in zip(scores, expected)]
    assert_same(scores, expected, SINGLE)


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
    assert_close(y, estimator.predict(T), DOUBLE)
