# SPDX-License-Identifier: Apache-2.0
"""Every operator of com.microsoft in every element type that its definition allows.

In each type the result is that of float32 on the same numbers, up to the few roundings to the type
that the steps of an operator may take.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import bascule
from bascule.canonical.registry import NCHWC_DOMAIN, operators
from bascule.ir.dtype import DataType
from tests.support.operators import contrib
from tests.support.operators.contrib_case import CONTRIB_DOMAIN, ContribCase
from tests.support.typed import Binding, Call, TypeText, bindings, node_model

_FLOATS = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16, DataType.DOUBLE)
_ROUNDINGS = 8
_OF_BITS = {"MurmurHash3"}
"""Operators that read the bits of numbers: their results are the business of their own tests."""


def in_float32(binding: Binding) -> Binding:
    return {
        name: TypeText("tensor(float)") if type.dtype in _FLOATS else type
        for name, type in binding.items()
    }


def to_float32(value: Any) -> Any:
    return value.astype(np.float32) if DataType.from_numpy(value.dtype) in _FLOATS else value


def run_in_float32(case: ContribCase, calls: list[Call]) -> list[Any]:
    """The outputs of all calls; those that are alike in float32 have a session together."""
    sessions: dict[str, tuple[Any, Call]] = {}
    found = []
    for call in calls:
        binding = in_float32(call.binding)
        if str(binding) not in sessions:
            model, [alike] = node_model(case, [binding])
            made = bascule.InferenceSession(model.SerializeToString())
            sessions[str(binding)] = made, alike
        session, alike = sessions[str(binding)]
        wide = [to_float32(value) for value in call.feeds.values()]
        found += session.run(None, dict(zip(alike.feeds, wide, strict=True)))
    return found


def test_every_operator_has_a_case() -> None:
    found: dict[str, set[str]] = {CONTRIB_DOMAIN: {"Tokenizer"}, NCHWC_DOMAIN: set()}
    for domain in found:
        cases = {case.op_type for case in contrib.CASES if case.domain == domain}
        assert operators(domain) | found[domain] == cases


def test_a_process_may_begin_with_one(tmp_path: Path) -> None:
    [case] = [case for case in contrib.CASES if case.op_type == "BiasGelu"]
    model, _ = node_model(case, list(bindings(case)))
    onnx.save(model, tmp_path / "model.onnx")
    code = "import bascule, sys; bascule.InferenceSession(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.onnx")], check=True)


@pytest.mark.parametrize(
    "case",
    [case for case in contrib.CASES if case.op_type not in _OF_BITS],
    ids=lambda case: case.name,
)
def test_every_type(case: ContribCase) -> None:
    model, calls = node_model(case, list(bindings(case)))
    feeds = {name: value for call in calls for name, value in call.feeds.items()}
    found = bascule.InferenceSession(model.SerializeToString()).run(None, feeds)
    expected = run_in_float32(case, calls)
    names = [f"{name} of {call.binding}" for call in calls for name in call.outputs]
    for name, actual, reference in zip(names, found, expected, strict=True):
        assert actual.shape == reference.shape, name
        if DataType.from_numpy(actual.dtype) not in _FLOATS:
            np.testing.assert_array_equal(actual, reference, err_msg=name)
            continue
        eps = float(ml_dtypes.finfo(actual.dtype).eps)
        bound = _ROUNDINGS * max(eps, float(np.finfo(np.float32).eps))
        with np.errstate(over="ignore"):
            rounded = reference.astype(actual.dtype).astype(np.float64)
        largest = np.abs(rounded[np.isfinite(rounded)]).max(initial=0)
        np.testing.assert_allclose(
            actual.astype(np.float64), rounded, bound, bound * largest, err_msg=name
        )
