# SPDX-License-Identifier: Apache-2.0
"""Tensors compared piece by piece; of a mapped file no piece stays in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.constant import Constant, sign_extend, unpack
from bascule.ir.dtype import DataType
from bascule.ir.pages import give_back, read, read_ahead
from bascule.tools.diff.result import Statistics
from bascule.tools.pieces import Job, Pieces, bytes_of

PIECE = 1 << 22
"""Bytes of a tensor that a thread compares at a time. With 2^18, which would stay in its cache, two
threads wait so often for the interpreter's lock that they take longer than one.
"""

_ROW = 1 << 12
"""Elements that are added up one after the other."""

_SAMPLE = 1 << 20
"""Elements that histograms are made of."""

_BINS = 1 << 11
"""Histograms have a bin for each sign, power of two and quarter of it: the first bits of float32.
"""

_PLACES, _PLACE = 8, 64
"""From how many places of a tensor, and how many bytes from each, a fingerprint is taken."""

_EXACT_BELOW = 4096
"""Bytes of tensors that are a fingerprint as a whole."""


class TensorComparer:
    """Compares tensors on all CPUs. A context manager, as its threads have to end."""

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        self._progress = progress
        self._pieces: Pieces[_Sums | None] = Pieces()
        self._known: dict[tuple[int, int], tuple[Constant, Constant, bool, Statistics | None]] = {}

    def __enter__(self) -> TensorComparer:
        return self

    def __exit__(self, *error: object) -> None:
        self._pieces.__exit__(*error)

    def equal(self, old: Constant, new: Constant) -> bool:
        """Whether element type, shape and all bits are the same; each pair is read once."""
        self.read([(old, new)])
        return self._known[id(old), id(new)][2]

    def statistics(self, old: Constant, new: Constant) -> Statistics | None:
        """How the numbers differ; None if they do not, for other shapes and for strings."""
        self.read([(old, new)])
        return self._known[id(old), id(new)][3]

    def read(self, pairs: Iterable[tuple[Constant, Constant]]) -> None:
        """Compare pairs that will be asked for, without a pause between one and the next."""
        todo = {(id(old), id(new)): (old, new) for old, new in pairs}
        todo = {key: pair for key, pair in todo.items() if key not in self._known}
        found = self._pieces.map(job for pair in todo.values() for job in self._jobs(*pair))
        for key, (old, new) in todo.items():
            # The tensors are kept, or others could get their ids.
            self._known[key] = old, new, *self._judge(old, new, found)

    def _judge(
        self, old: Constant, new: Constant, found: Iterator[_Sums | None]
    ) -> tuple[bool, Statistics | None]:
        if not _has_numbers(old, new):
            return old is new or equal_tensors(old, new), None
        total = _Sums.nothing()
        pieces = list(_pieces(old))
        same: list[tuple[int, int]] = []
        for piece in pieces:
            sums = next(found)
            if sums is None:
                same.append(piece)
            else:
                total.add(sums)
        if len(same) == len(pieces):
            return True, None
        # Only now is it known that the equal pieces count as well: their files were just read.
        for sums in self._pieces.map(self._job(old, new, piece, False) for piece in same):
            assert sums is not None
            total.add(sums)
        return False, total.statistics(old.size)

    def _jobs(self, old: Constant, new: Constant) -> Iterator[Job[_Sums | None]]:
        if _has_numbers(old, new):
            for piece in _pieces(old):
                yield self._job(old, new, piece, old.dtype is new.dtype)

    def _job(
        self, old: Constant, new: Constant, piece: tuple[int, int], skip: bool
    ) -> Job[_Sums | None]:
        """What compares a range of elements; with `skip` it makes nothing of equal ones."""
        count = piece[1] - piece[0]
        step = max(1, old.size // _SAMPLE)

        def look(a: memoryview, b: memoryview) -> _Sums | None:
            bits = _bits_of(a, old.dtype, count), _bits_of(b, new.dtype, count)
            is_equal = skip and _equal_bits(*bits)
            sums = None
            if not is_equal:
                x, y = _elements_of(a, old.dtype, count), _elements_of(b, new.dtype, count)
                sums = _Sums.of(x, y, step)
            if self._progress is not None:
                self._progress(len(a) + len(b))
            return sums

        return look, (_raw(old, *piece), _raw(new, *piece))


def _has_numbers(old: Constant, new: Constant) -> bool:
    """Whether two tensors are compared number by number."""
    is_text = old.strings is not None or new.strings is not None
    return old is not new and old.shape == new.shape and not is_text and old.size > 0


def array_statistics(old: np.ndarray[Any, Any], new: np.ndarray[Any, Any]) -> Statistics:
    """The same of two arrays of one shape."""
    step = max(1, old.size // _SAMPLE)
    return _Sums.of(old.reshape(-1), new.reshape(-1), step).statistics(old.size)


def equal_tensors(old: Constant, new: Constant) -> bool:
    """Whether element type, shape and all bits are the same."""
    if old.dtype != new.dtype or old.shape != new.shape:
        return False
    if old.strings is not None and new.strings is not None:
        return bool(np.array_equal(old.strings, new.strings))
    for piece in _pieces(old):
        found = _equal_bits(_bits(old, *piece), _bits(new, *piece))
        _release(old, new, piece)
        if not found:
            return False
    return True


def fingerprint(tensor: Constant) -> bytes:
    """A few bytes of the tensor, or all of a small one: what equal tensors have in common."""
    if tensor.strings is not None:
        return repr(tensor.strings.tolist()).encode("utf-8", "surrogatepass")[:_EXACT_BELOW]
    raw = bytes_of(tensor)
    if tensor.nbytes <= _EXACT_BELOW:
        whole = read(raw, memoryview(bytearray(len(raw))))
        return _bits_of(whole, tensor.dtype, tensor.size).tobytes()
    taken = []
    for place in range(_PLACES):
        start = place * (tensor.nbytes - _PLACE) // (_PLACES - 1) & ~(_PLACE - 1)
        taken.append(raw[start : start + _PLACE])
    for piece in taken:  # all at once, as each takes a disk its time
        read_ahead(piece)
    return b"".join(bytes(read(piece, memoryview(bytearray(_PLACE)))) for piece in taken)


def sample(tensor: Constant) -> np.ndarray[Any, Any]:
    """The numbers at these places, for telling tensors that are near from others."""
    data = np.frombuffer(fingerprint(tensor), np.uint8)
    if tensor.dtype.bits < 8 or len(data) % (tensor.dtype.bits // 8):
        return np.zeros(0, np.float32)
    return _numbers(data.view(tensor.dtype.numpy)).astype(np.float32)


def _pieces(tensor: Constant) -> Iterator[tuple[int, int]]:
    """Ranges of elements of about PIECE bytes; at least one."""
    count = PIECE * 8 // max(tensor.dtype.bits, 1)
    for start in range(0, max(tensor.size, 1), count):
        yield start, min(start + count, tensor.size)


def _raw(tensor: Constant, start: int, stop: int) -> memoryview:
    bits = tensor.dtype.bits
    return bytes_of(tensor)[start * bits // 8 : (stop * bits + 7) // 8]


def _bits(tensor: Constant, start: int, stop: int) -> np.ndarray[Any, Any]:
    """The bytes of elements; bits behind the last element are 0."""
    return _bits_of(_raw(tensor, start, stop), tensor.dtype, stop - start)


def _bits_of(raw: memoryview, dtype: DataType, count: int) -> np.ndarray[Any, Any]:
    data = np.frombuffer(raw, np.uint8)
    spare = 8 * data.size - count * dtype.bits
    if spare:
        data = data.copy()
        data[-1] &= 0xFF >> spare
    return data


def _equal_bits(old: np.ndarray[Any, Any], new: np.ndarray[Any, Any]) -> bool:
    whole = old.size // 8 * 8
    return bool(
        np.array_equal(old[:whole].view(np.uint64), new[:whole].view(np.uint64))
        and np.array_equal(old[whole:], new[whole:])
    )


def _elements_of(raw: memoryview, dtype: DataType, count: int) -> np.ndarray[Any, Any]:
    """The elements as a flat array."""
    packed = np.frombuffer(raw, np.uint8)
    if dtype.bits >= 8:
        return packed.view(dtype.numpy)
    return sign_extend(unpack(packed, dtype.bits, count), dtype).view(dtype.numpy)


def _release(old: Constant, new: Constant, piece: tuple[int, int]) -> None:
    for tensor in (old, new):
        if tensor.mapped:
            give_back(_raw(tensor, *piece))


def _numbers(elements: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As float32 where that holds them, else as float64; complex numbers as two each."""
    kind, size = elements.dtype.kind, elements.dtype.itemsize
    if kind == "c":
        return elements.view(np.float32 if size == 8 else np.float64)
    if kind == "b":
        return elements.view(np.uint8).astype(np.float32)
    if elements.dtype == np.float64 or (kind in "iu" and size > 2):
        return elements.astype(np.float64)
    return elements.astype(np.float32, copy=False)


@dataclass(slots=True)
class _Sums:
    """What statistics are made of; sums over pieces in their order."""

    changed: int
    finite: int
    nonfinite: int
    largest: float
    absolute: float
    squares: float
    old: tuple[float, float]
    """Sum and sum of squares of the old elements; `new` likewise."""
    new: tuple[float, float]
    old_bins: np.ndarray[Any, Any]
    new_bins: np.ndarray[Any, Any]

    @classmethod
    def nothing(cls) -> _Sums:
        bins = np.zeros(_BINS, np.int64)
        return cls(0, 0, 0, 0.0, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0), bins, bins.copy())

    @classmethod
    def of(cls, old: np.ndarray[Any, Any], new: np.ndarray[Any, Any], step: int) -> _Sums:
        a, b = _numbers(old), _numbers(new)
        if a.dtype != b.dtype:
            a, b = a.astype(np.float64), b.astype(np.float64)
        if old.dtype == new.dtype:
            unsigned = np.dtype(f"u{old.dtype.itemsize}") if old.dtype.itemsize <= 8 else None
            x, y = (v.view(unsigned) if unsigned is not None else v for v in (old, new))
            changed = int(np.count_nonzero(x != y))
        else:
            changed = int(np.count_nonzero(a != b))
        bins = _histogram(a[::step]), _histogram(b[::step])
        nonfinite = 0
        with np.errstate(all="ignore"):  # infinities are told apart below
            difference = np.abs(b - a)
            largest = float(difference.max(initial=0))
            if not math.isfinite(largest):
                finite_a, finite_b = np.isfinite(a), np.isfinite(b)
                nonfinite = int(np.count_nonzero(finite_a != finite_b))
                both = finite_a & finite_b
                a, b = a[both].astype(np.float64), b[both].astype(np.float64)
                difference = np.abs(b - a)
                largest = float(difference.max(initial=0))
            absolute = _sum(difference)
            return cls(
                changed,
                a.size,
                nonfinite,
                largest,
                absolute,
                _squares(difference),
                (_sum(a), _squares(a)),
                (_sum(b), _squares(b)),
                *bins,
            )

    def add(self, other: _Sums) -> None:
        self.changed += other.changed
        self.finite += other.finite
        self.nonfinite += other.nonfinite
        self.largest = max(self.largest, other.largest)
        self.absolute += other.absolute
        self.squares += other.squares
        self.old = self.old[0] + other.old[0], self.old[1] + other.old[1]
        self.new = self.new[0] + other.new[0], self.new[1] + other.new[1]
        self.old_bins = self.old_bins + other.old_bins
        self.new_bins = self.new_bins + other.new_bins

    def statistics(self, elements: int) -> Statistics:
        count = max(self.finite, 1)
        means = self.old[0] / count, self.new[0] / count
        deviations = [
            math.sqrt(max(squares / count - mean * mean, 0.0))
            for (_, squares), mean in zip((self.old, self.new), means)
        ]
        norm = math.sqrt(self.old[1])
        relative = math.sqrt(self.squares) / norm if norm else math.inf if self.squares else 0.0
        shares = [bins / max(bins.sum(), 1) for bins in (self.old_bins, self.new_bins)]
        return Statistics(
            elements,
            self.changed,
            self.largest,
            self.absolute / count,
            relative,
            means[0],
            means[1],
            deviations[0],
            deviations[1],
            float(np.abs(shares[0] - shares[1]).sum() / 2),
            self.nonfinite,
        )


def _sum(array: np.ndarray[Any, Any]) -> float:
    """The sum, in the array's own type while that holds it: NumPy adds in pairs."""
    found = float(array.sum())
    return found if math.isfinite(found) else float(array.sum(dtype=np.float64))


def _squares(array: np.ndarray[Any, Any]) -> float:
    """The sum of squares, by einsum: numpy.dot starts threads of its own, which fight with ours."""
    if array.dtype == np.float32:
        whole = array[: array.size // _ROW * _ROW].reshape(-1, _ROW)
        rest = array[whole.size :]
        rows = np.einsum("ij,ij->i", whole, whole)
        found = float(rows.sum()) + float(np.einsum("i,i->", rest, rest))
        if 1e-30 < found < 1e30:
            return found
        array = array.astype(np.float64)
    return float(np.einsum("i,i->", array, array))


def _histogram(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return np.bincount(bits >> np.uint32(21), minlength=_BINS)


def type_text(dtype: DataType, shape: tuple[int, ...]) -> str:
    """``float[3,4]``."""
    return f"{dtype.onnx_name}[{','.join(map(str, shape))}]"
