# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, model_of, normal, session


def joined(x: Array) -> Array:
    return np.stack([x.real, x.imag], -1)


def complex_of(x: Array) -> Array:
    return x[..., 0] + 1j * x[..., 1]


@pytest.mark.parametrize("b", [(3, 4, 2), (4, 2), (1, 2)])
@pytest.mark.parametrize("conjugate", [False, True])
def test_product(conjugate: bool, b: tuple[int, ...]) -> None:
    def reference(x: Array, y: Array) -> Array:
        other = complex_of(y)
        return joined(complex_of(x) * (other.conj() if conjugate else other))

    name = "ComplexMulConj" if conjugate else "ComplexMul"
    check(name, reference, [normal(3, 4, 2), normal(*b, seed=1)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rfft(count: int) -> None:
    def reference(x: Array) -> Array:
        return joined(np.fft.rfftn(x, axes=range(-count, 0)))

    inputs = [normal(2, 4, 6, 8)]
    check("Rfft", reference, inputs, {"signal_ndim": count}, dtypes=[np.float32])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_irfft(count: int) -> None:
    x = normal(2, 4, 6, 8)
    spectrum = joined(np.fft.rfftn(x, axes=range(-count, 0))).astype(np.float32)
    check("Irfft", lambda y: x, [spectrum], {"signal_ndim": count}, dtypes=[np.float32])


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"normalized": 1}, "attribute 'normalized' must be 0"),
        ({"onesided": 0}, "'onesided' 1"),
        ({"signal_ndim": 4}, "attribute 'signal_ndim' is 4"),
    ],
)
def test_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("Rfft", [normal(2, 8)], attributes))
