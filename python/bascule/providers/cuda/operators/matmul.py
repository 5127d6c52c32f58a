# SPDX-License-Identifier: Apache-2.0
"""Matrix products of real and integer matrices.

Which way a product goes, in this order:

* constant B of which rows of the result are no multiples of 16 bytes: ``odd_columns.py``, by the
  other ways;
* up to 8 rows times one matrix of float32, float16 or bfloat16, whose rows are multiples of 16
  bytes: our kernels that stream the weights (``stream_matmul.cu`` where tensor cores can multiply
  them and they lie by columns, else ``gemv.cu``);
* few rows of 16-bit elements: our kernel with everything that follows the sum
  (``cluster_matmul.cu``), where it was found to be faster than cuBLASLt;
* cuBLASLt, with bias, residual and those activations that it knows, the others after it;
* our kernel for all types and layouts (``matmul.cu``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.activation import accepts_activation, activation_of
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators import stream
from bascule.providers.cuda.operators.cluster_matmul import multiply_by_clusters
from bascule.providers.cuda.operators.layer_normalization import normalized_rows
from bascule.providers.cuda.operators.library_matmul import multiply_by_library
from bascule.providers.cuda.operators.odd_columns import (
    by_columns,
    lies_badly,
    multiply_odd,
    spread,
)
from bascule.providers.cuda.operators.product import (
    NOT_NORMALIZED,
    PLAIN,
    Epilogue,
    Normalization,
    Product,
    batch_axes,
    batch_struct,
)
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

INTEGERS = frozenset((DataType.INT32, DataType.INT64, DataType.UINT32, DataType.UINT64))
TYPES = FLOATS | INTEGERS
_STREAMED = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16))

_NARROW = frozenset((DataType.FLOAT16, DataType.BFLOAT16))
_VANISHING = frozenset(("HardSigmoid", "HardSwish"))
"""Activations that cross zero away from zero: of a small result a rounded argument is much."""

MOST_STREAMED_ROWS = 8
"""Of stream_matmul.cu."""
_TILE = 64
_VECTOR = 16
_MOST_NORMALIZED = 44 << 10
"""Bytes of normalized rows that a block keeps in shared memory."""


def multiply(
    call: Call,
    a: Tensor,
    b: Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    epilogue: Epilogue = PLAIN,
    constant: bool = False,
) -> Tensor:
    """The product by NumPy's rules for shapes; transposing swaps the last two axes of a matrix.

    With `constant` B is an input of the node that is the same in every run.
    """
    is_odd = constant and lies_badly(b, transpose_b)
    columns = by_columns(call, b, transpose_b) if is_odd else b
    product = _product(call, a, columns, transpose_a, transpose_b or is_odd, epilogue)
    product = replace(product, constant=constant)
    y = call.empty(product.shape, a.dtype)
    is_odd = is_odd and product.m > MOST_STREAMED_ROWS
    if y.size and not (is_odd and multiply_odd(call, product, b, transpose_b, y, run)):
        run(call, product, y)
    return y


def run(call: Call, product: Product, y: Tensor) -> None:
    """Compute a product into `y`, in the fastest way there is."""
    if _stream(call, product, y) or _rounded_once(call, product, y):
        return
    if multiply_by_clusters(call, product, y, multiply_by_library):
        return
    if not multiply_by_library(call, product, y):
        _by_tiles(call, product, y)


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


# --- few rows


def _stream(
    call: Call, p: Product, y: Tensor, normalization: Normalization = NOT_NORMALIZED
) -> bool:
    """A few rows times one matrix, at the speed of reading the matrix."""
    if p.batch or p.m > MOST_STREAMED_ROWS or p.a.dtype not in _STREAMED or p.k == 0:
        return False
    if (p.transpose_a and p.m > 1) or p.b.address % _VECTOR:
        return False
    width = _VECTOR // p.a.itemsize
    rows = 1 << (p.m - 1).bit_length()
    if p.transpose_b:
        if p.k % width == 0 and _stream_tiles(call, p, y, normalization):
            return True
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


def _stream_tiles(call: Call, p: Product, y: Tensor, normalization: Normalization) -> bool:
    """By tensor cores, at the speed of reading the weights, if they can do it."""
    if call.device.capability < 80 or p.a.dtype not in _NARROW or max(p.n, p.k) >= 2**30:
        return False
    work = stream.work_of(call, p.m, p.n, p.k)
    if work is None:
        return False
    name = type_name(p.a.dtype)
    call.launch(
        f"stream_matmul.{name}",
        f"stream_matmul_{name}",
        work.blocks,
        stream.THREADS,
        *(p.a, p.b, y, *normalization.arguments),
        *(np.int32(size) for size in (p.m, p.n, p.k)),
        *(np.int32(number) for number in (work.slices, work.depth, p.constant)),
        *p.epilogue.arguments,
        shared=work.shared,
    )
    return True


def _stream_rows(
    call: Call,
    p: Product,
    y: Tensor,
    rows: int,
    width: int,
    normalization: Normalization = NOT_NORMALIZED,
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


def _rounded_once(call: Call, p: Product, y: Tensor) -> bool:
    """By the library in float32, where rounding the sums would show in what follows them."""
    if p.epilogue.activation.name not in _VANISHING or p.a.dtype not in _NARROW:
        return False
    sums = call.empty((1, *y.shape), DataType.FLOAT)
    if not multiply_by_library(call, replace(p, epilogue=PLAIN), sums):
        return False
    combine(call, sums, y, p.n, p.epilogue)
    return True


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
    epilogue = _epilogue(call, bias, residual)
    transpose_a, transpose_b = (bool(call.attribute(name, 0)) for name in ("transA", "transB"))
    return multiply(call, a, b, transpose_a, transpose_b, epilogue, call.is_constant(1))


def _epilogue(call: Call, bias: Tensor | None, residual: Tensor | None) -> Epilogue:
    """With the attributes of a fused node."""
    return Epilogue(float(call.attribute("alpha", 1.0)), bias, residual, activation_of(call.node))


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
    transpose_b = bool(call.attribute("transB", 0))
    product = _product(call, a, b, False, transpose_b, _epilogue(call, bias, residual))
    constants = [i for i, given in ((1, b), (4, scale), (5, shift)) if given is not None]
    product = replace(product, constant=all(map(call.is_constant, constants)))
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
        spread(keeping, c, scaled, strides, beta)
        return scaled

    if is_row and call.is_constant(2):
        kept: Tensor = call.prepared(f"C {n}", make)
        return kept
    return make(call)
