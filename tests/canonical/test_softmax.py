# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from .comparison import Array, assert_rewritten, canonical, model_of, normal, op_types


def old(op_type: str, x: Array, axis: int) -> Array:
    axis = axis + x.ndim if axis < 0 else axis
    rows = x.reshape(math.prod(x.shape[:axis]), -1).astype(np.float64)
    if op_type == "Hardmax":
        found = np.eye(rows.shape[1])[rows.argmax(axis=1)]
    else:
        e = np.exp(rows - rows.max(axis=1, keepdims=True))
        found = e / e.sum(axis=1, keepdims=True)
        found = np.log(found) if op_type == "LogSoftmax" else found
    return found.astype(x.dtype).reshape(x.shape)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_axes_are_taken_together(op_type: str, axis: int) -> None:
    x = normal(2, 3, 4, 5)
    for opset in (1, 11):
        assert_rewritten(op_type, [x], opset, [old(op_type, x, axis)], axis=axis)
    assert_rewritten(op_type, [x], 11, [old(op_type, x, axis)], axis=axis - 4)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_default_axis(op_type: str) -> None:
    x = normal(2, 3, 4)
    assert_rewritten(op_type, [x], 12, [old(op_type, x, 1)])


@pytest.mark.parametrize(
    "shape, axis, expected",
    [((2, 3), 1, -1), ((2, 3, 1, 1), 1, 1), ((2, 3, 4), 2, -1), ((2, 3, 4), -1, -1)],
)
def test_one_axis_needs_no_matrix(shape: tuple[int, ...], axis: int, expected: int) -> None:
    x = normal(*shape)
    model = canonical(model_of("Softmax", [x], 11, axis=axis))
    assert op_types(model) == ["Softmax"]
    assert next(iter(model.graph)).attributes == {"axis": expected}
    assert_rewritten("Softmax", [x], 11, [old("Softmax", x, axis)], axis=axis)


def test_newest_form_is_kept() -> None:
    model = canonical(model_of("Softmax", [normal(2, 3, 4)], 13, axis=1))
    assert next(iter(model.graph)).attributes == {"axis": 1}
