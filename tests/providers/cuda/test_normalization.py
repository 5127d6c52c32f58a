# SPDX-License-Identifier: Apache-2.0
"""The normalizations of the CUDA provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule import errors
from tests.providers.cuda.against_cpu import agree, last, same
from tests.support import cuda_emulation
from tests.support.cuda_emulation import emulated_device, run_node

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

BFLOAT16 = ml_dtypes.bfloat16


def random(dtype: Any, *shape: int, offset: float = 0) -> Any:
    return (np.random.default_rng(shape).normal(0, 1, shape) + offset).astype(dtype)


def positive(dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(shape).uniform(0.5, 2, shape).astype(dtype)


# --- rows


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 7, 64, 768, 1000, 1023, 1024, 1600, 4096, 5001, 8192, 9000])
def test_layer_normalization(dtype: Any, n: int) -> None:
    x, scale, bias = random(dtype, 3, n, offset=2), positive(dtype, n), random(dtype, n)
    types = [dtype, np.float32, np.float32]
    attributes = {"epsilon": 1e-3}
    agree("LayerNormalization", [x, scale, bias], attributes, 3, output_dtypes=types)
    agree("LayerNormalization", [x, scale])
    agree("RMSNormalization", [x, scale])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_layer_normalization_over_several_axes(axis: int) -> None:
    x = random(np.float32, 3, 4, 5)
    shape = x.shape[axis:]
    for op_type in ("LayerNormalization", "RMSNormalization"):
        agree(op_type, [x, positive(np.float32, *shape)], {"axis": axis})


@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (4, 1), (3, 4, 5), (3, 1, 1), (1, 1, 5), (1, 4, 5)]
)
def test_a_scale_that_is_broadcast(shape: tuple[int, ...]) -> None:
    x, scale, bias = random(np.float16, 3, 4, 5), positive(np.float16, *shape), np.float16(0.5)
    for axis in (1, 2):
        agree("LayerNormalization", [x, scale, np.asarray(bias)], {"axis": axis})


def test_a_scale_that_does_not_fit() -> None:
    with pytest.raises(errors.Fail, match="does not broadcast"):
        run_node("LayerNormalization", [random(np.float32, 3, 4), positive(np.float32, 3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_moments_as_bfloat16(dtype: Any) -> None:
    inputs = [random(dtype, 3, 40), positive(dtype, 40)]
    types = [dtype, BFLOAT16, BFLOAT16]
    agree("LayerNormalization", inputs, {"stash_type": 16}, 3, output_dtypes=types)


@pytest.mark.parametrize(
    ("of_x", "of_scale"),
    [(np.float16, np.float32), (BFLOAT16, np.float16), (np.float32, np.float16),
     (np.float32, np.float64), (np.float64, BFLOAT16)],
)  # fmt: skip
def test_mixed_types(of_x: Any, of_scale: Any) -> None:
    x, scale = random(of_x, 2, 4, 6), positive(of_scale, 6)
    agree("RMSNormalization", [x, scale], output_dtypes=[of_scale])
    for constants in ((), (1, 2)):
        inputs = [x, positive(of_scale, 4), random(of_scale, 4)]
        agree("InstanceNormalization", inputs, output_dtypes=[of_x], constants=constants)
        given = [*inputs, random(of_scale, 4), positive(of_scale, 4)]
        agree("BatchNormalization", given, output_dtypes=[of_x], constants=constants)


@pytest.mark.parametrize("op_type", ["SkipLayerNormalization", "SkipRMSNormalization"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [6, 768, 1025, 3000, 9001])
def test_skip_normalization(op_type: str, dtype: Any, n: int) -> None:
    x, skip = random(dtype, 2, 3, n), random(dtype, 2, 3, n, offset=1)
    inputs = [x, skip, positive(dtype, n)]
    agree(op_type, inputs, None, 2, "bascule", output_dtypes=[dtype] * 2)
    if op_type == "SkipLayerNormalization":
        agree(op_type, [*inputs, random(dtype, n)], None, 2, "bascule", output_dtypes=[dtype] * 2)
    row = random(dtype, n, offset=1)
    agree(op_type, [x, row, inputs[2]], None, 2, "bascule", output_dtypes=[dtype] * 2)


def test_sums_beyond_the_range_of_their_type() -> None:
    """What fills up the last pack of a long row is the mean of sums that float16 cannot hold."""
    x = (50000 + 10000 * np.random.default_rng(0).random((2, 9001))).astype(np.float16)
    wide = 2 * x.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
    inputs = [x, x, np.ones(9001, np.float16)]
    types = [np.float16, np.float16]
    y, _ = run_node("SkipLayerNormalization", inputs, None, 2, "bascule", types)
    same(y, expected.astype(np.float16), 2e-3)


def test_a_variance_far_from_zero() -> None:
    x = random(np.float32, 4, 512, offset=1000)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    [y] = run_node("LayerNormalization", [x, np.ones(512, np.float32)])
    same(y, expected.astype(np.float32), 1e-3)


def test_rows_without_numbers() -> None:
    x = random(np.float32, 4, 70)
    x[0, 3], x[1, 4], x[2, 5] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        agree("LayerNormalization", [x, positive(np.float32, 70)])
        agree("RMSNormalization", [x, positive(np.float32, 70)])


def test_a_row_does_not_depend_on_the_others() -> None:
    x, scale = random(np.float32, 40, 333), positive(np.float32, 333)
    [together] = run_node("LayerNormalization", [x, scale])
    for k in (0, 1, 39):
        [alone] = run_node("LayerNormalization", [x[k : k + 1].copy(), scale])
        assert alone.tobytes() == together[k : k + 1].tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 96, 192, 250, 256, 384, 512, 768, 1000, 1024])
def test_few_rows_and_many_give_the_same(
    dtype: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, skip = random(dtype, 5, n, offset=1), random(dtype, 5, n)
    inputs = [x, skip, positive(dtype, n), random(dtype, n)]
    device = emulated_device()
    started = len(device.launches)
    few = run_node("SkipLayerNormalization", inputs, outputs=2, domain="bascule")
    monkeypatch.setattr(device, "processors", 0)
    many = run_node("SkipLayerNormalization", inputs, outputs=2, domain="bascule")
    first, second = device.launches[started:]
    assert first.startswith("layer_spread") and second.startswith("layer_warp")
    assert [y.tobytes() for y in few] == [y.tobytes() for y in many]


def test_an_unknown_stash_is_refused() -> None:
    inputs = [random(np.float32, 2, 3), positive(np.float32, 3)]
    with pytest.raises(NotImplementedError, match="stash_type"):
        run_node("LayerNormalization", inputs, {"stash_type": 11}, output_dtypes=[np.float32])


# --- images

IMAGES = [(2, 12, 5, 7), (1, 6, 4, 4), (2, 6, 61, 50), (2, 4, 9001), (3, 8), (1, 4, 3, 2, 2)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", IMAGES)
def test_group_normalization(dtype: Any, shape: tuple[int, ...]) -> None:
    channels = shape[1]
    x, scale, bias = random(dtype, *shape), positive(dtype, channels), random(dtype, channels)
    for groups in (1, 2, channels):
        inputs, attributes = [x, scale, bias], {"num_groups": groups, "epsilon": 1e-3}
        [y] = agree("GroupNormalization", inputs, attributes)
        inputs[0], attributes["channels_last"] = last(x), 1
        [moved] = agree("GroupNormalization", inputs, attributes, domain="bascule")
        same(moved, last(y))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", IMAGES)
def test_instance_normalization(dtype: Any, shape: tuple[int, ...]) -> None:
    channels = shape[1]
    x, scale, bias = random(dtype, *shape), positive(dtype, channels), random(dtype, channels)
    attributes = {"channels_last": 1}
    agree("InstanceNormalization", [x, scale, bias])
    inputs = [last(x), scale, bias]
    agree("InstanceNormalization", inputs, attributes, domain="bascule")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [*IMAGES, (5,)])
@pytest.mark.parametrize("constants", [(), (1, 2, 3, 4)])
def test_batch_normalization(
    dtype: Any, shape: tuple[int, ...], constants: tuple[int, ...]
) -> None:
    channels = shape[1] if len(shape) > 1 else 1
    x = random(dtype, *shape)
    mean, variance = random(dtype, 1, channels)[0], positive(dtype, 1, channels)[0]
    given = [positive(dtype, channels), random(dtype, channels), mean, variance]
    agree("BatchNormalization", [x, *given], {"epsilon": 1e-3}, constants=constants)
    if len(shape) > 1:
        inputs, attributes = [last(x), *given], {"channels_last": 1}
        types = [dtype]
        agree(
            "BatchNormalization", inputs, attributes, 1, "bascule", constants, output_dtypes=types
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", IMAGES)
def test_training(dtype: Any, shape: tuple[int, ...]) -> None:
    channels = shape[1]
    x, scale, bias = random(dtype, *shape), positive(dtype, channels), random(dtype, channels)
    inputs = [x, scale, bias, random(np.float32, channels), positive(np.float32, channels)]
    attributes = {"training_mode": 1, "momentum": 0.7}
    types = [dtype, np.float32, np.float32]
    tolerance = 1e-4 if dtype == np.float32 else None
    for outputs in (1, 3):
        agree("BatchNormalization", inputs, attributes, outputs, output_dtypes=types[:outputs],
                      tolerance=tolerance)  # fmt: skip


def test_images_of_nothing() -> None:
    given = [positive(np.float32, 4) for _ in range(4)]
    for shape in [(0, 4, 3), (2, 4, 0)]:
        x = np.ones(shape, np.float32)
        agree("InstanceNormalization", [x, *given[:2]])
        agree("GroupNormalization", [x, *given[:2]], {"num_groups": 2})
        agree("BatchNormalization", [x, *given])
        with np.errstate(all="ignore"):  # nothing has no mean
            agree("BatchNormalization", [x, *given], {"training_mode": 1}, 3)


def test_images_that_do_not_fit() -> None:
    x, four = random(np.float32, 2, 4, 3), positive(np.float32, 4)
    with pytest.raises(errors.Fail, match="not a multiple of num_groups=3"):
        run_node("GroupNormalization", [x, four, four], {"num_groups": 3})
    with pytest.raises(errors.Fail, match=r"input 2 of shape \(3,\), expected 4 channels"):
        run_node("InstanceNormalization", [x, four, four[:3]], output_dtypes=[np.float32])


def test_small_images_take_one_launch() -> None:
    device = emulated_device()
    started = len(device.launches)
    ones = np.ones(64, np.float32)
    run_node("GroupNormalization", [random(np.float32, 1, 64, 16, 16), ones, ones],
             {"num_groups": 32})  # fmt: skip
    assert device.launches[started:] == ["group_block_float32"]


# --- without parameters


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axes", [None, [0, 2, 3], [1], [-1], [0, 1, 2, 3], [1, 3], []])
def test_mean_variance_normalization(dtype: Any, axes: list[int] | None) -> None:
    attributes = {} if axes is None else {"axes": axes}
    if axes == []:
        agree("MeanVarianceNormalization", [random(dtype, 2, 3, 4, 5)], attributes)
        return
    x = random(dtype, 2, 3, 9, 80, offset=1)
    agree("MeanVarianceNormalization", [x], attributes)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lp_normalization(dtype: Any, p: int, axis: int) -> None:
    x = random(dtype, 3, 40, 35)
    x[0], x[:, 0], x[:, :, 0] = 0, 0, 0
    agree("LpNormalization", [x], {"axis": axis, "p": p})
    agree("LpNormalization", [x[:, :0]], {"axis": axis, "p": p})


def test_lp_normalization_of_large_numbers() -> None:
    agree("LpNormalization", [np.array([[3e30, 4e30]], np.float32)])
    with pytest.raises(NotImplementedError, match="p=3 is neither 1 nor 2"):
        run_node("LpNormalization", [np.ones((2, 2), np.float32)], {"p": 3})


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, 0.6])
def test_local_response_normalization(dtype: Any, size: int, beta: float) -> None:
    x = random(dtype, 2, 7, 5, 3)
    agree("LRN", [x], {"size": size, "beta": beta, "alpha": 0.02, "bias": 1.5})
