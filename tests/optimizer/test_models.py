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
from tests.models import test_models as models
from tests.models.test_models import DATA, assert_agrees, load_runs
from tests.optimizer.graphs import reference_fold, run_reference

MODELS = [
    name
    for name in models.MODELS
    # The reference pools over less than its window wrongly, and has no grouped ConvTranspose.
    if not name.startswith(("efficientnet", "convolutions"))
]


def canonical(name: str) -> Model:
    model = load_model(DATA / f"{name}.onnx")
    inline_functions(model)
    canonicalize(model)
    infer_types(model, definition)
    return model


@pytest.mark.parametrize("level", [Level.BASIC, Level.ALL])
@pytest.mark.parametrize("name", MODELS)
def test_numbers_stay(name: str, level: Level) -> None:
    model = canonical(name)
    before = sum(1 for _ in model.graph.walk_nodes())
    optimize(model, level, context=Context(reference_fold, definition), verify=True)
    if level == Level.BASIC:  # later, transposes stand at the borders of channels-last regions
        assert sum(1 for _ in model.graph.walk_nodes()) <= before
    names = [value.name for value in model.graph.outputs]
    for feeds, expected in load_runs(name):
        assert names == list(expected)
        for output, actual in zip(names, run_reference(model, feeds, definition)):
            tolerance = models.ILL_CONDITIONED.get(name)
            assert_agrees(np.asarray(actual), expected[output], output, tolerance)
