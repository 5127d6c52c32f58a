# SPDX-License-Identifier: Apache-2.0
"""The public ONNX backend suite with the CUDA provider first.

On a GPU all of it; on the emulated device, where each generated kernel takes a second to compile, a
sample. Where the nodes of all cases run is seen without running them.
"""

from __future__ import annotations

from typing import Any

import pytest

from bascule import GraphOptimizationLevel, SessionOptions
from tests.conformance.test_suite import compare_draws
from tests.support.cuda_emulation import missing, on_gpu
from tests.support.cuda_session import EmulatedSession, floats_on_cpu
from tests.support.suite import KINDS, Case, cases, compare

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

_STEP = 1 if on_gpu() else 25

_LEVELS = (GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL)


# Where what is expected holds rounding errors of the reference that are larger than the tolerance.
_ROUNDED_OTHERWISE = {
    "test_dft_inverse": "a part that is expected to be 1.9e-7 is exactly 0",
    "test_dft_inverse_opset19": "a part that is expected to be 1.9e-7 is exactly 0",
}


def _parameter(case: Case) -> Any:
    reason = _ROUNDED_OTHERWISE.get(case.name)
    marks = [pytest.mark.xfail(reason=reason, raises=AssertionError)] if reason else []
    return pytest.param(case, id=case.name, marks=marks)


_CASES = [case for kind in KINDS for case in cases(kind)][::_STEP]


@pytest.mark.parametrize("case", [_parameter(case) for case in _CASES])
def test_case(case: Case, record_property: Any) -> None:
    if case.kind == "light" and _STEP > 1:
        pytest.skip("whole networks take too long on the emulated device")
    if case.name.startswith("test_regex_full_match"):
        pytest.importorskip("re2")  # what bascule needs need not be where a checkout is tested
    data, sets = case.read()
    for level in _LEVELS:
        options = SessionOptions()
        options.graph_optimization_level = level
        session = EmulatedSession(data, options)
        record_property("on_cpu", floats_on_cpu(session))
        names = [arg.name for arg in session.get_inputs()]
        for inputs, outputs in sets:
            feeds = {name: value for name, value in zip(names, inputs) if value is not None}
            for _ in range(3):  # by hand, captured, replayed
                results = session.run(None, feeds)
                assert len(results) == len(outputs)
                for actual, expected in zip(results, outputs):
                    if case.name.startswith("test_bernoulli"):
                        compare_draws(actual, expected, inputs[0])
                    else:
                        compare(actual, expected, case.rtol, case.atol)


def test_no_case_computes_floats_on_the_cpu() -> None:
    found = {}
    for kind in KINDS:
        for case in cases(kind):
            elsewhere = floats_on_cpu(EmulatedSession(case.read()[0]))
            if elsewhere:
                found[case.name] = elsewhere
    assert not found
