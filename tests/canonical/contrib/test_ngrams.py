# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, session


@pytest.mark.parametrize("length", [1, 2, 3, 9])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_ngram_repeat_block(size: int, length: int) -> None:
    def reference(ids: Array, scores: Array) -> Array:
        scores = scores.copy()
        for row, own in zip(ids, scores):
            last = list(row[len(row) - size + 1 :])
            for i in range(len(row) - size + 1):
                if list(row[i : i + size - 1]) == last:
                    own[row[i + size - 1]] = -np.inf
        return scores

    ids = np.random.default_rng(4).integers(0, 3, (2, length))
    inputs = [ids, normal(2, 5)]
    check("NGramRepeatBlock", reference, inputs, {"ngram_size": size}, dtypes=[np.float32])


def test_size_is_refused() -> None:
    inputs = [np.zeros((1, 3), np.int64), normal(1, 5)]
    with pytest.raises(InvalidGraph, match="'ngram_size' is 0"):
        session(model_of("NGramRepeatBlock", inputs, {"ngram_size": 0}))
