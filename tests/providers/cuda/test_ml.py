# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml beside the CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.ir.constant import Constant
from tests.support.cuda_emulation import missing, run_node
from tests.support.native import run_node as run_on_cpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def forest(dtype: Any, aggregate: int, transform: int) -> dict[str, Any]:
    """Complete trees of two floors, with every mode."""
    rng = np.random.default_rng(aggregate)
    trees, targets = 5, 3
    nodes = 3 * trees
    true, false, true_leaf, false_leaf = [], [], [], []
    for tree in range(trees):
        true += [3 * tree + 1, 4 * tree, 4 * tree + 2]
        false += [3 * tree + 2, 4 * tree + 1, 4 * tree + 3]
        true_leaf += [0, 1, 1]
        false_leaf += [0, 1, 1]
    modes = (np.arange(nodes) % 7).astype(np.uint8)
    members = [[1.0, 2.0, np.nan] for mode in modes if mode == 6]
    splits = rng.integers(-1, 3, nodes).astype(dtype)
    weights = rng.standard_normal(4 * trees).astype(dtype)
    return {
        "nodes_featureids": [int(v) for v in rng.integers(0, 4, nodes)],
        "nodes_splits": Constant.from_numpy(splits),
        "nodes_modes": Constant.from_numpy(modes),
        "nodes_truenodeids": true,
        "nodes_falsenodeids": false,
        "nodes_trueleafs": true_leaf,
        "nodes_falseleafs": false_leaf,
        "nodes_missing_value_tracks_true": [int(v) for v in rng.integers(0, 2, nodes)],
        "membership_values": Constant.from_numpy(np.array(members, dtype).reshape(-1)),
        "leaf_targetids": [int(v) for v in rng.integers(0, targets, 4 * trees)],
        "leaf_weights": Constant.from_numpy(weights),
        "tree_roots": list(range(0, nodes, 3)),
        "n_targets": targets,
        "aggregate_function": aggregate,
        "post_transform": transform,
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("aggregate", "transform"), [(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (1, 2)]
)
def test_trees(dtype: Any, aggregate: int, transform: int) -> None:
    attributes = forest(dtype, aggregate, transform)
    x = np.random.default_rng(7).integers(-1, 3, (50, 4)).astype(dtype)
    x[::7, 2] = np.nan
    (y,) = run_node("TreeEnsemble", [x], attributes, domain="ai.onnx.ml", output_dtypes=[dtype])
    (expected,) = run_on_cpu("TreeEnsemble", [x], attributes, domain="ai.onnx.ml")
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


def test_binarizer() -> None:
    x = np.array([[0.5, 1.0, np.nan], [1.5, -2.0, np.inf]], np.float32)
    attributes = {"threshold": 1.0}
    (y,) = run_node("Binarizer", [x], attributes, domain="ai.onnx.ml", output_dtypes=[np.float32])
    np.testing.assert_array_equal(y, [[0, 0, 0], [1, 0, 1]])


@pytest.mark.parametrize("bands", [0, 1, 8])
def test_mel_weights(bands: int) -> None:
    numbers = [np.array(v, np.int64) for v in (bands, 64, 8000)]
    inputs = [*numbers, np.array(100.0, np.float32), np.array(3000.0, np.float32)]
    (y,) = run_node("MelWeightMatrix", inputs)
    (expected,) = run_on_cpu("MelWeightMatrix", inputs)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Scaler", {"offset": [1.0, 2.0, 3.0], "scale": [0.5]}),
        ("Imputer", {"imputed_value_floats": [7.0], "replaced_value_float": float("nan")}),
        ("Imputer", {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": 0.0}),
        ("Normalizer", {"norm": "MAX"}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features(op_type: str, attributes: dict[str, Any], dtype: Any) -> None:
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(dtype)
    x[1], x[2, 1] = 0, np.nan
    kind = dtype if op_type == "Imputer" else np.float32
    (y,) = run_node(op_type, [x], attributes, domain="ai.onnx.ml", output_dtypes=[kind])
    (expected,) = run_on_cpu(op_type, [x], attributes, domain="ai.onnx.ml")
    np.testing.assert_allclose(y, expected, rtol=1e-6)
