# SPDX-License-Identifier: Apache-2.0
"""Every operator of the standard in every element type that its newest schema allows.

A result must be what a computation in the widest type gives, rounded once: for each element the
test takes the float64 result of onnx.reference (or of bascule, where onnx.reference has none),
moves it up and down by what a computation in float32 may be off, rounds both to the element type,
and asks for a value between the two. Integers, booleans and strings must be equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.defs
import pytest
from onnx.reference import ReferenceEvaluator

import bascule
from bascule.ir.dtype import DataType
from tests.support.operators import CASES, variants
from tests.support.typed import (
    COMPLEX,
    Binding,
    Call,
    Case,
    TypeText,
    bindings,
    node_model,
    widen_value,
    widened,
)

# What a result may be off before it is rounded, relative to itself and to the largest element.
_ERROR = {DataType.DOUBLE: 1e-13, DataType.COMPLEX128: 1e-13}
_FLOAT32_ERROR = 4e-6


class References:
    """Expected outputs, computed once for calls that differ only in how wide they are."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.known: dict[Any, list[Any]] = {}

    def outputs(self, call: Call) -> list[Any]:
        if self.case.expect is not None:
            return self.case.expect(call)
        wide = {name: widened(type) for name, type in call.binding.items()}
        feeds = {name: widen_value(value) for name, value in call.feeds.items()}
        key = (
            *(type.text for type in wide.values()),
            *(
                str(v) if isinstance(v, list) or v.dtype == object else v.tobytes()
                for v in feeds.values()
            ),
        )
        if key not in self.known:
            self.known[key] = self.compute(wide, list(feeds.values()))
        return self.known[key]

    def compute(self, binding: Binding, values: list[Any]) -> list[Any]:
        model, [call] = node_model(self.case, [binding])
        feeds = dict(zip(call.feeds, values))
        if self.case.own:
            session = bascule.InferenceSession(model.SerializeToString())
            return session.run(None, feeds)
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(model).run(None, feeds)


def check(actual: Any, expected: Any, type: TypeText, tolerance: float) -> None:
    """Raise AssertionError unless `actual` is `expected`, rounded once to its type."""
    if expected is None or actual is None:
        assert actual is expected
        return
    if isinstance(expected, dict):
        assert isinstance(actual, dict) and list(actual) == list(expected)
        actual, expected = list(actual.values()), list(expected.values())
        check(np.array(actual, type.dtype.numpy), np.array(expected), type, tolerance)
        return
    if isinstance(expected, list):
        assert isinstance(actual, list) and len(actual) == len(expected)
        for a, e in zip(actual, expected):
            check(a, e, type, tolerance)
        return
    dtype = type.dtype
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert actual.dtype == dtype.numpy
    if dtype is DataType.STRING:
        assert actual.astype(str).tolist() == expected.astype(str).tolist()
    elif dtype in COMPLEX:
        for part in (np.real, np.imag):
            check_rounded(part(actual), part(expected), dtype, tolerance)
    elif dtype.is_float:
        check_rounded(actual, expected, dtype, tolerance)
    else:
        np.testing.assert_array_equal(actual, expected.astype(dtype.numpy))


def check_rounded(actual: Any, expected: Any, dtype: DataType, tolerance: float) -> None:
    error = _ERROR.get(dtype, _FLOAT32_ERROR) * tolerance
    exact = expected.astype(np.float64)
    finite = np.abs(exact[np.isfinite(exact)])
    margin = error * (np.abs(exact) + finite.max(initial=0) / 4)
    with np.errstate(all="ignore"):
        low, high = (
            bound.astype(actual.dtype).astype(np.float64)
            for bound in (exact - margin, exact + margin)
        )
    values = actual.astype(np.float64)
    fine = (
        ((low <= values) & (values <= high))
        | (np.isnan(values) & np.isnan(exact))
        | (values == exact)
    )
    assert fine.all(), f"{values[~fine][:4]}, expected {exact[~fine][:4]}"


def test_every_type_has_a_case() -> None:
    """Of every operator, each type that each type parameter allows."""
    tried = {
        (case.domain, case.op_type, parameter, type.text)
        for case in CASES
        for binding in bindings(case)
        for parameter, type in binding.items()
    }
    named = {(case.domain, case.op_type) for case in CASES}
    for schema in onnx.defs.get_all_schemas():
        assert (schema.domain, schema.name) in named
        if schema.deprecated:
            continue
        for constraint in schema.type_constraints:
            for text in constraint.allowed_type_strs:
                key = (schema.domain, schema.name, constraint.type_param_str, text)
                assert key in tried, key


@pytest.mark.parametrize("case", [*CASES, *variants.CASES], ids=lambda case: case.name)
def test_every_type(case: Case) -> None:
    model, calls = node_model(case, list(bindings(case)))
    session = bascule.InferenceSession(model.SerializeToString())
    feeds: dict[str, Any] = {}
    for call in calls:
        feeds |= call.feeds
    results = dict(zip([arg.name for arg in session.get_outputs()], session.run(None, feeds)))
    references = References(case)
    wrong = []
    for call in calls:
        for index, (name, expected) in enumerate(zip(call.outputs, references.outputs(call))):
            try:
                check(
                    results[name], expected, case.output_type(index, call.binding), case.tolerance
                )
            except AssertionError as error:
                types = ", ".join(f"{k}={v.text}" for k, v in call.binding.items())
                wrong.append(f"{types}: output {index}: {error}")
    assert not wrong, "\n".join(wrong)
