# SPDX-License-Identifier: Apache-2.0
"""Whether a result is within its bound; the rule is told in this package's docstring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.tools.rounding.lengths import growth_of
from bascule.tools.rounding.random import draws
from bascule.tools.rounding.reference import BOUNDED, Reference
from bascule.tools.stepping.part import reads_of

Array = np.ndarray[Any, Any]

_WINOGRAD = 2e-5
_QUANTIZING = ("QuantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True, slots=True)
class Judged:
    """How far a result is from its reference, where it is worst in terms of the bound."""

    error: float
    """Absolute; infinite where one of the two is not finite and the other is not the same."""
    bound: float
    """The rounding that the nodes may do, absolute."""
    ratio: float
    """error / bound: above 1 the result is out of bounds."""
    index: tuple[int, ...] = ()
    """Where the element is."""
    found: float = 0.0
    """The element that was judged."""
    expected: float = 0.0
    """The element of the reference."""
    note: str = ""
    """What cannot be told by numbers: another shape, or what was not judged."""
    is_finite: bool = True
    """Whether numbers are out of bounds that are finite on both sides, if any are."""

    @property
    def is_within(self) -> bool:
        """Whether the error is within its bound."""
        return self.ratio <= 1


@dataclass(frozen=True, slots=True)
class _Rule:
    """What the bound of an output depends on, besides the numbers."""

    unit: float
    growth: float
    winograd: float
    quantizes: bool
    is_bounded: bool
    reads_nan: bool
    reads_inf: bool


EXACT = Judged(0.0, 0.0, 0.0)
_LOW = -1e4
"""What stands for the lowest float32 in masks of float16."""
_RANDOM = "not judged: random"
_NOT_JUDGED = "not judged where its inputs are not finite"


def judge(
    nodes: Sequence[Node],
    outputs: Sequence[Value],
    imports: Mapping[str, int],
    given: Mapping[int, Any],
    results: Sequence[Any],
    expected: Sequence[Any],
) -> list[Judged]:
    """Judge `results`, which stand for `outputs` of `nodes`.

    Args:
        nodes: what computes the outputs, in execution order.
        outputs: the values that are judged.
        imports: the opsets of the nodes.
        given: an array for each value that the nodes read from outside, by id.
        results: what was computed for each output, in whatever way.
        expected: what the nodes themselves gave. It counts where no reference can be had, or it is
            NaN; where it is not finite itself, a result that is the same is no error.

    Where the nodes read a NaN already, or make one of an infinity that they read, libraries differ
    by right in what comes of it: that is not judged. Nor are random numbers.
    """
    if all(_same(one, other) for one, other in zip(results, expected)):
        numbers = [_is_finite(one) for one in results]
        if all(numbers):
            return [EXACT for _ in results]
    if draws(nodes):
        return [_judge_random(*pair) for pair in zip(results, expected)]
    reference = sensitivity = None
    unit = max([2.0**-53, *map(_unit, filter(_is_float, results)), *_units_in(nodes)])
    if nodes:  # else an output is what was given
        with contextlib.suppress(Exception):  # then what the nodes themselves gave has to do
            found = Reference(nodes, outputs, imports)
            arrays = [given[id(value)] for value in found.inputs]
            reference = found(arrays)
            sensitivity = found.sensitivity(arrays, reference, unit)
    if reference is None or sensitivity is None:
        reference, sensitivity = list(expected), [None] * len(expected)
    growth = growth_of(nodes, {key: np.shape(array) for key, array in given.items()})
    extra = _WINOGRAD if any(map(_may_be_winograd, nodes)) else 0.0
    quantizes = any(node.op_type in _QUANTIZING or "QLinear" in node.op_type for node in nodes)
    bad = _bad_in([given.get(id(value)) for node in nodes for value in reads_of(node)])
    return [
        _compare(
            result,
            right,
            change,
            own,
            _Rule(unit, growth, extra, quantizes, _is_bounded(value), *bad),
        )
        for value, result, right, change, own in zip(
            outputs, results, reference, sensitivity, expected
        )
    ]


def _judge_random(result: Any, expected: Any) -> Judged:
    if np.shape(result) != np.shape(expected):
        return _different(f"shape {list(np.shape(result))} instead of {list(np.shape(expected))}")
    return _unjudged(_RANDOM)


def _compare(
    result: Any,
    reference: Any,
    sensitivity: Any,
    expected: Any,
    rule: _Rule,
) -> Judged:
    if isinstance(result, list) and isinstance(reference, list):
        return _compare_items(result, reference, rule)
    if not isinstance(result, np.ndarray) or not isinstance(reference, np.ndarray):
        return EXACT if _same(result, reference) else _different("another value")
    if result.shape != reference.shape:
        return _different(f"shape {list(result.shape)} instead of {list(reference.shape)}")
    if result.dtype.kind in "OSUc":
        if result.dtype.kind == "c":
            close = np.allclose(result, reference, rtol=1e-4, atol=1e-5, equal_nan=True)
            return EXACT if close else _different("other numbers")
        return EXACT if _same(result, reference) else _different("other strings")
    if not result.size:
        return EXACT
    if rule.reads_nan and not _is_float(result):
        return _unjudged(_NOT_JUDGED)
    with np.errstate(all="ignore"):
        y, r = result.astype(np.float64), reference.astype(np.float64)
        own = _numbers(expected, r)
        r = np.where(np.isnan(r), own, r)
        bound = _bound(result, r, sensitivity, rule)
        error = np.abs(y - r)
        beyond = _beyond(y, r, own, rule)
        masked = _masked(y, result, expected)
        same = _equal(y, r) | (~np.isfinite(own) & _equal(y, own)) | beyond | masked
        error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
        ratio = np.where(error == 0, 0.0, error / bound)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
    worst = int(ratio.reshape(-1).argmax())
    index = tuple(int(i) for i in np.unravel_index(worst, ratio.shape))
    return Judged(
        float(error[index]),
        float(bound[index]),
        float(ratio[index]),
        index,
        float(y[index]),
        float(r[index]),
        _NOT_JUDGED if beyond.any() and ratio[index] <= 1 else "",
        bool(np.any((ratio > 1) & np.isfinite(y) & np.isfinite(own))),
    )


def _equal(one: Array, other: Array) -> Array:
    found: Array = (one == other) | (np.isnan(one) & np.isnan(other))
    return found


def _numbers(expected: Any, r: Array) -> Array:
    """What the nodes themselves gave, as far as it is known."""
    if not isinstance(expected, np.ndarray) or expected.shape != r.shape:
        return r
    return r if expected.dtype.kind in "OSUc" else expected.astype(np.float64)


def _masked(y: Array, result: Array, expected: Any) -> Any:
    """Where a mask holds the lowest number, and in a narrower type another one that is low."""
    if not _is_float(expected) or not _is_float(result) or expected.dtype == result.dtype:
        return False
    return (expected == lowest(expected.dtype)) & (y <= _LOW)


def lowest(dtype: np.dtype[Any]) -> Any:
    """The lowest finite number of a float type."""
    if dtype.char in "efd":
        return np.finfo(dtype).min
    import ml_dtypes  # only where one of its types is

    return ml_dtypes.finfo(dtype).min


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in another element type, in which the lowest float is the lowest again."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        found = np.asarray(array.astype(dtype))
        if _is_float(array) and _is_float(found):
            found[array == lowest(array.dtype)] = lowest(dtype)
    return found


def _beyond(y: Array, r: Array, own: Array, rule: _Rule) -> Array:
    """Where numbers that the nodes read are not finite, and what comes of them is not defined."""
    if rule.reads_nan:
        return np.isnan(y) | np.isnan(own) | np.isnan(r)
    if rule.reads_inf:
        return np.isnan(own) | (np.isinf(own) & np.isnan(y))
    return np.zeros(y.shape, bool)


def _bad_in(arrays: Sequence[Any]) -> tuple[bool, bool]:
    """Whether there is a NaN, and whether there is an infinity, in arrays of floats."""
    nan = inf = False
    for array in arrays:
        if not _is_float(array) or _is_finite(array):
            continue
        with np.errstate(all="ignore"):
            wide = array.astype(np.float64)
        nan |= bool(np.isnan(wide).any())
        inf |= bool(np.isinf(wide).any())
    return nan, inf


def _bound(
    result: Array,
    r: Array,
    sensitivity: Any,
    rule: _Rule,
) -> Array:
    """The bound of each element; where the reference is not finite, 0."""
    size = np.where(np.isfinite(r), np.abs(r), 0.0)
    s = np.zeros_like(r) if sensitivity is None else np.asarray(sensitivity)
    s = np.where(np.isfinite(s), s, 0.0)
    if not _is_float(result):
        return 4 * rule.growth * s + (1.0 if rule.quantizes else 0.0)
    if sensitivity is None:  # nothing is known of how errors grow
        s = np.full_like(r, 4 * rule.unit * float(size.max()))
    s = np.maximum(s, float(np.median(s)) / 4)
    if rule.is_bounded:
        size = np.ones_like(size)
    found: Array = rule.growth * (8 * s + 4 * rule.unit * size)
    return found + _tiny(result) + rule.winograd * float(np.abs(r[np.isfinite(r)]).max(initial=0))


def _compare_items(
    result: list[Any],
    reference: list[Any],
    rule: _Rule,
) -> Judged:
    """Of the items of a sequence the worst."""
    if len(result) != len(reference):
        return _different(f"{len(result)} items instead of {len(reference)}")
    found = [_compare(one, other, None, None, rule) for one, other in zip(result, reference)]
    return max(found, key=lambda each: each.ratio, default=EXACT)


def _is_bounded(value: Value) -> bool:
    return value.producer is not None and value.producer.op_type in BOUNDED


def _unjudged(note: str) -> Judged:
    return Judged(0.0, 0.0, 0.0, note=note)


def _different(note: str) -> Judged:
    return Judged(np.inf, 0.0, np.inf, note=note)


def _may_be_winograd(node: Node) -> bool:
    if node.op_type not in ("Conv", "PointwiseDepthwiseConv"):
        return False
    weight = node.input(1)
    kernel = node.attribute("kernel_shape") or (list(weight.shape or ())[2:] if weight else [])
    return list(kernel)[:2] == [3, 3] or (weight is not None and 3 in (weight.shape or ()))


def _is_float(array: Any) -> bool:
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OSUbiuc":
        return False
    return DataType.from_numpy(array.dtype).is_float


def _units_in(nodes: Sequence[Node]) -> Iterator[float]:
    """Of the types that the nodes round to on the way."""
    for dtype in {value.dtype for node in nodes for value in node.outputs}:
        if dtype is not None and dtype.is_float:
            yield _unit_of(dtype.numpy)


def _unit(array: Array) -> float:
    return _unit_of(array.dtype)


def _unit_of(dtype: np.dtype[Any]) -> float:
    """The unit roundoff of an element type."""
    if dtype.char in "efd":
        return float(np.finfo(dtype).eps) / 2
    import ml_dtypes  # only where one of its types is

    return float(ml_dtypes.finfo(dtype).eps) / 2


def _tiny(array: Array) -> float:
    if array.dtype.char in "efd":
        return float(np.finfo(array.dtype).smallest_subnormal)
    import ml_dtypes

    return float(ml_dtypes.finfo(array.dtype).smallest_subnormal)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same, NaN included."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return bool(type(one) is type(other) and one == other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool(one.tolist() == other.tolist())
    return bool(one.tobytes() == other.tobytes())


def _is_finite(array: Any) -> bool:
    if not _is_float(array):
        return True
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.astype(np.float64)).all())
