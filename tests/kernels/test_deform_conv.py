# SPDX-License-Identifier: Apache-2.0
"""DeformConv against samples taken one by one."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.support.native import run_node


def sample(channel: np.ndarray, place: np.ndarray) -> float:
    """Linear interpolation; pixels outside are zero."""
    low = np.floor(place).astype(int)
    total = 0.0
    for corner in product((0, 1), repeat=channel.ndim):
        index = low + corner
        if all(0 <= i < n for i, n in zip(index, channel.shape)):
            total += channel[tuple(index)] * np.prod(1 - np.abs(place - index))
    return total


def reference(x, w, offset, bias, mask, strides, pads, dilations, group, offset_group):
    axes, out, kernel = x.ndim - 2, offset.shape[2:], w.shape[2:]
    taps = list(np.ndindex(*kernel))
    offset = offset.reshape(len(x), offset_group, len(taps), axes, *out)
    y = np.zeros((len(x), len(w), *out))
    for n, o, at in product(range(len(x)), range(len(w)), np.ndindex(*out)):
        for i in range(w.shape[1]):
            channel = o // (len(w) // group) * w.shape[1] + i
            g = channel // (x.shape[1] // offset_group)
            for t, tap in enumerate(taps):
                move = offset[(n, g, t, slice(None), *at)]
                place = np.array(at) * strides - pads[:axes] + np.array(tap) * dilations + move
                weight = 1.0 if mask is None else mask[(n, g * len(taps) + t, *at)]
                y[(n, o, *at)] += sample(x[n, channel], place) * weight * w[(o, i, *tap)]
        y[(n, o, *at)] += 0 if bias is None else bias[o]
    return y


CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 6, 7), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 4, 7, 6), (6, 2, 2, 3), {"group": 2, "strides": [2, 1], "dilations": [1, 2]}),
    ((1, 4, 5, 5), (2, 4, 2, 2), {"offset_group": 2, "pads": [0, 1, 1, 0]}),
    ((1, 6, 4, 4), (3, 2, 2, 2), {"offset_group": 2, "group": 3}),
    ((2, 2, 9), (3, 2, 3), {"strides": [2]}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), {}),
]


@pytest.mark.parametrize("x_shape, w_shape, attributes", CASES)
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forms(x_shape: Any, w_shape: Any, attributes: Any, extra: bool, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    axes = len(x_shape) - 2
    strides = np.array(attributes.get("strides", [1] * axes))
    dilations = np.array(attributes.get("dilations", [1] * axes))
    pads = np.array(attributes.get("pads", [0] * 2 * axes))
    reach = (np.array(w_shape[2:]) - 1) * dilations + 1
    out = (np.array(x_shape[2:]) + pads[:axes] + pads[axes:] - reach) // strides + 1
    groups, taps = attributes.get("offset_group", 1), int(np.prod(w_shape[2:]))
    x, w = rng.normal(size=x_shape).astype(dtype), rng.normal(size=w_shape).astype(dtype)
    offset = rng.normal(size=(x_shape[0], groups * taps * axes, *out)).astype(dtype) * 2
    bias = rng.normal(size=w_shape[0]).astype(dtype) if extra else None
    mask = rng.uniform(size=(x_shape[0], groups * taps, *out)).astype(dtype) if extra else None
    expected = reference(
        x, w, offset, bias, mask, strides, pads, dilations, attributes.get("group", 1), groups
    )
    one, two = (
        run_node("DeformConv", [x, w, offset, bias, mask], attributes, threads=t)[0] for t in (1, 2)
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, expected, rtol=0, atol=3e-5 if dtype == np.float32 else 1e-12)


def test_places_far_away_and_not_a_number() -> None:
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 1, 1), np.float32)
    for far in (1e30, -1e30, np.inf, np.nan):
        offset = np.full((1, 2, 3, 3), far, np.float32)
        (y,) = run_node("DeformConv", [x, w, offset])
        np.testing.assert_array_equal(y, np.zeros((1, 1, 3, 3)))


def test_shapes_that_do_not_fit() -> None:
    x, w = np.ones((1, 2, 3, 3), np.float32), np.ones((2, 2, 2, 2), np.float32)
    offset = np.zeros((1, 8, 2, 2), np.float32)
    with pytest.raises(Exception, match="offset has shape"):
        run_node("DeformConv", [x, w, offset[:, :4]])
    with pytest.raises(Exception, match="mask has shape"):
        run_node("DeformConv", [x, w, offset, None, offset])
    with pytest.raises(Exception, match="offset_group"):
        run_node("DeformConv", [x, w, offset], {"offset_group": 3})
