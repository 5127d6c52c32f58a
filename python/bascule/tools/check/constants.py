# SPDX-License-Identifier: Apache-2.0
"""Constants that look wrong: NaN, infinities, denormals, clamped or saturated elements, scales.

Tensors are read piece by piece, on all CPUs; of a mapped file no piece stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import AttributeReference, Graph, Model, Node, Use, Value
from bascule.ir.pages import give_back
from bascule.ir.replaced import PRODUCTS
from bascule.tools.check.result import NOTE, WARNING, Finding
from bascule.tools.pieces import Pieces, bytes_of

PIECE = 1 << 20
"""Bytes that a thread looks at at a time."""

_LISTED = 4
_MANY_SATURATED = 0.02
"""Rounding to the nearest puts far fewer of normal weights on the bounds of their type."""

_MANY_DENORMAL = 0.05
"""A part of float16 weights below the smallest normal number, 6e-5, that is no accident."""

# Element type: (unsigned integer of its size, mask of the exponent, of the mantissa).
_BITS: dict[DataType, tuple[Any, int, int]] = {
    DataType.FLOAT: (np.uint32, 0x7F800000, 0x007FFFFF),
    DataType.DOUBLE: (np.uint64, 0x7FF0000000000000, 0x000FFFFFFFFFFFFF),
    DataType.FLOAT16: (np.uint16, 0x7C00, 0x03FF),
    DataType.BFLOAT16: (np.uint16, 0x7F80, 0x007F),
}
_LARGEST_FLOAT16 = 0x7BFF

# Inputs that are scales, by operator.
_SCALES = {
    "QuantizeLinear": (1,),
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QLinearAdd": (1, 4, 6),
    "QLinearMul": (1, 4, 6),
    "QGemm": (1, 4, 7),
    "MatMulNBits": (2,),
    "GatherBlockQuantized": (2,),
}
# Inputs that are quantized weights.
_QUANTIZED = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3,),
    "QLinearMatMul": (3,),
    "QGemm": (3,),
    "ConvInteger": (1,),
    "MatMulInteger": (1,),
    "DynamicQuantizeMatMul": (1,),
    "MatMulIntegerToFloat": (1,),
}


@dataclass(slots=True)
class _Counts:
    """Of a tensor."""

    nan: int = 0
    inf: int = 0
    denormal: int = 0
    largest: int = 0
    """Elements of the largest magnitude of float16, or on the bounds of an integer type."""

    def add(self, other: _Counts) -> None:
        self.nan += other.nan
        self.inf += other.inf
        self.denormal += other.denormal
        self.largest += other.largest


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    constant: Constant
    uses: list[Use]

    def is_read_at(self, places: Mapping[str, tuple[int, ...]]) -> bool:
        return any(use.index in places.get(use.node.op_type, ()) for use in self.uses)


def examine_constants(
    model: Model,
    skip: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
) -> list[Finding]:
    """What is suspicious in the constants of `model`, but for those named in `skip`."""
    found = _Found()
    with Pieces[_Counts]() as pieces:
        for tensor in _tensors(model):
            if tensor.name not in skip:
                _examine(tensor, pieces, found, progress or (lambda nbytes: None))
    return found.findings()


def _tensors(model: Model) -> Iterator[_Tensor]:
    seen: set[int] = set()
    bodies = [model.graph, *(function.body for function in model.functions.values())]
    for graph in (each for body in bodies for each in body.walk_graphs()):
        for name, constant, value in _constants(graph):
            if id(constant) not in seen and constant.size:
                seen.add(id(constant))
                yield _Tensor(name, constant, value.uses)


def _constants(graph: Graph) -> Iterator[tuple[str, Constant, Value]]:
    for name, value in graph.initializers.items():
        if value.constant is not None:
            yield name, value.constant, value
    for node in graph:
        if node.is_op("Constant") or node.is_op("ConstantOfShape"):
            constant = _constant_of(node)
            if constant is not None:
                yield node.output.name, constant, node.output


def _constant_of(node: Node) -> Constant | None:
    """The tensor or the floats that a node makes, if it has some."""
    value = node.attribute("value")
    if isinstance(value, Constant):
        return value
    for name in ("value_float", "value_floats"):
        floats = node.attribute(name)
        if floats is not None and not isinstance(floats, AttributeReference):
            return Constant.from_numpy(np.array(floats, np.float32))
    return None


class _Found:
    """Collects what is the same of several tensors into one finding."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}

    def add(self, severity: str, kind: str, text: str, name: str, much: str, advice: str) -> None:
        self._groups.setdefault((severity, kind, text, advice), []).append((name, much))

    def findings(self) -> list[Finding]:
        made = []
        for (severity, kind, text, advice), tensors in self._groups.items():
            listed = ", ".join(f"'{name}' ({much})" for name, much in tensors[:_LISTED])
            if len(tensors) > _LISTED:
                listed += f" and {len(tensors) - _LISTED} more"
            names = tuple(name for name, _ in tensors)
            made.append(Finding(severity, kind, f"{text}: {listed}", names, advice=advice))
        return made


def _examine(
    tensor: _Tensor, pieces: Pieces[_Counts], found: _Found, progress: Callable[[int], None]
) -> None:
    constant = tensor.constant
    dtype = constant.dtype
    quantized = tensor.is_read_at(_QUANTIZED)
    if dtype.is_float and tensor.is_read_at(_SCALES):
        _judge_scale(tensor, found)
        progress(constant.nbytes)
    elif dtype in _BITS:
        counts = _count(constant, pieces, _count_floats, progress)
        _judge_floats(tensor, counts, found)
    elif dtype.is_float and dtype.bits == 8:
        counts = _count(constant, pieces, _count_codes, progress)
        _judge_floats(tensor, counts, found)
    elif quantized and dtype.is_integer and dtype.bits in (4, 8):
        counts = _count(constant, pieces, _count_bounds, progress)
        share = counts.largest / constant.size
        if share > _MANY_SATURATED and constant.size >= 64:
            found.add(
                WARNING,
                "saturated",
                "quantized weights are saturated",
                tensor.name,
                f"{share:.1%} on the bounds of {dtype.onnx_name}",
                "quantize again with a larger scale, or one for each channel",
            )
    else:
        progress(constant.nbytes)


def _count(
    constant: Constant,
    pieces: Pieces[_Counts],
    look: Callable[[memoryview, DataType], _Counts],
    progress: Callable[[int], None],
) -> _Counts:
    data = bytes_of(constant)

    def examined(piece: memoryview) -> _Counts:
        counts = look(piece, constant.dtype)
        progress(len(piece))
        return counts

    total = _Counts()
    cut = (data[start : start + PIECE] for start in range(0, len(data), PIECE))
    for counts in pieces.map((examined, (piece,)) for piece in cut):
        total.add(counts)
    return total


def _count_floats(piece: memoryview, dtype: DataType) -> _Counts:
    integer, exponent_mask, mantissa_mask = _BITS[dtype]
    bits = np.frombuffer(piece, np.uint8).view(integer)
    exponents = bits & integer(exponent_mask)
    counts = _Counts()
    special = exponents == exponent_mask
    if special.any():
        counts.nan = int(np.count_nonzero(bits[special] & integer(mantissa_mask)))
        counts.inf = int(np.count_nonzero(special)) - counts.nan
    small = exponents == 0
    if small.any():
        counts.denormal = int(np.count_nonzero(bits[small] & integer(mantissa_mask)))
    if dtype is DataType.FLOAT16:
        counts.largest = int(np.count_nonzero((bits & np.uint16(0x7FFF)) == _LARGEST_FLOAT16))
    return counts


def _count_codes(piece: memoryview, dtype: DataType) -> _Counts:
    """Of a type of 8 bits, by how often each pattern occurs."""
    often = np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    values = np.arange(256, dtype=np.uint8).view(dtype.numpy).astype(np.float32)
    return _Counts(int(often[np.isnan(values)].sum()), int(often[np.isinf(values)].sum()))


def _count_bounds(piece: memoryview, dtype: DataType) -> _Counts:
    """Integers on the bounds of their type; of unsigned ones the upper bound only, 0 is common."""
    often = np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    if dtype.bits == 4:
        codes = np.arange(256)
        low = np.bincount(codes & 15, weights=often, minlength=16)
        often = low + np.bincount(codes >> 4, weights=often, minlength=16)
    top, bottom = {
        DataType.INT8: (127, 128),
        DataType.UINT8: (255, 255),
        DataType.INT4: (7, 8),
        DataType.UINT4: (15, 15),
    }[dtype]
    found = often[top] + (often[bottom] if bottom != top else 0)
    return _Counts(largest=int(found))


def _judge_floats(tensor: _Tensor, counts: _Counts, found: _Found) -> None:
    constant, name = tensor.constant, tensor.name
    is_weight = constant.size > 1 and any(use.node.op_type in PRODUCTS for use in tensor.uses)

    def much(count: int) -> str:
        return f"{count} of {constant.size}"

    if counts.nan:
        found.add(
            WARNING, "nan", "constants hold NaN", name, much(counts.nan),
            "every result that they enter is NaN: look at how the weights were made",
        )  # fmt: skip
    if counts.inf:
        severity = WARNING if is_weight else NOTE  # masks are often made of infinities
        found.add(
            severity, "inf", f"{'weights' if is_weight else 'constants'} hold infinities", name,
            much(counts.inf), "look at how the weights were made" if is_weight else "",
        )  # fmt: skip
    if constant.dtype is DataType.FLOAT16:
        if counts.denormal > _MANY_DENORMAL * constant.size:
            found.add(
                NOTE, "denormal", "float16 constants are so small that they have lost digits", name,
                much(counts.denormal), "scale them up, or keep them in float32",
            )  # fmt: skip
    elif counts.denormal:
        found.add(
            NOTE, "denormal", "constants hold denormal numbers, which are slow to compute with",
            name, much(counts.denormal), "session.set_denormal_as_zero=1 takes them for zero",
        )  # fmt: skip
    if counts.largest and constant.dtype is DataType.FLOAT16:
        severity = WARNING if is_weight else NOTE
        found.add(
            severity, "clamped", "float16 constants are at the largest finite number, 65504: "
            "they were clamped when they were converted, or stand for infinity", name,
            much(counts.largest), "keep these in float32" if is_weight else "",
        )  # fmt: skip


def _judge_scale(tensor: _Tensor, found: _Found) -> None:
    constant = tensor.constant
    scales = constant.numpy().reshape(-1).astype(np.float32)
    if constant.raw is not None:
        give_back(constant.raw)
    least = float(np.finfo(np.float32).tiny)
    if constant.dtype is DataType.FLOAT16:
        least = 2.0**-14
    with np.errstate(invalid="ignore"):
        kinds = {
            "NaN": np.isnan(scales),
            "infinite": np.isinf(scales),
            "zero": scales == 0,
            "denormal": (scales != 0) & (np.abs(scales) < least),
        }
        # Blocks of weights are scaled by the sign of their largest element.
        if not any(use.node.attribute("block_size") for use in tensor.uses):
            kinds["negative"] = scales < 0
    for what, where in kinds.items():
        count = int(np.count_nonzero(where))
        if count:
            advice = "quantize again: what they scale is lost"
            if what == "denormal":
                advice = "quantize again: they have lost digits, and their inverse may overflow"
            found.add(
                WARNING,
                "scale",
                f"scales of quantization are {what}",
                tensor.name,
                f"{count} of {scales.size}",
                advice,
            )
