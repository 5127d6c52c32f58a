# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_BLOCK = 128
_MOST_THREADS = 512
_PAIR = 16
"""Bytes of a complex number."""
_MOST_STAGES = 32
_LARGEST_RADIX = 61
"""Beyond, a convolution is faster than a stage whose time grows with the radix."""
_SPECIAL_RADIX = 5
_LONGEST = 1 << 24
"""Elements of a line; beyond, the table of factors and the time would know no bounds."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Where lines lie: line i starts at (i / inner) * outer + (i % inner) * inner_step."""

    inner: int
    outer: int
    inner_step: int
    stride: int

    @classmethod
    def along(cls, shape: Sequence[int], axis: int) -> _Lines:
        """The lines of a tensor along an axis; the last axis holds the parts of a number."""
        inner, parts = math.prod(shape[axis + 1 : -1]), shape[-1]
        return cls(max(inner, 1), shape[axis] * inner * parts, parts, inner * parts)

    @property
    def fields(self) -> tuple[int, ...]:
        return self.inner, self.outer, self.inner_step, self.stride


def _turns(length: int) -> Array:
    """exp(2 pi i / length) for all i, each pair rounded once."""
    # Angles of an eighth of the circle at most, so that symmetric factors are the same bits.
    index = np.arange(length, dtype=np.int64)
    eighths, rest = np.divmod(8 * index, length)
    odd = eighths % 2 == 1
    angle = np.where(odd, length - rest, rest) * (math.pi / (4 * length))
    near, far = np.cos(angle), np.sin(angle)
    near, far = np.where(odd, far, near), np.where(odd, near, far)
    quarter = eighths // 2
    cosine = np.choose(quarter, [near, -far, -near, far])
    sine = np.choose(quarter, [far, near, -far, -near])
    return np.stack([cosine, sine], axis=1)


def _factors(call: Call, length: int) -> Tensor:
    """The turns on the device."""
    result: Tensor = call.planned(
        f"factors of {length}", lambda keeping: keeping.upload(_turns(length))
    )
    return result


@dataclass(frozen=True, slots=True)
class _Core:
    """The transform of complex lines that a transform of `length` is made of."""

    size: int
    radices: tuple[int, ...]
    has_chirp: bool

    @classmethod
    def of(cls, length: int) -> _Core:
        radices = _radices(length)
        if max(radices, default=1) <= _LARGEST_RADIX:
            return cls(length, radices, False)
        size = 1 << (2 * length - 2).bit_length()  # a convolution that does not wrap around
        return cls(size, _radices(size), True)

    @property
    def struct(self) -> Struct:
        """As struct Factors."""
        numbers = [*self.radices, *[1] * (_MOST_STAGES + 1 - len(self.radices))]
        return Struct(struct.pack(f"<qi{len(numbers)}i", self.size, len(self.radices), *numbers))


def _radices(length: int) -> tuple[int, ...]:
    """Fours first, then rising primes; their product is the length."""
    found = []
    for radix in (4, 2):
        while length % radix == 0:
            found.append(radix)
            length //= radix
    radix = 3
    while radix * radix <= length:
        while length % radix == 0:
            found.append(radix)
            length //= radix
        radix += 2
    return (*found, *([length] if length > 1 else []))


def _chirp(call: Call, length: int, size: int) -> tuple[Tensor, Tensor]:
    """exp(pi i k^2 / length), and the spectrum of it and its mirror image in `size` elements."""

    def make(keeping: Call) -> tuple[Tensor, Tensor]:
        turns = _turns(2 * length)[np.arange(length, dtype=np.int64) ** 2 % (2 * length)]
        values = turns[:, 0] + 1j * turns[:, 1]
        both = np.zeros(size, np.complex128)
        both[:length] = values
        both[size - length + 1 :] = values[:0:-1]
        return keeping.upload(turns), keeping.upload(_pairs(np.fft.fft(both)))

    result: tuple[Tensor, Tensor] = call.planned(f"chirp of {length}", make)
    return result


def _pairs(values: Array) -> Array:
    return np.ascontiguousarray(values).view(np.float64).reshape(-1, 2)


def _start(
    call: Call,
    x: Tensor,
    window: Tensor | None,
    y: Tensor,
    places: tuple[_Lines, _Lines],
    numbers: tuple[int, int, int, int],
    kind: int,
) -> None:
    """`numbers`: lines, elements known of each, bins, the length of the transform."""
    lines, _, _, length = numbers
    if length > _LONGEST:
        raise call.error(f"a transform of length {length} is too long")
    if not y.size:
        return
    source, target = places
    fields = (*source.fields, *target.fields, *numbers, x.shape[-1], kind)
    transform = Struct(struct.pack("<12q2i", *fields))
    core = _Core.of(length)
    addresses = [t.address for t in _chirp(call, length, core.size)] if core.has_chirp else (0, 0)
    chirp = Struct(struct.pack("<2q", *addresses))
    table, dtype = _factors(call, core.size), type_name(x.dtype)
    memory = 2 * _PAIR * core.size
    if memory <= call.device.shared_memory:
        threads = min(_MOST_THREADS, max(32, -(-core.size // (4 * 32)) * 32))
        arguments = (x, window, table, y, transform, core.struct, chirp)
        call.launch(
            "signal",
            f"fourier_shared_{dtype}",
            min(lines, 1 << 16),
            threads,
            *arguments,
            shared=memory,
        )
        return
    values = call.empty((lines, core.size, 2), DataType.DOUBLE)
    size, blocks = np.int64(core.size), min(-(-lines * core.size // _BLOCK), 1 << 20)
    name = f"fourier_load_{dtype}"
    call.launch("signal", name, blocks, _BLOCK, x, window, values, transform, chirp, size)
    values = _staged(call, values, core, table, kind == 0 or core.has_chirp)
    if core.has_chirp:
        operands = (values, size, transform, chirp)
        call.launch("signal.stages", "fourier_filter", blocks, _BLOCK, *operands)
        values = _staged(call, values, core, table, False)
    name = f"fourier_store_{dtype}"
    call.launch("signal", name, blocks, _BLOCK, values, y, transform, chirp, size)


def _staged(call: Call, values: Tensor, core: _Core, table: Tensor, forward: bool) -> Tensor:
    """The transforms of lines that are too long for shared memory."""
    lines, done = values.shape[0], 1
    for radix in core.radices:
        result = call.like(values)
        items = core.size // radix if radix <= _SPECIAL_RADIX else core.size
        grid = (min(-(-items // _BLOCK), 1 << 20), min(lines, 65535))
        sizes = (np.int64(lines), np.int64(core.size), np.int64(done))
        flags = (np.int32(radix), np.int32(forward))
        arguments = (values, result, table, *sizes, *flags)
        call.launch("signal.stages", "fourier_stage", grid, _BLOCK, *arguments)
        values, done = result, done * radix
    return values


def _positive(call: Call, value: int, name: str) -> int:
    if value < 1:
        raise call.error(f"{name} is {value}")
    return value


@kernel("DFT", dtypes=FLOATS, host=(1, 2))
def dft(
    call: Call, x: Tensor, dft_length: Array | None = None, axis: Array | None = None
) -> Tensor:
    """The transform along one axis, of real or complex numbers."""
    inverse = bool(call.attribute("inverse", 0))
    onesided = bool(call.attribute("onesided", 0))
    if x.rank < 2 or x.shape[-1] not in (1, 2):
        raise call.error(f"input has shape {x.shape}, expected a last axis of 1 or 2")
    asked = -2 if axis is None else int(axis.reshape(()))
    along = asked + x.rank if asked < 0 else asked
    if not 0 <= along < x.rank - 1:
        raise call.error(f"axis {asked} is none of the signal's")
    size = x.shape[along]
    usual = 2 * (size - 1) if inverse and onesided else size
    length = usual if dft_length is None else int(dft_length.reshape(()))
    length = _positive(call, length, "dft_length")
    kind = 0 if not inverse else 2 if onesided else 1
    bins = length // 2 + 1 if onesided and not inverse else length
    shape = list(x.shape)
    shape[along], shape[-1] = bins, 1 if kind == 2 else 2
    y = call.empty(shape, x.dtype)
    lines = math.prod(x.shape[:along]) * math.prod(x.shape[along + 1 : -1])
    known = min(size, length // 2 + 1 if kind == 2 else length)
    places = _Lines.along(x.shape, along), _Lines.along(shape, along)
    _start(call, x, None, y, places, (lines, known, bins, length), kind)
    return y


@kernel("STFT", dtypes=FLOATS, host=(1, 3))
def stft(
    call: Call,
    signal: Tensor,
    frame_step: Array,
    window: Tensor | None = None,
    frame_length: Array | None = None,
) -> Tensor:
    """The transforms of windowed frames of a signal."""
    if signal.rank != 3 or signal.shape[2] not in (1, 2):
        raise call.error(f"signal has shape {signal.shape}, expected (batch, length, 1 or 2)")
    batch, size, parts = signal.shape
    step = _positive(call, int(frame_step.reshape(())), "frame_step")
    length = size if window is None else window.size
    if frame_length is not None:
        asked = int(frame_length.reshape(()))
        if window is not None and asked != length:
            raise call.error(f"frame_length is {asked}, and the window has {length} elements")
        length = asked
    length = _positive(call, length, "frame_length")
    if length > size:
        raise call.error(f"frames of {length} do not fit a signal of {size}")
    frames = (size - length) // step + 1
    bins = length // 2 + 1 if call.attribute("onesided", 1) else length
    y = call.empty((batch, frames, bins, 2), signal.dtype)
    source = _Lines(frames, size * parts, step * parts, parts)
    places = source, _Lines(1, bins * 2, 0, 2)
    _start(call, signal, window, y, places, (batch * frames, length, bins, length), 0)
    return y
