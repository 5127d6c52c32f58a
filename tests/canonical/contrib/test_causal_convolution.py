# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from bascule.options import GraphOptimizationLevel as Level

from .comparison import Array, check, feeds_of, model_of, normal, operators, session


def convolved(signal: Array, weight: Array, bias: Any, dilation: int, activation: str) -> Array:
    """signal is [channels, time], with the state before it."""
    taps = weight.shape[2]
    count = signal.shape[1] - (taps - 1) * dilation
    y = sum(
        weight[:, :, tap] * signal[:, tap * dilation : tap * dilation + count]
        for tap in range(taps)
    )
    y = y if bias is None else y + bias[:, None]
    return y if activation == "none" else y / (1 + np.exp(-y))


def reference(
    dilation: int = 1, activation: str = "none", last: bool = False, window: int = 0
) -> Any:
    def run(x: Array, weight: Array, bias: Any = None, past: Any = None) -> list[Any]:
        trailing = x.shape[2:]
        kept = (weight.shape[2] - 1) * dilation
        if past is None:
            shape = (x.shape[0], kept, *trailing) if last else (*x.shape[:2], kept)
            past = np.zeros(shape)
        elif window:
            past = past[-1]
        if last:
            x, past = (each.reshape(*each.shape[:2], -1).swapaxes(1, 2) for each in (x, past))
        signal = np.concatenate([past, x], 2)
        length = x.shape[2]
        y = np.stack([convolved(each, weight, bias, dilation, activation) for each in signal])
        ends = range(length - max(window, 1) + 1, length + 1)
        states = [signal[:, :, max(0, end) :][:, :, :kept] * (end > 0) for end in ends]
        if last:
            y = y.swapaxes(1, 2).reshape(x.shape[0], -1, *trailing)
            states = [each.swapaxes(1, 2).reshape(x.shape[0], kept, *trailing) for each in states]
        return [y, np.stack(states) if window else states[0]]

    return run


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("dilation, taps", [(1, 3), (2, 3), (3, 2), (1, 1)])
def test_causal_conv(dilation: int, taps: int, activation: str, past: bool, bias: bool) -> None:
    kept = (taps - 1) * dilation
    inputs = [
        normal(2, 4, 5),
        normal(4, 1, taps, seed=1),
        normal(4, seed=2) if bias else None,
        normal(2, 4, kept, seed=3) if past else None,
    ]
    attributes = {"dilation": dilation, "activation": activation}
    check("CausalConvWithState", reference(dilation, activation), inputs, attributes)


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 2, 2), (2, 1, 4)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_channels_last(dilation: int, shape: tuple[int, ...], past: bool) -> None:
    inputs = [normal(*shape), normal(4, 1, 3, seed=1), normal(4, seed=2)]
    if past:
        inputs.append(normal(2, 2 * dilation, *shape[2:], seed=3))
    attributes = {"dilation": dilation, "activation": "silu", "channels_last": 1}
    check("CausalConvWithState", reference(dilation, "silu", True), inputs, attributes)


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("last", [False, True])
def test_states_of_the_last_positions(last: bool, length: int, past: bool) -> None:
    inputs = [normal(2, length, 4) if last else normal(2, 4, length), normal(4, 1, 3), normal(4)]
    if past:
        inputs.append(normal(3, 2, 4, 4, seed=3))
    check(
        "CausalConvWithState",
        reference(2, last=last, window=3),
        inputs,
        {"dilation": 2, "state_window": 3, "channels_last": int(last)},
        elsewhere=False,  # it has no kernel for a window
    )


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("states_last", [-1, 0, 1])
@pytest.mark.parametrize("part, kept, capacity", [((2, 4), 0, 0), (None, 6, 2), ((1, 4), 5, 7)])
def test_parts_of_the_channels_and_longer_states(
    part: tuple[int, int] | None, kept: int, capacity: int, states_last: int, past: bool
) -> None:
    """The other runtime has kernels of these for GPUs only."""
    length, span = kept or 4, 4

    def run(x: Array, weight: Array, bias: Array, state: Any = None) -> list[Any]:
        x = x[..., part[0] : part[0] + part[1]] if part else x
        if state is None:
            state = np.zeros((2, 4, length))
        elif states_last:
            state = state.swapaxes(1, 2)
        signal = np.concatenate([state, x.swapaxes(1, 2)], 2)
        y = np.stack(
            [convolved(each[:, length - span :], weight, bias, 2, "silu") for each in signal]
        )
        last = signal[:, :, signal.shape[2] - length :]
        rows = np.zeros((2, capacity, 4))
        rows[:, : x.shape[1]] = x[:, :capacity]
        return [y.swapaxes(1, 2), last.swapaxes(1, 2) if states_last else last, rows][
            : 2 + (capacity > 0)
        ]

    inputs = [normal(2, 5, 7 if part else 4), normal(4, 1, 3, seed=1), normal(4, seed=2)]
    if past:
        inputs.append(normal(2, *((length, 4) if states_last else (4, length)), seed=3))
    attributes = {
        "channels_last": 1,
        "dilation": 2,
        "activation": "silu",
        "state_channels_last": states_last,
        "state_length": kept,
        "state_update_capacity": capacity,
    }
    if part:
        attributes.update(input_channel_offset=part[0], input_channels=part[1])
    check(
        "CausalConvWithState",
        run,
        inputs,
        attributes,
        elsewhere=False,
        shapes=("static", "symbolic"),
    )


def test_is_a_convolution() -> None:
    inputs = [normal(2, 4, 5), normal(4, 1, 3), normal(4), normal(2, 4, 2)]
    made = session(model_of("CausalConvWithState", inputs, {"activation": "silu"}, 2))
    assert any(name.endswith("Conv") for name in operators(made)), operators(made)


@pytest.mark.parametrize(
    "changed, error, problem",
    [
        ({"activation": "relu"}, InvalidGraph, "'activation' is 'relu'"),
        ({"dilation": 0}, InvalidGraph, "'dilation' is 0"),
        (
            {"channels_last": 1, "input_channels": 3},
            InvalidGraph,
            "for 4 channels, but there are 3",
        ),
        ({"state_window": 9}, InvalidGraph, "'state_window' is 9"),
        ({"ndim": 2}, NotSupported, "'ndim' 2"),
        ({"state_length": 4}, InvalidGraph, "channels last"),
        ({"channels_last": 1, "state_length": 1}, InvalidGraph, "'state_length' is 1"),
        ({"channels_last": 1, "input_channel_offset": 1}, InvalidGraph, "needs 'input_channels'"),
        ({"channels_last": 1, "input_channels": 9}, InvalidGraph, "channels 0 to 9"),
        ({"channels_last": 1, "state_update_capacity": 9}, InvalidGraph, "capacity' is 9"),
    ],
)
def test_refused(changed: dict[str, Any], error: Any, problem: str) -> None:
    model = model_of("CausalConvWithState", [normal(2, 4, 4), normal(4, 1, 3)], changed, 2)
    with pytest.raises(error, match=f"CausalConvWithState.*{problem}.*node"):
        session(model)


SUMS = np.array([0, 1, 6, 8], np.int32)


def packed(dilation: int, activation: str, capacity: int) -> Any:
    def run(
        x: Array, weight: Array, sums: Array, bias: Any, states: Array, counts: Any = None
    ) -> list[Any]:
        results, finals = [], []
        captured = np.zeros((len(states), capacity, x.shape[1]))
        for sample, (begin, end) in enumerate(itertools.pairwise(sums)):
            signal = np.concatenate([states[sample], x[begin:end].T], 1)
            results.append(convolved(signal, weight, bias, dilation, activation).T)
            finals.append(signal[:, end - begin :])
            if capacity:
                kept = max(0, min(counts[sample], capacity, end - begin))
                captured[sample, :kept] = x[begin : begin + kept]
        return [np.concatenate(results), np.stack(finals), *([captured] if capacity else [])]

    return run


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("capacity", [0, 3])
@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("dilation, taps", [(1, 3), (2, 3), (1, 1)])
def test_packed(dilation: int, taps: int, activation: str, capacity: int, bias: bool) -> None:
    inputs = [
        normal(8, 4),
        normal(4, 1, taps, seed=1),
        SUMS,
        normal(4, seed=2) if bias else None,
        normal(3, 4, (taps - 1) * dilation, seed=3),
    ]
    if capacity:
        inputs.append(np.array([2, 9, -1], np.int32))
    attributes = {
        "dilation": dilation,
        "activation": activation,
        "state_update_capacity": capacity,
    }
    check("VarlenCausalConvWithState", packed(dilation, activation, capacity), inputs, attributes)


@pytest.mark.parametrize(
    "changed, error, problem",
    [
        ({"state_update_capacity": 9}, InvalidGraph, "'state_update_capacity' is 9"),
        ({"state_update_capacity": 1}, InvalidGraph, "'capture_count'"),
    ],
)
def test_packed_refused(changed: dict[str, Any], error: Any, problem: str) -> None:
    inputs = [normal(8, 4), normal(4, 1, 3), SUMS, None, normal(3, 4, 2)]
    model = model_of("VarlenCausalConvWithState", inputs, changed, 2)
    with pytest.raises(error, match=f"VarlenCausalConvWithState.*{problem}.*node"):
        session(model)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shapes", ["static", "symbolic", "unknown"])
@pytest.mark.parametrize("level", [Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL])
def test_kernels_of_tokens(level: Any, shapes: str, dtype: Any) -> None:
    """Each step is rounded. The other runtime has a kernel of this for GPUs only."""
    x, weight, state = normal(8, 4), normal(4, 1, 2, seed=1), normal(3, 4, 1, seed=3)
    delta, mask = normal(8, 5, 2, seed=4), np.repeat([1.0, 0.0, 0.5, 1.0], 2)[:, None]
    x, weight, state, delta, mask = (each.astype(dtype) for each in (x, weight, state, delta, mask))
    earlier = np.concatenate([np.zeros((1, 4), dtype), x[:-1]])
    earlier[SUMS[:-1]] = state[:, :, 0]
    own, before = (np.repeat(delta[:, place], 2, axis=1) for place in (2, 3))
    second = (weight[:, 0, 0] + before) * earlier * mask
    expected = (weight[:, 0, 1] + own) * x + second
    model = model_of(
        "VarlenCausalConvWithState",
        inputs := [x, weight, SUMS, None, state, None, delta, mask],
        {"group_size": 2, "delta_offset": 2},
        2,
        shapes,
    )
    y, final = session(model, level).run(None, feeds_of(inputs))
    np.testing.assert_array_equal(final[:, :, 0], x[SUMS[1:] - 1])
    if dtype == np.float32:
        np.testing.assert_allclose(y, expected, 1e-5, 1e-5)
    else:
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "changed, given, problem",
    [
        ({}, {7: None}, "need each other"),
        ({}, {1: normal(4, 1, 3), 4: normal(3, 4, 2)}, "two taps"),
        ({"activation": "silu"}, {}, "excludes a bias"),
        ({"group_size": 0}, {}, "'group_size'"),
    ],
)
def test_kernels_of_tokens_refused(
    changed: dict[str, Any], given: dict[int, Any], problem: str
) -> None:
    inputs = [normal(8, 4), normal(4, 1, 2), SUMS, None, normal(3, 4, 1), None]
    inputs += [normal(8, 2, 2), normal(8, 1)]
    inputs = [given.get(index, each) for index, each in enumerate(inputs)]
    attributes = {"group_size": 2, **changed}
    model = model_of("VarlenCausalConvWithState", inputs, attributes, 2)
    with pytest.raises(InvalidGraph, match=f"VarlenCausalConvWithState.*{problem}.*node"):
        session(model)
