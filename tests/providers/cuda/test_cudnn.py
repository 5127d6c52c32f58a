# SPDX-License-Identifier: Apache-2.0
"""What the provider hands to cuDNN, and what it does with the results."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.providers.cuda.libraries.cudnn import Handle
from bascule.providers.cuda.libraries.cudnn import Plan as LibraryPlan
from bascule.providers.cuda.windows import Convolution
from tests.kernels.test_conv import CASES, TRANSPOSED
from tests.providers.cuda.against_cpu import last, normal, same
from tests.support import native
from tests.support.cuda_emulation import EmulatedDevice, run_node
from tests.support.cuda_emulator import build

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(build.missing()), reason=build.missing()),
]


def array(pointer: int, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * count).from_address(pointer), np.float32).reshape(shape)


class Plan:
    """A convolution on the host that reads and writes where it is told, as cuDNN does."""

    workspace = 64

    def __init__(self, sizes: Convolution, bias: bool, residual: bool, relu: bool) -> None:
        self.sizes, self.bias, self.residual, self.relu = sizes, bias, residual, relu

    def run(self, pointers: list[int], workspace: int) -> None:
        s, rest = self.sizes, list(pointers)
        assert workspace
        assert all(type(pointer) is int for pointer in rest)

        def image(channels: int, spatial: tuple[int, ...]) -> np.ndarray[Any, Any]:
            if s.channels_last:
                return np.moveaxis(array(rest.pop(0), (s.batch, *spatial, channels)), -1, 1)
            return array(rest.pop(0), (s.batch, channels, *spatial))

        x = image(s.in_channels, s.in_)
        out, into = (s.in_channels, s.group_out) if s.transposed else (s.out_channels, s.group_in)
        if s.channels_last:
            w = np.moveaxis(array(rest.pop(0), (out, *s.kernel, into)), -1, 1)
        else:
            w = array(rest.pop(0), (out, into, *s.kernel))
        attributes = {
            "strides": list(s.stride),
            "dilations": list(s.dilation),
            "group": s.groups,
            "pads": [*s.pad, *self.after()],
        }
        bias = array(rest.pop(0), (s.out_channels,)) if self.bias else None
        name = "ConvTranspose" if s.transposed else "Conv"
        inputs = [np.ascontiguousarray(x), np.ascontiguousarray(w), bias]
        (result,) = native.run_node(name, inputs, attributes)
        if self.residual:
            result = result + image(s.out_channels, s.out)
        y = image(s.out_channels, s.out)
        y[...] = np.maximum(result, 0) if self.relu else result
        assert not rest

    def after(self) -> list[int]:
        s = self.sizes
        image, windows = (s.out, s.in_) if s.transposed else (s.in_, s.out)
        reach = [(k - 1) * d + 1 for k, d in zip(s.kernel, s.dilation)]
        return [(windows[i] - 1) * s.stride[i] + reach[i] - image[i] - s.pad[i] for i in range(3)]


class Cudnn:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def convolution(
        self,
        sizes: Convolution,
        dtype: DataType,
        bias: bool,
        residual: bool,
        relu: bool,
        choose: Any = None,
    ) -> Plan | None:
        self.asked.append((bias, residual, relu))
        return Plan(sizes, bias, residual, relu) if dtype is DataType.FLOAT else None


@pytest.fixture
def device() -> EmulatedDevice:
    made = EmulatedDevice()
    made.cudnn = Cudnn()
    return made


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("name", ["3x3", "group", "3-d", "1-d"])
def test_conv(
    device: EmulatedDevice, name: str, extra: bool, activation: str, channels_last: int
) -> None:
    x_shape, w_shape, strides, pads, dilations, group = CASES[name]
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    attributes.update(activation=activation, activation_alpha=0.0, activation_beta=6.0)
    inputs: list[Any] = [normal(*x_shape), normal(*w_shape, seed=1)]
    if extra:
        (plain,) = native.run_node("Conv", inputs, attributes, domain="bascule")
        inputs += [normal(w_shape[0], seed=2), normal(*plain.shape, seed=3)]
    if channels_last:
        attributes["channels_last"] = 1
        inputs = [last(v) if i in (0, 3) else v for i, v in enumerate(inputs)]
    (expected,) = native.run_node("Conv", inputs, attributes, domain="bascule")
    for constants in ((), (1,)):
        options: dict[str, Any] = {"domain": "bascule", "constants": constants}
        (actual,) = run_node("Conv", inputs, attributes, device=device, **options)
        same(actual, expected)
    assert device.cudnn.asked == [(extra, extra, activation == "Relu")] * 2
    assert not any(launch.startswith("convolution") for launch in device.launches)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("name", ["plain", "generator", "group", "1-d", "3-d"])
def test_conv_transpose(device: EmulatedDevice, name: str, channels_last: int) -> None:
    x_shape, w_shape, strides, pads, dilations, _, group = TRANSPOSED[name]
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    attributes.update(activation="LeakyRelu", activation_alpha=0.5, channels_last=channels_last)
    x, w, b = normal(*x_shape), normal(*w_shape, seed=1), normal(w_shape[1] * group, seed=2)
    inputs = [last(x) if channels_last else x, w, b]
    (expected,) = native.run_node("ConvTranspose", inputs, attributes, domain="bascule")
    (actual,) = run_node("ConvTranspose", inputs, attributes, domain="bascule", device=device)
    same(actual, expected)
    assert device.cudnn.asked == [(False, False, False)]


def test_what_is_refused_runs_on_our_kernel(device: EmulatedDevice) -> None:
    x, w = normal(1, 3, 6, 6, dtype=np.float16), normal(4, 3, 3, 3, seed=1, dtype=np.float16)
    (expected,) = native.run_node("Conv", [x, w])
    (actual,) = run_node("Conv", [x, w], device=device)
    same(actual, expected)
    assert device.launches == ["convolution_float16"]


class Library:
    """As much of cuDNN's frontend as a handle takes."""

    def __init__(self) -> None:
        self.handles: dict[int, int] = {}

    def create_handle(self) -> int:
        self.handles[len(self.handles) + 100] = 0
        return max(self.handles)

    def set_stream(self, handle: int, stream: int) -> None:
        self.handles[handle] = stream

    def destroy_handle(self, handle: int) -> None:
        del self.handles[handle]


def test_a_handle_goes_with_the_last_plan() -> None:
    library = Library()
    graph = SimpleNamespace(get_workspace_size=lambda: 3)
    handle = Handle(library, 7)
    assert library.handles == {100: 7}
    plan = LibraryPlan(graph, handle, 2)
    assert plan.workspace == 3
    del handle
    assert library.handles == {100: 7}
    del plan
    assert not library.handles


def test_without_a_stream_there_is_no_handle() -> None:
    library = Library()
    assert Handle(library, None).address == 0
    assert not library.handles
