# SPDX-License-Identifier: Apache-2.0
"""Ensembles of trees beside the CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule import errors
from tests.support.cuda_emulation import missing, run_node
from tests.support.native import run_node as run_on_cpu
from tests.support.trees import (
    MODES,
    Split,
    new_attributes,
    old_attributes,
    one_vote,
    random_rows,
    random_shares,
    random_tree,
    random_votes,
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

_OLD_MODES = MODES[:-1]
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def agree(op_type: str, x: Any, attributes: dict[str, Any], dtypes: list[Any]) -> list[Any]:
    outputs = len(dtypes)
    actual = run_node(op_type, [x], attributes, outputs, "ai.onnx.ml", dtypes)
    expected = run_on_cpu(op_type, [x], attributes, outputs, "ai.onnx.ml")
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-3 if ours.dtype == np.float16 else 1e-6, atol=1e-7
        )
    return actual


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(
    ("aggregate", "transform"), [(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (1, 3)]
)
def test_tree_ensemble(dtype: Any, aggregate: int, transform: int) -> None:
    rng = np.random.default_rng(aggregate)
    trees: list[Any] = []
    while len(trees) < 5:
        tree = random_tree(rng, 4, modes=MODES, leaf=one_vote(rng, int(rng.integers(3))))
        trees += [tree] if isinstance(tree, Split) else []
    numbers = {"aggregate_function": aggregate, "post_transform": transform}
    attributes = new_attributes(trees, dtype) | numbers | {"n_targets": 3}
    agree("TreeEnsemble", random_rows(rng, 50).astype(dtype), attributes, [dtype])


def test_the_votes_tell_how_many_targets_there_are() -> None:
    rng = np.random.default_rng(9)
    trees = [random_tree(rng, 3, leaf=one_vote(rng, target)) for target in (0, 2)]
    assert all(isinstance(tree, Split) for tree in trees)
    x = random_rows(rng, 4)
    (y,) = agree("TreeEnsemble", x, new_attributes(trees), [np.float32])
    assert y.shape == (4, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("aggregate", ["AVERAGE", "SUM", "MIN", "MAX"])
def test_regressor(dtype: Any, aggregate: str) -> None:
    rng = np.random.default_rng(1)
    trees = [random_tree(rng, 4, modes=_OLD_MODES, leaf=random_votes(rng, 3)) for _ in range(7)]
    attributes = old_attributes(trees, "target")
    attributes |= {"n_targets": 3, "aggregate_function": aggregate, "base_values": [0.5, -1.0, 2.0]}
    x = random_rows(rng, 40)
    if np.dtype(dtype).kind == "i":
        x = np.nan_to_num(x, nan=1, posinf=2**30, neginf=-(2**30))
    agree("TreeEnsembleRegressor", x.astype(dtype), attributes, [np.float32])


def test_a_weight_that_is_repeated() -> None:
    """Of one target the first weight of a leaf counts."""
    rng = np.random.default_rng(2)
    trees = [random_tree(rng, 4, modes=_OLD_MODES, leaf=one_vote(rng, 0)) for _ in range(5)]
    attributes = old_attributes(trees, "target")
    x, results = random_rows(rng, 40), []
    for count in (1, 3):
        for key in ("target_ids", "target_nodeids", "target_treeids", "target_weights"):
            attributes[key] = [each for each in attributes[key] for _ in range(count)]
        if count > 1:
            attributes["target_weights"][2::3] = [7.0] * (len(attributes["target_weights"]) // 3)
        given = attributes | {"n_targets": 1}
        results += agree("TreeEnsembleRegressor", x, given, [np.float32])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("transform", _TRANSFORMS)
def test_transforms(transform: str) -> None:
    rng = np.random.default_rng(2)
    trees = [random_tree(rng, 3, leaf=random_shares(rng, 3, 0.4)) for _ in range(2)]
    attributes = old_attributes(trees, "target") | {"n_targets": 3, "post_transform": transform}
    agree("TreeEnsembleRegressor", random_rows(rng, 30), attributes, [np.float32])


def test_integers_are_compared_as_float32() -> None:
    attributes = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    x = np.array([[2**24 + 1], [2**24]], np.int64)
    listed = attributes | {"nodes_values": [float(2**24), 0.0, 0.0]}
    (y,) = agree("TreeEnsembleRegressor", x, listed, [np.float32])
    np.testing.assert_array_equal(y, [[1], [1]])
    exact = attributes | {"nodes_values_as_tensor": np.array([2.0**24, 0, 0])}
    (y,) = agree("TreeEnsembleRegressor", x, exact, [np.float32])
    np.testing.assert_array_equal(y, [[2], [1]])


@pytest.mark.parametrize("transform", _TRANSFORMS)
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("positive", [True, False])
def test_classifier(transform: str, classes: int, positive: bool) -> None:
    rng = np.random.default_rng(classes)
    if transform == "PROBIT" and not positive:
        pytest.skip("no probabilities")
    leaf = random_shares(rng, classes, 0.3) if positive else random_votes(rng, classes)
    trees = [random_tree(rng, 4, modes=_OLD_MODES, leaf=leaf) for _ in range(3)]
    attributes = old_attributes(trees, "class")
    attributes |= {"classlabels_int64s": [10 + i for i in range(classes)]}
    attributes |= {"post_transform": transform}
    agree("TreeEnsembleClassifier", random_rows(rng, 40), attributes, [np.int64, np.float32])


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("base", [[], [0.25], [0.5, -0.5]])
def test_two_classes_with_votes_for_one(target: int, transform: str, base: list[float]) -> None:
    rng = np.random.default_rng(3)
    trees = [random_tree(rng, 3, leaf=one_vote(rng, target)) for _ in range(4)]
    attributes = old_attributes(trees, "class")
    attributes |= {"classlabels_int64s": [7, 5], "post_transform": transform}
    if base:
        attributes["base_values"] = base
    agree("TreeEnsembleClassifier", random_rows(rng, 30), attributes, [np.int64, np.float32])


@pytest.mark.parametrize(
    "change",
    [
        {  # a circle
            "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"],
            "nodes_truenodeids": [1, 1, 0],
            "nodes_falsenodeids": [2, 2, 0],
        },
        {"nodes_truenodeids": [9, 0, 0]},
        {"nodes_featureids": [-1, 0, 0]},
        {"nodes_featureids": [5, 0, 0]},
        {"nodes_nodeids": [0, 1, 1]},
        {"nodes_modes": ["BRANCH", "LEAF", "LEAF"]},
        {"nodes_values": [1.0]},
        {"target_ids": [0, 3]},
        {"target_nodeids": [1, 7]},
        {"target_weights": [1.0]},
        {"base_values": [1.0, 2.0, 3.0]},
    ],
)
def test_bad_attributes_are_errors(change: dict[str, Any]) -> None:
    attributes = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [1.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    x = np.ones((2, 2), np.float32)
    agree("TreeEnsembleRegressor", x, attributes, [np.float32])
    with pytest.raises(errors.Fail, match="TreeEnsembleRegressor node"):
        run_node("TreeEnsembleRegressor", [x], attributes | change, 1, "ai.onnx.ml", [np.float32])
