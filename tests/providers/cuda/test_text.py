# SPDX-License-Identifier: Apache-2.0
"""TfIdfVectorizer beside the CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.cuda_emulation import missing, run_node
from tests.support.native import run_node as run_on_cpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 2, 20])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize(("shape", "dtype"), [((3, 12), np.int64), ((12,), np.int32)])
def test_n_grams(
    mode: str, skips: int, lengths: tuple[int, int], shape: tuple[int, ...], dtype: Any
) -> None:
    x = np.random.default_rng(3).integers(0, 4, shape).astype(dtype)
    attributes = {
        "mode": mode,
        "max_skip_count": skips,
        "min_gram_length": lengths[0],
        "max_gram_length": lengths[1],
        "pool_int64s": [0, 1, 2, 5, 0, 1, 2, 3, 1, 1, 0, 0, 1],
        "ngram_counts": [0, 4, 10],
        "ngram_indexes": [7, 0, 2, 3, 4, 5, 1, 1],
        "weights": [0.5, 1.5, 2.0, 3.0, 0.25, 1.0, 1.0, 4.0],
    }
    (y,) = run_node("TfIdfVectorizer", [x], attributes)
    (expected,) = run_on_cpu("TfIdfVectorizer", [x], attributes)
    np.testing.assert_array_equal(y, expected)
