# SPDX-License-Identifier: Apache-2.0
"""Products with weights of 2, 4 or 8 bits.

Which way a product goes, in this order:

* constant weights of 4 bits are laid out anew for tensor cores, which multiply a few rows of 16-bit
  elements as fast as the weights are read (``nbits_units.py``); normalization, gate and residual of
  ProjectNBits are part of it;
* of other weights up to 16 rows are expanded in registers (``matmul_nbits.cuh``);
* for more rows, for weights whose rows are no multiples of 16 bytes, and where ``g_idx`` puts
  weights into blocks out of order, the weights are expanded to the type of A for the time of the
  product.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.layer_normalization import normalized_rows
from bascule.providers.cuda.operators.library_matmul import activate
from bascule.providers.cuda.operators.matmul import multiply
from bascule.providers.cuda.operators.nbits_units import Around, Units, units_of
from bascule.providers.cuda.operators.packed_nbits import KINDS, Packed
from bascule.providers.cuda.operators.product import Epilogue
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.weight import Weight

_FLOATS = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16))
_MOST_STREAMED_ROWS = 16
_WARPS = 8
_STAGE_BYTES = 40 * 1024
"""Bytes of A that a block keeps in shared memory."""
_OWN_SHARED = 1 << 10
"""Bytes of it that the kernel has beside them, at most."""

_OPERANDS = (_FLOATS, frozenset((DataType.UINT8,)), _FLOATS, frozenset(KINDS))


def _accepts(node: Node) -> str:
    return _refusal(node, (*_OPERANDS, frozenset((DataType.INT32,)), _FLOATS))


def _accepts_projection(node: Node) -> str:
    return _refusal(node, (*_OPERANDS, *[frozenset((node.output.dtype,))] * 3))


def _refusal(node: Node, allowed: Sequence[Collection[DataType | None]]) -> str:
    for index, (value, dtypes) in enumerate(zip(node.inputs, allowed, strict=False)):
        if value is not None and value.dtype not in dtypes:
            name = value.dtype.onnx_name if value.dtype is not None else "unknown"
            return f"input {index} has type {name}"
    return ""


@kernel("MatMulNBits", domain=FUSED_DOMAIN, accepts=_accepts, weights=(1, 2, 3))
def matmul_nbits(
    call: Call,
    a: Tensor,
    data: Weight,
    scales: Weight,
    zeros: Weight | None = None,
    groups: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """``A @ ((B - zero_points) * scales)' + bias``."""
    return _multiply(call, a, _packed(call, data, scales, zeros, groups), bias)


@kernel(
    "ProjectNBits",
    domain=FUSED_DOMAIN,
    dtypes=_FLOATS,
    accepts=_accepts_projection,
    weights=(1, 2, 3),
)
def project_nbits(
    call: Call,
    x: Tensor,
    data: Weight,
    scales: Weight,
    zeros: Weight | None = None,
    bias: Tensor | None = None,
    norm: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """MatMulNBits with a normalization before it, and a gate and a residual after it."""
    w = _packed(call, data, scales, zeros, None)
    gated, epsilon = bool(call.attribute("gated", 0)), float(call.attribute("epsilon", 1e-5))
    around = Around(bias, norm, epsilon, residual, gated)
    _check_around(call, x, w, around)
    units = units_of(call, x.dtype, w, gated)
    y = call.empty((*x.shape[:-1], w.n // 2 if gated else w.n), x.dtype)
    if y.size == 0 or (units is not None and units.multiply(call, x, around, y)):
        return y
    if norm is not None:
        x = normalized_rows(call, x, norm)
    y = _multiply_plainly(call, x, w, units, bias)
    if gated:
        y = _gated(call, y)
    if residual is not None:
        activate(call, y, y.shape[-1], Epilogue(residual=residual))
    return y


def _multiply(call: Call, a: Tensor, w: Packed, bias: Tensor | None) -> Tensor:
    if a.rank == 0 or a.shape[-1] != w.k:
        raise call.error(f"A has shape {a.shape}, expected {w.k} elements along its last axis")
    if bias is not None and bias.shape != (w.n,):
        raise call.error(f"bias has shape {bias.shape}, expected {(w.n,)}")
    units = units_of(call, a.dtype, w)
    if units is not None:
        y = call.empty((*a.shape[:-1], w.n), a.dtype)
        if y.size == 0 or units.multiply(call, a, Around(bias), y):
            return y
    return _multiply_plainly(call, a, w, units, bias)


def _multiply_plainly(
    call: Call, a: Tensor, w: Packed, units: Units | None, bias: Tensor | None
) -> Tensor:
    rows = a.size // w.k
    streamed = rows <= _MOST_STREAMED_ROWS and w.groups is None and w.row_bytes % 16 == 0
    if streamed and units is None:
        y = call.empty((*a.shape[:-1], w.n), a.dtype)
        if y.size:
            _stream(call, a, w, bias, y, rows)
        return y
    expanded = call.empty((w.n, w.k), a.dtype)
    if units is not None:
        units.expand(call, expanded)
    else:
        call.launch(
            f"matmul_nbits_{w.bits}",
            f"expand_nbits_{w.bits}_{type_name(a.dtype)}",
            min(-(-expanded.size // 256), 1 << 20),
            256,
            *(expanded, *w.arguments),
        )
    if bias is not None and bias.dtype is not a.dtype:
        bias = call.tensor(call.array(bias).astype(a.dtype.numpy))
    return multiply(call, a, expanded, transpose_b=True, epilogue=Epilogue(bias=bias))


def _check_around(call: Call, x: Tensor, w: Packed, around: Around) -> None:
    if x.rank == 0 or x.shape[-1] != w.k:
        raise call.error(f"X has shape {x.shape}, expected {w.k} elements along its last axis")
    if around.gated and w.n % 2:
        raise call.error(f"N is {w.n}, expected an even number of columns")
    kept = w.n // 2 if around.gated else w.n
    expected = {"bias": (w.n,), "norm": (w.k,), "residual": (*x.shape[:-1], kept)}
    for name, shape in expected.items():
        given = getattr(around, name)
        if given is not None and given.shape != shape:
            raise call.error(f"{name} has shape {given.shape}, expected {shape}")


def _gated(call: Call, x: Tensor) -> Tensor:
    """swish(first half of each row) * second half."""
    half = x.shape[-1] // 2
    y = call.empty((*x.shape[:-1], half), x.dtype)
    grid = min(-(-y.size // 256), 1 << 20)
    sizes = np.int64(y.size), np.int64(half)
    call.launch("gate", f"gate_{type_name(x.dtype)}", grid, 256, x, y, *sizes)
    return y


def _stream(call: Call, a: Tensor, w: Packed, bias: Tensor | None, y: Tensor, rows: int) -> None:
    processors = call.device.processors
    at_once, columns = 1, 4
    if rows > 4:
        at_once, columns = 8, 2
    elif rows > 1:
        at_once = 2 if rows == 2 else 4
    elif w.n < _WARPS * processors:
        columns = 1
    width = 128 // w.bits * 32  # of k, that a warp reads at once
    if at_once * a.itemsize * width + _OWN_SHARED > call.device.shared_memory:
        at_once, columns = 4, 4
    # Warps enough to keep every processor reading: by columns, then by parts of k.
    slices = 1
    while slices < _WARPS and slices * width < w.k and w.n // columns * slices < 16 * processors:
        slices *= 2
    share = slices * width
    most = max(1, _STAGE_BYTES // (at_once * a.itemsize * share))
    stage = share * min(most, -(-w.k // share))
    while at_once * a.itemsize * stage > _STAGE_BYTES and slices > 1:  # a share is too much
        slices //= 2
        share = stage = slices * width
    call.launch(
        f"matmul_nbits_{w.bits}",
        f"matmul_nbits_{w.bits}_{at_once}_{columns}_{type_name(a.dtype)}",
        (-(-w.n // (_WARPS // slices * columns)), -(-rows // at_once)),
        _WARPS * 32,
        *(a, y, bias, np.int32(0 if bias is None else KINDS[bias.dtype])),
        *(np.int64(rows), np.int32(slices), np.int64(stage), *w.arguments),
        shared=at_once * a.itemsize * stage,
    )


def _packed(
    call: Call, data: Weight, scales: Weight, zeros: Weight | None, groups: Tensor | None
) -> Packed:
    n, k, size = (int(call.attribute(name, 0)) for name in ("N", "K", "block_size"))
    bits = int(call.attribute("bits", 4))
    if bits not in (2, 4, 8):
        raise call.error(f"bits is {bits}, expected 2, 4 or 8")
    if size < 16 or size & (size - 1):
        raise call.error(f"block_size is {size}, expected a power of two of 16 at least")
    if n < 1 or k < 1:
        raise call.error(f"N is {n} and K is {k}, expected positive numbers")
    blocks = -(-k // size)
    _check(call, "B", data, [(n, blocks, size * bits // 8)])
    _check(call, "scales", scales, [(n, blocks), (n * blocks,)])
    if zeros is not None:
        each = -(-blocks * bits // 8) if zeros.dtype is DataType.UINT8 else blocks
        _check(call, "zero_points", zeros, [(n, each), (n * each,)])
    if groups is not None:
        _check(call, "g_idx", groups, [(k,), (blocks * size,)])
        if _in_order(call, k, blocks, size):
            groups = None
    values = call.attribute("values")
    table = None
    if values:
        if bits == 8 or len(values) != 1 << bits:
            raise call.error(f"there are {len(values)} values for patterns of {bits} bits")
        table = call.upload(np.array(values, np.float32))
    return Packed(data, scales, zeros, groups, table, n, k, bits, size)


def _in_order(call: Call, k: int, blocks: int, size: int) -> bool:
    """Whether constant groups are the blocks one after the other."""
    value = call.node.input(4)
    if value is None or value.constant is None:
        return False
    groups = np.asarray(value.constant.numpy())[:k]
    wrong = np.flatnonzero((groups < 0) | (groups >= blocks))
    if wrong.size:
        at = int(wrong[0])
        raise call.error(f"g_idx[{at}] is {groups[at]}, there are {blocks} blocks")
    return bool(np.array_equal(groups, np.arange(k) // size))


def _check(
    call: Call, name: str, given: Tensor | Weight, shapes: Sequence[tuple[int, ...]]
) -> None:
    if given.shape not in shapes:
        raise call.error(f"{name} has shape {given.shape}, expected {shapes[0]}")
