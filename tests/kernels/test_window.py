# SPDX-License-Identifier: Apache-2.0
"""Windows and the mel filter bank, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import InvalidArgument
from tests.support.native import run_node


@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 9, 400])
def test_windows(size: int, periodic: int) -> None:
    n = size + periodic
    phase = 2 * np.pi * np.arange(size) / max(n - 1, 1)
    expected = {
        "HannWindow": 0.5 - 0.5 * np.cos(phase),
        "HammingWindow": 25 / 46 - 21 / 46 * np.cos(phase),
        "BlackmanWindow": 0.42 - 0.5 * np.cos(phase) + 0.08 * np.cos(2 * phase),
    }
    for op_type, window in expected.items():
        if n == 1:
            window = np.ones(1)
        attributes = {"periodic": periodic, "output_datatype": 11}
        actual = run_node(op_type, [np.array(size)], attributes)[0]
        np.testing.assert_allclose(actual, window, atol=1e-15)
        assert run_node(op_type, [np.array(size)])[0].dtype == np.float32


def test_mel_bands_cover_the_spectrum() -> None:
    limits = [np.array(v) for v in (20, 512, 16000)]
    limits += [np.array(v, np.float32) for v in (50, 7600)]
    matrix = run_node("MelWeightMatrix", limits)[0]
    assert matrix.shape == (257, 20)
    assert matrix.min() == 0
    assert (matrix.max(0) == 1).all()
    assert (np.diff(matrix.argmax(0)) > 0).all()
    with pytest.raises(InvalidArgument):
        run_node("MelWeightMatrix", [*limits[:3], limits[4], limits[3]])
