# SPDX-License-Identifier: Apache-2.0
"""The normalizations against NumPy in float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.support.native import run_node

RANDOM = np.random.default_rng(9)
# Attributes are float32.
EPSILON = float(np.float32(1e-5))
MOMENTUM = float(np.float32(0.8))
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def close(actual: np.ndarray, expected: np.ndarray, dtype: Any) -> None:
    tolerance = {2: 2e-2, 4: 2e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance)


def standardized(x: np.ndarray, axes: tuple[int, ...], epsilon: float = EPSILON) -> np.ndarray:
    x = x.astype(np.float64)
    mean = x.mean(axes, keepdims=True)
    variance = x.var(axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, axis", [((4, 37), -1), ((2, 3, 768), -1), ((5, 4, 3), 1),
                                         ((3, 1), 1), ((9, 1500), -1),
                                         ((7, 2100), -1)])  # fmt: skip
def test_layer_normalization(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x = (normal(*shape, dtype=np.float64) + 10).astype(dtype)
    kept = shape[axis:]
    scale, bias = normal(*kept, dtype=dtype), normal(*kept, dtype=dtype)
    axes = tuple(range(len(shape) + axis if axis < 0 else axis, len(shape)))
    wide = x.astype(np.float64)
    expected = standardized(x, axes) * scale.astype(np.float64) + bias.astype(np.float64)
    y, mean, factor = run_node("LayerNormalization", [x, scale, bias], {"axis": axis}, 3, runs=2)
    assert y.dtype == x.dtype and mean.dtype == factor.dtype == np.float32
    close(y, expected, dtype)
    np.testing.assert_allclose(mean, wide.mean(axes, keepdims=True), 1e-5)
    root = np.sqrt(wide.var(axes, keepdims=True) + EPSILON)
    np.testing.assert_allclose(factor, 1 / root, 1e-3)
    [y] = run_node("LayerNormalization", [x, scale], {"axis": axis})
    close(y, standardized(x, axes) * scale.astype(np.float64), dtype)


def test_layer_normalization_with_a_scale_that_broadcasts() -> None:
    x = normal(2, 3, 8)
    for shape in [(1,), (1, 8), (3, 1), (2, 1, 8), ()]:
        scale = normal(*shape)
        [y] = run_node("LayerNormalization", [x, scale])
        close(y, standardized(x, (2,)) * scale, np.float32)
    x = normal(2, 3, 3)  # as many numbers as a row has, but one for each row
    scale = normal(3, 1)
    [y] = run_node("LayerNormalization", [x, scale])
    close(y, standardized(x, (2,)) * scale, np.float32)


def test_large_mean_does_not_cost_accuracy() -> None:
    x = (normal(3, 512) + 3000).astype(np.float32)
    [y] = run_node("LayerNormalization", [x, np.ones(512, np.float32)])
    np.testing.assert_allclose(y, standardized(x, (1,)), 0, 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_normalization(dtype: Any) -> None:
    x, scale = normal(6, 100, dtype=dtype), normal(100, dtype=dtype)
    wide = x.astype(np.float64)
    root = np.sqrt((wide**2).mean(1, keepdims=True) + EPSILON)
    close(run_node("RMSNormalization", [x, scale])[0], wide / root * scale.astype(float), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_skip_normalization(dtype: Any) -> None:
    x, skip = normal(5, 7, 96, dtype=dtype), normal(5, 7, 96, dtype=dtype)
    scale, bias = normal(96, dtype=dtype), normal(96, dtype=dtype)
    total = x.astype(np.float64) + skip.astype(np.float64)
    y, s = run_node(
        "SkipLayerNormalization", [x, skip, scale, bias], {"epsilon": 1e-5}, 2, "bascule", runs=2
    )
    close(s, total, dtype)
    close(y, standardized(total, (2,)) * scale.astype(float) + bias.astype(float), dtype)
    root = np.sqrt((total**2).mean(2, keepdims=True) + EPSILON)
    y, s = run_node("SkipRMSNormalization", [x, skip, scale], {}, 2, "bascule")
    close(s, total, dtype)
    close(y, total / root * scale.astype(float), dtype)


IMAGES = [(2, 6, 5, 7), (1, 6, 1), (3, 12, 40), (2, 6), (5, 66, 1, 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("groups", [None, 1, 2, 6])
def test_group_and_instance_normalization(
    shape: tuple[int, ...], groups: int | None, dtype: Any
) -> None:
    x = normal(*shape, dtype=dtype)
    channels = shape[1]
    scale, bias = normal(channels, dtype=dtype), normal(channels, dtype=dtype)
    per_channel = (channels,) + (1,) * (len(shape) - 2)
    grouped = x.reshape(shape[0], groups or channels, -1)
    expected = standardized(grouped, (2,)).reshape(shape)
    expected = expected * scale.astype(float).reshape(per_channel)
    expected = expected + bias.astype(float).reshape(per_channel)
    op_type = "GroupNormalization" if groups else "InstanceNormalization"
    attributes = {"num_groups": groups} if groups else {}
    close(run_node(op_type, [x, scale, bias], attributes, runs=2)[0], expected, dtype)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    attributes["channels_last"] = 1
    [y] = run_node(op_type, [last, scale, bias], attributes, domain="bascule")
    close(np.moveaxis(y, -1, 1), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES)
def test_batch_normalization(shape: tuple[int, ...], dtype: Any) -> None:
    x = normal(*shape, dtype=dtype)
    numbers = [np.abs(normal(shape[1], dtype=dtype)) for _ in range(4)]
    wide = [v.astype(np.float64).reshape((-1,) + (1,) * (len(shape) - 2)) for v in numbers]
    scale, bias, mean, variance = wide
    expected = (x.astype(np.float64) - mean) / np.sqrt(variance + EPSILON) * scale + bias
    close(run_node("BatchNormalization", [x, *numbers])[0], expected, dtype)

    axes = (0, *range(2, len(shape)))
    y, new_mean, new_variance = run_node(
        "BatchNormalization", [x, *numbers], {"training_mode": 1, "momentum": MOMENTUM}, 3
    )
    close(y, standardized(x, axes) * scale + bias, dtype)
    batch = x.astype(np.float64)
    old = [v.astype(np.float64) for v in numbers]
    close(new_mean, old[2] * MOMENTUM + batch.mean(axes) * (1 - MOMENTUM), dtype)
    close(new_variance, old[3] * MOMENTUM + batch.var(axes) * (1 - MOMENTUM), dtype)


@pytest.mark.parametrize("shape", [(0, 6), (0, 6, 1), (2, 6, 0)])
def test_batch_normalization_of_nothing(shape: tuple[int, ...]) -> None:
    [y] = run_node("BatchNormalization", [normal(*shape), *(normal(6) ** 2 for _ in range(4))])
    assert y.shape == shape


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lp_normalization(p: int, axis: int) -> None:
    x = normal(4, 5, 6)
    x[0, 0] = 0
    x[:, 2, 3] = 0
    norm = np.linalg.norm(x.astype(np.float64), p, axis, keepdims=True)
    expected = np.divide(x, norm, out=np.zeros(x.shape), where=norm != 0)
    [y] = run_node("LpNormalization", [x], {"p": p, "axis": axis})
    close(y, expected, np.float32)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 16, 23, 100, 1000])
def test_lp_normalization_of_every_length(p: int, n: int) -> None:
    for dtype in (np.float32, np.float64, np.float16):
        x = (normal(11, n, 3) * 10).astype(dtype)
        x[2] = 0
        if dtype != np.float16:
            x[3] *= dtype(1e25)  # squares fit float64 alone
        wide = x.astype(np.float64)
        norm = np.linalg.norm(wide, p, 1, keepdims=True)
        expected = np.divide(wide, norm, out=np.zeros(x.shape), where=norm != 0)
        for shape in ((11, n, 3), (33, n)):
            values = x if len(shape) == 3 else np.ascontiguousarray(x.swapaxes(1, 2))
            wanted = expected if len(shape) == 3 else expected.swapaxes(1, 2)
            inputs = values.reshape(shape)
            attributes = {"p": p, "axis": 1}
            [one] = run_node("LpNormalization", [inputs], attributes)
            [more] = run_node("LpNormalization", [inputs], attributes, threads=3, runs=2)
            assert one.tobytes() == more.tobytes()
            close(one, wanted.reshape(shape), dtype)
            [part] = run_node("LpNormalization", [inputs[4:6]], attributes)
            assert part.tobytes() == one[4:6].tobytes()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.6])
def test_lrn(size: int, beta: float) -> None:
    x = normal(2, 7, 3, 5)
    squares = np.zeros(x.shape)
    for channel in range(7):
        low, high = max(0, channel - (size - 1) // 2), min(6, channel + size // 2)
        squares[:, channel] = (x[:, low : high + 1].astype(np.float64) ** 2).sum(1)
    expected = x / (1.5 + 0.3 / size * squares) ** beta
    attributes = {"size": size, "alpha": 0.3, "beta": beta, "bias": 1.5}
    close(run_node("LRN", [x], attributes)[0], expected, np.float32)


@pytest.mark.parametrize("op_type", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("columns", [5, 96, 200, 768])
def test_rows_do_not_depend_on_their_neighbours(op_type: str, columns: int) -> None:
    x, scale = normal(11, columns), normal(columns)
    [all_rows] = run_node(op_type, [x, scale], threads=2)
    for row in range(11):
        [alone] = run_node(op_type, [x[row : row + 1], scale])
        assert alone.tobytes() == all_rows[row : row + 1].tobytes()
    bias = normal(11, columns)  # one for each row
    if op_type == "LayerNormalization":
        [each] = run_node(op_type, [x, scale, bias])
        close(each, standardized(x, (1,)) * scale + bias, np.float32)


def test_bits_do_not_depend_on_threads_or_batch() -> None:
    x, ones = normal(40, 64, 90), np.ones(90, np.float32)
    one = run_node("LayerNormalization", [x, ones])[0]
    assert run_node("LayerNormalization", [x, ones], threads=4)[0].tobytes() == one.tobytes()
    assert run_node("LayerNormalization", [x[5:6], ones])[0].tobytes() == one[5:6].tobytes()
    attributes = {"num_groups": 3, "channels_last": 1}
    inputs = [x, ones, ones]
    one = run_node("GroupNormalization", inputs, attributes, domain="bascule")[0]
    more = run_node("GroupNormalization", inputs, attributes, domain="bascule", threads=4)[0]
    assert more.tobytes() == one.tobytes()
