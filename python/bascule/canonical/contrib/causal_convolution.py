# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions along time, whose state is what stood before the first position."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.canonical.contrib.packed_tokens import Packing, check_capacity, check_captures
from bascule.canonical.precision import narrow, wide
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_ACTIVATIONS = ("none", "silu", "swish")
_MOST = 8
"""The longest window of states."""


@operator("CausalConvWithState")
def causal_conv_with_state(
    build: ContribBuilder,
    input: Value,
    weight: Value,
    bias: Value | None,
    past_state: Value | None,
    *,
    activation: str = "none",
    channels_last: int = 0,
    dilation: int = 1,
    input_channel_offset: int = 0,
    input_channels: int = 0,
    ndim: int = 1,
    state_channels_last: int = -1,
    state_length: int = 0,
    state_update_capacity: int = 0,
    state_window: int = 0,
) -> Outputs:
    """The state and then the input, along time, are one signal."""
    _check(build, activation, dilation)
    if ndim != 1:
        raise build.not_supported(f"attribute 'ndim' {ndim}")
    if not 0 <= state_window <= _MOST:
        raise build.invalid(f"attribute 'state_window' is {state_window}, expected 0 to {_MOST}")
    rank = build.rank_of(input, 3)
    if rank < 3 or (rank > 3 and not channels_last):
        raise build.invalid(f"input 'input' has rank {rank}, expected 3")
    if state_channels_last not in (-1, 0, 1):
        raise build.invalid(
            f"attribute 'state_channels_last' is {state_channels_last}, expected -1, 0 or 1"
        )
    states_last = channels_last if state_channels_last < 0 else state_channels_last
    extended = input_channel_offset, input_channels, state_length, state_update_capacity
    if any(extended) or states_last != channels_last:
        if rank != 3 or not channels_last or state_window:
            raise build.invalid(
                "a part of the channels, another state and captured rows need an input of rank 3 "
                "with channels last, and no 'state_window'"
            )
        if input_channels:
            input = _part(build, input, input_channel_offset, input_channels)
        elif input_channel_offset:
            raise build.invalid("attribute 'input_channel_offset' needs 'input_channels'")
    channels, own = build.known_dim(weight, 0), build.known_dim(input, 2 if channels_last else 1)
    if rank == 3 and None not in (channels, own) and channels != own:
        raise build.invalid(f"input 'weight' is for {channels} channels, but there are {own}")
    if dilation == 1 and channels is not None and not channels_last and not state_window:
        y, state = build.ops(
            "CausalConvWithState", input, weight, bias, past_state, outputs=2, activation=activation
        )
        return _like(build, y, input), _like(build, state, input)
    past, x = past_state, input
    if past is not None and state_window:
        past = build.op("Gather", past, build.int_scalar(-1), axis=0)
    x = _time_last(build, x) if channels_last else x
    past = _time_last(build, past) if past is not None and states_last else past
    span = _span(build, weight, dilation)
    kept = build.ints(state_length) if state_length else span
    if past is None:
        shape = build.op("Concat", build.op("Shape", x, end=2), kept, axis=0)
        past = build.op("Expand", build.like(0.0, build.typed(x)), shape)
    signal = build.op("Concat", past, x, axis=2)
    read = signal
    if state_length:
        taps = build.known_dim(weight, 2)
        if taps is not None and (taps - 1) * dilation > state_length:
            raise build.invalid(
                f"attribute 'state_length' is {state_length}, but {(taps - 1) * dilation} "
                "positions are read"
            )
        begin, end = build.op("Sub", kept, span), build.op("Shape", signal, start=2)
        read = build.op("Slice", signal, begin, end, build.ints(2))
    length = build.dim(x, 2)
    if channels is None:
        y = _any_convolution(build, read, weight, bias, length, dilation)
    else:
        y = build.op("Conv", read, weight, bias, group=channels, dilations=[dilation])
    if activation != "none":
        y = build.op("Swish", _like(build, y, x))
    if state_window:
        state = _last_states(build, signal, kept, length, state_window)
    else:
        state = build.op("Slice", signal, length, build.op("Shape", signal, start=2), build.ints(2))
    if not channels_last:
        return _like(build, y, x), state
    y = build.op("Reshape", build.op("Transpose", y, perm=[0, 2, 1]), build.op("Shape", input))
    if states_last:
        order = [0, 1, 3, 2] if state_window else [0, 2, 1]
        state = build.op("Transpose", state, perm=order)
    if rank > 3 or build.typed(input).rank is None:
        lead = build.op("Shape", state, end=-1)
        shape = build.op("Concat", lead, build.op("Shape", input, start=2), axis=0)
        state = build.op("Reshape", state, shape, allowzero=1)
    captured = None
    if state_update_capacity:
        captured = _first_rows(build, input, state_update_capacity)
    return y, state, captured


def _part(build: ContribBuilder, x: Value, begin: int, count: int) -> Value:
    """Some of the channels, which are last."""
    row, end = build.known_dim(x, 2), begin + count
    if begin < 0 or count < 1 or (row is not None and end > row):
        raise build.invalid(f"channels {begin} to {end} are no part of the {row} of 'input'")
    return build.op("Slice", x, build.ints(begin), build.ints(end), build.ints(2))


def _first_rows(build: ContribBuilder, x: Value, capacity: int) -> Value:
    """So many rows of each sample, zeros behind the last that there is."""
    check_capacity(build, capacity)
    rows = build.op("Slice", x, build.ints(0), build.ints(capacity), build.ints(1))
    missing = build.op("Max", build.op("Sub", build.ints(capacity), build.dim(x, 1)), build.ints(0))
    pads = build.op("Concat", build.ints(0, 0, 0, 0), missing, build.ints(0), axis=0)
    return build.op("Pad", rows, pads)


def _check(build: ContribBuilder, activation: str, dilation: int) -> None:
    if activation not in _ACTIVATIONS:
        raise build.invalid(
            f"attribute 'activation' is '{activation}', expected one of {list(_ACTIVATIONS)}"
        )
    if dilation < 1:
        raise build.invalid(f"attribute 'dilation' is {dilation}, expected a positive number")


def _like(build: ContribBuilder, x: Value, reference: Value) -> Value:
    """With a type of three axes, where it cannot be inferred."""
    dtype = build.typed(reference).dtype
    if build.typed(x).rank is None and dtype is not None:
        x.type = TensorType(dtype, (None, None, None))
    return x


def _time_last(build: ContribBuilder, x: Value) -> Value:
    """``[batch, time, channels...]`` as ``[batch, channels, time]``."""
    if build.typed(x).rank != 3:
        x = build.op("Reshape", x, build.ints(0, 0, -1))
    return build.op("Transpose", x, perm=[0, 2, 1])


def _span(build: ContribBuilder, weight: Value, dilation: int) -> Value:
    """How many positions before its own a result depends on."""
    taps = build.op("Sub", build.dim(weight, 2), build.ints(1))
    return build.op("Mul", taps, build.ints(dilation))


def _any_convolution(
    build: ContribBuilder,
    signal: Value,
    weight: Value,
    bias: Value | None,
    length: Value,
    dilation: int,
) -> Value:
    """Of a number of channels that only a run tells, while Conv has it as an attribute."""
    taps = build.op("Mul", build.numbers(build.dim(weight, 2)), build.ints(dilation))
    places = build.op("Add", build.op("Unsqueeze", build.numbers(length), build.ints(1)), taps)
    windows = build.op("Gather", signal, places, axis=2)
    y = build.op("ReduceSum", build.op("Mul", windows, weight), build.ints(3), keepdims=0)
    return y if bias is None else build.op("Add", y, build.op("Unsqueeze", bias, build.ints(1)))


def _last_states(
    build: ContribBuilder, signal: Value, kept: Value, length: Value, window: int
) -> Value:
    """The state after each of the last positions, zeros where there is no such position."""
    ordinals = build.ints(*range(1 - window, 1))
    ends = build.op("Unsqueeze", build.op("Add", length, ordinals), build.ints(1))
    begins = build.op("Max", ends, build.ints(0))
    states = build.op("Gather", signal, build.op("Add", begins, build.numbers(kept)), axis=2)
    there = build.op("Unsqueeze", build.op("Greater", ends, build.ints(0)), build.ints(1, 2))
    states = build.op("Transpose", states, perm=[2, 0, 1, 3])
    return build.op("Where", there, states, build.like(0.0, build.typed(signal)))


@operator("VarlenCausalConvWithState")
def varlen_causal_conv_with_state(
    build: ContribBuilder,
    input: Value,
    weight: Value,
    cumulative_sequence_length: Value,
    bias: Value | None,
    initial_state: Value,
    capture_count: Value | None,
    kernel_delta: Value | None,
    previous_mask: Value | None,
    *,
    activation: str = "none",
    delta_offset: int = 0,
    dilation: int = 1,
    group_size: int = 1,
    state_update_capacity: int = 0,
) -> Outputs:
    """In float32, and rounded once, unless the kernel differs from token to token."""
    _check(build, activation, dilation)
    capacity = state_update_capacity
    check_captures(build, capacity, capture_count)
    if (kernel_delta is None) != (previous_mask is None):
        raise build.invalid("inputs 'kernel_delta' and 'previous_mask' need each other")
    packing = Packing(build, cumulative_sequence_length)
    signal = _PackedSignal(build, packing, input, initial_state, _span(build, weight, dilation))
    captured = None
    if capture_count is not None and build.wants(2):
        captured = signal.first_tokens(capture_count, capacity)
    if kernel_delta is not None and previous_mask is not None:
        if build.known_dim(weight, 2) not in (None, 2) or dilation != 1:
            raise build.invalid("input 'kernel_delta' needs a kernel of two taps side by side")
        if activation != "none" or bias is not None:
            raise build.invalid("input 'kernel_delta' excludes a bias and an activation")
        if delta_offset < 0 or group_size < 1:
            raise build.invalid(
                f"'delta_offset' ({delta_offset}) must not be negative, and 'group_size' "
                f"({group_size}) be positive"
            )
        kernels = [
            _kernel_of_tokens(build, weight, kernel_delta, tap, place, group_size)
            for tap, place in ((1, delta_offset), (0, delta_offset + 1))
        ]
        y = _two_taps(build, input, signal.before(build.ints(1)), kernels, previous_mask)
        return y, signal.states(), captured
    offsets = build.op("Sub", build.dim(weight, 2), build.numbers(build.dim(weight, 2)))
    offsets = build.op("Mul", build.op("Sub", offsets, build.ints(1)), build.ints(dilation))
    taps = wide(build, signal.before(build.op("Unsqueeze", offsets, build.ints(1))))
    columns = build.op("Transpose", wide(build, weight), perm=[2, 1, 0])
    y = build.op("ReduceSum", build.op("Mul", taps, columns), build.ints(0), keepdims=0)
    if bias is not None:
        y = build.op("Add", y, wide(build, bias))
    if activation != "none":
        y = build.op("Swish", y)
    return narrow(build, y, input), signal.states(), captured


def _rounded(build: ContribBuilder, op_type: str, a: Value, b: Value, like: Value) -> Value:
    """An operator whose result is rounded, whatever it is fused with."""
    return narrow(build, build.op(op_type, wide(build, a), wide(build, b)), like)


def _kernel_of_tokens(
    build: ContribBuilder, weight: Value, delta: Value, tap: int, place: int, group_size: int
) -> Value:
    """One tap for each token and channel: a group of channels has one difference of its own."""
    by_group = build.op("Gather", delta, build.int_scalar(place), axis=1)
    again = build.op("Concat", build.op("Shape", by_group), build.ints(group_size), axis=0)
    differences = build.op("Expand", build.op("Unsqueeze", by_group, build.ints(2)), again)
    flat = build.op("Reshape", differences, build.ints(0, -1))
    row = build.op(
        "Reshape", build.op("Gather", weight, build.int_scalar(tap), axis=2), build.ints(-1)
    )
    return _rounded(build, "Add", row, flat, weight)


def _two_taps(
    build: ContribBuilder, own: Value, earlier: Value, kernels: list[Value], mask: Value
) -> Value:
    products = [
        _rounded(build, "Mul", kernel, x, own) for kernel, x in zip(kernels, (own, earlier))
    ]
    masked = _rounded(build, "Mul", products[1], mask, own)
    return _rounded(build, "Add", products[0], masked, own)


class _PackedSignal:
    """Tokens of sequences one behind the other, with what stood before each sequence."""

    def __init__(
        self, build: ContribBuilder, packing: Packing, tokens: Value, states: Value, kept: Value
    ) -> None:
        """`kept` is the number of positions in a state."""
        self._build, self._packing, self._tokens, self._kept = build, packing, tokens, kept
        rows = build.op("Transpose", states, perm=[0, 2, 1])
        shape = build.op("Concat", build.ints(-1), build.dim(tokens, 1), axis=0)
        self._rows = build.op("Concat", build.op("Reshape", rows, shape), tokens, axis=0)
        self._first = build.op("Mul", packing.batch, kept)
        """The row of the first token, behind all states."""

    def _row(self, sequence: Value, begin: Value, position: Value) -> Value:
        """The row of a position in a sequence; negative ones are in its state."""
        build = self._build
        own = build.op("Add", build.op("Add", self._first, begin), position)
        after = build.op("Mul", build.op("Add", sequence, build.ints(1)), self._kept)
        earlier = build.op("Add", after, position)
        return build.op("Where", build.op("Less", position, build.ints(0)), earlier, own)

    def before(self, offsets: Value) -> Value:
        """What stands so many positions before each token, one row of tokens for each offset."""
        build = self._build
        count = build.dim(self._tokens, 0)
        sequences = self._packing.sequences(count)
        begins = build.op("Gather", self._packing.begins, sequences, axis=0)
        own = build.op("Sub", build.numbers(count), begins)
        rows = self._row(sequences, begins, build.op("Sub", own, offsets))
        return build.op("Gather", self._rows, rows, axis=0)

    def states(self) -> Value:
        """What stands before the position behind each sequence."""
        build, column = self._build, self._build.ints(1)
        begins, lengths = (
            build.op("Unsqueeze", each, column)
            for each in (self._packing.begins, self._packing.lengths)
        )
        sequences = build.op("Unsqueeze", build.numbers(self._packing.batch), column)
        places = build.op("Add", build.op("Sub", lengths, self._kept), build.numbers(self._kept))
        states = build.op("Gather", self._rows, self._row(sequences, begins, places), axis=0)
        return build.op("Transpose", states, perm=[0, 2, 1])

    def first_tokens(self, counts: Value, capacity: int) -> Value:
        """So many tokens of each sequence at most, and zeros in the other places."""
        build, column = self._build, self._build.ints(1)
        steps = build.ints(*range(capacity))
        most = build.op("Min", build.int64(counts), self._packing.lengths)
        there = build.op("Less", steps, build.op("Unsqueeze", most, column))
        places = build.op("Add", build.op("Unsqueeze", self._packing.begins, column), steps)
        # Where there is no token, any will do.
        places = build.op("Where", there, places, build.ints(0))
        found = build.op("Gather", self._tokens, places, axis=0)
        mask = build.op("Unsqueeze", there, build.ints(2))
        return build.op("Where", mask, found, build.like(0.0, build.typed(self._tokens)))
