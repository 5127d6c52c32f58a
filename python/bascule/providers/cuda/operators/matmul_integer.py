# SPDX-License-Identifier: Apache-2.0
"""Products of quantized matrices.

Those of 8-bit integers by the instruction that multiplies four pairs of them at once.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.operators.product import Axis, batch_axes, batch_struct
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor

_BYTES = frozenset((DataType.INT8, DataType.UINT8))
_KINDS = {
    DataType.FLOAT: 0,
    DataType.FLOAT16: 1,
    DataType.BFLOAT16: 2,
    DataType.INT8: 3,
    DataType.UINT8: 4,
    DataType.FLOAT8E4M3FN: 5,
    DataType.FLOAT8E4M3FNUZ: 6,
    DataType.FLOAT8E5M2: 7,
    DataType.FLOAT8E5M2FNUZ: 8,
}
_FLOAT8 = frozenset(dtype for dtype, kind in _KINDS.items() if kind > 4)
_TILE, _FLOAT8_TILE = 64, 16


@dataclass(frozen=True, slots=True)
class _Product:
    a: Tensor
    b: Tensor
    m: int
    n: int
    k: int
    a_matrices: int
    b_matrices: int
    batch: tuple[Axis, ...]
    shape: tuple[int, ...]

    def rows(self, call: Call, name: str, numbers: Tensor | None) -> Struct:
        """Numbers of the rows of A as kernels take them."""
        return _lines(call, name, numbers, self.m, self.a_matrices)

    def columns(self, call: Call, name: str, numbers: Tensor | None) -> Struct:
        """Numbers of the columns of B as kernels take them."""
        return _lines(call, name, numbers, self.n, self.b_matrices)


def _accepts(node: Node) -> str:
    is_integer = node.op_type == "MatMulInteger"
    bytes_at, allowed = ((1,), _BYTES) if is_integer else ((3, 7), _BYTES | _FLOAT8)
    for index in bytes_at:
        value = node.input(index)
        if value is not None and value.dtype not in allowed:
            name = value.dtype.onnx_name if value.dtype is not None else "unknown"
            return f"input {index} has type {name}"
    return ""


@kernel("MatMulInteger", dtypes=_BYTES, accepts=_accepts)
def matmul_integer(
    call: Call, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """``(A - a_zero) @ (B - b_zero)`` in int32."""
    p = _product(call, a, b)
    y = call.empty(p.shape, DataType.INT32)
    _launch(call, "matmul_integer", p, a_zero, b_zero, y)
    return y


@kernel("QLinearMatMul", dtypes=_BYTES | _FLOAT8, accepts=_accepts)
def qlinear_matmul(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """The product of quantized matrices, quantized."""
    p = _product(call, a, b)
    name = "matmul_float8" if _FLOAT8 & {a.dtype, b.dtype, y_zero.dtype} else "matmul_quantized"
    y = call.empty(p.shape, y_zero.dtype)
    scales = (
        p.rows(call, "a_scale", a_scale),
        p.columns(call, "b_scale", b_scale),
        _lines(call, "y_scale", y_scale, 1, 1),
        _lines(call, "y_zero_point", y_zero, 1, 1),
    )
    _launch(call, name, p, a_zero, b_zero, y, *scales)
    return y


def _launch(
    call: Call,
    name: str,
    p: _Product,
    a_zero: Tensor | None,
    b_zero: Tensor | None,
    y: Tensor,
    *scales: Argument,
) -> None:
    if y.size == 0:
        return
    is_float8 = name == "matmul_float8"
    tile = _FLOAT8_TILE if is_float8 else _TILE
    kinds = (_KINDS[x.dtype] if is_float8 else x.dtype is DataType.UINT8 for x in (p.a, p.b))
    call.launch(
        "matmul_float8" if is_float8 else "matmul_integer",
        name,
        -(-p.m // tile) * -(-p.n // tile) * math.prod(axis.size for axis in p.batch),
        256,
        *(p.a, p.b),
        *map(np.int32, kinds),
        *(p.rows(call, "a_zero_point", a_zero), p.columns(call, "b_zero_point", b_zero)),
        *(np.int64(size) for size in (p.m, p.n, p.k)),
        *(batch_struct(call, p.batch), y, *scales),
    )


def _product(call: Call, a: Tensor, b: Tensor) -> _Product:
    if a.rank == 0 or b.rank == 0:
        raise call.error("a scalar is not a matrix")
    a_shape = a.shape if a.rank > 1 else (1, *a.shape)
    b_shape = b.shape if b.rank > 1 else (*b.shape, 1)
    (m, k), (b_rows, n) = a_shape[-2:], b_shape[-2:]
    if k != b_rows:
        raise call.error(
            f"matrix sizes do not fit: {a.shape} has {k} columns and {b.shape} has {b_rows} rows"
        )
    try:
        batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    except ValueError:
        raise call.error(f"shapes {a.shape} and {b.shape} do not broadcast") from None
    shape = (*batch, *((m,) if a.rank > 1 else ()), *((n,) if b.rank > 1 else ()))
    a_count, b_count = math.prod(a_shape[:-2]), math.prod(b_shape[:-2])
    # Steps in matrices, since numbers of rows and columns go with them.
    axes = batch_axes(batch, (*a_shape[:-2], 1, 1), (*b_shape[:-2], 1, 1), 1)
    return _Product(a, b, m, n, k, a_count, b_count, axes, shape)


def _lines(call: Call, name: str, numbers: Tensor | None, lines: int, matrices: int) -> Struct:
    address, kind, line_step, matrix_step = 0, 4, 0, 0
    if numbers is not None:
        address, kind = numbers.address, _KINDS[numbers.dtype]
        if numbers.size != 1:
            if numbers.size not in (lines, lines * matrices):
                raise call.error(f"{name} has {numbers.size} elements, expected 1 or {lines}")
            line_step, matrix_step = 1, 0 if numbers.size == lines else lines
    return Struct(struct.pack("<qiiqq", address, kind, 0, line_step, matrix_step))
