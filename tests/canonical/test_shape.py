# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import (
    assert_rewritten,
    assert_unchanged_meaning,
    canonical,
    model_of,
    normal,
    op_types,
)

X = normal(2, 3, 4)


def test_reshape() -> None:
    assert_rewritten("Reshape", [X], 1, [X.reshape(2, 12)], shape=[0, -1], consumed_inputs=[0])


def test_reshape_without_shape() -> None:
    with pytest.raises(InvalidGraph, match="'shape' is missing"):
        canonical(model_of("Reshape", [X], 1))


def test_concat_default_axis() -> None:
    assert_rewritten("Concat", [X, X], 1, [np.concatenate([X, X], axis=1)])
    assert_rewritten("Concat", [X, X], 1, [np.concatenate([X, X], axis=2)], axis=2)


@pytest.mark.parametrize("opset", [1, 11])
def test_squeeze(opset: int) -> None:
    x = X[:, :1, :, None]
    assert_rewritten("Squeeze", [x], opset, [x.squeeze((1, 3))], axes=[1, 3])
    assert_rewritten("Squeeze", [x], opset, [x.squeeze()])


@pytest.mark.parametrize("opset", [1, 11])
def test_unsqueeze(opset: int) -> None:
    assert_rewritten("Unsqueeze", [X], opset, [X[:, None, :, :, None]], axes=[1, 4])


@pytest.mark.parametrize(
    "attributes, expected",
    [
        ({"starts": [0, 1], "ends": [1, -1], "axes": [0, 2]}, X[0:1, :, 1:-1]),
        ({"starts": [0, 1], "ends": [2, 1000]}, X[0:2, 1:]),
        ({"starts": [-2], "ends": [1 << 62], "axes": [1]}, X[:, -2:]),
    ],
)
def test_slice(attributes: dict[str, Any], expected: Any) -> None:
    assert_rewritten("Slice", [X], 1, [expected], **attributes)


def test_slice_of_unequal_lengths() -> None:
    with pytest.raises(InvalidGraph, match="same length"):
        canonical(model_of("Slice", [X], 1, starts=[0], ends=[1, 2]))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad(mode: str) -> None:
    expected = np.pad(X, [(0, 0), (2, 1), (1, 1)], mode=mode)  # type: ignore[call-overload]
    pads = [0, 2, 1, 0, 1, 1]
    assert_rewritten("Pad", [X], 2, [expected], pads=pads, mode=mode)
    assert_rewritten("Pad", [X], 1, [expected], paddings=pads, mode=mode)


def test_pad_value() -> None:
    x = X.astype(np.float64)
    expected = np.pad(x, [(0, 0), (0, 0), (1, 0)], constant_values=1.5)
    assert_rewritten("Pad", [x], 10, [expected], pads=[0, 0, 1, 0, 0, 0], value=1.5)


def test_split_by_attribute() -> None:
    expected = np.split(X, [1], axis=2)
    assert_rewritten("Split", [X], 2, expected, outputs=2, axis=2, split=[1, 3])
    assert_rewritten("Split", [X], 1, expected, outputs=2, axis=2, split=[1, 3])


@pytest.mark.parametrize("opset", [1, 2, 11, 13])
def test_split_into_equal_parts(opset: int) -> None:
    model = assert_rewritten("Split", [X], opset, np.split(X, 2, axis=2), outputs=2, axis=2)
    assert next(iter(reversed(model.graph))).attributes["num_outputs"] == 2


def test_split_by_input_of_floats() -> None:
    lengths = np.array([1, 3], dtype=np.float32)
    assert_rewritten("Split", [X, lengths], 1, np.split(X, [1], axis=2), outputs=2, axis=2)


def test_split_by_input() -> None:
    lengths = np.array([1, 3])
    assert_rewritten("Split", [X, lengths], 13, np.split(X, [1], axis=2), outputs=2, axis=2)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_tile_of_one_axis(shape: tuple[int, ...]) -> None:
    tiles, axis = np.full(shape, 3, np.float32), np.full(shape, 1, np.float32)
    assert_rewritten("Tile", [X, tiles, axis], 1, [np.tile(X, [1, 3, 1])])


def test_tile() -> None:
    assert_unchanged_meaning("Tile", [X, np.array([1, 2, 2])], 6)


def test_top_k() -> None:
    indices = np.argsort(-X, axis=1, kind="stable")[:, :2]
    values = np.take_along_axis(X, indices, axis=1)
    assert_rewritten("TopK", [X], 1, [values, indices], outputs=2, k=2, axis=1)


def test_constants_are_made_of_known_shapes() -> None:
    model = canonical(model_of("Unsqueeze", [X], 11, axes=[0]))
    assert op_types(model) == ["Unsqueeze"]
