# SPDX-License-Identifier: Apache-2.0
"""Forests of decision trees beside onnxruntime: medians in microseconds, taking turns.

python bench/trees.py [--threads 1 2] [--rows 1 10 1000 10000] [substring...]

The forests are random ones such as common libraries train, 28 features, float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from measure import SETTLED, medians, table
from onnx import TensorProto, helper

import bascule

FEATURES = 28


@dataclass
class Nodes:
    """The nodes of a forest, an entry each; the children of a leaf are 0."""

    tree: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)

    def leaves(self) -> list[int]:
        return [i for i, yes in enumerate(self.yes) if yes == 0]


Box = dict[int, tuple[float, float]]


def add_tree(nodes: Nodes, rng: np.random.Generator, splits: Callable[[int, float], bool]) -> None:
    """A tree over features in [0, 1], in preorder; splits(depth, share of the rows) decides."""
    first = len(nodes.tree)
    tree = nodes.tree[-1] + 1 if first else 0
    pending: list[tuple[int, Box, float, int]] = [(0, {}, 1.0, -1)]
    while pending:
        depth, box, share, parent = pending.pop()
        index = len(nodes.tree)
        if parent >= 0:
            siblings = nodes.no if nodes.yes[parent] else nodes.yes
            siblings[parent] = index - first
        inner = splits(depth, share)
        feature = int(rng.integers(FEATURES))
        low, high = box.get(feature, (0.0, 1.0))
        threshold = float(np.float32(rng.uniform(low, high)))
        nodes.tree.append(tree)
        nodes.number.append(index - first)
        nodes.feature.append(feature if inner else 0)
        nodes.threshold.append(threshold if inner else 0.0)
        nodes.yes.append(0)
        nodes.no.append(0)
        if inner:
            below = (threshold - low) / max(high - low, 1e-9)
            pending.append(
                (depth + 1, {**box, feature: (threshold, high)}, share * (1 - below), index)
            )
            pending.append((depth + 1, {**box, feature: (low, threshold)}, share * below, index))


def forest(
    trees: int,
    splits: Callable[[int, float], bool],
    *,
    classes: int = 0,
    targets: int = 1,
    missing: bool = False,
) -> bytes:
    """A model of one regressor, or with `classes` of one classifier whose leaves hold shares."""
    rng = np.random.default_rng(0)
    nodes = Nodes()
    for _ in range(trees):
        add_tree(nodes, rng, splits)
    count, leaves = len(nodes.tree), nodes.leaves()
    attributes: dict[str, Any] = {
        "nodes_treeids": nodes.tree,
        "nodes_nodeids": nodes.number,
        "nodes_featureids": nodes.feature,
        "nodes_values": nodes.threshold,
        "nodes_truenodeids": nodes.yes,
        "nodes_falsenodeids": nodes.no,
        "nodes_modes": ["BRANCH_LEQ" if yes else "LEAF" for yes in nodes.yes],
    }
    if missing:
        attributes["nodes_missing_value_tracks_true"] = rng.integers(0, 2, count).tolist()
    votes = max(classes, 1)
    weights = rng.random((len(leaves), votes), np.float32)
    if classes:
        weights /= weights.sum(axis=1, keepdims=True) * trees
    ids = list(range(votes)) * len(leaves)
    if targets > 1:
        ids = [nodes.tree[i] % targets for i in leaves]
    voters = [i for i in leaves for _ in range(votes)]
    prefix, outputs = ("class", ["label", "y"]) if classes else ("target", ["y"])
    attributes |= {
        f"{prefix}_treeids": [nodes.tree[i] for i in voters],
        f"{prefix}_nodeids": [nodes.number[i] for i in voters],
        f"{prefix}_ids": ids,
        f"{prefix}_weights": weights.ravel().tolist(),
    }
    if classes:
        attributes["classlabels_int64s"] = list(range(classes))
    else:
        attributes["n_targets"] = targets
    name = "TreeEnsembleClassifier" if classes else "TreeEnsembleRegressor"
    node = helper.make_node(name, ["x"], outputs, domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FEATURES])],
        [onnx.ValueInfoProto(name=output) for output in outputs],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=9)
    return model.SerializeToString()


def to_depth(most: int, least_share: float = 0.0) -> Callable[[int, float], bool]:
    """Splits down to a depth, while a node has that share of the rows."""
    return lambda depth, share: depth < most and (share > least_share or depth == 0)


FORESTS: dict[str, Callable[[], bytes]] = {
    "500 trees of depth 6, grown on data": lambda: forest(500, to_depth(6, 0.004)),
    "500 perfect trees of depth 6": lambda: forest(500, to_depth(6)),
    "500 trees of depth 6, missing values": lambda: forest(500, to_depth(6, 0.004), missing=True),
    "500 trees of 31 leaves or so, deep": lambda: forest(500, to_depth(20, 0.04), missing=True),
    "500 trees of depth 6 for 10 targets": lambda: forest(500, to_depth(6, 0.004), targets=10),
    "100 trees of depth 12, 3 classes": lambda: forest(100, to_depth(12, 0.001), classes=3),
    "4000 perfect trees of depth 7, 1e6 nodes": lambda: forest(4000, to_depth(7)),
}


def bascule_session(model: bytes, threads: int) -> Any:
    options = bascule.SessionOptions()
    options.intra_op_num_threads = threads
    return bascule.InferenceSession(model, options)


def onnxruntime_session(model: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def timed(make: Callable[[bytes, int], Any], model: bytes, threads: int) -> tuple[Any, float]:
    """A session, and the milliseconds that making it took."""
    start = time.perf_counter()
    return make(model, threads), 1e3 * (time.perf_counter() - start)


def measure(ours: Any, theirs: Any, rows: int) -> tuple[float, float, float]:
    """Microseconds of a call of each, and how far the results are apart."""
    calls = max(1, 2000 // rows)
    # Fresh rows in every call: no branch predictor has seen them.
    x = np.random.default_rng(1).random((calls * rows, FEATURES), np.float32)
    feeds = [{"x": part} for part in np.split(x, calls)]

    def run_all(session: Any) -> None:
        for feed in feeds:
            session.run(None, feed)

    found, expected = (session.run(None, feeds[0])[-1] for session in (ours, theirs))
    times = medians(lambda: run_all(ours), lambda: run_all(theirs), repeats=9, pause=SETTLED)
    us, them = (1e6 * seconds / calls for seconds in times)
    return us, them, float(np.abs(found - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 10, 1000, 10000])
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    runs = [("forest", "threads", "rows", "bascule", "onnxruntime", "ratio", "bascule, a row")]
    loads = [("loading, ms", "MB", "bascule", "onnxruntime", "difference of results")]
    for name, make in FORESTS.items():
        if options.names and not any(part in name for part in options.names):
            continue
        model = make()
        for threads in options.threads:
            ours, our_load = timed(bascule_session, model, threads)
            theirs, their_load = timed(onnxruntime_session, model, threads)
            for rows in options.rows:
                us, them, difference = measure(ours, theirs, rows)
                times = (f"{us:.1f}", f"{them:.1f}", f"{us / them:.2f}", f"{us / rows:.2f}")
                runs.append((name, str(threads), str(rows), *times))
        size = f"{len(model) / 1e6:.1f}"
        loads.append((name, size, f"{our_load:.0f}", f"{their_load:.0f}", f"{difference:.0e}"))
    print(table(runs))
    print(table(loads))


if __name__ == "__main__":
    main()
