# SPDX-License-Identifier: Apache-2.0
"""The other runtime has kernels of these for GPUs only: NumPy alone is the judge."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .comparison import TOLERANCES, Array, assert_close, model_of, normal, session
from .test_rotary_embedding import caches, rotated

IDS = np.array([[0, 1, 2], [5, 3, 4]])


def reference(x: Array, scale: Array, ids: Array, cos: Array, sin: Array, **given: Any) -> Any:
    start = given.get("input_start", 0)
    x = x[..., start : start + (given.get("input_width") or x.shape[3])]
    if ids.size == 1:
        ids = ids.ravel()[0] + np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
    root = np.sqrt((x**2).mean(-1, keepdims=True) + given.get("epsilon", 1e-6))
    normed = x / root * scale
    y = rotated(normed, cos, sin, ids, 0).reshape(*x.shape[:2], -1)
    return [y.reshape(1, -1, y.shape[2]) if given.get("flatten_batch") else y, normed]


@pytest.mark.parametrize("shapes", ["static", "symbolic", "unknown"])
@pytest.mark.parametrize("cache", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "attributes, ids",
    [
        ({}, IDS),
        ({"output_fp16": 1, "epsilon": 1e-3}, IDS),
        ({"input_start": 1, "input_width": 6, "use_fp32_arithmetic": 0}, IDS),
        ({"flatten_batch": 1}, IDS),
        ({}, np.array([2])),
        ({}, np.array(2)),
    ],
)
def test_normalized_and_rotated(
    attributes: dict[str, Any], ids: Array, dtype: Any, cache: Any, shapes: str
) -> None:
    if ids.ndim < 2 and shapes == "unknown":
        return  # then it is taken for positions of each token
    width = attributes.get("input_width") or 8
    x, scale = normal(2, 3, 2, 8).astype(dtype), normal(width, seed=1)
    cos, sin = (each.astype(cache) for each in caches(6, 2))
    inputs = [x, scale, ids, cos, sin]
    attributes = {"rotary_embedding_dim": 4, **attributes}
    model = model_of("RMSNormRotary", inputs, attributes, 2, shapes)
    feeds = {f"in{index}": each for index, each in enumerate(inputs)}
    y, normed = session(model).run(None, feeds)
    wide = [each.astype(np.float64) for each in (cos, sin)]
    expected = reference(x.astype(np.float64), scale, ids, *wide, **attributes)
    kind = np.float16 if attributes.get("output_fp16") else ml_dtypes.bfloat16
    assert (y.dtype, normed.dtype) == (np.dtype(kind), np.float32)
    assert_close(y, expected[0], TOLERANCES[y.dtype], "results")
    in_halves = kind == dtype == cache
    assert_close(normed, expected[1], 1e-2 if in_halves else 2e-5, "normalized")
    rounded = normed.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert in_halves == np.array_equal(rounded, normed)


@pytest.mark.parametrize(
    "changed, ids, error, problem",
    [
        ({"rotary_embedding_dim": 3}, IDS, InvalidGraph, "'rotary_embedding_dim' is 3"),
        ({"input_start": 4, "input_width": 6}, IDS, InvalidGraph, "columns 4 to 10"),
        ({"flatten_batch": 1}, np.array([0]), NotSupported, "flattened batch"),
    ],
)
def test_refused(changed: dict[str, Any], ids: Array, error: Any, problem: str) -> None:
    inputs = [normal(2, 3, 2, 8).astype(np.float16), normal(8), ids, *caches(6, 2)]
    attributes = {"rotary_embedding_dim": 4, **changed}
    with pytest.raises(error, match=f"RMSNormRotary.*{problem}.*node"):
        session(model_of("RMSNormRotary", inputs, attributes))
