# SPDX-License-Identifier: Apache-2.0
"""The public ONNX backend suite through InferenceSession: every case passes."""

from __future__ import annotations

import pytest

import bascule
from tests.support.suite import KINDS, Case, cases, compare

# Their outputs are random draws: shape, type and range are what can be checked.
_RANDOM = ("test_bernoulli",)


def run(case: Case) -> None:
    """Run a case; raises when an output differs."""
    data, sets = case.read()
    session = bascule.InferenceSession(data)
    names = [arg.name for arg in session.get_inputs()]
    for inputs, outputs in sets:
        feeds = {name: value for name, value in zip(names, inputs) if value is not None}
        # The memory plan made in the first run serves the second.
        for _ in range(2):
            results = session.run(None, feeds)
            assert len(results) == len(outputs)
            for actual, expected in zip(results, outputs):
                if case.name.startswith(_RANDOM):
                    assert actual.shape == expected.shape
                    assert actual.dtype == expected.dtype
                else:
                    compare(actual, expected, case.rtol, case.atol)


@pytest.mark.parametrize("case", [c for kind in KINDS for c in cases(kind)], ids=lambda c: c.name)
def test_case(case: Case) -> None:
    run(case)
