# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, check, feeds_of, model_of, normal, run_elsewhere, session


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str, padding: str, corners: int) -> None:
    inputs = [normal(2, 3, 5, 6), normal(2, 4, 3, 2)]
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    model = model_of("GridSample", inputs, attributes)
    (found,) = session(model).run(None, feeds_of(inputs))
    standard = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    own = model_of("GridSample", inputs, {**attributes, "mode": standard}, domain="")
    np.testing.assert_array_equal(found, session(own).run(None, feeds_of(inputs))[0])
    # There it is the taps that stop at the border, in the standard the place.
    is_defined = (mode, padding) != ("bicubic", "border")
    others = run_elsewhere(model, feeds_of(inputs)) if is_defined else None
    if others is not None:
        np.testing.assert_allclose(found, others[0], rtol=1e-4, atol=1e-5)


def test_unique() -> None:
    x = np.array([2, 1, 1, 3, 4, 3], np.float32)
    expected = [np.array([2.0, 1, 3, 4]), np.array([0, 1, 1, 2, 3, 2]), np.array([1, 2, 2, 1])]
    check("Unique", lambda x: expected, [x])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_expand_dims(axis: int) -> None:
    inputs = [normal(2, 3), np.array(axis, np.int32)]
    check("ExpandDims", lambda x, a: np.expand_dims(x, int(a)), inputs)


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("bounds", [(1, 7), (1, 7, 2), (7, 1, -2), (3, 3)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int32, np.int64])
def test_range(kind: Any, bounds: tuple[int, ...], shape: tuple[int, ...]) -> None:
    inputs = [np.full(shape, each, kind) for each in bounds]
    check(
        "Range",
        lambda *b: np.arange(*(each.item() for each in b)).astype(kind),
        inputs,
        dtypes=[np.float32],
    )


@pytest.mark.parametrize("k", [None, -1, 0, 2])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(upper: int, k: int | None) -> None:
    function = np.triu if upper else np.tril
    inputs = [normal(2, 4, 5), None if k is None else np.array(k)]
    check("Trilu", lambda x, k=0: function(x, int(k or 0)), inputs, {"upper": upper})


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [[0, 1, 2, 0], [[1, 0, 0, 2]]])
def test_pad(pads: Any, mode: str) -> None:
    value = [np.array(1.5, np.float32)] if mode == "constant" else []

    def reference(x: Array, pads: Array, *value: Array) -> Array:
        begins, ends = pads.reshape(2, 2)
        fill = {"constant_values": float(value[0])} if value else {}
        return np.pad(x, list(zip(begins, ends)), mode=mode, **fill)  # type: ignore[call-overload]

    check("Pad", reference, [normal(3, 4), np.array(pads), *value], {"mode": mode})


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_gather_nd(kind: Any) -> None:
    indices = np.array([[0, 1], [1, 0]], kind)
    check("GatherND", lambda x, i: x[i[:, 0], i[:, 1]], [normal(2, 3, 4), indices])


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("size, step", [(2, 1), (3, 2), (4, 1)])
def test_unfold_tensor(dim: int, size: int, step: int) -> None:
    def reference(x: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(x, size, dim)
        chosen = [slice(None)] * x.ndim
        chosen[dim] = slice(None, None, step)
        return windows[tuple(chosen)]

    attributes = {"dim": dim, "size": size, "step": step}
    check("UnfoldTensor", reference, [normal(4, 5, 6)], attributes, dtypes=[np.float32])


@pytest.mark.parametrize(
    "op_type, attributes, message",
    [
        ("GridSample", {"mode": "linear"}, "attribute 'mode' is 'linear'"),
        ("UnfoldTensor", {"size": 0}, "must be positive"),
    ],
)
def test_is_refused(op_type: str, attributes: dict[str, Any], message: str) -> None:
    inputs = [normal(1, 1, 4, 4), normal(1, 4, 4, 2)][: 2 if op_type == "GridSample" else 1]
    with pytest.raises(InvalidGraph, match=message):
        session(model_of(op_type, inputs, attributes))


def test_sample_op() -> None:
    check("SampleOp", lambda x: x, [normal(2, 3)])
