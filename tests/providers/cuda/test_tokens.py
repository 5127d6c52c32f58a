# SPDX-License-Identifier: Apache-2.0
"""Linear attention, and operators of com.microsoft that newer language models consist of."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import bascule
from tests.support.cuda_session import EmulatedSession, floats_on_cpu
from tests.support.operators.contrib_case import ContribCase
from tests.support.operators.contrib_tokens import CASES
from tests.support.typed import bindings, node_model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gives_what_the_processor_gives(case: ContribCase) -> None:
    model, [call] = node_model(case, [next(bindings(case))])
    feeds = call.feeds
    session = EmulatedSession(model.SerializeToString())
    assert floats_on_cpu(session) == []
    expected = bascule.InferenceSession(model.SerializeToString()).run(None, feeds)
    for found, wanted in zip(session.run(None, feeds), expected, strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, 2e-5, 2e-5)


@pytest.mark.parametrize("domain", ["", "com.microsoft."])
def test_tokens_of_a_number_that_a_run_tells(domain: str) -> None:
    """Few of them are taken one by one, and many by chunks."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 27, "com.microsoft": 1]>
        g (float[1,T,8] q, float[1,T,4] k, float[1,T,4] v, float[1,1,4,4] past, float[1,T,1] g,
           float[1,T,1] b) => (y, state)
        {{ y, state = {domain}LinearAttention <q_num_heads = 2, kv_num_heads = 1>
            (q, k, v, past, g, b) }}"""
    )
    session = EmulatedSession(model.SerializeToString())
    assert floats_on_cpu(session) == []
    host = bascule.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    for tokens in (1, 40, 1):
        shapes = {"q": (tokens, 8), "k": (tokens, 4), "v": (tokens, 4), "past": (1, 4, 4)}
        shapes |= {"g": (tokens, 1), "b": (tokens, 1)}
        feeds = {
            name: random.uniform(-0.5, 0.5, (1, *shape)).astype(np.float32)
            for name, shape in shapes.items()
        }
        for found, wanted in zip(session.run(None, feeds), host.run(None, feeds), strict=True):
            np.testing.assert_allclose(found, wanted, 2e-5, 2e-5)


def test_sequences_of_few_and_of_many_tokens() -> None:
    """Each is taken as if it were alone, and what is not finite reaches no earlier token."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
        g (float[T,2,4] q, float[T,2,4] k, float[T,2,4] v, int32[N] sums, float[T,2] g,
           float[T,2] b, float[B,2,4,4] past) => (y, state)
        { y, state = com.microsoft.GatedDeltaNet (q, k, v, sums, g, b, past) }"""
    )
    session = EmulatedSession(model.SerializeToString())
    assert floats_on_cpu(session) == []
    host = bascule.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    for lengths in ((3, 40), (1, 1), (9, 8)):
        tokens = sum(lengths)
        shapes = {"q": (tokens, 2, 4), "k": (tokens, 2, 4), "v": (tokens, 2, 4)}
        shapes |= {"g": (tokens, 2), "b": (tokens, 2), "past": (2, 2, 4, 4)}
        feeds = {
            name: random.uniform(-0.5, 0.5, shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        feeds["sums"] = np.cumsum([0, *lengths], dtype=np.int32)
        feeds["v"][-1, 0, 0] = np.nan
        found = session.run(None, feeds)
        assert np.isnan(found[0]).sum() == np.isnan(found[1][-1]).any(-1).sum() == 1
        for array, wanted in zip(found, host.run(None, feeds), strict=True):
            np.testing.assert_allclose(array, wanted, 2e-5, 2e-5)
