# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph
from tests.support.cuda_session import EmulatedSession

from .comparison import feeds_of, model_of, normal, session


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("odd", [0.0, np.inf, -np.inf, np.nan])
def test_is_all_finite(odd: float, dtype: Any) -> None:
    inputs = [normal(2, 3, dtype=dtype), normal(4, dtype=dtype), np.zeros((0, 2), dtype)]
    inputs[1][2] = odd
    for attributes, expected in (
        ({}, np.isfinite(odd)),
        ({"isnan_only": 1}, not np.isnan(odd)),
        ({"isinf_only": 1}, not np.isinf(odd)),
    ):
        model = model_of("IsAllFinite", inputs, attributes)
        for made in (session(model), EmulatedSession(model.SerializeToString())):
            (found,) = made.run(None, feeds_of(inputs))
            assert found.dtype == bool and found.shape == () and found == expected


def test_bad_nodes() -> None:
    x = normal(2)
    for inputs, attributes, message in (
        ([x], {"isnan_only": 1, "isinf_only": 1}, "exclude each other"),
        ([x], {"other": 1}, "'other' is unknown"),
        ([], {}, "it has no inputs"),
        ([x, None, x], {}, "input 1 is missing"),
    ):
        with pytest.raises(InvalidGraph, match=message):
            session(model_of("IsAllFinite", inputs, attributes))
