# SPDX-License-Identifier: Apache-2.0
"""Names that a caller declares for the sizes of outputs prove nothing about them."""

from __future__ import annotations

import numpy as np

from bascule.optimizer import Context, Level, optimize
from tests.optimizer.graphs import assert_close, parse, reference_fold, run_reference

_CACHE = """
g (float[past,4] cache, float[new,4] k, float[past,1] mask) => (
    float[past,4] present, float[past,4] scores, float[A,B] masked
) <int64[1] first = {0}, int64[1] axis = {0}, int64[1] one = {1}> {
    present = Concat<axis = 0>(cache, k)
    scores = Neg(present)
    weights = Exp(scores)
    length = Shape<start = 0, end = 1>(weights)
    sizes = Concat<axis = 0>(length, one)
    wide = Expand(mask, sizes)
    masked = Mul(wide, weights)
}
"""


def test_wrong_names_of_outputs_do_no_harm() -> None:
    """The outputs claim to be as long as the cache; both grow."""
    feeds = {
        "cache": np.ones((1, 4), dtype=np.float32),
        "k": np.ones((2, 4), dtype=np.float32),
        "mask": np.full((1, 1), 3, dtype=np.float32),
    }
    expected = run_reference(parse(_CACHE), feeds)
    model = parse(_CACHE)
    weights = model.graph.nodes[2].output
    assert weights.shape is not None
    assert weights.shape[0] != "past"
    optimize(model, Level.ALL, context=Context(reference_fold), verify=True)
    assert [value.shape for value in model.graph.outputs[:2]] == [("past", 4), ("past", 4)]
    assert_close(run_reference(model, feeds), expected)
