# SPDX-License-Identifier: Apache-2.0
"""RotaryEmbedding of the CUDA provider against the CPU's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import emulated_device, run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

TOLERANCE = {"float32": 1e-6, "float64": 1e-14, "float16": 2e-3, "bfloat16": 1e-2}


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(inputs: list[Any], attributes: dict[str, Any]) -> None:
    (actual,) = run_node("RotaryEmbedding", inputs, attributes)
    (expected,) = native.run_node("RotaryEmbedding", inputs, attributes)
    assert actual.dtype == expected.dtype
    tolerance = TOLERANCE[actual.dtype.name]
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), tolerance, tolerance
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("size, rotated", [(10, 0), (10, 4), (32, 0), (64, 32), (24, 8)])
def test_forms(dtype: Any, interleaved: int, size: int, rotated: int) -> None:
    half = (rotated or size) // 2
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": rotated}
    flat = {**attributes, "num_heads": 3}
    ids = np.random.default_rng(2).integers(0, 11, (2, 5))
    four, three = normal(2, 3, 5, size, dtype=dtype), normal(2, 5, 3 * size, dtype=dtype)
    table = [normal(11, half, seed=seed, dtype=dtype) for seed in (3, 4)]
    angles = [normal(2, 5, half, seed=seed, dtype=dtype) for seed in (5, 6)]
    shared = [x[:1] for x in angles]
    for x, given in ((four, attributes), (three, flat)):
        check([x, *table, ids], given)
        check([x, *table, ids[:1]], given)
        check([x, *angles], given)
        check([x, *shared], given)


def test_16_bytes_at_once_where_rows_allow_it() -> None:
    x, angles = normal(1, 2, 3, 64, dtype=np.float16), normal(1, 3, 32, dtype=np.float16)
    check([x, angles, angles], {})
    assert emulated_device().launches[-1] == "rotate_vectors_float16"
    check([x[..., :60], angles[..., :30], angles[..., :30]], {})
    assert emulated_device().launches[-1] == "rotate_float16"


def test_a_position_behind_the_cache_gives_nan() -> None:
    x, table = normal(1, 1, 3, 8), normal(4, 4)
    (y,) = run_node("RotaryEmbedding", [x, table, table, np.array([[0, 4, -1]])])
    assert np.isnan(y[0, 0, 1:]).all()
    assert not np.isnan(y[0, 0, 0]).any()


def test_empty() -> None:
    x, angles = np.empty((2, 3, 0, 8), np.float32), np.empty((2, 0, 4), np.float32)
    assert run_node("RotaryEmbedding", [x, angles, angles])[0].shape == x.shape


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, angles = normal(1, 2, 3, 8), normal(1, 3, 4)
    with pytest.raises(Fail, match="sin_cache"):
        run_node("RotaryEmbedding", [x, angles, angles[..., :3]])
    with pytest.raises(Fail, match="cos_cache"):
        run_node("RotaryEmbedding", [x, angles[:, :2], angles[:, :2]])
    with pytest.raises(Fail, match="position_ids"):
        run_node("RotaryEmbedding", [x, angles[0], angles[0], np.zeros((2, 3), np.int64)])
    with pytest.raises(Fail, match="num_heads"):
        run_node("RotaryEmbedding", [normal(1, 3, 8), angles, angles])
