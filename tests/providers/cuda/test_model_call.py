# SPDX-License-Identifier: Apache-2.0
"""A Model whose inputs are on the GPU gives results that are there, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bascule
from tests.api.models import linear, scaled
from tests.support import gpu_arrays
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

X = np.random.default_rng(4).standard_normal((2, 3)).astype(np.float32)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    return gpu_arrays.use(monkeypatch)


def test_arrays_stay_on_the_gpu(cupy: Any) -> None:
    model = bascule.Model(EmulatedSession(linear().SerializeToString()))
    expected = bascule.load(linear())(X)
    outputs = model(cupy.asarray(X))
    assert all(isinstance(value, cupy.ndarray) for value in outputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(value.get(), expected[name], rtol=1e-5)
    assert isinstance(model(X).y, np.ndarray)


def test_inputs_of_both_memories(cupy: Any) -> None:
    model = bascule.Model(EmulatedSession(scaled().SerializeToString()))
    result = model(cupy.asarray(X), scale=[3])
    assert isinstance(result, cupy.ndarray)
    np.testing.assert_allclose(result.get(), X * 3, rtol=1e-6)


def test_wrong_arrays_on_the_gpu(cupy: Any) -> None:
    model = bascule.Model(EmulatedSession(linear().SerializeToString()))
    wrong = bascule.capi._pybind_state.InvalidArgument
    with pytest.raises(wrong, match=r"'x' expects float32\[n, 3\], float32\[3\] is given"):
        model(cupy.asarray(X[0]))
