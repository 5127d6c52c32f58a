# SPDX-License-Identifier: Apache-2.0
"""Products of matrices, and sums of products over any labels.

Oracle: NumPy in float64, or integers modulo 2^64. A sum of n products is off by no more than n + 1
units of their magnitude, in whatever order they are added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bascule import GraphOptimizationLevel
from tests.properties.bounds import assert_exact, assert_within, epsilon, wide
from tests.properties.running import Setup, run
from tests.properties.strategies import (
    FLOATS,
    HOLED,
    INTEGERS,
    TAME,
    Array,
    Shape,
    arrays,
    broadcast_shapes,
    setups,
    shapes,
)

WORDS = tuple(d for d in INTEGERS if d.itemsize >= 4)
BYTES = (np.dtype(np.uint8), np.dtype(np.int8))
SIDES = st.sampled_from([1, 2, 3, 0, 4, 5, 8, 9, 16, 17, 31, 33])
ANY_BITS = (*TAME, "bits", "special")


def modular(array: Array) -> Array:
    """In int64, where sums and products of any integers are right modulo 2^64."""
    return array.astype(np.int64)


def work(array: Array) -> Array:
    """The type that an oracle computes in."""
    return modular(array) if array.dtype.kind in "iu" else wide(array)


@st.composite
def factors(draw: st.DrawFn, vectors: bool = True) -> tuple[Shape, Shape]:
    """Shapes of two factors whose batch axes broadcast, or vectors."""
    m, k, n = (draw(SIDES) for _ in range(3))
    if vectors and draw(st.integers(0, 4)) == 0:
        batch = draw(broadcast_shapes(1, most=4, limit=12))[0]
        return draw(st.sampled_from([((k,), (k,)), ((k,), (*batch, k, n)), ((*batch, m, k), (k,))]))
    a, b = draw(broadcast_shapes(2, most=4, limit=12))
    return (*a, m, k), (*b, k, n)


@given(st.data())
def test_matmul(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([*FLOATS, *WORDS]))
    flavours = HOLED if dtype in FLOATS else ANY_BITS
    a, b = (data.draw(arrays(dtype, shape, flavours)) for shape in data.draw(factors()))
    [y] = run("MatMul", [a, b], {}, data.draw(setups(2)))
    with np.errstate(all="ignore"):
        expected = np.asarray(work(a) @ work(b))
        if dtype not in FLOATS:
            assert_exact(y, expected.astype(dtype))
            return
        error = epsilon(dtype) * (a.shape[-1] + 1) * np.asarray(np.abs(wide(a)) @ np.abs(wide(b)))
    assert_within(y, expected, error, dtype)


def bias_shape(m: int, n: int) -> st.SearchStrategy[Shape | None]:
    return st.sampled_from([None, (m, n), (n,), (1, n), (m, 1), (1, 1), (1,), ()])


FACTORS = st.sampled_from([1.0, 0.0, -1.0, 0.5, 2.0, 1.7])


@given(st.data())
def test_gemm(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    m, k, n = (data.draw(SIDES) for _ in range(3))
    trans_a, trans_b = data.draw(st.booleans()), data.draw(st.booleans())
    a = data.draw(arrays(dtype, (k, m) if trans_a else (m, k), HOLED))
    b = data.draw(arrays(dtype, (n, k) if trans_b else (k, n), HOLED))
    shape = data.draw(bias_shape(m, n))
    c = None if shape is None else data.draw(arrays(dtype, shape, HOLED))
    alpha, beta = data.draw(FACTORS), data.draw(FACTORS)
    attributes = {"transA": int(trans_a), "transB": int(trans_b), "alpha": alpha, "beta": beta}
    [y] = run("Gemm", [a, b, c], attributes, data.draw(setups(3)))
    left, right = (wide(x).T if turned else wide(x) for x, turned in ((a, trans_a), (b, trans_b)))
    with np.errstate(all="ignore"):
        scale, weight = float(np.float32(alpha)), float(np.float32(beta))
        expected = scale * (left @ right)
        error = epsilon(dtype) * (k + 3) * abs(scale) * (np.abs(left) @ np.abs(right))
        if c is not None and weight:  # as in BLAS, a factor of zero leaves out C, NaN and all
            added = weight * wide(c)
            expected = expected + added
            error = error + (float(ml_dtypes.finfo(dtype).eps) / 2 + epsilon(dtype)) * np.abs(added)
    assert_within(y, expected, error, dtype)


@pytest.mark.parametrize("level", list(GraphOptimizationLevel))
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_gemm_without_its_addend(level: GraphOptimizationLevel, shape: Shape) -> None:
    a, b = np.ones((2, 2), np.float32), np.ones((2, 3), np.float32)
    c = np.full(shape, np.inf, np.float32)
    [y] = run("Gemm", [a, b, c], {"beta": 0.0}, Setup(level, constants=frozenset({2})))
    assert_exact(y, a @ b)


@given(st.data())
def test_gemm_of_integers(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(WORDS))
    m, k, n = (data.draw(SIDES) for _ in range(3))
    trans_a, trans_b = data.draw(st.booleans()), data.draw(st.booleans())
    a = data.draw(arrays(dtype, (k, m) if trans_a else (m, k), ANY_BITS))
    b = data.draw(arrays(dtype, (n, k) if trans_b else (k, n), ANY_BITS))
    shape = data.draw(bias_shape(m, n))
    c = None if shape is None else data.draw(arrays(dtype, shape, ANY_BITS))
    alpha, beta = data.draw(st.integers(-3, 3)), data.draw(st.integers(-3, 3))
    attributes = {"transA": int(trans_a), "transB": int(trans_b)} | {
        "alpha": float(alpha),
        "beta": float(beta),
    }
    [y] = run("Gemm", [a, b, c], attributes, data.draw(setups(3)))
    left, right = (x.T if turned else x for x, turned in ((a, trans_a), (b, trans_b)))
    expected = alpha * (modular(left) @ modular(right))
    if c is not None:
        expected = expected + beta * modular(c)
    assert_exact(y, expected.astype(dtype))


@dataclass(frozen=True)
class Equation:
    """An equation, the shapes of its operands, and how many terms an output element sums."""

    text: str
    shapes: list[Shape]
    terms: int


@st.composite
def equations(draw: st.DrawFn) -> Equation:
    """Any labels in any order, repeated in an operand or not, and ellipses that broadcast."""
    labels = draw(st.permutations("abcXY"))[: draw(st.integers(0, 5))]
    sizes = {label: draw(st.sampled_from([2, 3, 1, 4, 0])) for label in labels}
    count = draw(st.integers(1, 4))
    whole = draw(shapes(0, 3, limit=8))
    ellipses = [tuple(1 if draw(st.booleans()) else s for s in whole) for _ in range(count)]
    dotted = draw(st.booleans())
    operands, sides = [], []
    for rest in ellipses:
        chosen = draw(st.lists(st.sampled_from(labels), max_size=4)) if labels else []
        shape, text = [sizes[label] for label in chosen], "".join(chosen)
        if dotted and draw(st.booleans()):
            at = draw(st.integers(0, len(chosen)))
            shape[at:at] = rest
            text = text[:at] + "..." + text[at:]
        operands.append(text)
        sides.append(tuple(shape))
    space = draw(st.sampled_from(["", " "]))
    equation = f"{space},{space}".join(operands)
    used = sorted({label for text in operands for label in text if label != "."})
    written = "".join(operands)
    if draw(st.booleans()):
        kept = [label for label in used if draw(st.booleans())]
        kept = list(draw(st.permutations(kept))) if kept else []
        if "..." in written:
            kept.insert(draw(st.integers(0, len(kept))), "...")
        equation += f"{space}->{space}" + "".join(kept)
    else:
        kept = [label for label in used if written.count(label) == 1]
    terms = math.prod(sizes[label] for label in used if label not in kept)
    return Equation(equation, sides, terms)


@example(equation=Equation("ii", [(3, 3)], 3), dtype=FLOATS[0], seed=0)
@example(equation=Equation("...iji->...j", [(2, 3, 4, 3)], 3), dtype=FLOATS[0], seed=0)
@example(equation=Equation(",ij->ji", [(), (2, 3)], 1), dtype=FLOATS[0], seed=0)
@given(equations(), st.sampled_from([*FLOATS, *INTEGERS]), st.integers(0, 99))
def test_einsum(equation: Equation, dtype: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    operands = [(generator.standard_normal(shape) * 3).round(1) for shape in equation.shapes]
    if dtype in FLOATS:
        xs = [np.asarray(x).astype(dtype) for x in operands]
    else:
        xs = [np.asarray(x * 100).astype(np.int64).astype(dtype) for x in operands]
    setup = Setup(shapes=["static", "symbolic", "unknown"][seed % 3])
    [y] = run("Einsum", xs, {"equation": equation.text}, setup)
    expected = np.asarray(np.einsum(equation.text, *map(work, xs)))
    if dtype not in FLOATS:
        assert_exact(y, expected.astype(dtype))
        return
    magnitude = np.asarray(np.einsum(equation.text, *(np.abs(wide(x)) for x in xs)))
    # Products of some operands are rounded on the way, to the work type at least.
    error = epsilon(dtype) * (equation.terms + len(xs)) * magnitude
    assert_within(y, expected, error, dtype)


@st.composite
def zero_points(draw: st.DrawFn, dtype: Any, lines: Shape, line: Shape) -> Array:
    """One of all, or one of each row or column: `line` alone, or `lines` of the whole batch."""
    shape = draw(st.sampled_from([(), (1,), lines, *([line] if len(lines) == 2 else [])]))
    return draw(arrays(dtype, shape, ("special", "whole")))


def columns(zero: Array) -> Array:
    """The zero points of rows, beside the rows."""
    return zero[:, None] if zero.ndim == 1 and zero.size != 1 else zero


@st.composite
def byte_factors(draw: st.DrawFn) -> tuple[Array, Array, Array, Array]:
    """Factors of bytes and their zero points."""
    a_type, b_type = draw(st.sampled_from(BYTES)), draw(st.sampled_from(BYTES))
    a_shape, b_shape = draw(factors(vectors=False))
    a, b = draw(arrays(a_type, a_shape, ANY_BITS)), draw(arrays(b_type, b_shape, ANY_BITS))
    a_zero = draw(zero_points(a_type, (*a_shape[:-1], 1), a_shape[-2:-1]))
    b_zero = draw(zero_points(b_type, (*b_shape[:-2], 1, b_shape[-1]), b_shape[-1:]))
    return a, b, a_zero, b_zero


def product(a: Array, b: Array, a_zero: Array, b_zero: Array) -> Array:
    shifted = modular(a) - columns(modular(a_zero))
    return np.asarray(shifted @ (modular(b) - modular(b_zero)))


@given(byte_factors(), st.integers(2, 4), setups(4))
def test_matmul_integer(drawn: tuple[Array, Array, Array, Array], count: int, setup: Setup) -> None:
    a, b, a_zero, b_zero = drawn
    zeros = [a_zero, b_zero][: count - 2]
    constants = frozenset(i for i in setup.constants if i < count)
    setup = Setup(setup.level, setup.shapes, constants, setup.staged)
    [y] = run("MatMulInteger", [a, b, *zeros], {}, setup)
    if count < 4:
        b_zero = np.zeros((), b.dtype)
    if count < 3:
        a_zero = np.zeros((), a.dtype)
    assert_exact(y, product(a, b, a_zero, b_zero).astype(np.int32))


SCALES = st.sampled_from([0.5, 0.01, 1.0, 0.3, 2.0])


@given(byte_factors(), st.sampled_from(BYTES), st.data())
def test_qlinear_matmul(
    drawn: tuple[Array, Array, Array, Array], y_type: Any, data: st.DataObject
) -> None:
    a, b, a_zero, b_zero = drawn
    kind = data.draw(st.sampled_from([FLOATS[0], FLOATS[2], FLOATS[3]]))
    a_scale, b_scale = (
        np.full(zero.shape, data.draw(SCALES)).astype(kind) for zero in (a_zero, b_zero)
    )
    y_scale = np.asarray(data.draw(SCALES) * 8).astype(kind)
    y_zero = data.draw(arrays(y_type, (), ("special",)))
    inputs = [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero]
    [y] = run("QLinearMatMul", inputs, {}, data.draw(setups(8)))
    scaled = product(a, b, a_zero, b_zero) * columns(wide(a_scale)) * wide(b_scale) / wide(y_scale)
    info = np.iinfo(y_type)
    expected = np.clip(scaled + float(y_zero), info.min, info.max)
    assert (y.dtype, y.shape) == (y_type, expected.shape)
    error = 0.5 + 8 * float(np.finfo(np.float32).eps) * np.abs(scaled)
    assert np.all(np.abs(wide(y) - expected) <= error)


@pytest.mark.parametrize("dtype", [*FLOATS, *WORDS], ids=str)
def test_products_of_nothing(dtype: Any) -> None:
    [y] = run("MatMul", [np.ones((3, 0), dtype), np.ones((0, 2), dtype)])
    assert_exact(y, np.zeros((3, 2), dtype))
