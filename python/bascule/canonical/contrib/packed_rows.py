# SPDX-License-Identifier: Apache-2.0
"""Rows of tables whose numbers are packed in blocks, each with a scale, as GGML lays them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_RESULTS = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)
_CURVE = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What four bits stand for where they are no integers."""


@operator("GatherPacked")
def gather_packed(
    build: ContribBuilder,
    data: Value,
    indices: Value,
    *,
    K: int,
    packed_type: int,
    output_dtype: int = int(DataType.BFLOAT16),
) -> Outputs:
    """Rows that there are not are the first. Only what is gathered is unpacked."""
    layout = _LAYOUTS.get(packed_type)
    if layout is None:
        raise build.not_supported(f"attribute 'packed_type' {packed_type}")
    if K < 1 or K % layout.numbers:
        raise build.invalid(f"attribute 'K' is {K}, no positive multiple of {layout.numbers}")
    if output_dtype not in map(int, _RESULTS):
        raise build.invalid(
            f"attribute 'output_dtype' is {output_dtype}, expected float, float16 or bfloat16"
        )
    blocks, stored = K // layout.numbers, build.known_dim(data, 1)
    if stored not in (None, blocks * layout.size):
        raise build.invalid(
            f"input 'data' has rows of {stored} bytes, but {K} numbers of type {packed_type} have "
            f"{blocks * layout.size}"
        )
    index = build.int64(indices)
    is_there = build.op(
        "And",
        build.op("GreaterOrEqual", index, build.int_scalar(0)),
        build.op("Less", index, build.as_scalar(build.dim(data, 0))),
    )
    index = build.op("Where", is_there, index, build.int_scalar(0))
    rows = build.op("Gather", data, index, axis=0)
    apart = build.op("Reshape", rows, build.ints(-1, blocks, layout.size))
    numbers = layout.unpack(_Block(build, apart, layout.size))
    shape = build.op("Concat", build.op("Shape", index), build.ints(K), axis=0)
    y = build.op("Reshape", numbers, shape, allowzero=1)
    dtype, rank = DataType(output_dtype), build.typed(indices).rank
    y.type = TensorType(DataType.FLOAT, None if rank is None else (None,) * rank + (K,))
    return build.cast(y, dtype)


class _Block:
    """The bytes of blocks, ``[rows, blocks, bytes]``, or some of them."""

    def __init__(self, build: ContribBuilder, value: Value, size: int) -> None:
        self._build = build
        self.value = build.give_type(value, TensorType(DataType.UINT8, (None, None, size)))

    def part(self, begin: int, count: int) -> Value:
        build = self._build
        if begin == 0 and count == self.value.shape[2]:  # type: ignore[index]
            return self.value
        return build.op(
            "Slice", self.value, build.ints(begin), build.ints(begin + count), build.ints(2)
        )

    def words(self, begin: int, count: int, size: int) -> Value:
        """Unsigned integers of so many bytes, the lowest first."""
        build, dtype = self._build, {2: DataType.UINT16, 4: DataType.UINT32}[size]
        total: Value | None = None
        parts = self.reshaped(self.part(begin, count * size), count, size)
        for place in range(size):
            byte = build.op("Gather", parts, build.int_scalar(place), axis=3)
            byte = build.op("Cast", byte, to=int(dtype))
            if total is None:
                total = byte
                continue
            shift = build.constant(np.array(8 * place, dtype.numpy))
            total = build.op(
                "BitwiseOr", total, build.op("BitShift", byte, shift, direction="LEFT")
            )
        assert total is not None
        return total

    def floats(self, begin: int, count: int, dtype: DataType) -> Value:
        """Numbers of another type, in float32."""
        size = 4 if dtype is DataType.FLOAT else 2
        found = self._build.op("BitCast", self.words(begin, count, size), to=int(dtype))
        return self._build.op("Cast", found, to=int(DataType.FLOAT))

    def half(self, begin: int) -> Value:
        return self.floats(begin, 1, DataType.FLOAT16)

    def signed(self, begin: int, count: int) -> Value:
        bits = self._build.op("BitCast", self.part(begin, count), to=int(DataType.INT8))
        return self._build.op("Cast", bits, to=int(DataType.FLOAT))

    def reshaped(self, x: Value, *sizes: int) -> Value:
        """With these axes in place of the last ones."""
        return self._build.op("Reshape", x, self._build.ints(0, 0, *sizes))

    def bits(self, x: Value, shift: int | Sequence[int], mask: int) -> Value:
        """Some bits of each byte; for several shifts, one behind the other along the axis of the
        last but one, which has one place."""
        build = self._build
        if isinstance(shift, int):
            shifts = np.array(shift, np.uint8)
        else:
            shifts = np.array(shift, np.uint8)[:, None]
        if shifts.any():
            x = build.op("BitShift", x, build.constant(shifts), direction="RIGHT")
        return build.op("BitwiseAnd", x, build.constant(np.array(mask, np.uint8)))

    def joined(self, low: Value, high: Value, shift: int) -> Value:
        """Bytes whose upper bits, from `shift` on, are those of `high`."""
        by = self._build.constant(np.array(shift, np.uint8))
        return self._build.op(
            "BitwiseOr", low, self._build.op("BitShift", high, by, direction="LEFT")
        )

    def number(self, x: Value, less: float = 0) -> Value:
        """Bytes as float32, less a constant."""
        build = self._build
        wide = build.op("Cast", x, to=int(DataType.FLOAT))
        return build.op("Sub", wide, build.constant(np.float32(less))) if less else wide

    def curved(self, x: Value) -> Value:
        build = self._build
        return build.op(
            "Gather", build.floats(*_CURVE), build.op("Cast", x, to=int(DataType.INT32))
        )

    def op(self, op_type: str, *inputs: Value) -> Value:
        return self._build.op(op_type, *inputs)

    def side_by_side(self, *parts: Value, axis: int = 2) -> Value:
        return self._build.op("Concat", *parts, axis=axis)

    def nibbles(self, begin: int, count: int) -> Value:
        """Four bits each, all lower ones before all upper ones."""
        found = self.bits(self.reshaped(self.part(begin, count), 1, count), (0, 4), 15)
        return self.reshaped(found, 2 * count)


def _q4_0(block: _Block) -> Value:
    return block.op("Mul", block.number(block.nibbles(2, 16), 8), block.half(0))


def _q5_0(block: _Block) -> Value:
    bytes_of_bits = block.reshaped(block.part(2, 4), 4, 1)
    shifted = block.reshaped(block.bits(block.reshaped(bytes_of_bits, 4, 1, 1), range(8), 1), 32)
    numbers = block.joined(block.nibbles(6, 16), shifted, 4)
    return block.op("Mul", block.number(numbers, 16), block.half(0))


def _q8_0(block: _Block) -> Value:
    return block.op("Mul", block.signed(2, 32), block.half(0))


def _q2_0(block: _Block) -> Value:
    bytes_of_numbers = block.reshaped(block.part(2, 16), 16, 1, 1)
    numbers = block.reshaped(block.bits(bytes_of_numbers, (0, 2, 4, 6), 3), 64)
    return block.op("Mul", block.number(numbers, 1), block.half(0))


def _q5_k(block: _Block) -> Value:
    """Eight runs of 32 numbers with a scale and an offset of six bits each."""
    first, second, third = (block.part(4 + 4 * place, 4) for place in range(3))
    scales, offsets = (
        block.reshaped(
            block.number(
                block.side_by_side(
                    block.bits(own, 0, 63),
                    block.joined(block.bits(third, shift, 15), block.bits(own, 6, 3), 4),
                )
            ),
            8,
            1,
        )
        for own, shift in ((first, 0), (second, 4))
    )
    low = block.bits(block.reshaped(block.part(48, 128), 4, 1, 32), (0, 4), 15)
    high = block.bits(block.reshaped(block.part(16, 32), 1, 32), range(8), 1)
    numbers = block.number(block.joined(block.reshaped(low, 8, 32), high, 4))
    scale, least = (block.reshaped(block.half(place), 1, 1) for place in (0, 2))
    scaled = block.op("Mul", numbers, block.op("Mul", scale, scales))
    return block.op("Sub", scaled, block.op("Mul", least, offsets))


def _q6_k(block: _Block) -> Value:
    """Sixteen runs of 16 numbers with a scale of a byte each."""
    low = block.bits(block.reshaped(block.part(0, 128), 2, 1, 64), (0, 4), 15)
    high = block.bits(block.reshaped(block.part(128, 64), 2, 1, 32), (0, 2, 4, 6), 3)
    numbers = block.joined(block.reshaped(low, 16, 16), block.reshaped(high, 16, 16), 4)
    scale = block.op("Mul", block.half(208), block.signed(192, 16))
    return block.op("Mul", block.number(numbers, 32), block.reshaped(scale, 16, 1))


def _iq4_nl(block: _Block) -> Value:
    return block.op("Mul", block.curved(block.nibbles(2, 16)), block.half(0))


def _iq4_xs(block: _Block) -> Value:
    """Eight runs of 32 numbers with a scale of six bits each."""
    low = block.bits(block.reshaped(block.part(4, 4), 4, 1, 1), (0, 4), 15)
    high = block.bits(block.reshaped(block.part(2, 2), 2, 1, 1), (0, 2, 4, 6), 3)
    scales = block.joined(block.reshaped(low, 8), block.reshaped(high, 8), 4)
    scale = block.op("Mul", block.half(0), block.number(scales, 32))
    runs = block.bits(block.reshaped(block.part(8, 128), 8, 1, 16), (0, 4), 15)
    numbers = block.curved(block.reshaped(runs, 8, 32))
    return block.op("Mul", numbers, block.reshaped(scale, 8, 1))


@dataclass(frozen=True)
class _Layout:
    numbers: int
    """How many a block has."""
    size: int
    """Its bytes."""
    unpack: Callable[[_Block], Value]
    """The numbers of blocks, in float32."""


_LAYOUTS = {
    0: _Layout(1, 4, lambda block: block.floats(0, 1, DataType.FLOAT)),
    1: _Layout(1, 2, lambda block: block.floats(0, 1, DataType.FLOAT16)),
    2: _Layout(32, 18, _q4_0),
    6: _Layout(32, 22, _q5_0),
    8: _Layout(32, 34, _q8_0),
    13: _Layout(256, 176, _q5_k),
    14: _Layout(256, 210, _q6_k),
    20: _Layout(32, 18, _iq4_nl),
    23: _Layout(256, 136, _iq4_xs),
    30: _Layout(1, 2, lambda block: block.floats(0, 1, DataType.BFLOAT16)),
    42: _Layout(64, 18, _q2_0),
}
"""By the number that GGML gives them. Those whose numbers come from code books are not here."""
