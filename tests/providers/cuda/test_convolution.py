# SPDX-License-Identifier: Apache-2.0
"""Convolutions on the emulated device against the CPU provider."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.kernels.test_conv import CASES, TRANSPOSED
from tests.kernels.test_deform_conv import CASES as DEFORMED
from tests.kernels.test_integer_product import CONVOLUTIONS, TYPES, random_bytes
from tests.providers.cuda.against_cpu import agree, last, normal
from tests.support import cuda_emulation
from tests.support.cuda_emulation import emulated_device, run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

NARROW = [np.float64, np.float16, ml_dtypes.bfloat16]
ACTIVATIONS: dict[str, tuple[float, float]] = {
    "": (0, 0),
    "Relu": (0, 0),
    "LeakyRelu": (0.25, 0),
    "Clip": (-1, 2),
    "Gelu": (0, 0),
    "GeluTanh": (0, 0),
    "Sigmoid": (0, 0),
    "Tanh": (0, 0),
    "Swish": (1.5, 0),
    "HardSwish": (0, 0),
    "HardSigmoid": (0.3, 0.4),
    "Elu": (0.7, 0),
}


def case(name: str, dtype: Any = np.float32) -> tuple[list[Any], dict[str, Any]]:
    x_shape, w_shape, strides, pads, dilations, group = CASES[name]
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    x, w = normal(*x_shape, dtype=dtype), normal(*w_shape, seed=1, dtype=dtype)
    return [x, w, normal(w_shape[0], seed=2, dtype=dtype)], attributes


@pytest.mark.parametrize("name", sorted(CASES))
def test_conv(name: str) -> None:
    (x, w, b), attributes = case(name)
    (first,) = agree("Conv", [x, w, b], attributes)
    options: dict[str, Any] = {"domain": "bascule", "constants": (1,)}
    fused = {**attributes, "channels_last": 1}
    (y,) = agree("Conv", [last(x), w, b], fused, **options)
    np.testing.assert_allclose(y, last(first), atol=difference_of_sums(w))
    agree("Conv", [last(x), w], fused, domain="bascule")


def difference_of_sums(w: Any) -> float:
    """How far float32 sums of the same n products of standard normal numbers may be apart.

    A partial sum of k of them is about sqrt(k), and rounding it adds an error of variance u^2 k / 3
    with u = 2^-24: one sum is off by u n / sqrt(6), two are apart by u n / sqrt(3), and none of
    10^5 results is further off than five times that. Fast algorithms add a few places of their own.
    """
    terms = int(np.prod(w.shape[1:]))
    return max(1e-4, 5 / 3**0.5 * 2.0**-24 * terms)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", ["3x3-stride", "pointwise", "depthwise", "group", "3-d"])
def test_types(name: str, dtype: Any) -> None:
    (x, w, b), attributes = case(name, dtype)
    agree("Conv", [x, w, b], attributes)
    agree("Conv", [last(x), w, b], {**attributes, "channels_last": 1}, domain="bascule")


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("name", ["uneven", "depthwise-small"])
def test_epilogue(name: str, activation: str) -> None:
    (x, w, b), attributes = case(name)
    alpha, beta = map(float, ACTIVATIONS[activation])
    attributes.update(activation=activation, activation_alpha=alpha, activation_beta=beta)
    (y,) = run_node("Conv", [x, w, b], attributes, domain="bascule")
    residual = normal(*y.shape, seed=3)
    agree("Conv", [x, w, b, residual], attributes, domain="bascule")
    attributes["channels_last"] = 1
    agree("Conv", [last(x), w, b, last(residual)], attributes, domain="bascule")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_of_images(side: int, stride: int, dtype: Any) -> None:
    """The kernel that moves 16 bytes at a time, one and more outputs for each thread."""
    pads = [side // 2, 0, side // 2 - 1, side // 2]
    attributes = {"strides": [stride] * 2, "pads": pads, "group": 16, "channels_last": 1}
    attributes.update(activation="Clip", activation_alpha=0.0, activation_beta=6.0)
    w, b = normal(16, 1, side, side, dtype=dtype), normal(16, seed=2, dtype=dtype)
    device = emulated_device()
    for processors, tile in ((132, 1), (1, 4)):
        x = normal(3, 18, 19 + tile, 16, seed=1, dtype=dtype)
        device.processors, before = processors, device.processors
        try:
            device.launches.clear()
            (y,) = agree("Conv", [x, w], attributes, domain="bascule", constants=(1,))
            residual = normal(*y.shape, seed=3, dtype=dtype)
            agree("Conv", [x, w, b, residual], attributes, domain="bascule")
        finally:
            device.processors = before
        kernel = f"depthwise_{side}_{stride}_{tile}_{np.dtype(dtype).name}"
        assert device.launches.count(kernel) == 2


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad(auto_pad: str, stride: int) -> None:
    attributes = {"auto_pad": auto_pad, "strides": [stride] * 2}
    agree("Conv", [normal(1, 3, 10, 11), normal(4, 3, 4, 2, seed=1)], attributes)
    agree("ConvTranspose", [normal(1, 3, 5, 6), normal(3, 4, 4, 2, seed=1)], attributes)


def test_empty() -> None:
    w = normal(4, 3, 2, 2)
    agree("Conv", [normal(0, 3, 5, 5), w])
    agree("Conv", [normal(1, 0, 5, 5), normal(4, 0, 2, 2), normal(4)])
    agree("ConvTranspose", [normal(0, 4, 5, 5), w])


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(Fail, match="Conv node 'node': input has 4 channels"):
        run_node("Conv", [normal(1, 4, 5, 5), normal(2, 3, 3, 3)])
    with pytest.raises(Fail, match="does not fit"):
        run_node("Conv", [normal(1, 3, 2, 2), normal(2, 3, 3, 3)])
    with pytest.raises(Fail, match="bias has shape"):
        run_node("Conv", [normal(1, 3, 5, 5), normal(2, 3, 3, 3), normal(3)])
    with pytest.raises(Fail, match="pads"):
        run_node("Conv", [normal(1, 3, 5, 5), normal(2, 3, 3, 3)], {"pads": [1, 1]})


@pytest.mark.parametrize("name", sorted(TRANSPOSED))
def test_conv_transpose(name: str) -> None:
    x_shape, w_shape, strides, pads, dilations, output_padding, group = TRANSPOSED[name]
    attributes = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "output_padding": output_padding,
        "group": group,
    }
    inputs = [normal(*x_shape), normal(*w_shape, seed=1), normal(w_shape[1] * group, seed=2)]
    agree("ConvTranspose", inputs, attributes)
    attributes.update(channels_last=1, activation="LeakyRelu", activation_alpha=0.5)
    agree("ConvTranspose", [last(inputs[0]), *inputs[1:]], attributes, domain="bascule")


@pytest.mark.parametrize("dtype", NARROW)
def test_conv_transpose_of_other_types(dtype: Any) -> None:
    x, w = normal(1, 6, 4, 5, dtype=dtype), normal(6, 4, 3, 3, seed=1, dtype=dtype)
    agree("ConvTranspose", [x, w], {"strides": [2, 2], "output_shape": [8, 12]})


@pytest.mark.parametrize("x_shape, w_shape, attributes", DEFORMED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_deform_conv(x_shape: Any, w_shape: Any, attributes: Any, dtype: Any) -> None:
    axes, taps = len(x_shape) - 2, int(np.prod(w_shape[2:]))
    x, w = normal(*x_shape, dtype=dtype), normal(*w_shape, seed=1, dtype=dtype)
    plain = {k: v for k, v in attributes.items() if k != "offset_group"}
    (y,) = run_node("Conv", [x, w], plain)
    planes = attributes.get("offset_group", 1) * taps
    offset = normal(len(x), planes * axes, *y.shape[2:], seed=2, dtype=dtype) * dtype(2)
    offset.flat[:3] = (np.nan, np.inf, -100)
    mask = normal(len(x), planes, *y.shape[2:], seed=3, dtype=dtype)
    agree("DeformConv", [x, w, offset], attributes)
    agree("DeformConv", [x, w, offset, normal(len(w), dtype=dtype), mask], attributes)


@pytest.mark.parametrize("x_type, w_type", TYPES)
@pytest.mark.parametrize("x_shape, w_shape, attributes", CONVOLUTIONS)
def test_integers(x_type: Any, w_type: Any, x_shape: Any, w_shape: Any, attributes: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = random_bytes(rng, x_type, *x_shape), random_bytes(rng, w_type, *w_shape)
    x_zero, zeros = x_type(5), random_bytes(rng, w_type, w_shape[0])
    agree("ConvInteger", [x, w], attributes)
    agree("ConvInteger", [x, w, x_zero, zeros], attributes)
    scales = rng.uniform(0.001, 0.01, w_shape[0]).astype(np.float32)
    x_scale, y_scale, y_zero = np.float32(0.02), np.float32(0.05), x_type(3)
    bias = rng.integers(-1000, 1000, w_shape[0]).astype(np.int32)
    quantized = [x, x_scale, x_zero, w, scales, zeros, y_scale, y_zero]
    agree("QLinearConv", [*quantized, bias], attributes)
    quantized[4:6] = [scales[0], zeros[0]]
    agree("QLinearConv", quantized, attributes)
