# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import assert_rewritten, canonical, model_of, normal, op_types, run

X = normal(2, 3, 6, 6)


@pytest.mark.parametrize("p", [1.0, 2.0, 2.5])
def test_lp_pool(p: float) -> None:
    blocks = abs(X).reshape(2, 3, 3, 2, 3, 2)
    expected = (blocks**p).sum(axis=(3, 5)) ** (1 / p)
    model = assert_rewritten(
        "LpPool", [X], 1, [expected.astype(np.float32)], kernel_shape=[2, 2], strides=[2, 2], p=p
    )
    assert ("LpPool" in op_types(model)) == (p == int(p))


def test_lp_pool_with_padding() -> None:
    options = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    padded = np.pad(abs(X), [(0, 0), (0, 0), (1, 1), (1, 1)]) ** 1.5
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    expected = (windows.sum(axis=(4, 5)) ** (1 / 1.5)).astype(np.float32)
    assert_rewritten("LpPool", [X], 1, [expected], p=1.5, **options)


def test_lp_pool_without_kernel() -> None:
    with pytest.raises(InvalidGraph, match="'kernel_shape' is missing"):
        canonical(model_of("LpPool", [X], 1))


def test_global_lp_pool() -> None:
    expected = (abs(X) ** 2.5).sum(axis=(2, 3), keepdims=True) ** (1 / 2.5)
    assert_rewritten("GlobalLpPool", [X], 1, [expected.astype(np.float32)], p=2.5)
    (node,) = canonical(model_of("GlobalLpPool", [X], 1, p=3.0)).graph
    assert (node.op_type, node.attributes) == ("GlobalLpPool", {"p": 3})


@pytest.mark.parametrize("opset", [1, 7, 10, 11, 19])
@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool"])
def test_other_pools_mean_what_they_meant(op_type: str, opset: int) -> None:
    options = {"kernel_shape": [3, 3], "pads": [1, 1, 0, 0], "strides": [2, 2]}
    expected = run(model_of(op_type, [X], 22, **options), [X])
    assert_rewritten(op_type, [X], opset, expected, **options)
