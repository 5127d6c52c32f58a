# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft that newer language models consist of, on the device."""

from __future__ import annotations

import numpy as np
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
