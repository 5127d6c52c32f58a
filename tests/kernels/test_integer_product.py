# SPDX-License-Identifier: Apache-2.0
"""Products and convolutions of 8-bit integers against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.native import run_node

BYTES = [np.uint8, np.int8]
TYPES = [(a, b) for a in BYTES for b in BYTES]


def random_bytes(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


SHAPES = [
    ((3, 5), (5, 2)),
    ((1, 64), (64, 33)),
    ((15, 77), (77, 65)),
    ((200, 31), (31, 130)),
    ((2, 3, 4, 6), (6, 7)),
    ((2, 1, 4, 6), (3, 6, 7)),
    ((6,), (6,)),
    ((6,), (2, 6, 3)),
    ((2, 4, 6), (6,)),
    ((3, 0), (0, 4)),
    ((0, 3), (3, 4)),
]


@pytest.mark.parametrize("a_type, b_type", TYPES)
@pytest.mark.parametrize("a_shape, b_shape", SHAPES)
def test_matmul_integer(a_type, b_type, a_shape, b_shape) -> None:
    rng = np.random.default_rng(5)
    a, b = random_bytes(rng, a_type, *a_shape), random_bytes(rng, b_type, *b_shape)
    wide_a, wide_b = a.astype(np.int32), b.astype(np.int32)
    for constants in [(), (1,)]:
        (y,) = run_node("MatMulInteger", [a, b], constants=constants)
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, wide_a @ wide_b)
        a_zero, b_zero = random_bytes(rng, a_type), random_bytes(rng, b_type)
        (y,) = run_node("MatMulInteger", [a, b, a_zero, b_zero], constants=constants, threads=2)
        np.testing.assert_array_equal(y, (wide_a - a_zero) @ (wide_b - b_zero))


def test_zero_points_of_rows_and_columns() -> None:
    rng = np.random.default_rng(6)
    a, b = random_bytes(rng, np.uint8, 20, 30), random_bytes(rng, np.int8, 30, 40)
    a_zero, b_zero = random_bytes(rng, np.uint8, 20), random_bytes(rng, np.int8, 40)
    (y,) = run_node("MatMulInteger", [a, b, a_zero, b_zero])
    expected = (a.astype(np.int32) - a_zero[:, None]) @ (b.astype(np.int32) - b_zero)
    np.testing.assert_array_equal(y, expected)

    a, b = random_bytes(rng, np.int8, 2, 3, 5, 7), random_bytes(rng, np.uint8, 2, 3, 7, 9)
    a_zero, b_zero = random_bytes(rng, np.int8, 2, 3, 5, 1), random_bytes(rng, np.uint8, 2, 3, 1, 9)
    (y,) = run_node("MatMulInteger", [a, b, a_zero, b_zero])
    np.testing.assert_array_equal(y, (a.astype(np.int32) - a_zero) @ (b.astype(np.int32) - b_zero))
    with pytest.raises(Exception, match="a_zero_point"):
        run_node("MatMulInteger", [a, b, np.zeros(4, np.int8)])


def test_extreme_values_do_not_saturate() -> None:
    a = np.full((3, 1000), 255, np.uint8)
    b = np.full((1000, 40), -128, np.int8)
    (y,) = run_node("MatMulInteger", [a, b, None, np.array(127, np.int8)])
    np.testing.assert_array_equal(y, np.full((3, 40), 1000 * 255 * -255))


def requantize(sums: np.ndarray, factor: np.ndarray, zero: np.ndarray) -> np.ndarray:
    info = np.iinfo(zero.dtype)
    scaled = np.rint(sums.astype(np.float32) * factor.astype(np.float32))
    return np.clip(scaled + zero.astype(np.float32), info.min, info.max).astype(zero.dtype)


@pytest.mark.parametrize("a_type, b_type", TYPES)
@pytest.mark.parametrize(
    "rows, columns", [(False, False), (False, True), (True, False), (True, True)]
)
def test_qlinear_matmul(a_type, b_type, rows, columns) -> None:
    rng = np.random.default_rng(7)
    a, b = random_bytes(rng, a_type, 17, 50), random_bytes(rng, b_type, 50, 300)
    row_shape, column_shape = ((17,) if rows else ()), ((300,) if columns else ())
    a_scale = rng.uniform(0.01, 0.02, row_shape).astype(np.float32)
    b_scale = rng.uniform(0.01, 0.02, column_shape).astype(np.float32)
    a_zero, b_zero = random_bytes(rng, a_type, *row_shape), random_bytes(rng, b_type, *column_shape)
    y_scale, y_zero = np.array(0.3, np.float32), random_bytes(rng, a_type)
    inputs = [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero]
    sums = (a.astype(np.int32) - a_zero.reshape(-1, 1)) @ (b.astype(np.int32) - b_zero)
    expected = requantize(sums, a_scale.reshape(-1, 1) * b_scale / y_scale, y_zero)
    for constants in [(), (3,)]:
        (y,) = run_node("QLinearMatMul", inputs, constants=constants, threads=2)
        assert y.dtype == expected.dtype
        difference = np.abs(y.astype(int) - expected.astype(int))
        assert difference.max() <= 1 and np.mean(difference) < 1e-3


def conv_sums(x: np.ndarray, w: np.ndarray, attributes: dict) -> np.ndarray:
    """A convolution of integers, tap by tap."""
    axes = x.ndim - 2
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    pads = attributes.get("pads", [0] * 2 * axes)
    group = attributes.get("group", 1)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:])])
    kernel = w.shape[2:]
    out = [
        (x.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(axes)
    ]
    y = np.zeros((x.shape[0], group, w.shape[0] // group, *out), np.int64)
    grouped = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    for tap in np.ndindex(*kernel):
        window = x[
            (
                slice(None),
                slice(None),
                *(
                    slice(t * d, t * d + (o - 1) * s + 1, s)
                    for t, d, o, s in zip(tap, dilations, out, strides)
                ),
            )
        ].reshape(x.shape[0], group, -1, *out)
        y += np.einsum("ngc...,gmc->ngm...", window, grouped[(..., *tap)])
    return y.reshape(x.shape[0], w.shape[0], *out).astype(np.int32)


CONVOLUTIONS = [
    ((2, 3, 9, 11), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 8, 14, 14), (20, 8, 1, 1), {}),
    ((1, 4, 13, 17), (6, 2, 3, 2), {"group": 2, "strides": [2, 3], "pads": [0, 1, 2, 1]}),
    ((2, 6, 10, 10), (6, 1, 3, 3), {"group": 6, "pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    ((1, 10, 13, 17), (6, 5, 3, 2), {"group": 2, "strides": [2, 3], "dilations": [2, 1]}),
    ((1, 6, 5, 70), (33, 6, 2, 3), {"pads": [0, 1, 3, 2], "dilations": [1, 2]}),
    ((1, 9, 12, 13), (40, 9, 1, 1), {"strides": [2, 3], "pads": [1, 0, 0, 2]}),
    ((1, 4, 5, 6), (3, 4, 2, 2), {"strides": [400, 300], "pads": [401, 302, 800, 600]}),
    ((2, 3, 40), (4, 3, 5), {"strides": [2], "pads": [4, 0]}),
    ((1, 4, 5, 6, 7), (3, 4, 2, 3, 3), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1]}),
    ((2, 3, 7, 90), (3, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    ((1, 3, 8, 75), (3, 1, 3, 3), {"group": 3, "strides": [2, 2], "pads": [0, 1, 1, 0]}),
    ((1, 4, 8, 9), (4, 2, 3, 1), {"group": 2, "strides": [1, 3], "pads": [2, 1, 1, 0]}),
    ((1, 4, 6, 7, 8), (4, 1, 2, 3, 2), {"group": 4, "pads": [1, 1, 0, 0, 1, 1]}),
    ((1, 2, 5, 6), (2, 1, 2, 2), {"group": 2, "strides": [400, 300], "pads": [401, 302, 800, 600]}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 3), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1]}),
    ((1, 1, 4, 4), (1, 1, 2, 2), {"pads": [6, 6, 6, 6]}),
]


@pytest.mark.parametrize("x_type, w_type", TYPES)
@pytest.mark.parametrize("x_shape, w_shape, attributes", CONVOLUTIONS)
def test_conv_integer(x_type, w_type, x_shape, w_shape, attributes) -> None:
    rng = np.random.default_rng(8)
    x, w = random_bytes(rng, x_type, *x_shape), random_bytes(rng, w_type, *w_shape)
    wide_x, wide_w = x.astype(np.int32), w.astype(np.int32)
    (y,) = run_node("ConvInteger", [x, w], attributes)
    np.testing.assert_array_equal(y, conv_sums(wide_x, wide_w, attributes))

    x_zero, w_zero = random_bytes(rng, x_type), random_bytes(rng, w_type, w_shape[0])
    moved = wide_w - w_zero.reshape(-1, *[1] * (w.ndim - 1))
    expected = conv_sums(wide_x - x_zero, moved, attributes)
    for constants in [(), (1,)]:
        (y,) = run_node("ConvInteger", [x, w, x_zero, w_zero], attributes, constants=constants)
        np.testing.assert_array_equal(y, expected)

    scale = rng.uniform(0.001, 0.01, w_shape[0]).astype(np.float32)
    x_scale, y_scale = np.array(0.5, np.float32), np.array(2, np.float32)
    y_zero = random_bytes(rng, x_type)
    bias = rng.integers(-1000, 1000, w_shape[0]).astype(np.int32)
    column = [-1] + [1] * (w.ndim - 2)
    expected = requantize(
        expected + bias.reshape(column), (x_scale * scale / y_scale).reshape(column), y_zero
    )
    inputs = [x, x_scale, x_zero, w, scale, w_zero, y_scale, y_zero, bias]
    (y,) = run_node("QLinearConv", inputs, attributes, constants=(3,), threads=2)
    np.testing.assert_array_equal(y, expected)


# More panels than a part of a thread has; rows of output that runs of pixels do not divide;
# channels that fill up no vector.
@pytest.mark.parametrize("x_type, w_type", TYPES)
@pytest.mark.parametrize(
    "x_shape, w_shape, attributes",
    [
        *CONVOLUTIONS,
        ((1, 80, 9, 8), (300, 80, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 640, 3, 5), (700, 640, 1, 1), {}),
        ((2, 40, 11, 23), (64, 40, 1, 1), {}),
        ((1, 12, 20, 33), (32, 12, 3, 3), {"strides": [2, 2]}),
        ((2, 83, 12, 17), (83, 1, 5, 5), {"group": 83, "pads": [2, 2, 2, 2]}),
        ((1, 32, 9, 9), (64, 2, 3, 3), {"group": 16, "pads": [1, 1, 1, 1]}),
    ],
)
def test_convolutions_with_channels_last(x_type, w_type, x_shape, w_shape, attributes) -> None:
    rng = np.random.default_rng(10)
    x, w = random_bytes(rng, x_type, *x_shape), random_bytes(rng, w_type, *w_shape)
    x_zero = random_bytes(rng, x_type)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    scale = rng.uniform(0.001, 0.002, w_shape[0]).astype(np.float32)
    bias = rng.integers(-1000, 1000, w_shape[0]).astype(np.int32)
    column = [-1] + [1] * (w.ndim - 2)
    own = {**attributes, "channels_last": 1}
    for w_zero in (random_bytes(rng, w_type, w_shape[0]), w_type(128 if w_type is np.uint8 else 0)):
        moved = w.astype(np.int32) - np.asarray(w_zero, np.int32).reshape(-1, *[1] * (w.ndim - 1))
        sums = conv_sums(x.astype(np.int32) - x_zero, moved, attributes)
        expected = np.moveaxis(sums, 1, -1)
        for constants, threads in [((), 1), ((1,), 2)]:
            (y,) = run_node(
                *("ConvInteger", [last, w, x_zero, np.asarray(w_zero)], own),
                domain="bascule",
                constants=constants,
                threads=threads,
            )
            np.testing.assert_array_equal(y, expected)
        y_scale, y_zero = np.array(3, np.float32), random_bytes(rng, x_type)
        factor = np.float32(0.5) * scale / y_scale
        requantized = requantize(sums + bias.reshape(column), factor.reshape(column), y_zero)
        inputs = [
            *(last, np.float32(0.5), x_zero, w, scale, np.asarray(w_zero)),
            *(y_scale, y_zero, bias),
        ]
        for threads in (1, 2, 3):
            (y,) = run_node(
                "QLinearConv", inputs, own, domain="bascule", constants=(3,), threads=threads
            )
            np.testing.assert_array_equal(y, np.moveaxis(requantized, 1, -1))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    "x_shape, w_shape, attributes",
    [
        ((1, 24, 9, 10), (80, 24, 1, 1), {}),
        ((2, 37, 7, 8), (37, 1, 3, 3), {"group": 37, "pads": [1, 1, 1, 1]}),
    ],
)
def test_a_residual_is_added_as_by_a_node_of_its_own(
    x_shape, w_shape, attributes, last, dtype, first
) -> None:
    rng = np.random.default_rng(11)
    x, w = random_bytes(rng, dtype, *x_shape), random_bytes(rng, np.int8, *w_shape)
    own = {**attributes, "channels_last": last}
    if last:
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    scales = [np.array(scale, np.float32) for scale in (0.5, 0.004, 2, 3, 1.5)]
    zeros = [random_bytes(rng, dtype) for _ in range(4)]
    inputs = [x, scales[0], zeros[0], w, scales[1], np.int8(0), scales[2], zeros[1], None]
    y = run_node("QLinearConv", inputs, own, domain="bascule", constants=(3,))[0]
    added = random_bytes(rng, dtype, *y.shape)
    operands = [[y, scales[2], zeros[1]], [added, scales[3], zeros[2]]]
    result = [scales[4], zeros[3]]
    expected = run_node(
        "QLinearAdd", [*operands[first], *operands[1 - first], *result], domain="bascule"
    )[0]
    assert len(np.unique(expected)) > 20
    for threads in (1, 2):
        both = [*inputs, *operands[1], *result]
        (sum,) = run_node(
            *("QLinearConv", both, {**own, "residual_first": first}),
            domain="bascule",
            constants=(3,),
            threads=threads,
        )
        np.testing.assert_array_equal(sum, expected)
    with pytest.raises(Exception, match="residual has shape"):
        run_node(
            "QLinearConv", [*inputs, added[:, 1:], *operands[1][1:], *result], own, 1, "bascule"
        )


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("m, k, n", [(1, 8, 40), (3, 5, 70), (29, 64, 96), (30, 36, 33)])
def test_sums_of_bytes_are_added_to_products_as_by_nodes_of_their_own(
    m, k, n, dtype, first
) -> None:
    rng = np.random.default_rng(12)
    a, b = random_bytes(rng, dtype, 1, m, k), random_bytes(rng, np.int8, k, n)
    scales = [np.array(scale, np.float32) for scale in (0.5, 0.004, 2, 3, 1.5, 2.5, 2)]
    zeros = [random_bytes(rng, dtype) for _ in range(6)]
    columns = rng.uniform(0.002, 0.004, n).astype(np.float32)
    for b_zero in (np.int8(0), random_bytes(rng, np.int8, n)):
        inputs = [a, scales[0], zeros[0], b, columns, b_zero, scales[2], zeros[1]]
        y = run_node("QLinearMatMul", inputs, constants=(3,))[0]
        row, residual = random_bytes(rng, dtype, n), random_bytes(rng, dtype, *y.shape)
        parts = [[y, scales[2], zeros[1]], [row, scales[3], zeros[2], scales[4], zeros[3]]]
        operands = [parts[0], parts[1][:3]]
        expected = run_node(
            *("QLinearAdd", [*operands[first], *operands[1 - first], *parts[1][3:]]),
            domain="bascule",
        )[0]
        added = [residual, scales[5], zeros[4], scales[6], zeros[5]]
        operands = [[expected, *parts[1][3:]], added[:3]]
        both = run_node(
            *("QLinearAdd", [*operands[first], *operands[1 - first], *added[3:]]),
            domain="bascule",
        )[0]
        assert len(np.unique(both)) > 10
        own = {"row_first": first, "residual_first": first}
        for constants in ((3,), (*range(1, 13), 14, 15, 16, 17)):
            for threads in (1, 2, 3):
                for wanted, given in ((expected, parts[1]), (both, [*parts[1], *added])):
                    known = tuple(i for i in constants if i < 8 + len(given))
                    (found,) = run_node(
                        *("QLinearMatMul", [*inputs, *given], own),
                        domain="bascule",
                        constants=known,
                        threads=threads,
                    )
                    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(Exception, match="row has shape"):
        wrong = [*inputs, row[1:], *parts[1][1:]]
        run_node("QLinearMatMul", wrong, domain="bascule", constants=(3,))
    with pytest.raises(Exception, match="residual has shape"):
        wrong = [*inputs, *parts[1], residual[:, 1:], *added[1:]]
        run_node("QLinearMatMul", wrong, domain="bascule", constants=(3,))


def test_conv_pads_by_rule() -> None:
    rng = np.random.default_rng(9)
    x, w = random_bytes(rng, np.uint8, 1, 2, 7, 8), random_bytes(rng, np.uint8, 3, 2, 4, 4)
    for rule, pads in [("SAME_UPPER", [1, 1, 2, 2]), ("SAME_LOWER", [2, 2, 1, 1])]:
        (y,) = run_node("ConvInteger", [x, w, np.array(9, np.uint8)], {"auto_pad": rule})
        expected = conv_sums(x.astype(np.int32) - 9, w.astype(np.int32), {"pads": pads})
        np.testing.assert_array_equal(y, expected)
