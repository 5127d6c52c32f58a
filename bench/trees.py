# SPDX-License-Identifier: Apache-2.0
"""Forests beside onnxruntime: microseconds a row, medians, taking turns.

python bench/trees.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnxruntime
from measure import medians, table
from onnx import TensorProto, helper

import bascule

BATCHES = (1, 10, 1000, 10000)


class Trees:
    """The attribute lists of TreeEnsembleRegressor, filled tree by tree."""

    def __init__(self, features: int, seed: int = 0) -> None:
        self.features = features
        self.rng = np.random.default_rng(seed)
        self.lists: dict[str, list[Any]] = {}
        self.trees = 0

    def _add(self, **items: Any) -> None:
        for name, item in items.items():
            self.lists.setdefault(name, []).append(item)

    def grow(self, depth: int, stop: float) -> None:
        """A tree; below its root, a node is a leaf with probability `stop` before `depth`."""
        pending = [(0, 0)]
        count = 1
        while pending:
            node, level = pending.pop(0)
            is_leaf = level == depth or (level > 0 and self.rng.random() < stop)
            mode, feature, value, children = "LEAF", 0, 0.0, (0, 0)
            if is_leaf:
                weight = float(np.float32(self.rng.standard_normal() * 0.1))
                self._add(
                    target_treeids=self.trees,
                    target_nodeids=node,
                    target_ids=0,
                    target_weights=weight,
                )
            else:
                mode, feature = "BRANCH_LEQ", int(self.rng.integers(self.features))
                value = float(np.float32(self.rng.standard_normal()))
                children = (count, count + 1)
                pending += [(child, level + 1) for child in children]
                count += 2
            self._add(
                nodes_treeids=self.trees,
                nodes_nodeids=node,
                nodes_modes=mode,
                nodes_featureids=feature,
                nodes_values=value,
                nodes_truenodeids=children[0],
                nodes_falsenodeids=children[1],
            )
        self.trees += 1

    def model(self) -> bytes:
        node = helper.make_node(
            "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, **self.lists
        )
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", self.features])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])
        imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
        graph = helper.make_graph([node], "forest", [x], [y])
        model = helper.make_model(graph, opset_imports=imports, ir_version=9)
        return model.SerializeToString()


def session(package: Any, model: bytes, threads: int) -> Any:
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    return package.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compare(name: str, model: bytes, features: int, threads: int) -> list[tuple[str, ...]]:
    started = time.perf_counter()
    ours = session(bascule, model, threads)
    loaded = time.perf_counter() - started
    theirs = session(onnxruntime, model, threads)
    rows = []
    # Fresh rows in every call: no branch predictor has seen them.
    data = np.random.default_rng(1).standard_normal((max(BATCHES), features)).astype(np.float32)
    results = [each.run(None, {"x": data})[0] for each in (ours, theirs)]
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)
    for batch in BATCHES:
        starts = range(0, min(len(data), 2000 * batch), batch)
        feeds = [{"x": data[start : start + batch]} for start in starts]

        def all_of(run: Any, feeds: list[Any] = feeds) -> None:
            for feed in feeds:
                run(None, feed)

        # The threads of a runtime spin for a while after its turn.
        taken = medians(lambda: all_of(ours.run), lambda: all_of(theirs.run), repeats=9, pause=0.02)
        each = [1e6 * seconds / len(feeds) / batch for seconds in taken]
        numbers = (f"{each[0]:.2f}", f"{each[1]:.2f}", f"{each[0] / each[1]:.2f}")
        rows.append((name, str(threads), str(batch), *numbers, f"{loaded:.2f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--features", type=int, default=28)
    options = parser.parse_args()
    head = ("forest", "threads", "batch", "bascule", "onnxruntime", "ratio", "loaded in s")
    rows = [head]
    for name, depth, stop in (("perfect, depth 6", 6, 0.0), ("uneven, depth 12", 12, 0.25)):
        forest = Trees(options.features)
        for _ in range(options.trees):
            forest.grow(depth, stop)
        model = forest.model()
        for threads in (1, 2):
            rows += compare(name, model, options.features, threads)
    print(table(rows))


if __name__ == "__main__":
    main()
