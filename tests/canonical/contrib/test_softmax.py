# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import NotImplemented as NotSupported

from .comparison import Array, check, feeds_of, model_of, normal, session


def softmax(x: Array, axes: int | tuple[int, ...]) -> Array:
    e = np.exp(x - x.max(axes, keepdims=True))
    return e / e.sum(axes, keepdims=True)


@pytest.mark.parametrize(
    "data, bias, axis, inner",
    [
        ((2, 4, 3, 5), (2, 1, 3, 5), 3, 1),
        ((2, 4, 3, 5), (2, 1, 1, 5), 3, 1),
        ((2, 4, 3, 5), (1, 1, 3, 5), 3, 0),
        ((2, 4, 3, 5), (3, 5), 2, 0),
        ((2, 4, 3, 5), (3, 5), -1, 0),
        ((4, 6), (6,), 1, 0),
    ],
)
def test_bias_softmax(data: tuple[int, ...], bias: tuple[int, ...], axis: int, inner: int) -> None:
    axes = tuple(range(axis % len(data), len(data)))
    check(
        "BiasSoftmax",
        lambda x, b: softmax(x + b, axes),
        [normal(*data), normal(*bias)],
        {"axis": axis, "is_inner_broadcast": inner},
    )


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [(8,), (2, 3, 8)])
def test_bias_dropout(bias: tuple[int, ...], residual: bool) -> None:
    def reference(x: Array, b: Array, r: Array | float = 0.0) -> list[Array]:
        return [x + b + r, np.ones(x.shape, bool)]

    inputs = [normal(2, 3, 8), normal(*bias, seed=1)]
    check("BiasDropout", reference, inputs + [normal(2, 3, 8, seed=2)] * residual)


def test_bias_dropout_in_training() -> None:
    x, bias = normal(40, 50), normal(50)
    inputs = [x, bias, None, np.array(0.25, np.float32), np.array(True)]
    model = model_of("BiasDropout", inputs, {"seed": 7}, 2)
    y, mask = session(model).run(None, feeds_of(inputs))
    assert 0.7 < mask.mean() < 0.8
    np.testing.assert_allclose(y, np.where(mask, (x + bias) / 0.75, 0), rtol=1e-6)


@pytest.mark.parametrize("residual", [False, True])
def test_bitmask_dropout(residual: bool) -> None:
    inputs = [normal(2, 3, 8), normal(8)] + [normal(2, 3, 8, seed=2)] * residual
    check("BitmaskDropout", lambda x: x, inputs[:1])
    check("BitmaskBiasDropout", lambda x, b, r=0.0: x + b + r, inputs)
    training = [normal(40, 50), np.array(0.25, np.float32), np.array(True)]
    model = model_of("BitmaskDropout", training, {"seed": 7})
    (y,) = session(model).run(None, feeds_of(training))
    assert 0.7 < (y != 0).mean() < 0.8
    np.testing.assert_allclose(y[y != 0], training[0][y != 0] / np.float32(0.75), rtol=1e-6)
    with pytest.raises(NotSupported, match="the mask as bits"):
        session(model_of("BitmaskBiasDropout", inputs, outputs=2))
