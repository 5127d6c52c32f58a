# SPDX-License-Identifier: Apache-2.0
"""Random decision trees, a plain walk over them in float64, and their attributes in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")
GRID = np.arange(-8, 9) / 4
"""Thresholds and features are multiples of 1/4, so that they often meet."""


@dataclass
class Leaf:
    votes: list[tuple[int, float]]  # target, weight


@dataclass
class Split:
    mode: str
    feature: int
    threshold: float
    yes: Tree
    no: Tree
    nan_is_yes: bool = False
    members: list[float] = field(default_factory=list)

    def holds(self, x: float) -> bool:
        if math.isnan(x):
            return self.nan_is_yes or self.mode == "NEQ"
        return {
            "LEQ": x <= self.threshold,
            "LT": x < self.threshold,
            "GTE": x >= self.threshold,
            "GT": x > self.threshold,
            "EQ": x == self.threshold,
            "NEQ": x != self.threshold,
            "MEMBER": x in self.members,
        }[self.mode]


Tree = Union[Leaf, Split]


def random_tree(
    rng: np.random.Generator,
    depth: int,
    *,
    modes: Sequence[str] = ("LEQ",),
    features: int = 5,
    leaf: Callable[[], Leaf] | None = None,
    missing: bool = True,
) -> Tree:
    if depth == 0 or rng.random() < 0.1:
        return leaf() if leaf else one_vote(rng, 0)()
    yes, no = (
        random_tree(rng, depth - 1, modes=modes, features=features, leaf=leaf, missing=missing)
        for _ in range(2)
    )
    return Split(
        str(rng.choice(modes)),
        int(rng.integers(features)),
        float(rng.choice(GRID)),
        yes,
        no,
        missing and bool(rng.integers(2)),
        rng.choice(GRID, rng.integers(1, 6)).tolist(),
    )


def random_rows(rng: np.random.Generator, rows: int, features: int = 5) -> np.ndarray:
    x = rng.choice(np.concatenate([GRID, [np.nan, np.inf, -np.inf, -0.0]]), (rows, features))
    return x.astype(np.float32)


def random_votes(rng: np.random.Generator, targets: int) -> Callable[[], Leaf]:
    """Leaves with votes for any number of targets, in any order."""

    def leaf() -> Leaf:
        chosen = rng.permutation(targets)[: rng.integers(targets + 1)]
        return Leaf([(int(t), float(np.float32(rng.normal()))) for t in chosen])

    return leaf


def random_shares(rng: np.random.Generator, targets: int, most: float) -> Callable[[], Leaf]:
    """Leaves with a vote for each target."""
    return lambda: Leaf(list(enumerate(rng.uniform(0, most, targets).astype(np.float32).tolist())))


def one_vote(rng: np.random.Generator, target: int) -> Callable[[], Leaf]:
    return lambda: Leaf([(target, float(np.float32(rng.normal())))])


def land(tree: Tree, row: np.ndarray) -> Leaf:
    while isinstance(tree, Split):
        tree = tree.yes if tree.holds(float(row[tree.feature])) else tree.no
    return tree


def transform(name: str, scores: np.ndarray) -> np.ndarray:
    n = scores.shape[1]
    if name == "LOGISTIC":
        return 1 / (1 + np.exp(-scores))
    if name == "PROBIT":
        return np.sqrt(2) * np.vectorize(inverse_erf)(2 * scores - 1)
    if name == "NONE" or n == 1:
        return scores
    counts = np.abs(scores) > 1e-7 if name == "SOFTMAX_ZERO" else np.full(scores.shape, True)
    top = scores.max(axis=1, keepdims=True)
    powers = np.where(counts, np.exp(scores - top), 0)
    total = powers.sum(axis=1, keepdims=True)
    return np.where(total == 0, 0.5, powers / np.where(total == 0, 1, total))


def inverse_erf(x: float) -> float:
    log = math.log((1 - x) * (1 + x))
    half = 2 / (3.14159 * 0.147) + log / 2
    return math.copysign(math.sqrt(math.sqrt(half * half - log / 0.147) - half), x)


def expected_scores(
    trees: Sequence[Tree], x: np.ndarray, targets: int, aggregate: str = "SUM"
) -> np.ndarray:
    scores = np.zeros((len(x), targets))
    for scored, row in zip(scores, x):
        found: list[list[float]] = [[] for _ in range(targets)]
        for tree in trees:
            for target, weight in land(tree, row).votes:
                found[target].append(weight)
        for target, weights in enumerate(found):
            if aggregate in ("SUM", "AVERAGE"):
                scored[target] = math.fsum(weights) / (len(trees) if aggregate != "SUM" else 1)
            elif weights:
                scored[target] = min(weights) if aggregate == "MIN" else max(weights)
    return scores


def old_attributes(trees: Sequence[Tree], prefix: str, missing: bool = True) -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor or -Classifier."""
    names = ("treeids", "nodeids", "featureids", "values", "truenodeids", "falsenodeids", "modes")
    nodes: dict[str, list[Any]] = {name: [] for name in names}
    tracks: list[int] = []
    votes: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def append(tree: Tree, number: int, next_number: list[int]) -> int:
        own = next_number[0]
        next_number[0] += 1
        index = len(tracks)
        entry = (tree.feature, tree.threshold) if isinstance(tree, Split) else (0, 0.0)
        mode = f"BRANCH_{tree.mode}" if isinstance(tree, Split) else "LEAF"
        for name, value in zip(names, (number, own, *entry, 0, 0, mode)):
            nodes[name].append(value)
        tracks.append(int(isinstance(tree, Split) and tree.nan_is_yes))
        if isinstance(tree, Split):
            nodes["truenodeids"][index] = append(tree.yes, number, next_number)
            nodes["falsenodeids"][index] = append(tree.no, number, next_number)
        else:
            for target, weight in tree.votes:
                for name, value in zip(votes, (number, own, target, weight)):
                    votes[name].append(value)
        return own

    for number, tree in enumerate(trees):
        append(tree, number, [0])
    attributes = {f"nodes_{name}": values for name, values in nodes.items()}
    if missing:
        attributes["nodes_missing_value_tracks_true"] = tracks
    return attributes | {f"{prefix}_{name}": values for name, values in votes.items()}


def new_attributes(trees: Sequence[Tree], dtype: Any = np.float32) -> dict[str, Any]:
    """The attributes of TreeEnsemble. A tree that occurs twice is there once."""
    lists = ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    nodes: dict[str, list[int]] = {name: [] for name in (*lists, "missing_value_tracks_true")}
    splits: list[float] = []
    modes: list[int] = []
    sets: dict[int, list[float]] = {}
    weights: list[float] = []
    targets: list[int] = []
    known: dict[int, int] = {}

    def append(tree: Tree) -> tuple[int, int]:
        if id(tree) in known:
            return known[id(tree)], int(isinstance(tree, Leaf))
        if isinstance(tree, Leaf):
            ((target, weight),) = tree.votes
            weights.append(weight)
            targets.append(target)
            known[id(tree)] = len(weights) - 1
            return known[id(tree)], 1
        index = known[id(tree)] = len(splits)
        splits.append(tree.threshold)
        modes.append(MODES.index(tree.mode))
        for name in nodes:
            nodes[name].append(0)
        nodes["featureids"][index] = tree.feature
        nodes["missing_value_tracks_true"][index] = int(tree.nan_is_yes)
        if tree.mode == "MEMBER":
            sets[index] = tree.members
        for way, child in (("true", tree.yes), ("false", tree.no)):
            place, is_leaf = append(child)
            nodes[f"{way}nodeids"][index] = place
            nodes[f"{way}leafs"][index] = is_leaf
        return index, 0

    roots = [append(tree)[0] for tree in trees]
    attributes: dict[str, Any] = {f"nodes_{name}": values for name, values in nodes.items()}
    attributes |= {
        "nodes_splits": np.array(splits, dtype),
        "nodes_modes": np.array(modes, np.uint8),
        "leaf_weights": np.array(weights, dtype),
        "leaf_targetids": targets,
        "tree_roots": roots,
    }
    if sets:
        # In the order in which the nodes are met from the roots: that of their indices here.
        joined = [v for index in sorted(sets) for v in (*sets[index], np.nan)]
        attributes["membership_values"] = np.array(joined, dtype)
    return attributes
