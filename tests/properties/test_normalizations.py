# SPDX-License-Identifier: Apache-2.0
"""Normalizations over rows, channels, groups and any axes, and Softmax and its kin.

Oracle: the formulas in float64. A mean of n elements is off by no more than n + 1 units of their
mean magnitude, a variance by n + 4 units and the square of what the mean is off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.bounds import assert_exact, assert_within, epsilon, wide
from tests.properties.running import run
from tests.properties.strategies import (
    FLOATS,
    HOLED,
    TAME,
    Array,
    Shape,
    arrays,
    axes_of,
    axis_of,
    setups,
    shapes,
)

F32 = np.dtype(np.float32)
EPSILONS = st.sampled_from([1e-5, 1e-3, 0.25])
TYPES = st.sampled_from(FLOATS)


def mean_of(x: Array, axes: tuple[int, ...]) -> Array:
    """Over the axes, which stay; of nothing it is NaN."""
    count = np.float64(np.prod([x.shape[axis] for axis in axes]))
    return np.asarray(np.sum(x, axis=axes, keepdims=True) / count)


@np.errstate(all="ignore")
def standardized(x: Array, axes: tuple[int, ...], add: float, unit: float) -> dict[str, Array]:
    """(x - mean) / sqrt(variance + add), what leads there and how far off each may be."""
    n = float(np.prod([x.shape[axis] for axis in axes]))
    mean = mean_of(x, axes)
    mean_error = unit * (n + 1) * mean_of(np.abs(x), axes)
    variance = mean_of((x - mean) ** 2, axes)
    factor = 1 / np.sqrt(variance + np.float64(np.float32(add)))
    relative = unit * (n + 6) + (mean_error * factor) ** 2
    y = (x - mean) * factor
    y_error = (mean_error * factor + relative * np.abs(y)) * (1 + relative)
    return {
        "mean": mean, "mean_error": mean_error, "variance": variance,
        "variance_error": variance * unit * (n + 4) + mean_error**2,
        "factor": factor, "factor_error": factor * relative * (1 + relative),
        "y": y, "y_error": y_error,
    }  # fmt: skip


def unit_of(*dtypes: Any) -> float:
    """The epsilon of the type that operands of these types are computed in."""
    return min(epsilon(dtype) for dtype in dtypes)


@st.composite
def suffix(draw: st.DrawFn, shape: Shape) -> Shape:
    """A shape that broadcasts to the last axes."""
    kept = shape[draw(st.integers(0, len(shape))) :] if draw(st.booleans()) else shape
    return tuple(1 if draw(st.integers(0, 4)) == 0 else size for size in kept)


@given(TYPES, st.data())
def test_layer_normalization(dtype: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), HOLED))
    axis = data.draw(axis_of(x.ndim))
    axes = tuple(range(axis % x.ndim, x.ndim))
    scale, bias = (
        data.draw(arrays(dtype, data.draw(suffix(x.shape[axis:])), TAME)) for _ in range(2)
    )
    inputs = [x, scale, bias] if data.draw(st.booleans()) else [x, scale]
    add, wanted = data.draw(EPSILONS), data.draw(st.sampled_from([1, 3]))
    attributes = {"axis": axis, "epsilon": add}
    setup = data.draw(setups(len(inputs)))
    y, *rest = run("LayerNormalization", inputs, attributes, setup, (True,) * wanted)
    found = standardized(wide(x), axes, add, epsilon(dtype))
    with np.errstate(all="ignore"):
        expected = found["y"] * wide(scale)
        error = (found["y_error"] + epsilon(dtype) * np.abs(found["y"])) * np.abs(wide(scale))
        if len(inputs) == 3:
            expected = expected + wide(bias)
            error = error + epsilon(dtype) * np.abs(wide(bias))
    assert_within(y, expected, error, dtype)
    for one, name in zip(rest, ("mean", "factor")):
        assert_within(one, found[name], found[f"{name}_error"], F32)


@given(TYPES, TYPES, st.data())
def test_rms_normalization(dtype: Any, y_type: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), HOLED))
    axis = data.draw(axis_of(x.ndim))
    axes = tuple(range(axis % x.ndim, x.ndim))
    scale = data.draw(arrays(y_type, data.draw(suffix(x.shape)), TAME))
    add = data.draw(EPSILONS)
    attributes = {"axis": axis, "epsilon": add}
    [y] = run("RMSNormalization", [x, scale], attributes, data.draw(setups(2)))
    with np.errstate(all="ignore"):
        mean_square = mean_of(wide(x) ** 2, axes)
        expected = wide(x) / np.sqrt(mean_square + np.float64(np.float32(add))) * wide(scale)
    count = np.prod([x.shape[a] for a in axes])
    assert_within(y, expected, unit_of(dtype, y_type) * (count + 8) * np.abs(expected), y_type)


def of_channels(values: Array, rank: int) -> Array:
    """One number for each index of axis 1 of a tensor."""
    return wide(values).reshape(-1, *[1] * (rank - 2))


def affine(found: dict[str, Array], scale: Array, bias: Array, unit: float) -> tuple[Array, Array]:
    """What is standardized, scaled and shifted for each channel; and its error."""
    rank = found["y"].ndim
    scale, bias = of_channels(scale, rank), of_channels(bias, rank)
    with np.errstate(all="ignore"):
        expected = found["y"] * scale + bias
        error = (found["y_error"] + 3 * unit * np.abs(found["y"])) * np.abs(scale)
        return expected, error + unit * np.abs(bias)


@given(TYPES, TYPES, TYPES, st.data())
def test_batch_normalization(dtype: Any, t1: Any, t2: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=2)), HOLED))
    channels = x.shape[1:2]
    scale, bias = (data.draw(arrays(t1, channels, TAME)) for _ in range(2))
    mean, variance = (data.draw(arrays(t2, channels, TAME)) for _ in range(2))
    variance = np.abs(variance)
    add = data.draw(EPSILONS)
    inputs = [x, scale, bias, mean, variance]
    [y] = run("BatchNormalization", inputs, {"epsilon": add}, data.draw(setups(5)))
    scale, bias, mean, variance = (of_channels(v, x.ndim) for v in inputs[1:])
    with np.errstate(all="ignore"):
        scaled = (wide(x) - mean) * scale / np.sqrt(variance + np.float64(np.float32(add)))
        expected = scaled + bias
        # Where the scale is folded into a product with x, the mean is a term of its own.
        terms = (np.abs(wide(x)) + 2 * np.abs(mean)) * np.abs(scale) / np.sqrt(variance + add)
        error = unit_of(dtype, t1, t2) * 8 * (terms + np.abs(bias))
    assert_within(y, expected, error, dtype)


@given(TYPES, st.data())
def test_batch_normalization_in_training(dtype: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=2, empty=False)), HOLED))
    channels = x.shape[1:2]
    scale, bias, mean, variance = (data.draw(arrays(dtype, channels, TAME)) for _ in range(4))
    add, momentum = data.draw(EPSILONS), data.draw(st.sampled_from([0.9, 0.5, 0.0, 1.0]))
    attributes = {"epsilon": add, "momentum": momentum, "training_mode": 1}
    inputs = [x, scale, bias, mean, np.abs(variance)]
    setup = data.draw(setups(5))
    y, *rest = run("BatchNormalization", inputs, attributes, setup, (True,) * 3)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    unit = epsilon(dtype)
    found = standardized(wide(x), axes, add, unit)
    assert_within(y, *affine(found, scale, bias, unit), dtype)
    share = float(np.float32(momentum))
    for one, before, name in zip(rest, inputs[3:], ("mean", "variance")):
        with np.errstate(all="ignore"):
            now = found[name].reshape(-1)
            expected = wide(before) * share + now * (1 - share)
            error = found[f"{name}_error"].reshape(-1) + 3 * unit * np.abs(now)
        assert_within(one, expected, error + 3 * unit * np.abs(wide(before)), dtype)


@given(TYPES, st.data())
def test_instance_normalization(dtype: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=3)), HOLED))
    scale, bias = (data.draw(arrays(dtype, x.shape[1:2], TAME)) for _ in range(2))
    add = data.draw(EPSILONS)
    inputs = [x, scale, bias]
    [y] = run("InstanceNormalization", inputs, {"epsilon": add}, data.draw(setups(3)))
    found = standardized(wide(x), tuple(range(2, x.ndim)), add, epsilon(dtype))
    assert_within(y, *affine(found, scale, bias, epsilon(dtype)), dtype)


@given(TYPES, st.integers(1, 4), st.data())
def test_group_normalization(dtype: Any, groups: int, data: st.DataObject) -> None:
    images, size, *rest = data.draw(shapes(least=2, limit=300))
    shape = (images, groups * size, *rest)
    x = data.draw(arrays(dtype, shape, HOLED))
    scale, bias = (data.draw(arrays(dtype, shape[1:2], TAME)) for _ in range(2))
    add = data.draw(EPSILONS)
    attributes = {"epsilon": add, "num_groups": groups}
    [y] = run("GroupNormalization", [x, scale, bias], attributes, data.draw(setups(3)))
    grouped = wide(x).reshape(images, groups, size, *rest)
    found = standardized(grouped, tuple(range(2, grouped.ndim)), add, epsilon(dtype))
    found = {name: value.reshape(shape) for name, value in found.items() if name[0] == "y"}
    assert_within(y, *affine(found, scale, bias, epsilon(dtype)), dtype)


@given(TYPES, st.sampled_from([1, 2]), st.data())
def test_lp_normalization(dtype: Any, p: int, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), HOLED))
    axis = data.draw(axis_of(x.ndim))
    [y] = run("LpNormalization", [x], {"axis": axis, "p": p}, data.draw(setups(1)))
    with np.errstate(all="ignore"):
        norm = np.sum(np.abs(wide(x)) ** p, axis=axis, keepdims=True) ** (1 / p)
        expected = np.where(norm == 0, 0, wide(x) / norm)
        relative = epsilon(dtype) * (x.shape[axis] + 3)
        assert_within(y, expected, relative * np.abs(expected), dtype)


@given(TYPES, st.data())
def test_mean_variance_normalization(dtype: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), HOLED))
    axes = data.draw(axes_of(x.ndim, least=1))
    [y] = run("MeanVarianceNormalization", [x], {"axes": axes}, data.draw(setups(1)))
    unit, over = epsilon(dtype), tuple(axis % x.ndim for axis in axes)
    found = standardized(wide(x), over, 0, unit)
    with np.errstate(all="ignore"):
        distance = np.abs(wide(x) - found["mean"])
        deviation = np.sqrt(found["variance"])
        expected = (wide(x) - found["mean"]) / (deviation + 1e-9)
        count = np.prod([x.shape[axis] for axis in over])
        less = np.maximum(deviation * (1 - unit * (count + 6)) - found["mean_error"], 0)
        error = (distance + found["mean_error"]) / (less + 1e-9) - np.abs(expected)
        error = error + 4 * unit * np.abs(expected)
    assert_within(y, expected, error, dtype)


@given(TYPES, st.data())
def test_lrn(dtype: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=3)), HOLED))
    size = data.draw(st.integers(1, 6))
    alpha, beta = data.draw(st.sampled_from([1e-4, 0.5])), data.draw(st.sampled_from([0.75, 2, 1]))
    bias = data.draw(st.sampled_from([1.0, 2.0]))
    attributes = {"size": size, "alpha": alpha, "beta": float(beta), "bias": bias}
    [y] = run("LRN", [x], attributes, data.draw(setups(1)))
    sums = np.zeros(x.shape)
    with np.errstate(all="ignore"):
        for channel in range(x.shape[1]):
            near = slice(max(0, channel - (size - 1) // 2), channel + size // 2 + 1)
            sums[:, channel] = np.sum(wide(x)[:, near] ** 2, axis=1)
        power = beta * np.log(bias + np.float64(np.float32(alpha)) / size * sums)
        expected = wide(x) / np.exp(power)
        relative = epsilon(dtype) * (beta * (size + 5) + 2 * np.abs(power) + 4)
        assert_within(y, expected, relative * np.abs(expected), dtype)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@given(st.data())
def test_softmax(op_type: str, data: st.DataObject) -> None:
    dtype = data.draw(TYPES)
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), (*HOLED, "special")))
    axis = data.draw(axis_of(x.ndim))
    [y] = run(op_type, [x], {"axis": axis}, data.draw(setups(1)))
    count, unit = x.shape[axis], epsilon(dtype)
    with np.errstate(all="ignore"):
        shifted = wide(x) - np.max(wide(x), axis=axis, keepdims=True, initial=-np.inf)
        total = np.sum(np.exp(shifted), axis=axis, keepdims=True)
        if op_type == "Softmax":
            expected = np.exp(shifted) / total
            # A result below the normal numbers may be zero.
            tiny = float(np.finfo(np.float32 if unit > 1e-10 else np.float64).tiny)
            error = unit * expected * (count + 6 + np.abs(shifted)) + tiny
            if dtype == np.float16:  # the exponentials and their sum are rounded to it too
                half = np.finfo(np.float16)
                error += float(half.eps) * expected + float(half.smallest_subnormal)
            error = np.where(np.isneginf(shifted), 0, error)
        else:
            expected = shifted - np.log(total)
            error = unit * (count + 4 + 2 * np.abs(expected) + np.abs(shifted))
    assert_within(y, expected, error, dtype)


@given(TYPES, st.data())
def test_hardmax(dtype: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, data.draw(shapes(least=1)), (*TAME, "wide")))
    axis = data.draw(axis_of(x.ndim))
    [y] = run("Hardmax", [x], {"axis": axis}, data.draw(setups(1)))
    expected = np.zeros(x.shape, dtype)
    if x.size:
        first = np.argmax(wide(x), axis=axis, keepdims=True)
        np.put_along_axis(expected, first, np.ones((), dtype), axis)
    assert_exact(y, expected)
