# SPDX-License-Identifier: Apache-2.0
"""Real architectures, exported by torch: the outputs are torch's own."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import bascule as ort

DATA = Path(__file__).parent / "data"
MODELS = sorted(path.stem for path in DATA.glob("*.onnx"))

# Of the largest value of an output. Half a unit in the last place of float16 is 5e-4, and torch
# rounds to it after every operator.
TOLERANCE = {"float16": 1e-2, "float32": 1e-4}

# 52 random convolutions amplify rounding: torch's float32 is itself 2e-5 from its float64.
ILL_CONDITIONED = {"mobilenetv2": 5e-4, "mobilenetv2_torchscript": 5e-4}


def load_runs(name: str) -> list[tuple[dict[str, npt.NDArray], dict[str, npt.NDArray]]]:
    """Inputs and expected outputs of every stored run, by name."""
    runs: dict[str, tuple[dict[str, npt.NDArray], dict[str, npt.NDArray]]] = {}
    with np.load(DATA / f"{name}.npz") as arrays:
        for key in arrays.files:
            number, kind, value = key.split("/", 2)
            inputs, outputs = runs.setdefault(number, ({}, {}))
            (inputs if kind == "input" else outputs)[value] = arrays[key]
    return list(runs.values())


def assert_agrees(
    actual: npt.NDArray, expected: npt.NDArray, name: str, tolerance: float | None
) -> None:
    assert actual.dtype == expected.dtype, name
    assert actual.shape == expected.shape, name
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=name)
        return
    scale = float(np.abs(expected, dtype=np.float64).max(initial=0))
    allowed = (tolerance or TOLERANCE[expected.dtype.name]) * scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_torchs(name: str) -> None:
    session = ort.InferenceSession(DATA / f"{name}.onnx", providers=["CPUExecutionProvider"])
    for inputs, expected in load_runs(name):
        outputs = session.run(list(expected), inputs)
        for output, actual in zip(expected, outputs, strict=True):
            assert_agrees(actual, expected[output], output, ILL_CONDITIONED.get(name))


@pytest.mark.parametrize("name", MODELS)
def test_signature_is_the_files(name: str) -> None:
    session = ort.InferenceSession(DATA / f"{name}.onnx", providers=["CPUExecutionProvider"])
    inputs, outputs = load_runs(name)[0]
    assert [argument.name for argument in session.get_inputs()] == list(inputs)
    assert [argument.name for argument in session.get_outputs()] == list(outputs)
