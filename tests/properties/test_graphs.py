# SPDX-License-Identifier: Apache-2.0
"""Random graphs give the same at every optimization level.

Oracle: the graph as it stands. Integers are the same; floats are as near as rounding allows, which
no node of these graphs magnifies by much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import assume, given
from hypothesis import strategies as st

from bascule import GraphOptimizationLevel
from tests.properties.bounds import assert_exact
from tests.properties.graphs import Writer
from tests.properties.running import session_of
from tests.properties.strategies import HOLED, TAME, Array

LEVELS = tuple(GraphOptimizationLevel)


def results(
    writer: Writer, model: onnx.ModelProto
) -> tuple[list[Array], dict[GraphOptimizationLevel, list[Array]]]:
    """Of the graph as it stands, and of the other levels."""
    found = {}
    for level in LEVELS:
        session = session_of(model, level)
        found[level] = session.run(None, writer.feeds)
        for one, other in zip(session.run(None, writer.feeds), found[level]):
            assert_exact(one, other)
    return found.pop(GraphOptimizationLevel.ORT_DISABLE_ALL), found


@given(st.data(), st.booleans(), st.sampled_from([np.int64, np.int32]))
def test_integers(data: st.DataObject, symbolic: bool, dtype: Any) -> None:
    writer = Writer(data.draw, dtype, (*TAME, "bits", "special"))
    assume(writer.nodes)
    expected, others = results(writer, writer.model(symbolic))
    for found in others.values():
        for one, other in zip(found, expected):
            assert_exact(one, other)


@given(st.data(), st.booleans(), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_floats(data: st.DataObject, symbolic: bool, dtype: Any, holed: bool) -> None:
    writer = Writer(data.draw, dtype, HOLED if holed else TAME)
    assume(writer.nodes)
    expected, others = results(writer, writer.model(symbolic))
    near = 1e-3 if dtype == np.float32 else 1e-9
    for found in others.values():
        for one, other in zip(found, expected):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            finite = np.abs(other[np.isfinite(other)])
            scale = max(1.0, finite.max(initial=0.0))
            np.testing.assert_allclose(one, other, near, near * scale)
