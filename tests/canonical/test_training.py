# SPDX-License-Identifier: Apache-2.0
"""Adagrad, Adam and Momentum against the standard's reference in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

import bascule
from bascule.errors import InvalidGraph

DOMAIN = "ai.onnx.preview.training"
STATES = {"Adagrad": 1, "Adam": 2, "Momentum": 1}
ATTRIBUTES = {
    "Adagrad": ["", "<decay_factor = 0.1, epsilon = 0.01, norm_coefficient = 0.02>"],
    "Adam": [
        "",
        "<alpha = 0.95, beta = 0.85, epsilon = 0.01, norm_coefficient = 0.02, "
        "norm_coefficient_post = 0.03125>",
    ],
    "Momentum": [
        f'<alpha = 0.95, beta = 0.1, mode = "{mode}", norm_coefficient = {norm}>'
        for mode in ("standard", "nesterov")
        for norm in ("0.0", "0.001")
    ],
}
CASES = [(op_type, text) for op_type, texts in ATTRIBUTES.items() for text in texts]


def model(op_type: str, attributes: str, dtypes: list[str], rate: str = "float") -> bytes:
    """One update of a tensor of each type; 'float[2,3]' and the like."""
    groups = {"x": dtypes, "g": dtypes, "h": dtypes, "v": dtypes}
    prefixes = ["x", "g", "h", "v"][: 2 + STATES[op_type]]
    names = [f"{p}{i}" for p in prefixes for i in range(len(dtypes))]
    inputs = [f"{groups[p][i]} {p}{i}" for p in prefixes for i in range(len(dtypes))]
    made = [p for p in prefixes if p != "g"]
    outputs = [f"{groups[p][i]} new_{p}{i}" for p in made for i in range(len(dtypes))]
    made_names = ", ".join(text.split()[-1] for text in outputs)
    return onnx.parser.parse_model(  # type: ignore[no-any-return]
        f'<ir_version: 8, opset_import: ["{DOMAIN}" : 1]>\n'
        f"g ({rate} r, int64 t, {', '.join(inputs)}) => ({', '.join(outputs)}) {{\n"
        f"  {made_names} = {DOMAIN}.{op_type} {attributes} (r, t, {', '.join(names)})\n}}"
    ).SerializeToString()


def feeds(session: bascule.InferenceSession, count: int, rate: float = 0.3) -> dict[str, Any]:
    rng = np.random.default_rng(count + 5)
    found = {}
    for arg in session.get_inputs():
        dtype = np.float64 if "double" in arg.type else np.float32
        # Squares that were accumulated are positive.
        found[arg.name] = rng.uniform(0.1, 1, arg.shape).astype(dtype)
        if arg.name.startswith(("x", "g")):
            found[arg.name] *= np.asarray(rng.choice([-1, 1], found[arg.name].shape), dtype)
    found["r"] = np.array(rate, found["r"].dtype)
    found["t"] = np.array(count)
    return found


def reference(data: bytes, numbers: dict[str, Any]) -> list[np.ndarray]:
    """By onnx.reference, in float64 where it does not round to float32 itself."""
    wide = {name: v.astype(np.float64) if v.dtype.kind == "f" else v for name, v in numbers.items()}
    return list(ReferenceEvaluator(data).run(None, wide))


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("op_type, attributes", CASES)
def test_one_tensor(op_type: str, attributes: str, count: int) -> None:
    for dtype, tolerance in (("float", 2e-6), ("double", 1e-13)):
        data = model(op_type, attributes, [f"{dtype}[2,3]"], rate=dtype)
        session = bascule.InferenceSession(data)
        numbers = feeds(session, count)
        for actual, expected in zip(
            session.run(None, numbers), reference(data, numbers), strict=True
        ):
            assert actual.dtype == numbers["x0"].dtype
            np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("op_type", STATES)
def test_many_tensors(op_type: str) -> None:
    """Of any rank, empty ones too; each as if it were alone."""
    kinds = ["float[2,3]", "float", "float[0,4]", "float[5]"]
    attributes = ATTRIBUTES[op_type][-1]
    session = bascule.InferenceSession(model(op_type, attributes, kinds))
    numbers = feeds(session, 3)
    results = session.run(None, numbers)
    for index, kind in enumerate(kinds):
        alone = bascule.InferenceSession(model(op_type, attributes, [kind]))
        mine = {name[0] + "0": v for name, v in numbers.items() if name.endswith(str(index))}
        expected = alone.run(None, {"r": numbers["r"], "t": numbers["t"], **mine})
        for actual, one in zip(results[index :: len(kinds)], expected, strict=True):
            assert actual.shape == one.shape
            assert np.array_equal(actual, one)


def test_a_rate_of_another_type() -> None:
    data = model("Adam", "", ["double[3]"], rate="float")
    session = bascule.InferenceSession(data)
    numbers = feeds(session, 2)
    for actual, expected in zip(session.run(None, numbers), reference(data, numbers)):
        np.testing.assert_allclose(actual, expected, rtol=1e-7)


def test_the_step_is_one_fused_kernel() -> None:
    session = bascule.InferenceSession(model("Adam", "", ["float[64]"]))
    kernels = [row.op_type for row in session.explain().rows]
    assert kernels.count("Elementwise") == len(kernels)


@pytest.mark.parametrize(
    "op_type, attributes, inputs, problem",
    [
        ("Adam", "", "r, t, x0, g0, h0", "5 inputs are not R, T and 4 for each tensor"),
        ("Adagrad", "", "r, t, x0, g0", "4 inputs are not R, T and 3 for each tensor"),
        (
            "Momentum",
            '<alpha = 1.0, beta = 1.0, mode = "fast", norm_coefficient = 0.0>',
            "r, t, x0, g0, h0",
            "'mode' is 'fast'",
        ),
    ],
)
def test_what_is_refused(op_type: str, attributes: str, inputs: str, problem: str) -> None:
    text = (
        f'<ir_version: 8, opset_import: ["{DOMAIN}" : 1]>\n'
        "g (float r, int64 t, float[2] x0, float[2] g0, float[2] h0) => (float[2] y) "
        f"{{ y = {DOMAIN}.{op_type} {attributes} ({inputs}) }}"
    )
    with pytest.raises(InvalidGraph, match=problem):
        bascule.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
