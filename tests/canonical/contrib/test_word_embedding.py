# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from tests.support.cuda_session import EmulatedSession

from .comparison import Array, assert_close, check, feeds_of, model_of, normal, session


def _reference(words: Array, weights: Array, bias: Array, table: Array) -> Array:
    width = weights.shape[2]
    found = np.zeros((len(words), len(bias)))
    for result, word in zip(found, words):
        if word[0] == 0:
            continue
        length = max(int((word > 0).sum()), width)
        letters = table[word[:length]]
        places = [
            (letters[place : place + width] * weights[:, 0]).sum((1, 2)) + bias
            for place in range(length - width + 1)
        ]
        result[:] = np.tanh(np.max(places, axis=0))
    return found


@pytest.mark.parametrize("width", [1, 2, 4])
def test_word_conv_embedding(width: int) -> None:
    words = np.random.default_rng(width).integers(0, 4, (6, 7), np.int32)
    words[:, 0] = 1  # what padding gives elsewhere is left to chance
    inputs = [words, normal(5, 1, width, 3), normal(5), normal(6, 3)]
    attributes = {"embedding_size": 5, "conv_window_size": width, "char_embedding_size": 3}
    check("WordConvEmbedding", _reference, inputs, attributes, dtypes=[np.float32])
    words[1] = words[2, 0] = 0
    model = model_of("WordConvEmbedding", inputs)
    for made in (session(model), EmulatedSession(model.SerializeToString())):
        (found,) = made.run(None, feeds_of(inputs))
        assert_close(found, _reference(*inputs), 2e-5, "with padding")
        assert not found[1:3].any()


def test_sizes_are_checked() -> None:
    inputs = [np.ones((2, 4), np.int32), normal(5, 1, 2, 3), normal(5), normal(6, 3)]
    with pytest.raises(InvalidGraph, match="'embedding_size' is 4, but axis 0"):
        session(model_of("WordConvEmbedding", inputs, {"embedding_size": 4}))
