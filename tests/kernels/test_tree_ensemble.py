# SPDX-License-Identifier: Apache-2.0
"""Forests against plain walks over their nodes in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument, InvalidGraph
from tests.support.native import run_node

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
COMPARE: dict[str, Any] = {
    "BRANCH_LEQ": lambda x, t: x <= t,
    "BRANCH_LT": lambda x, t: x < t,
    "BRANCH_GTE": lambda x, t: x >= t,
    "BRANCH_GT": lambda x, t: x > t,
    "BRANCH_EQ": lambda x, t: x == t,
    "BRANCH_NEQ": lambda x, t: x != t,
}


@dataclass
class Node:
    mode: str = "LEAF"
    feature: int = 0
    value: float = 0.0
    nan_is_true: bool = False
    true: int = 0
    false: int = 0
    votes: list[tuple[int, float]] = field(default_factory=list)


def grow(rng: np.random.Generator, features: int, targets: int, depth: int, modes: Any) -> Any:
    """A random tree; values are few, so that features often equal thresholds."""
    nodes: list[Node] = []

    def add(level: int) -> int:
        number = len(nodes)
        nodes.append(Node())
        if level == depth or (level > 0 and rng.random() < 0.2):
            chosen = rng.permutation(targets)[: rng.integers(1, targets + 1)]
            nodes[number].votes = [(int(t), float(np.float32(rng.normal()))) for t in chosen]
            return number
        node = nodes[number]
        node.mode = str(rng.choice(modes))
        node.feature = int(rng.integers(features))
        node.value = float(rng.integers(-4, 5)) / 2
        node.nan_is_true = bool(rng.random() < 0.5)
        node.true = add(level + 1)
        node.false = add(level + 1)
        return number

    add(0)
    return nodes


def walk(nodes: list[Node], x: np.ndarray) -> Node:
    node = nodes[0]
    while node.mode != "LEAF":
        value = float(x[node.feature])
        if math.isnan(value) and node.nan_is_true:
            answer = True
        else:
            answer = COMPARE[node.mode](value, node.value)
        node = nodes[node.true if answer else node.false]
    return node


def scores(forest: list[list[Node]], x: np.ndarray, targets: int, aggregate: str) -> np.ndarray:
    result = np.zeros((len(x), targets))
    for row, values in enumerate(x):
        votes: list[list[float]] = [[] for _ in range(targets)]
        for tree in forest:
            for target, weight in walk(tree, values).votes:
                votes[target].append(weight)
        for target, found in enumerate(votes):
            fold = {"SUM": sum, "AVERAGE": sum, "MIN": min, "MAX": max}[aggregate]
            total = fold(found) if found else 0.0
            result[row, target] = total / len(forest) if aggregate == "AVERAGE" else total
    return result


def attributes_of(forest: list[list[Node]], prefix: str) -> dict[str, Any]:
    lists: dict[str, list[Any]] = {}

    def put(**items: Any) -> None:
        for name, item in items.items():
            lists.setdefault(name, []).append(item)

    for number, tree in enumerate(forest):
        for index, node in enumerate(tree):
            put(
                nodes_treeids=number,
                nodes_nodeids=index,
                nodes_modes=node.mode,
                nodes_featureids=node.feature,
                nodes_values=node.value,
                nodes_missing_value_tracks_true=int(node.nan_is_true),
                nodes_truenodeids=node.true,
                nodes_falsenodeids=node.false,
            )
            for target, weight in node.votes:
                put(
                    **{
                        f"{prefix}_treeids": number,
                        f"{prefix}_nodeids": index,
                        f"{prefix}_ids": target,
                        f"{prefix}_weights": weight,
                    }
                )
    return lists


def features(rng: np.random.Generator, rows: int, columns: int, dtype: Any) -> np.ndarray:
    x = rng.integers(-5, 6, (rows, columns)) / 2
    if np.dtype(dtype).kind == "f":
        x = np.where(rng.random(x.shape) < 0.1, np.nan, x)
        x = np.where(rng.random(x.shape) < 0.02, np.inf, x)
        return x.astype(dtype)
    return np.round(x).astype(dtype)


def regress(x: np.ndarray, attributes: dict[str, Any], **options: Any) -> np.ndarray:
    result: np.ndarray = run_node(
        "TreeEnsembleRegressor", [x], attributes, domain="ai.onnx.ml", **options
    )[0]
    return result


@pytest.mark.parametrize("modes", [[m] for m in MODES] + [MODES, MODES[:4]], ids=lambda m: m[0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_every_comparison(modes: list[str], dtype: Any) -> None:
    rng = np.random.default_rng(len(modes))
    forest = [grow(rng, 5, 1, depth, modes) for depth in (0, 1, 3, 6, 9, 2) * 4]
    attributes = {**attributes_of(forest, "target"), "n_targets": 1}
    x = features(rng, 83, 5, dtype)
    expected = scores(forest, x, 1, "SUM")
    np.testing.assert_allclose(regress(x, attributes), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("based", [False, True])
def test_every_aggregate(aggregate: str, targets: int, based: bool) -> None:
    rng = np.random.default_rng(7)
    forest = [grow(rng, 4, targets, 5, MODES[:4]) for _ in range(20)]
    attributes = {**attributes_of(forest, "target"), "n_targets": targets}
    attributes["aggregate_function"] = aggregate
    base = [0.25 * (i + 1) for i in range(targets)] if based else []
    if based:
        attributes["base_values"] = base
    x = features(rng, 40, 4, np.float32)
    expected = scores(forest, x, targets, aggregate) + (base if based else 0)
    np.testing.assert_allclose(regress(x, attributes), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("modes", [MODES[:4], MODES], ids=["inequalities", "all"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_depend_on_nothing_else(modes: list[str], dtype: Any) -> None:
    rng = np.random.default_rng(3)
    forest = [grow(rng, 6, 1, 7, modes) for _ in range(300)]
    attributes = {**attributes_of(forest, "target"), "n_targets": 1}
    x = features(rng, 217, 6, dtype)
    whole = regress(x, attributes)
    for threads in (2, 3):
        assert regress(x, attributes, threads=threads).tobytes() == whole.tobytes()
    for start, stop in ((0, 1), (5, 13), (60, 80), (100, 217)):
        part = regress(x[start:stop], attributes)
        assert part.tobytes() == whole[start:stop].tobytes()
    # Fewer NaNs around a row change nothing either.
    clean = ~np.isnan(x).any(1)
    assert regress(x[clean], attributes).tobytes() == whole[clean].tobytes()


def test_thresholds_in_double_are_compared_in_double() -> None:
    near = 0.1  # no float32 is equal to it
    forest = [[Node("BRANCH_LEQ", 0, near, False, 1, 2), Node(votes=[(0, 1.0)]), Node()]]
    forest[0][2].votes = [(0, 2.0)]
    lists = attributes_of(forest, "target")
    lists["nodes_values_as_tensor"] = np.array(lists.pop("nodes_values"))
    lists["target_weights_as_tensor"] = np.array(lists.pop("target_weights"))
    x = np.array([[near], [np.nextafter(near, 1)], [np.nextafter(near, 0)]])
    assert regress(x, {**lists, "n_targets": 1})[:, 0].tolist() == [1, 2, 1]
    single = np.array([[np.float32(near)], [np.nextafter(np.float32(near), np.float32(0))]])
    assert regress(single, {**lists, "n_targets": 1})[:, 0].tolist() == [2, 1]


def classify(x: np.ndarray, attributes: dict[str, Any]) -> list[np.ndarray]:
    return run_node("TreeEnsembleClassifier", [x], attributes, outputs=2, domain="ai.onnx.ml")


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("names", [["a", "b", "c"], None])
def test_classes(transform: str, names: list[str] | None) -> None:
    rng = np.random.default_rng(11)
    forest = [grow(rng, 4, 3, 4, MODES[:4]) for _ in range(30)]
    attributes = {**attributes_of(forest, "class"), "post_transform": transform}
    attributes |= {"classlabels_strings": names} if names else {"classlabels_int64s": [7, -3, 5]}
    x = features(rng, 50, 4, np.float32)
    labels, z = classify(x, attributes)
    raw = scores(forest, x, 3, "SUM")
    order = names if names else [7, -3, 5]
    assert labels.tolist() == [order[i] for i in raw.argmax(1)]
    powers = np.exp(raw - raw.max(1, keepdims=True))
    expected = {
        "NONE": raw,
        "LOGISTIC": 1 / (1 + np.exp(-raw)),
        "SOFTMAX": powers / powers.sum(1, keepdims=True),
    }
    expected["SOFTMAX_ZERO"] = expected["SOFTMAX"]
    np.testing.assert_allclose(z, expected[transform], rtol=1e-5, atol=1e-6)


def test_one_column_of_votes_for_two_classes() -> None:
    """What boosting libraries export: the margin of the second class, as a logistic."""
    rng = np.random.default_rng(2)
    forest = [grow(rng, 4, 1, 4, ["BRANCH_LT"]) for _ in range(20)]
    lists = attributes_of(forest, "class")
    attributes = {**lists, "classlabels_int64s": [0, 1], "post_transform": "LOGISTIC"}
    x = features(rng, 60, 4, np.float32)
    labels, z = classify(x, attributes)
    margin = scores(forest, x, 1, "SUM")[:, 0]
    assert labels.tolist() == (margin > 0).astype(int).tolist()
    second = 1 / (1 + np.exp(-margin))
    np.testing.assert_allclose(z, np.stack([1 - second, second], 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_newest_form(dtype: Any) -> None:
    """TreeEnsemble, with a set among its tests."""
    attributes = {
        "nodes_splits": np.array([0.5, 0.0, -1.0], dtype),
        "nodes_featureids": [0, 1, 1],
        "nodes_modes": np.array([0, 6, 3], np.uint8),
        "nodes_truenodeids": [1, 0, 1],
        "nodes_falsenodeids": [2, 1, 2],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0, 1, 0],
        "leaf_weights": np.array([1.5, 2.5, -3.5], dtype),
        "membership_values": np.array([2.0, 3.0, np.nan], dtype),
        "tree_roots": [0],
        "n_targets": 2,
    }
    x = np.array([[0.5, 2], [0.25, 4], [1, 0], [1, -1], [np.nan, 5], [0, np.nan]], dtype)
    y = run_node("TreeEnsemble", [x], attributes, domain="ai.onnx.ml")[0]
    assert y.dtype == dtype
    assert y.tolist() == [[1.5, 0], [0, 2.5], [0, 2.5], [-3.5, 0], [0, 2.5], [0, 2.5]]


def stump(**changes: Any) -> dict[str, Any]:
    tree = [Node("BRANCH_LEQ", 0, 0.0, False, 1, 2), Node(votes=[(0, 1.0)]), Node(votes=[(0, 2.0)])]
    return {**attributes_of([tree], "target"), "n_targets": 1, **changes}


X = np.array([[1.0], [-1.0]], np.float32)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nodes_truenodeids": [9, 0, 0]}, "9"),
        ({"nodes_values": [0.0]}, "nodes_values has 1 elements"),
        ({"nodes_modes": ["BRANCH_X", "LEAF", "LEAF"]}, "BRANCH_X"),
        ({"nodes_featureids": [-1, 0, 0]}, "negative"),
        ({"target_ids": [0, 5]}, "target_ids"),
        ({"target_nodeids": [1, 7]}, "7"),
        ({"nodes_nodeids": [0, 1, 1]}, "twice"),
        ({"aggregate_function": "MEDIAN"}, "MEDIAN"),
        ({"base_values": [1.0, 2.0]}, "base_values"),
        ({"post_transform": "TANH"}, "TANH"),
    ],
)
def test_refuses_what_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((Fail, InvalidArgument, InvalidGraph), match=message):
        regress(X, stump(**changes))


def test_refuses_circles() -> None:
    turning = Node("BRANCH_LEQ", 0, 0.0, False, 1, 2)
    tree = [Node("BRANCH_LEQ", 0, 0.0, False, 1, 2), turning, Node(votes=[(0, 2.0)])]
    with pytest.raises(InvalidGraph, match="circle"):
        regress(X, {**attributes_of([tree], "target"), "n_targets": 1})


def test_refuses_too_few_columns() -> None:
    with pytest.raises(InvalidArgument, match="1 columns, and a node tests feature 3"):
        regress(X, stump(nodes_featureids=[3, 0, 0]))


def test_no_rows() -> None:
    assert regress(np.zeros((0, 1), np.float32), stump()).shape == (0, 1)
