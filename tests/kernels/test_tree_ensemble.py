# SPDX-License-Identifier: Apache-2.0
"""TreeEnsemble and the two operators before it, against a plain walk in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bascule.errors import Fail, InvalidArgument, InvalidGraph
from tests.support.native import compile_graph, node_graph, run_node
from tests.support.trees import (
    GRID,
    MODES,
    Leaf,
    Split,
    Tree,
    expected_scores,
    new_attributes,
    old_attributes,
    one_vote,
    random_rows,
    random_shares,
    random_tree,
    random_votes,
    transform,
)

ML = "ai.onnx.ml"
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def regress(trees: Sequence[Tree], x: np.ndarray, targets: int = 1, **more: Any) -> np.ndarray:
    threads = more.pop("threads", 1)
    attributes = old_attributes(trees, "target") | {"n_targets": targets} | more
    (y,) = run_node("TreeEnsembleRegressor", [x], attributes, domain=ML, threads=threads, runs=2)
    assert y.dtype == np.float32 and y.shape == (len(x), targets)
    return np.asarray(y)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("depth", [0, 1, 3, 6, 11])
@pytest.mark.parametrize("modes", [(m,) for m in MODES[:-1]] + [MODES[:-1]], ids=",".join)
def test_modes(modes: tuple[str, ...], depth: int) -> None:
    rng = np.random.default_rng(depth)
    trees = [random_tree(rng, depth, modes=modes) for _ in range(9)]
    x = random_rows(rng, 45)
    close(regress(trees, x), expected_scores(trees, x, 1))


@pytest.mark.parametrize("targets", [1, 4])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates(aggregate: str, targets: int) -> None:
    rng = np.random.default_rng(targets)
    x = random_rows(rng, 21)
    one_each = [random_tree(rng, 4, leaf=one_vote(rng, i % targets)) for i in range(11)]
    any_votes = [random_tree(rng, 4, leaf=random_votes(rng, targets)) for _ in range(11)]
    base = rng.normal(size=targets).astype(np.float32)
    for trees in (one_each, any_votes):
        y = regress(trees, x, targets, aggregate_function=aggregate, base_values=base.tolist())
        close(y, expected_scores(trees, x, targets, aggregate) + base)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_weight_that_is_repeated(aggregate: str) -> None:
    """Of one target a leaf's first weight counts, as in onnxruntime; of more targets all do.

    skl2onnx repeats the weights in the trees by which it tells decision paths.
    """
    rng = np.random.default_rng(3)
    x = random_rows(rng, 21)
    trees = [random_tree(rng, 4, leaf=one_vote(rng, 0)) for _ in range(5)]
    attributes = old_attributes(trees, "target")
    for key in ("target_ids", "target_nodeids", "target_treeids", "target_weights"):
        attributes[key] = [each for each in attributes[key] for _ in range(3)]
    attributes["target_weights"][1::3] = [7.0] * (len(attributes["target_weights"]) // 3)
    attributes |= {"n_targets": 1, "aggregate_function": aggregate}
    (y,) = run_node("TreeEnsembleRegressor", [x], attributes, domain=ML)
    close(y, expected_scores(trees, x, 1, aggregate))


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str, targets: int) -> None:
    rng = np.random.default_rng(5)
    leaf = random_votes(rng, targets)
    if name == "PROBIT":  # of probabilities
        leaf = random_shares(rng, targets, 0.1)
    trees = [random_tree(rng, 4, leaf=leaf) for _ in range(8)]
    x = random_rows(rng, 13)
    scores = expected_scores(trees, x, targets)
    if name == "SOFTMAX_ZERO":
        close(regress(trees, x, targets), scores)
        y = regress(trees, x, targets, post_transform=name)
        counts = np.abs(scores) > 1e-7
        close(np.where(counts, y, 0), np.where(counts, transform(name, scores), 0), 1e-5)
    else:
        y = regress(trees, x, targets, post_transform=name)
        close(y, transform(name, scores), 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64])
def test_input_types(dtype: Any) -> None:
    rng = np.random.default_rng(6)
    trees = [random_tree(rng, 5, modes=MODES[:-1]) for _ in range(7)]
    x = random_rows(rng, 19)
    if np.issubdtype(dtype, np.integer):
        x = np.nan_to_num(4 * x, posinf=2**30, neginf=-(2**30))
    x = x.astype(dtype)
    close(regress(trees, x), expected_scores(trees, x.astype(np.float64), 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_double_thresholds(dtype: Any) -> None:
    """Thresholds between two float32 numbers, on either side of one, and beyond them all."""
    near = [1 + 2**-30, 1 - 2**-30, -1 - 2**-30, 1e300, -1e300, 1e-60, -1e-60, 16777217.0, np.nan]
    values = [1.0, -1.0, 0.0, 3e38, -3e38, 16777216.0, 2e-45]
    if dtype is np.int64:
        values = [1, -1, 0, 16777217, 16777216, 2**53 + 1]
    elif dtype is np.float64:
        values += [*near, np.inf, -np.inf]
    else:
        values += [np.inf, -np.inf, np.nan]
    x = np.array([values], dtype).T
    for threshold in near:
        for mode in MODES[:-1]:
            for nan_is_yes in (False, True):
                tree = Split(mode, 0, threshold, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]), nan_is_yes)
                attributes = old_attributes([tree], "target")
                attributes["nodes_values_as_tensor"] = np.array(attributes.pop("nodes_values"))
                weights = np.array(attributes.pop("target_weights")) + 1e-12
                attributes["target_weights_as_tensor"] = weights
                (y,) = run_node("TreeEnsembleRegressor", [x], attributes, domain=ML)
                expected = expected_scores([tree], x.astype(np.float64), 1)
                np.testing.assert_array_equal(y, expected, err_msg=f"{mode} {threshold}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensemble(aggregate: int, dtype: Any) -> None:
    rng = np.random.default_rng(aggregate)

    def leaf() -> Leaf:
        return Leaf([(int(rng.integers(3)), float(np.float16(rng.normal())))])

    trees = [random_tree(rng, 5, modes=MODES, leaf=leaf) for _ in range(9)]
    trees = [tree for tree in trees if isinstance(tree, Split)]
    x = random_rows(rng, 27).astype(dtype)
    attributes = new_attributes(trees, dtype)
    attributes |= {"n_targets": 3, "aggregate_function": aggregate, "post_transform": 2}
    (y,) = run_node("TreeEnsemble", [x], attributes, domain=ML)
    scores = expected_scores(trees, x, 3, AGGREGATES[aggregate])
    assert y.dtype == dtype
    close(y, transform("LOGISTIC", scores), 1e-3 if dtype is np.float16 else 1e-6)


def test_tree_ensemble_by_hand() -> None:
    attributes = {
        "nodes_splits": np.array([0.5, 0.0, -1.0], np.float32),
        "nodes_featureids": [0, 1, 1],
        "nodes_modes": np.array([0, 6, 3], np.uint8),
        "nodes_truenodeids": [1, 0, 1],
        "nodes_falsenodeids": [2, 1, 2],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0, 1, 0],
        "leaf_weights": np.array([1.5, 2.5, -3.5], np.float32),
        "membership_values": np.array([2.0, 3.0, np.nan], np.float32),
        "tree_roots": [0],
        "n_targets": 2,
    }
    nan = np.nan
    x = np.array([[0.5, 2], [0.25, 4], [1, 0], [1, -1], [nan, 5], [0, nan]], np.float32)
    (y,) = run_node("TreeEnsemble", [x], attributes, domain=ML)
    assert y.tolist() == [[1.5, 0], [0, 2.5], [0, 2.5], [-3.5, 0], [0, 2.5], [0, 2.5]]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("nan_is_yes", [False, True])
def test_sets(size: int, nan_is_yes: bool) -> None:
    rng = np.random.default_rng(size)
    members = rng.integers(-50, 50, size).astype(float).tolist()
    tree = Split("MEMBER", 0, 0.0, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]), nan_is_yes, members)
    attributes = new_attributes([tree]) | {"n_targets": 1}
    x = np.append(np.arange(-52, 52, 0.5), [np.nan, np.inf, -np.inf]).astype(np.float32)[:, None]
    (y,) = run_node("TreeEnsemble", [x], attributes, domain=ML)
    np.testing.assert_array_equal(y, expected_scores([tree], x, 1))


def test_shared_nodes() -> None:
    """Trees that share subtrees, and a ladder with 2^60 paths."""
    rng = np.random.default_rng(9)
    shared = Split("LEQ", 1, 0.5, Leaf([(0, 3.0)]), Leaf([(0, 5.0)]))
    ladder: Tree = shared
    for i in range(60):
        middle = Split("GT", i % 5, float(rng.choice(GRID)), ladder, shared)
        ladder = Split("EQ", (i + 1) % 5, float(rng.choice(GRID)), middle, ladder)
    trees: list[Tree] = [ladder, shared, ladder]
    x = random_rows(rng, 33)
    (y,) = run_node("TreeEnsemble", [x], new_attributes(trees) | {"n_targets": 1}, domain=ML)
    close(y, expected_scores(trees, x, 1))


def test_very_deep_tree() -> None:
    tree: Tree = Leaf([(0, 0.5)])
    for i in range(900):
        tree = Split("LEQ", 0, float(i), Leaf([(0, float(i))]), tree)
    x = np.arange(-1, 1000, 3, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(regress([tree], x), expected_scores([tree], x, 1))


def ranking_attributes(nodes: int, features: int = 1) -> dict[str, Any]:
    """A tree of so many splits, balanced: rank k of x in 0..nodes is the weight."""
    feature, value, yes, no, leaf_ids = [], [], [], [], []
    modes: list[str] = []
    pending = [(0, nodes)]
    numbers: list[tuple[int, int]] = [(0, nodes)]
    while pending:  # level by level
        low, high = pending.pop(0)
        index = len(modes)
        middle = (low + high) // 2
        is_leaf = low == high
        modes.append("LEAF" if is_leaf else "BRANCH_LEQ")
        feature.append(0 if is_leaf else index % features)
        value.append(float(middle))
        yes.append(0 if is_leaf else len(numbers))
        no.append(0 if is_leaf else len(numbers) + 1)
        if is_leaf:
            leaf_ids.append((index, low))
        else:
            for part in ((low, middle), (middle + 1, high)):
                pending.append(part)
                numbers.append(part)
    count = len(modes)
    return {
        "nodes_treeids": [0] * count,
        "nodes_nodeids": list(range(count)),
        "nodes_featureids": feature,
        "nodes_values": value,
        "nodes_truenodeids": yes,
        "nodes_falsenodeids": no,
        "nodes_modes": modes,
        "target_treeids": [0] * len(leaf_ids),
        "target_nodeids": [index for index, _ in leaf_ids],
        "target_ids": [0] * len(leaf_ids),
        "target_weights": [float(rank) for _, rank in leaf_ids],
        "n_targets": 1,
    }


@pytest.mark.parametrize("nodes, features", [(200, 1), (40_000, 1), (20_000, 9_000)])
def test_large_trees(nodes: int, features: int) -> None:
    """More nodes or columns than fit into 16-bit indices."""
    ranks = np.linspace(0, nodes, 77).astype(np.float32).round()
    x = np.repeat(ranks[:, None], features, axis=1)
    attributes = ranking_attributes(nodes, features)
    (y,) = run_node("TreeEnsembleRegressor", [x], attributes, domain=ML)
    np.testing.assert_array_equal(y[:, 0], ranks)


def many_trees(count: int, targets: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(count)

    different = [
        random_tree(rng, 3 + i % 4, modes=("LEQ", "GT"), leaf=one_vote(rng, i % targets))
        for i in range(140)
    ]
    trees = [different[i % 140] for i in range(count)]
    return old_attributes(trees, "target") | {"n_targets": targets}


@pytest.mark.parametrize("aggregate", ["SUM", "MIN"])
@pytest.mark.parametrize("targets", [1, 3])
def test_same_bits(targets: int, aggregate: str) -> None:
    """For any number of threads, rows in the batch, and width of the comparisons."""
    attributes = many_trees(700, targets) | {"aggregate_function": aggregate}
    x = random_rows(np.random.default_rng(0), 100)
    graph = node_graph("TreeEnsembleRegressor", [x], attributes, domain=ML)
    (expected,) = compile_graph(graph, 1).run_values([x], [])
    for threads in (1, 2, 3):
        runner = compile_graph(graph, threads)
        for rows in (1, 2, 5, 8, 11, 64, 100):
            for first in range(0, 100, 33):
                part = np.ascontiguousarray(x[first : first + rows])
                (y,) = runner.run_values([part], [])
                assert y.tobytes() == expected[first : first + rows].tobytes()
    (wide,) = run_node("TreeEnsembleRegressor", [x.astype(np.float64)], attributes, domain=ML)
    assert wide.tobytes() == expected.tobytes()


def test_same_bits_when_threads_share_trees() -> None:
    attributes = many_trees(2800)
    x = random_rows(np.random.default_rng(1), 8)
    graph = node_graph("TreeEnsembleRegressor", [x], attributes, domain=ML)
    (expected,) = compile_graph(graph, 1).run_values([x], [])
    for threads in (2, 3):
        runner = compile_graph(graph, threads)
        for rows in (1, 8):
            (y,) = runner.run_values([np.ascontiguousarray(x[:rows])], [])
            assert y.tobytes() == expected[:rows].tobytes()


def classify(
    trees: Sequence[Tree], x: np.ndarray, classes: int, **more: Any
) -> tuple[np.ndarray, np.ndarray]:
    labels = {"classlabels_int64s": [10 * (i + 1) for i in range(classes)]}
    attributes = old_attributes(trees, "class") | labels | more
    found, scores = run_node("TreeEnsembleClassifier", [x], attributes, outputs=2, domain=ML)
    return np.asarray(found), np.asarray(scores)


@pytest.mark.parametrize("name", TRANSFORMS[:3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_classes(dtype: Any, name: str) -> None:
    rng = np.random.default_rng(3)

    trees = [random_tree(rng, 4, leaf=random_shares(rng, 4, 1)) for _ in range(6)]
    x = np.nan_to_num(random_rows(rng, 29), posinf=9, neginf=-9).astype(dtype)
    labels, scores = classify(trees, x, 4, post_transform=name)
    expected = expected_scores(trees, x, 4)
    np.testing.assert_array_equal(labels, 10 * (expected.argmax(axis=1) + 1))
    close(scores, transform(name, expected))


def test_class_without_votes_is_not_chosen() -> None:
    trees = [Leaf([(1, -2.0)]), Leaf([(2, -3.0)])]
    labels, scores = classify(trees, np.zeros((3, 1), np.float32), 3)
    assert labels.tolist() == [20] * 3
    np.testing.assert_array_equal(scores, [[0, -2, -3]] * 3)


@pytest.mark.parametrize("target", [0, 1])
def test_two_classes_with_votes_for_one(target: int) -> None:
    """What boosting libraries export: the margin of the second class, whichever is named."""
    rng = np.random.default_rng(4)
    trees = [random_tree(rng, 4, leaf=one_vote(rng, target)) for _ in range(6)]
    x = random_rows(rng, 29)
    labels, scores = classify(trees, x, 2, post_transform="LOGISTIC")
    margin = expected_scores(trees, x, 2)[:, target]
    second = 1 / (1 + np.exp(-margin))
    np.testing.assert_array_equal(labels, np.where(margin > 0, 20, 10))
    close(scores[:, 1], second)
    if target == 0:
        close(scores[:, 0], 1 - second)


def test_rounded_votes_end_in_a_tie() -> None:
    """Sums that differ in float64 alone."""
    tenth = float(np.float32(0.1))
    trees = [Leaf([(0, 0.9), (1, 9 * tenth)]), Leaf([(0, tenth), (1, tenth)])]
    labels, _ = classify(trees, np.zeros((1, 1), np.float32), 2)
    assert labels.tolist() == [10]


def test_text_labels() -> None:
    tree = Split("LEQ", 0, 0.0, Leaf([(0, 1.0)]), Leaf([(1, 1.0)]))
    attributes = old_attributes([tree], "class") | {"classlabels_strings": ["low", "high"]}
    x = np.array([[-1], [1]], np.float32)
    labels, scores = run_node("TreeEnsembleClassifier", [x], attributes, outputs=2, domain=ML)
    assert labels.tolist() == ["low", "high"]
    np.testing.assert_array_equal(scores, np.eye(2))


def test_shapes() -> None:
    tree = Split("LEQ", 1, 0.0, Leaf([(0, 1.0)]), Leaf([(0, 2.0)]))
    assert regress([tree], np.zeros((0, 2), np.float32)).shape == (0, 1)
    attributes = old_attributes([tree], "target")
    (y,) = run_node("TreeEnsembleRegressor", [np.ones(2, np.float32)], attributes, domain=ML)
    np.testing.assert_array_equal(y, [[2]])
    with pytest.raises(InvalidArgument, match="1 columns, and a node tests feature 1"):
        regress([tree], np.zeros((3, 1), np.float32))
    with pytest.raises(InvalidArgument, match="expected one or two axes"):
        run_node("TreeEnsembleRegressor", [np.zeros((1, 2, 2), np.float32)], attributes, domain=ML)


TREE = Split(
    "LEQ",
    0,
    0.0,
    Split("LT", 1, 1.0, Leaf([(0, 1.0)]), Leaf([(0, 2.0)])),
    Leaf([(0, 3.0)]),
)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"nodes_truenodeids": [1, 2, 0, 0]}, "nodes_truenodeids has 4 elements"),
        ({"nodes_modes": ["LEAF"]}, "nodes_modes has 1 elements"),
        ({"nodes_values": [0.0] * 6}, "nodes_values has 6 elements"),
        ({"target_weights": [1.0]}, "target_weights has 1 elements"),
        ({"target_nodeids": [2, 3]}, "target_nodeids has 2 elements"),
        ({"nodes_missing_value_tracks_true": [1]}, "tracks_true has 1 elements"),
        ({"nodes_truenodeids": [1, 9, 0, 0, 0]}, r"nodes_truenodeids\[1\] is 9"),
        ({"nodes_falsenodeids": [-1, 3, 0, 0, 0]}, r"nodes_falsenodeids\[0\] is -1"),
        ({"nodes_falsenodeids": [1 << 62, 3, 0, 0, 0]}, r"nodes_falsenodeids\[0\]"),
        ({"nodes_truenodeids": [1, 1, 0, 0, 0]}, "circle"),
        ({"nodes_featureids": [-1, 0, 0, 0, 0]}, "negative"),
        ({"nodes_featureids": [1 << 40, 0, 0, 0, 0]}, "nodes_featureids"),
        ({"nodes_nodeids": [0, 1, 2, 2, 4]}, "node 2 of tree 0 is there twice"),
        ({"nodes_modes": ["BRANCH_ODD"] * 5}, "BRANCH_ODD"),
        ({"target_nodeids": [2, 3, 7]}, r"target_nodeids\[2\] is 7"),
        ({"target_ids": [0, 0, 5], "n_targets": 2}, r"target_ids\[2\] is 5"),
        ({"target_ids": [0, -1, 0]}, r"target_ids\[1\] is -1"),
        ({"base_values": [1.0, 2.0]}, "base_values has 2 elements"),
        ({"aggregate_function": "MEDIAN"}, "MEDIAN"),
        ({"post_transform": "TANH"}, "TANH"),
    ],
)
def test_bad_attributes(change: dict[str, Any], message: str) -> None:
    attributes = old_attributes([TREE], "target") | {"n_targets": 1} | change
    x = np.zeros((2, 3), np.float32)
    with pytest.raises((InvalidGraph, Fail), match=message):
        run_node("TreeEnsembleRegressor", [x], attributes, domain=ML)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"nodes_truenodeids": [1, 7]}, r"nodes_truenodeids\[1\] is 7"),
        ({"nodes_falsenodeids": [-3, 1]}, r"nodes_falsenodeids\[0\] is -3"),
        ({"nodes_trueleafs": [0, 0], "nodes_truenodeids": [1, 0]}, "circle"),
        ({"tree_roots": [2]}, r"tree_roots\[0\] is 2"),
        ({"nodes_modes": np.array([0, 9], np.uint8)}, r"nodes_modes\[1\] is 9"),
        ({"nodes_modes": np.zeros(3, np.uint8)}, "nodes_modes has 3 elements"),
        ({"nodes_splits": np.zeros(1, np.float32)}, "nodes_splits has 1 elements"),
        ({"leaf_targetids": [0, 0, 3], "n_targets": 3}, r"leaf_targetids\[2\] is 3"),
        ({"leaf_weights": np.zeros(2, np.float32)}, "leaf_targetids has 3 elements"),
        ({"nodes_modes": np.array([0, 6], np.uint8)}, "fewer sets"),
        ({"membership_values": np.ones(1, np.float32)}, "more sets"),
        ({"aggregate_function": 4}, "aggregate_function is 4"),
        ({"post_transform": -1}, "post_transform is -1"),
    ],
)
def test_bad_attributes_of_tree_ensemble(change: dict[str, Any], message: str) -> None:
    attributes = new_attributes([TREE]) | {"n_targets": 1} | change
    x = np.zeros((2, 3), np.float32)
    with pytest.raises((InvalidGraph, Fail), match=message):
        run_node("TreeEnsemble", [x], attributes, domain=ML)
