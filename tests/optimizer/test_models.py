# SPDX-License-Identifier: Apache-2.0
"""Models exported by torch still compute torch's numbers when they are optimized."""

from __future__ import annotations

import numpy as np
import pytest

from bascule.canonical import canonicalize
from bascule.ir.graph import Model
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_functions
from bascule.ir.load import load_model
from bascule.optimizer import Context, Level, optimize
from bascule.optimizer.fused import definition
from tests.models.test_models import DATA, load_runs
from tests.optimizer.graphs import reference_fold, run_reference

UNLIKE_REFERENCE = ("efficientnet", "convolutions")
"""The reference evaluator itself is wrong on these: large windows, grouped ConvTranspose."""

MODELS = sorted(
    path.stem for path in DATA.glob("*.onnx") if not path.stem.startswith(UNLIKE_REFERENCE)
)


def canonical(name: str) -> Model:
    model = load_model(DATA / f"{name}.onnx")
    inline_functions(model)
    canonicalize(model)
    infer_types(model, definition)
    return model


CASES = [(name, Level.ALL) for name in MODELS]
CASES += [(name, Level.BASIC) for name in MODELS if name.endswith("_torchscript")]


@pytest.mark.parametrize(("name", "level"), CASES)
def test_numbers_stay(name: str, level: Level) -> None:
    model = canonical(name)
    before = len(model.graph)
    optimize(model, level, context=Context(reference_fold, definition), verify=True)
    if level == Level.BASIC:  # later, transposes stand at the borders of channels-last regions
        assert len(model.graph) <= before
    for feeds, expected in load_runs(name):
        assert [value.name for value in model.graph.outputs] == list(expected)
        actual = run_reference(model, feeds, definition)
        for found, wanted in zip(actual, expected.values()):
            assert_agrees(np.asarray(found), wanted)


def assert_agrees(actual: np.ndarray, expected: np.ndarray) -> None:
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    scale = np.abs(expected.astype(np.float64)).max(initial=0)
    relative = {"float16": 1e-2, "float32": 5e-4, "float64": 1e-9}.get(expected.dtype.name, 0)
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=0, atol=relative * scale
    )
