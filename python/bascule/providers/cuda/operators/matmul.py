# SPDX-License-Identifier: Apache-2.0
"""Matrix products of real and integer matrices.

Which way a product goes, in this order:

* up to 8 rows times one matrix of float32, float16 or bfloat16, whose rows are multiples of 16
  bytes: our kernels that stream the weights (``gemv.cu``);
* cuBLASLt, with bias, residual and those activations that it knows, the others after it;
* our kernel for all types and layouts (``matmul.cu``).
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.activation import (
    NO_ACTIVATION,
    Activation,
    accepts_activation,
    activation_of,
)
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.libraries.cublaslt import ACTIVATIONS, Problem
from bascule.providers.cuda.libraries.cublaslt_tuning import fastest_algorithm
from bascule.providers.cuda.operators.layer_normalization import normalized_rows
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

INTEGERS = frozenset((DataType.INT32, DataType.INT64, DataType.UINT32, DataType.UINT64))
TYPES = FLOATS | INTEGERS
_STREAMED = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16))

MOST_STREAMED_ROWS = 8
_MOST_CALLS = 64
"""Products of a batch that the library is called for one by one, at most."""
_MOST_AXES = 8
_WORTH_PADDING = 1 << 16
_PADDED_BYTES = 24 << 20
_PADDED_ROWS = 128
_TILE = 64
_ACTIVATING = 128
"""Threads of a block: few, so that small results reach all processors."""
_VECTOR = 16
_MOST_NORMALIZED = 44 << 10
"""Bytes of normalized rows that a block keeps in shared memory."""


@dataclass(frozen=True, slots=True)
class Epilogue:
    """``activation(alpha * sum + bias + residual)``: bias for each column, residual like Y."""

    alpha: float = 1.0
    bias: Tensor | None = None
    residual: Tensor | None = None
    activation: Activation = NO_ACTIVATION

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """As kernels take it, last in their lists."""
        return self.bias, self.residual, np.float32(self.alpha), *self.activation.arguments

    @property
    def is_plain(self) -> bool:
        """Whether the sums stay as they are."""
        nothing = self.bias is None and self.residual is None and not self.activation.name
        return nothing and self.alpha == 1


@dataclass(frozen=True, slots=True)
class Normalization:
    """Of the rows of A, before a product that streams B."""

    scale: Tensor | None = None
    bias: Tensor | None = None
    epsilon: float = 0.0
    centers: bool = False
    """Whether the mean is taken off, as LayerNormalization does."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """As kernels take it."""
        return self.scale, self.bias, np.float32(self.epsilon), np.int32(self.centers)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a batch, with the elements from one matrix to the next along it."""

    size: int
    a: int
    b: int
    y: int


@dataclass(frozen=True, slots=True)
class Product:
    """Y, [M, N], from A, [M, K], and B, [K, N], for each matrix of a batch.

    Transposed operands lie as [K, M] and [N, K].
    """

    a: Tensor
    b: Tensor
    m: int
    n: int
    k: int
    transpose_a: bool
    transpose_b: bool
    batch: tuple[Axis, ...]
    shape: tuple[int, ...]
    epilogue: Epilogue

    @property
    def matrices(self) -> int:
        return math.prod(axis.size for axis in self.batch)


def multiply(
    call: Call,
    a: Tensor,
    b: Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    epilogue: Epilogue = Epilogue(),
    constant: bool = False,
) -> Tensor:
    """The product by NumPy's rules for shapes; transposing swaps the last two axes of a matrix.

    With `constant` B is an input of the node that is the same in every run.
    """
    padded = None
    few = transpose_b and a.size <= MOST_STREAMED_ROWS * a.shape[-1] if a.rank else False
    if constant and not few and _lies_badly(b, transpose_b):
        padded = _padded(call, b, transpose_b)
        n, k = b.shape if transpose_b else b.shape[::-1]
        b, transpose_b = padded.part(0, (n, k)), True
    product = _product(call, a, b, transpose_a, transpose_b, epilogue)
    y = call.empty(product.shape, a.dtype)
    if y.size and (padded is None or not _by_padding(call, product, padded, y)):
        run(call, product, y)
    return y


def run(call: Call, product: Product, y: Tensor) -> None:
    """Compute a product into `y`, in the fastest way there is."""
    if not _stream(call, product, y) and not _by_library(call, product, y):
        _by_tiles(call, product, y)


# --- results whose rows are no multiples of 16 bytes


def _lies_badly(b: Tensor, transpose_b: bool) -> bool:
    """Whether rows of B and of the result are no multiples of 16 bytes, but columns of B would be.

    Libraries are several times slower at that; vocabularies have such sizes.
    """
    if b.rank != 2 or b.dtype not in _STREAMED or b.size < _WORTH_PADDING:
        return False
    n, k = b.shape if transpose_b else b.shape[::-1]
    return n * b.itemsize % _VECTOR != 0 and k * b.itemsize % _VECTOR == 0


def _padded(call: Call, b: Tensor, transpose_b: bool) -> Tensor:
    """A constant matrix as [N, K], with rows of zeros up to a good N."""
    n, k = b.shape if transpose_b else b.shape[::-1]

    def make(keeping: Call) -> Tensor:
        unit = _VECTOR // b.itemsize
        result = keeping.zeros((-(-n // unit) * unit, k), b.dtype)
        _spread(keeping, b, result.part(0, (n, k)), (k, 1) if transpose_b else (1, n), 1.0)
        return result

    kept: Tensor = call.prepared("B by columns", make)
    return kept


def _by_padding(call: Call, p: Product, padded: Tensor, y: Tensor) -> bool:
    """As a product with more columns, which are dropped in a copy."""
    few = p.batch or p.transpose_a or p.m <= MOST_STREAMED_ROWS
    if few or call.device.cublas is None or p.epilogue.residual is not None:
        return False
    columns, bias = padded.shape[0], None
    if p.epilogue.bias is not None:
        bias = call.empty((columns,), y.dtype)
        call.copy(bias, p.epilogue.bias)
    # The copy finds what was computed in the cache.
    most = max(_PADDED_BYTES // (columns * y.itemsize) // _PADDED_ROWS, 1) * _PADDED_ROWS
    wide = call.empty((min(most, p.m), columns), y.dtype)
    for row in range(0, p.m, most):
        rows = min(most, p.m - row)
        part = replace(
            p,
            a=p.a.part(row * p.k, (rows, p.k)),
            b=padded,
            m=rows,
            n=columns,
            shape=(rows, columns),
            epilogue=replace(p.epilogue, bias=bias),
        )
        run(call, part, wide.part(0, part.shape))
        kept = y.part(row * p.n, (rows, p.n))
        call.launch(
            "drop_columns",
            f"drop_columns_{y.itemsize}",
            min(-(-kept.nbytes // (256 * _VECTOR)), 1 << 20),
            256,
            *(wide, kept, np.int64(kept.size), np.int64(p.n), np.int64(columns)),
        )
    return True


def _spread(call: Call, x: Tensor, y: Tensor, strides: tuple[int, int], factor: float) -> None:
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


# --- shapes


def _product(
    call: Call, a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool, epilogue: Epilogue
) -> Product:
    if a.rank == 0 or b.rank == 0:
        raise call.error("a scalar is not a matrix")
    transpose_a, transpose_b = transpose_a and a.rank > 1, transpose_b and b.rank > 1
    a_shape = a.shape if a.rank > 1 else (1, *a.shape)
    b_shape = b.shape if b.rank > 1 else (*b.shape, 1)
    m, k = reversed(a_shape[-2:]) if transpose_a else a_shape[-2:]
    b_rows, n = reversed(b_shape[-2:]) if transpose_b else b_shape[-2:]
    if k != b_rows:
        raise call.error(
            f"matrix sizes do not fit: A' of shape {a.shape} has {k} columns and B' of shape "
            f"{b.shape} has {b_rows} rows"
        )
    try:
        batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    except ValueError:
        raise call.error(f"shapes {a.shape} and {b.shape} do not broadcast") from None
    shape = (*batch, *((m,) if a.rank > 1 else ()), *((n,) if b.rank > 1 else ()))
    if epilogue.bias is not None and epilogue.bias.shape != (n,):
        raise call.error(f"bias has shape {epilogue.bias.shape}, expected {(n,)}")
    if epilogue.residual is not None and epilogue.residual.shape != shape:
        raise call.error(f"residual has shape {epilogue.residual.shape}, expected {shape}")
    axes = batch_axes(batch, a_shape, b_shape, m * n)
    if len(axes) == 1 and axes[0].b == 0 and axes[0].a and not transpose_a:
        m, axes = m * axes[0].size, ()  # one B for all: the batch is more rows
    return Product(a, b, m, n, k, transpose_a, transpose_b, axes, shape, epilogue)


def batch_axes(
    batch: Sequence[int], a_shape: Sequence[int], b_shape: Sequence[int], y_size: int
) -> tuple[Axis, ...]:
    """The axes of a batch, as few as there can be."""
    axes: list[Axis] = []
    y = y_size
    steps = [_matrix_steps(shape, len(batch)) for shape in (a_shape, b_shape)]
    for size, a, b in reversed([*zip(batch, *steps, strict=True)]):
        if size != 1:
            axes.insert(0, Axis(size, a, b, y))
            y *= size
    merged: list[Axis] = []
    for axis in reversed(axes):
        inner = merged[0] if merged else None
        if inner and axis.a == inner.a * inner.size and axis.b == inner.b * inner.size:
            merged[0] = replace(inner, size=inner.size * axis.size)
        else:
            merged.insert(0, axis)
    return tuple(merged)


def _matrix_steps(shape: Sequence[int], rank: int) -> list[int]:
    """Elements from one matrix to the next along each of `rank` axes; 0 where it is broadcast."""
    steps: list[int] = []
    step = shape[-1] * shape[-2]
    for size in reversed(shape[:-2]):
        steps.insert(0, step if size != 1 else 0)
        step *= size
    return [0] * (rank - len(steps)) + steps


# --- few rows


def _stream(
    call: Call, p: Product, y: Tensor, normalization: Normalization = Normalization()
) -> bool:
    """A few rows times one matrix, at the speed of reading the matrix."""
    if p.batch or p.m > MOST_STREAMED_ROWS or p.a.dtype not in _STREAMED or p.k == 0:
        return False
    if (p.transpose_a and p.m > 1) or p.b.address % _VECTOR:
        return False
    width = _VECTOR // p.a.itemsize
    rows = 1 << (p.m - 1).bit_length()
    if p.transpose_b:
        if p.k % width or p.a.address % _VECTOR:
            return False
        staged = p.m * p.k * p.a.itemsize
        if normalization.scale is not None and staged > _MOST_NORMALIZED:
            return False
        _stream_rows(call, p, y, rows, width, normalization)
        return True
    if p.n % width:
        return False
    _stream_columns(call, p, y, rows, width)
    return True


def _stream_rows(
    call: Call,
    p: Product,
    y: Tensor,
    rows: int,
    width: int,
    normalization: Normalization = Normalization(),
) -> None:
    # More columns to a warp read x less often, while there are warps for all processors.
    busy = 16 * call.device.processors
    columns = 4 if p.n >= 4 * busy else 1
    slices = 1
    while slices < 8 and slices * 32 * width < p.k and p.n // columns * slices < busy:
        slices *= 2
    staged = p.m * p.k * p.a.itemsize if normalization.scale is not None else 0
    call.launch(
        "gemv",
        f"gemv_rows_{rows}_{columns}_{type_name(p.a.dtype)}",
        -(-p.n // (8 // slices * columns)),
        256,
        *(p.a, p.b, y, np.int64(p.m), np.int64(p.n), np.int64(p.k), np.int32(slices)),
        *normalization.arguments,
        *p.epilogue.arguments,
        shared=staged,
    )


def _stream_columns(call: Call, p: Product, y: Tensor, rows: int, width: int) -> None:
    tiles = -(-p.n // (8 * width))
    # Two blocks for each processor, if each then has at least 128 rows of weights to read.
    slices = max(1, min(-(-2 * call.device.processors // tiles), p.k // 128))
    if tiles >= call.device.processors:
        slices = 1
    length = -(-p.k // (32 * slices)) * 32
    slices = -(-p.k // length)
    parts = call.empty((slices, p.m, p.n), DataType.FLOAT) if slices > 1 else None
    sizes = np.int64(p.m), np.int64(p.n), np.int64(p.k), np.int64(length)
    call.launch(
        "gemv",
        f"gemv_columns_{rows}_{type_name(p.a.dtype)}",
        (tiles, slices),
        256,
        *(p.a, p.b, y, parts, *sizes),
        *p.epilogue.arguments,
    )
    if parts is not None:
        combine(call, parts, y, p.n, p.epilogue)


def combine(call: Call, parts: Tensor, y: Tensor, n: int, epilogue: Epilogue) -> None:
    """The sums over the first axis of `parts`, and what follows them."""
    call.launch(
        "gemv",
        f"gemv_combine_{type_name(y.dtype)}",
        -(-y.size // 256),
        256,
        *(parts, y, np.int64(parts.shape[0]), np.int64(y.size), np.int64(n)),
        *epilogue.arguments,
    )


# --- the library


def _by_library(call: Call, p: Product, y: Tensor) -> bool:
    """By cuBLASLt, if it is there and can do it."""
    library = call.device.cublas
    if library is None or p.k == 0 or p.a.dtype not in FLOATS:
        return False
    strided = max(p.batch, key=lambda axis: axis.size, default=Axis(1, 0, 0, p.m * p.n))
    rest = [axis for axis in p.batch if axis is not strided]
    if math.prod(axis.size for axis in rest) > _MOST_CALLS:
        return False
    problem = _problem(p, y, strided, rest)

    def make(_: Call) -> Any:
        return _plan(library, problem)

    plan, done = call.planned(f"plan {problem}", make)
    if plan is None:
        return False
    residual, bias = p.epilogue.residual, p.epilogue.bias if done.bias else None
    bias_address = 0 if bias is None else bias.address
    if not library.is_settled(plan.problem):
        addresses = p.a.address, p.b.address, (residual or y).address, y.address, bias_address
        library.settle(plan, fastest_algorithm(call.device, library, plan, *addresses))
    workspace = call.workspace(plan.workspace) if plan.workspace else None
    for index in itertools.product(*(range(axis.size) for axis in rest)):
        moved = [(at, axis) for at, axis in zip(index, rest, strict=True)]
        to_y = sum(at * axis.y for at, axis in moved) * y.itemsize
        plan.run(
            p.a.address + sum(at * axis.a for at, axis in moved) * y.itemsize,
            p.b.address + sum(at * axis.b for at, axis in moved) * y.itemsize,
            (residual or y).address + to_y,
            y.address + to_y,
            bias_address,
            0 if workspace is None else workspace.address,
            call.device.stream.ptr,
        )
    left = Epilogue(
        bias=None if done.bias else p.epilogue.bias,
        activation=NO_ACTIVATION if done.activation else p.epilogue.activation,
    )
    if not left.is_plain:
        activate(call, y, p.n, left)
    return True


def _problem(p: Product, y: Tensor, strided: Axis, rest: Sequence[Axis]) -> Problem:
    steps = [
        (axis.a | axis.b | axis.y) * y.itemsize for axis in (*rest, strided)
    ]  # the lowest bit set in any of them
    addresses = p.a.address | p.b.address | y.address | _VECTOR
    if p.epilogue.residual is not None:
        addresses |= p.epilogue.residual.address
    bits = addresses
    for step in steps if p.batch else ():
        bits |= step
    return Problem(
        p.a.dtype,
        p.m,
        p.n,
        p.k,
        p.transpose_a,
        p.transpose_b,
        strided.size,
        strided.a,
        strided.b,
        strided.y,
        alpha=p.epilogue.alpha,
        beta=1.0 if p.epilogue.residual is not None else 0.0,
        bias=p.epilogue.bias is not None,
        activation=p.epilogue.activation.name,
        alignment=bits & -bits,
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """What a plan does besides the product itself."""

    bias: bool
    activation: bool


def _plan(library: Any, wanted: Problem) -> tuple[Any, _Done]:
    """The plan that does most of what is wanted."""
    # Its Gelu is as accurate as float32 is, in float64 too.
    coarse = wanted.activation == "GeluTanh" and wanted.dtype is DataType.DOUBLE
    choices = [wanted] if wanted.activation in ACTIVATIONS and not coarse else []
    choices += [replace(wanted, activation=""), replace(wanted, activation="", bias=False)]
    for problem in dict.fromkeys(choices):
        plan = library.plan(problem)
        if plan is not None:
            done = _Done(problem.bias or not wanted.bias, problem.activation == wanted.activation)
            return plan, done
    return None, _Done(False, False)


def activate(call: Call, y: Tensor, n: int, epilogue: Epilogue) -> None:
    """What the library could not do, on its result in place."""
    width = _VECTOR // y.itemsize
    in_vectors = n % width == 0 and y.address % _VECTOR == 0
    items = y.size // width if in_vectors else y.size
    call.launch(
        "activate",
        f"activate_{type_name(y.dtype)}",
        min(-(-items // _ACTIVATING), 1 << 20),
        _ACTIVATING,
        *(y, np.int64(y.size), np.int64(n), np.int32(in_vectors)),
        *epilogue.arguments,
    )


# --- our kernel for everything


def _by_tiles(call: Call, p: Product, y: Tensor) -> None:
    tiles = -(-p.m // _TILE) * -(-p.n // _TILE) * p.matrices
    a_strides = (1, p.m) if p.transpose_a else (p.k, 1)
    b_strides = (1, p.k) if p.transpose_b else (p.n, 1)
    call.launch(
        "matmul",
        f"matmul_tiled_{type_name(y.dtype)}",
        tiles,
        256,
        *(p.a, p.b, y, np.int64(p.m), np.int64(p.n), np.int64(p.k)),
        *(np.int64(stride) for stride in (*a_strides, *b_strides)),
        batch_struct(call, p.batch),
        *p.epilogue.arguments,
    )


def batch_struct(call: Call, axes: Sequence[Axis]) -> Struct:
    """The axes as kernels take them."""
    if len(axes) > _MOST_AXES:
        raise call.error(f"the batch has {len(axes)} axes that cannot be joined")
    columns = [[getattr(axis, name) for axis in axes] for name in ("size", "a", "b")]
    padded = [number for column in columns for number in column + [0] * (_MOST_AXES - len(column))]
    return Struct(struct.pack(f"<{1 + 3 * _MOST_AXES}q", len(axes), *padded))


# --- operators


@kernel("MatMul", dtypes=TYPES)
def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The product of matrices, vectors and stacks of matrices."""
    return multiply(call, a, b, constant=call.is_constant(1))


def _accepts(node: Node) -> str:
    name = node.attributes.get("activation", "")
    first = node.input(0)
    if name and first is not None and first.dtype in INTEGERS:
        return f"activation '{name}' is not for integers"
    return accepts_activation(node)


@kernel("MatMul", domain=FUSED_DOMAIN, dtypes=TYPES, accepts=_accepts)
def fused_matmul(
    call: Call,
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """The product with scale, bias, residual and activation."""
    alpha = float(call.attribute("alpha", 1.0))
    epilogue = Epilogue(alpha, bias, residual, activation_of(call.node))
    transpose_a, transpose_b = (bool(call.attribute(name, 0)) for name in ("transA", "transB"))
    return multiply(call, a, b, transpose_a, transpose_b, epilogue, call.is_constant(1))


def _accepts_projection(node: Node) -> str:
    types = {value.dtype for value in node.inputs if value is not None}
    return "its inputs are of different types" if len(types) > 1 else accepts_activation(node)


@kernel("Project", domain=FUSED_DOMAIN, dtypes=FLOATS, accepts=_accepts_projection)
def project(
    call: Call,
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """The product after a normalization of the rows of A."""
    centers = call.attribute("normalization") == "LayerNormalization"
    epsilon = float(call.attribute("epsilon", 1e-5))
    for parameter in (scale, shift):
        if parameter is not None and parameter.shape != a.shape[-1:]:
            raise call.error(f"a normalization by {parameter.shape} of rows of {a.shape}")
    alpha = float(call.attribute("alpha", 1.0))
    epilogue = Epilogue(alpha, bias, residual, activation_of(call.node))
    transpose_b = bool(call.attribute("transB", 0))
    product = _product(call, a, b, False, transpose_b, epilogue)
    y = call.empty(product.shape, a.dtype)
    norm = Normalization(scale, shift, epsilon, centers)
    if y.size == 0 or (transpose_b and _stream(call, product, y, norm)):
        return y
    normal = a if scale is None else normalized_rows(call, a, scale, shift, centers)
    run(call, replace(product, a=normal), y)
    return y


@kernel("Gemm", dtypes=TYPES)
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """``alpha * A' @ B' + beta * C``, with C broadcast to the shape of the product."""
    transpose_a, transpose_b = (bool(call.attribute(name, 0)) for name in ("transA", "transB"))
    if a.rank != 2 or b.rank != 2:
        raise call.error(f"A has shape {a.shape} and B {b.shape}, expected two axes each")
    m, n = a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]
    bias = residual = None
    if c is not None and float(call.attribute("beta", 1.0)) != 0:
        addend = _addend(call, c, m, n)
        bias, residual = (addend, None) if addend.rank == 1 else (None, addend)
    epilogue = Epilogue(float(call.attribute("alpha", 1.0)), bias, residual)
    return multiply(call, a, b, transpose_a, transpose_b, epilogue, call.is_constant(1))


def _addend(call: Call, c: Tensor, m: int, n: int) -> Tensor:
    """beta * C as a row, or as a matrix of the size of the product."""
    beta = float(call.attribute("beta", 1.0))
    rows, columns = (1, 1, *c.shape)[-2:]
    if c.rank > 2 or rows not in (1, m) or columns not in (1, n):
        raise call.error(f"C has shape {c.shape}, which does not broadcast to {(m, n)}")
    is_row = rows == 1
    shape = (n,) if is_row else (m, n)
    if beta == 1 and columns == n:
        return c.reshaped(shape)

    def make(keeping: Call) -> Tensor:
        scaled = keeping.empty(shape, c.dtype)
        strides = (0 if is_row else columns, 0 if columns == 1 else 1)
        _spread(keeping, c, scaled, strides, beta)
        return scaled

    if is_row and call.is_constant(2):
        kept: Tensor = call.prepared(f"C {n}", make)
        return kept
    return make(call)
