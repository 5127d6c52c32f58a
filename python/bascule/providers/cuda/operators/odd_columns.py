# SPDX-License-Identifier: Apache-2.0
"""Products whose rows of results are no multiples of 16 bytes, as vocabularies make them.

Libraries are several times slower at those. Of two ways the second is for results that do not stay
in the cache, of which a copy would cost about as much as the product:

* a product with more columns, the first of which are copied;
* rows that begin at the same place of 16 bytes lie at distances of a multiple of 16 bytes: for each
  such place one product of every eighth row (in 16-bit types), from the first column on that is
  aligned there. What is left out, a few columns on either side, is one more, narrow product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.libraries.cublaslt import MatMulPlan, Problem
from bascule.providers.cuda.operators.library_matmul import run_plan
from bascule.providers.cuda.operators.product import Product
from bascule.providers.cuda.tensor import Tensor

Run = Callable[[Call, Product, Tensor], None]

_TYPES = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16))
_VECTOR = 16
_WORTH_IT = 1 << 16
"""Elements of B."""
_CACHED_BYTES = 32 << 20
"""Results of more are written once."""
_FEWEST_ROWS = 128
"""Of each product of every eighth row, which reads all of B."""


def lies_badly(b: Tensor, transpose_b: bool) -> bool:
    """Whether rows of the result are no multiples of 16 bytes, but columns of B would be."""
    if b.rank != 2 or b.dtype not in _TYPES or b.size < _WORTH_IT:
        return False
    n, k = b.shape if transpose_b else b.shape[::-1]
    return n * b.itemsize % _VECTOR != 0 and k * b.itemsize % _VECTOR == 0


def by_columns(call: Call, b: Tensor, transpose_b: bool) -> Tensor:
    """A constant B as [N, K]."""
    return b if transpose_b else _padded(call, b, transpose_b).part(0, b.shape[::-1])


def multiply_odd(call: Call, p: Product, b: Tensor, transpose_b: bool, y: Tensor, run: Run) -> bool:
    """The product `p`, whose B is `b` by columns, where it is one for these ways.

    They hand what is left of it to `run`.
    """
    if p.batch or p.transpose_a or p.epilogue.residual is not None or call.device.cublas is None:
        return False
    if not _by_places(call, p, y, run):
        _by_padding(call, p, _padded(call, b, transpose_b), y, run)
    return True


def spread(call: Call, x: Tensor, y: Tensor, strides: tuple[int, int], factor: float) -> None:
    """y, a matrix or row, becomes factor * x, which is read with these strides."""
    rows, columns = (1, *y.shape)[-2:]
    call.launch(
        "matmul",
        f"matmul_addend_{type_name(y.dtype)}",
        min(-(-y.size // 256), 1 << 20),
        256,
        *(x, y, np.int64(rows), np.int64(columns)),
        *(np.int64(stride) for stride in strides),
        np.float32(factor),
    )


# --- more columns


def _padded(call: Call, b: Tensor, transpose_b: bool) -> Tensor:
    """A constant matrix as [N, K], with rows of zeros up to a good N."""
    n, k = b.shape if transpose_b else b.shape[::-1]

    def make(keeping: Call) -> Tensor:
        unit = _VECTOR // b.itemsize
        result = keeping.zeros((-(-n // unit) * unit, k), b.dtype)
        spread(keeping, b, result.part(0, (n, k)), (k, 1) if transpose_b else (1, n), 1.0)
        return result

    kept: Tensor = call.prepared("B by columns", make)
    return kept


def _by_padding(call: Call, p: Product, padded: Tensor, y: Tensor, run: Run) -> None:
    columns, bias = padded.shape[0], None
    if p.epilogue.bias is not None:
        bias = call.empty((columns,), y.dtype)
        call.copy(bias, p.epilogue.bias)
    wide = call.empty((p.m, columns), y.dtype)
    epilogue = replace(p.epilogue, bias=bias)
    run(call, replace(p, b=padded, n=columns, shape=wide.shape, epilogue=epilogue), wide)
    call.launch(
        "odd_columns",
        f"drop_columns_{y.itemsize}",
        min(-(-y.nbytes // (256 * _VECTOR)), 1 << 20),
        256,
        *(wide, y, np.int64(y.size), np.int64(p.n), np.int64(columns)),
    )


# --- a product for each place of a vector that a row can begin at


def _by_places(call: Call, p: Product, y: Tensor, run: Run) -> bool:
    unit = _VECTOR // y.itemsize
    places = unit // math.gcd(p.n, unit)
    # As many columns for each, so that they are one problem for the library.
    width = (p.n - (unit - 1)) // unit * unit
    if y.nbytes < _CACHED_BYTES or p.m < places * _FEWEST_ROWS or width <= 2 * unit:
        return False
    if (p.a.address | p.b.address | y.address) % _VECTOR:
        return False
    plans = []
    for place in range(places):
        problem = Problem(
            p.a.dtype,
            -(-(p.m - place) // places),
            width,
            p.k,
            transpose_b=True,
            a_row=places * p.k,
            d_row=places * p.n,
            alpha=p.epilogue.alpha,
            bias=p.epilogue.bias is not None,
            activation=p.epilogue.activation.name,
        )
        plan = call.planned(f"plan {problem}", partial(_plan, problem))
        if plan is None:
            return False
        plans.append(plan)
    for place, plan in enumerate(plans):
        first = -place * p.n % unit
        bias = None if p.epilogue.bias is None else _aligned(call, p.epilogue.bias, first, width)
        a = p.a.address + place * p.k * y.itemsize
        b = p.b.address + first * p.k * y.itemsize
        d = y.address + (place * p.n + first) * y.itemsize
        run_plan(call, plan, [(a, b, d, d)], bias)
    _edges(call, p, width, y, run)
    return True


def _plan(problem: Problem, call: Call) -> MatMulPlan | None:
    plan: MatMulPlan | None = call.device.cublas.plan(problem)
    return plan


def _aligned(call: Call, bias: Tensor, first: int, size: int) -> Tensor:
    result = call.empty((size,), bias.dtype)
    call.copy(result, bias.part(first, (size,)))
    return result


def _edges(call: Call, p: Product, width: int, y: Tensor, run: Run) -> None:
    """The columns that the products of `width` columns leave out."""
    unit = _VECTOR // y.itemsize
    last = p.n - 2 * unit

    def gather(calling: Call, x: Tensor, length: int) -> Tensor:
        """The first `unit` rows of `length` elements, and the last two times as many."""
        result = calling.empty((3 * unit, length), x.dtype)
        calling.copy(result, x.part(0, (unit, length)))
        calling.copy(
            result.part(unit * length, (2 * unit, length)),
            x.part(last * length, (2 * unit, length)),
        )
        return result

    b = call.prepared("edges of B by columns", lambda keeping: gather(keeping, p.b, p.k))
    bias = p.epilogue.bias
    if bias is not None:
        bias = gather(call, bias, 1).reshaped((3 * unit,))
    edges = call.empty((p.m, 3 * unit), y.dtype)
    epilogue = replace(p.epilogue, bias=bias)
    run(call, replace(p, b=b, n=3 * unit, shape=edges.shape, epilogue=epilogue), edges)
    call.launch(
        "odd_columns",
        f"edge_columns_{y.itemsize}",
        min(-(-edges.size // 256), 1 << 20),
        256,
        *(edges, y, np.int64(p.m), np.int64(p.n), np.int64(width)),
    )
