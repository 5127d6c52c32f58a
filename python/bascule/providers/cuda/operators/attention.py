# SPDX-License-Identifier: Apache-2.0
"""Attention: softmax(scale * Q K' + mask) V for every head, in the form that suits the shapes."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.libraries.cudnn import Layout, Plan
from bascule.providers.cuda.operators.attention_case import (
    Case,
    Sizes,
    Strides,
    case_of,
    check_inputs,
    sizes_of,
    strides_of,
)
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_NARROW = (DataType.FLOAT16, DataType.BFLOAT16)
_FLASH_SIZES = {
    DataType.FLOAT: (32, 64, 96, 128),
    DataType.FLOAT16: (32, 64, 96, 128, 256),
    DataType.BFLOAT16: (32, 64, 96, 128, 256),
}
_FEW_ROWS_SIZES = {
    DataType.FLOAT: (64,),
    DataType.FLOAT16: (64, 128),
    DataType.BFLOAT16: (64, 128),
}
"""Those with a kernel whose blocks have few rows."""
_TILE_SIZES = {DataType.FLOAT: (32, 64, 96, 128, 256), DataType.FLOAT16: (32, 64, 128)}
_TILE_ROWS = 64
_DECODE_SIZES = (64, 128, 256)
_DECODE_TILE_SIZES = (64, 128)
_DECODE_ROWS = 8
"""So many rows of queries share the keys and values that a block of decoding reads."""
_MOST_SPLITS = 64
"""Of the keys between blocks."""
_CLUSTER = 8
"""Blocks that join their results in shared memory."""
_SHORT = 256
"""Up to so many keys, an attention that leaves the GPU idle takes less time here than in cuDNN."""
_GRID_LIMIT = 65535
"""Of blocks along the later axes of a grid."""
_THREADS = 256
_STARTS = 8
"""The input of the fused operator that says where new keys and values begin."""


def _accepts(node: Node) -> str:
    dtypes = [None if value is None else value.dtype for value in node.inputs]
    for index in (1, 2, 4, 5, 7):
        if index < len(dtypes) and dtypes[index] not in (None, dtypes[0]):
            return f"input {index} is of another type than Q"
    return "caches are updated by operators of their own" if node.input(_STARTS) else ""


@kernel("Attention", dtypes=FLOATS, accepts=_accepts)
@kernel("Attention", domain=FUSED_DOMAIN, dtypes=FLOATS, accepts=_accepts)
def attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    mode = call.attribute("qk_matmul_output_mode", 0)
    if not 0 <= mode <= 3:
        raise call.error(f"attribute 'qk_matmul_output_mode' is {mode}")
    s = sizes_of(call, q, k, v, past_key)
    check_inputs(call, s, mask, past_key, past_value, lengths, sinks)
    flat = (s.batch, s.queries, s.q_heads * s.v_size)
    y = call.empty(flat if q.rank == 3 else (s.batch, s.q_heads, s.queries, s.v_size), q.dtype)
    keys, values = _presents(call, s, k, v, past_key, past_value)
    scores = None
    if call.wants(3):
        scores = call.empty((s.batch, s.q_heads, s.queries, s.keys), q.dtype)
    operands = (q, k if keys is None else keys, v if values is None else values, y)
    readable = None if mask is None else _readable(call, mask, q.dtype)
    case = case_of(call, s, operands, readable, lengths, sinks, past_key is not None)
    if s.rows:
        _attend(call, case, scores, mode)
    return y, keys, values, scores


# --- which kernel


def _attend(call: Call, case: Case, scores: Tensor | None, mode: int) -> None:
    if scores is not None:
        _attend_rows(call, case, scores, mode)
    else:
        _FORMS[choose_form(call, case)](call, case)


def choose_form(call: Call, case: Case) -> str:
    """The kernel for an attention that does not show its scores: a key of _FORMS."""
    return next(form for form, suits in _CHOICES if suits(call, case))


def _is_awkward(call: Call, case: Case) -> bool:
    s = case.sizes
    too_large = max(s.size, s.v_size) > 256 or max(s.batch, s.q_heads) > _GRID_LIMIT
    return case.dtype is DataType.DOUBLE or too_large or not case.reads_vectors()


def _has_few_queries(call: Call, case: Case) -> bool:
    return case.sizes.queries == 1 or case.sizes.queries * case.sizes.group <= _DECODE_ROWS


def _suits_flash(call: Call, case: Case) -> bool:
    multiplies = case.dtype in _NARROW or (case.dtype is DataType.FLOAT and call.device.tf32)
    largest = max(case.sizes.size, case.sizes.v_size)
    return multiplies and call.device.capability >= 80 and largest <= _FLASH_SIZES[case.dtype][-1]


def _is_short(call: Call, case: Case) -> bool:
    return case.sizes.keys <= _SHORT and _suits_flash(call, case) and _flash_rows(call, case) == 16


def _suits_cudnn(call: Call, case: Case) -> bool:
    return _cudnn_plan(call, case) is not None


def _suits_tiles(call: Call, case: Case) -> bool:
    largest = max(case.sizes.size, case.sizes.v_size)
    fitting = [size for size in _TILE_SIZES.get(case.dtype, ()) if size >= largest]
    return bool(fitting) and _tile_bytes(case.dtype, fitting[0]) <= call.device.shared_memory


_CHOICES: tuple[tuple[str, Callable[[Call, Case], bool]], ...] = (
    ("rows", _is_awkward),  # takes everything, at any address
    ("decode", _has_few_queries),  # reads keys and values once, with all of the GPU
    ("flash", _is_short),  # starts sooner than cuDNN's
    ("cudnn", _suits_cudnn),  # the fastest for large ones, but it does not know all that we do
    ("flash", _suits_flash),  # everything else that tensor cores multiply
    ("tiles", _suits_tiles),  # float32 in full precision, and float16 before there were such cores
    ("rows", lambda call, case: True),
)
"""The first that suits is taken."""


def _arguments(case: Case) -> tuple[Tensor | Struct | None, ...]:
    tensors = (case.q, case.k, case.v, case.mask, case.lengths, case.sinks, case.y)
    return (*tensors, case.packed())


def _fitting(sizes: tuple[int, ...], case: Case) -> int:
    """The smallest of the sizes that holds a row of a head, and of the result."""
    return next(size for size in sizes if size >= max(case.sizes.size, case.sizes.v_size))


def _cudnn_plan(call: Call, case: Case) -> Plan | None:
    """cuDNN's plan, for what it does as we do.

    With a float16 mask, rows that it hides with -infinity are zero there too, and those that it
    hides with the lowest finite number are not. A lowest number of another type makes zeros, and
    rows that `lengths` hide are not written at all. Of a scale that is not positive it makes NaN.
    """
    s, cudnn = case.sizes, call.device.cudnn
    if cudnn is None or case.dtype not in _NARROW or not (case.lengths is case.sinks is None):
        return None
    if case.causal and case.has_past and s.queries != s.new_keys:
        return None
    if case.cap or case.left >= 0 or case.right >= 0 or max(s.size, s.v_size) > 128 or s.keys == 0:
        return None
    if case.scale <= 0:
        return None
    bias = None
    if case.mask is not None:
        narrow = case.mask.dtype is case.dtype is DataType.FLOAT16
        if not narrow or case.causal or case.mask.shape[-1] != s.keys or case.mask.address % 16:
            return None
        shape = (1,) * (4 - case.mask.rank) + case.mask.shape
        bias = Layout(shape, tuple(math.prod(shape[axis + 1 :]) for axis in range(4)))

    def layout(heads: int, rows: int, size: int, strides: Strides) -> Layout:
        return Layout((s.batch, heads, rows, size), (*strides.values(), 1))

    found: Plan | None = cudnn.attention_plan(
        case.dtype,
        layout(s.q_heads, s.queries, s.size, case.q_strides),
        layout(s.kv_heads, s.keys, s.size, case.k_strides),
        layout(s.kv_heads, s.keys, s.v_size, case.v_strides),
        layout(s.q_heads, s.queries, s.v_size, case.y_strides),
        scale=case.scale,
        causal=case.causal and not case.has_past,
        causal_at_end=case.causal and case.has_past,
        bias=bias,
    )
    return found


def _attend_cudnn(call: Call, case: Case) -> None:
    plan = _cudnn_plan(call, case)
    assert plan is not None
    workspace = call.workspace(plan.workspace)
    operands = [x for x in (case.q, case.k, case.v, case.mask, case.y) if x is not None]
    plan.run([x.address for x in operands], workspace.address)


def _flash_rows(call: Call, case: Case) -> int:
    """How many rows a block of flash_attention takes: few make more blocks, many read less."""
    s = case.sizes
    size, heads = _fitting(_FLASH_SIZES[case.dtype], case), s.batch * s.q_heads
    if size in _FEW_ROWS_SIZES[case.dtype] and heads * -(-s.queries // 64) < call.device.processors:
        return 16
    return 128 if size == 64 and heads * -(-s.queries // 128) >= 2 * call.device.processors else 64


def _attend_flash(call: Call, case: Case) -> None:
    s, name, rows = case.sizes, type_name(case.dtype), _flash_rows(call, case)
    size = _fitting(_FLASH_SIZES[case.dtype], case)
    row_bytes = size * case.q.itemsize
    # Keys of a tile as in flash_attention.cuh.
    keys = {16: 128, 64: 64, 128: 32}[rows] // (1 if row_bytes <= 128 or rows == 128 else 2)
    call.launch(
        f"flash_attention.{name}_{size}",
        f"flash_{name}_{size}_{rows}",
        (-(-s.queries // rows), s.q_heads, s.batch),
        128,
        *_arguments(case),
        shared=(row_bytes + 16) * (rows + 4 * keys),
    )


def _tile_bytes(dtype: DataType, size: int) -> int:
    """Queries and keys with rows that are padded, values, and padded rows of weights."""
    # Keys of a tile as in tiled_attention.cu.
    keys = 64 if dtype is DataType.FLOAT else {32: 64, 64: 32, 128: 16}[size]
    return 4 * (_TILE_ROWS * (size + 4) + keys * (2 * size + 4) + _TILE_ROWS * (keys + 4))


def _attend_tiles(call: Call, case: Case) -> None:
    s = case.sizes
    size = _fitting(_TILE_SIZES[case.dtype], case)
    grid = (-(-s.queries // _TILE_ROWS), s.q_heads, s.batch)
    part, shared = f"{type_name(case.dtype)}_{size}", _tile_bytes(case.dtype, size)
    module = f"tiled_attention.{part}"
    call.launch(module, f"tiles_{part}", grid, 128, *_arguments(case), shared=shared)


@dataclass(frozen=True, slots=True)
class _Decode:
    """A kernel for few queries, and how many warps, rows and keys a block of it has."""

    module: str
    name: str
    warps: int
    rows: int
    shared: int

    @property
    def keys(self) -> int:
        return 32 * self.warps


def _decode_kernel(call: Call, case: Case) -> _Decode:
    s, name = case.sizes, type_name(case.dtype)
    size = _fitting(_DECODE_SIZES, case)
    if case.dtype in _NARROW and call.device.capability >= 80 and size <= _DECODE_TILE_SIZES[-1]:
        warps, rows = 8, 16
        shared = warps * max(32 * (size + 8) * 2, rows * (size + 2) * 4)  # values, or results
        return _Decode(f"decode_tiles.{name}_{size}", f"tiles_{name}_{size}", warps, rows, shared)
    warps, rows = 4, next(n for n in (1, 4, 8) if n >= min(s.group * s.queries, _DECODE_ROWS))
    # Eight reads, each of 512 bytes, of keys and of values; then results.
    shared = warps * max(2 * 8 * 512, rows * (size + 2) * 4)
    return _Decode("decode_attention", f"{name}_{size}_{rows}", warps, rows, shared)


def _attend_decode(call: Call, case: Case) -> None:
    s, form = case.sizes, _decode_kernel(call, case)
    blocks = s.batch * s.kv_heads * -(-s.group * s.queries // form.rows)
    name, wanted = form.name, -(-s.keys // form.keys)
    # Two blocks each processor, unless there are too few keys for them.
    splits = max(min(-(-2 * call.device.processors // blocks), wanted, _MOST_SPLITS), 1)
    clusters = form.name.startswith("tiles") and call.device.capability >= 90
    are_enough = wanted <= 2 * _CLUSTER or blocks * _CLUSTER >= call.device.processors
    if clusters and splits > 1 and are_enough:
        name, splits = form.name.replace("tiles", "clusters"), _CLUSTER
    parts = states = None
    if splits > 1:  # where clusters are emulated, they meet in memory too
        parts = call.empty((s.rows, splits, s.v_size), DataType.FLOAT)
        states = call.empty((s.rows, splits, 2), DataType.FLOAT)
    # How many splits are done: zeros, to which the last one always returns.
    zeros = functools.partial(Call.zeros, shape=(blocks,), dtype=DataType.INT32)
    done = call.prepared(f"{blocks} counts", zeros) if splits > 1 else None
    arguments = (*_arguments(case), parts, states, done, np.int32(splits))
    grid, threads = (blocks, splits), 32 * form.warps
    call.launch(form.module, f"decode_{name}", grid, threads, *arguments, shared=form.shared)


def _attend_rows(call: Call, case: Case, scores: Tensor | None = None, mode: int = 0) -> None:
    blocks = min(case.sizes.rows, 8 * call.device.processors)
    strips = call.empty((blocks, case.sizes.keys), _wide(case.dtype))
    name = f"rows_{type_name(case.dtype)}"
    arguments = (*_arguments(case), strips, scores, np.int32(mode))
    call.launch("attention", name, blocks, 128, *arguments)


_FORMS = {
    "cudnn": _attend_cudnn,
    "flash": _attend_flash,
    "tiles": _attend_tiles,
    "decode": _attend_decode,
    "rows": _attend_rows,
}


# --- what goes before


def _wide(dtype: DataType) -> DataType:
    return DataType.DOUBLE if dtype is DataType.DOUBLE else DataType.FLOAT


def _readable(call: Call, mask: Tensor, dtype: DataType) -> Tensor:
    """The mask in a type that the kernels read."""
    wide = _wide(dtype)
    if mask.dtype in (DataType.BOOL, dtype, wide):
        return mask
    result = call.empty(mask.shape, wide)
    name = f"mask_{type_name(mask.dtype)}_{type_name(wide)}"
    grid = min(-(-mask.size // _THREADS), 65535)
    call.launch("attention", name, grid, _THREADS, mask, result, np.int64(mask.size))
    return result


def _presents(
    call: Call,
    sizes: Sizes,
    k: Tensor,
    v: Tensor,
    past_key: Tensor | None,
    past_value: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Keys and values by heads, where there is a past or someone reads them."""
    wanted = [past_key is not None or call.wants(output) for output in (1, 2)]
    if past_key is None and k.rank == 4:
        return k if wanted[0] else None, v if wanted[1] else None
    if not any(wanted):
        return None, None
    past, new = (past_key, past_value), (k, v)
    widths = (sizes.size, sizes.v_size)
    presents = [
        call.empty((sizes.batch, sizes.kv_heads, sizes.keys, width), k.dtype) if wants else None
        for width, wants in zip(widths, wanted)
    ]
    moved = [x for x in (*past, *new, *presents) if x is not None]
    bits = k.itemsize * sizes.size | k.itemsize * sizes.v_size | 16
    for x in moved:
        bits |= x.address
    unit = bits & -bits  # of a power of 2 bytes, which divides all of them
    joins = [
        _join(sizes, x.rank, width * k.itemsize // unit, present is not None)
        for x, width, present in zip(new, widths, presents)
    ]
    units = max(x.nbytes for x in presents if x is not None) // unit
    grid = (min(-(-units // _THREADS), 32 * call.device.processors), 2)
    arguments = (past[0], k, presents[0], past[1], v, presents[1], *joins)
    call.launch("attention", f"join_{unit}", grid, _THREADS, *arguments)
    return presents[0], presents[1]


def _join(sizes: Sizes, rank: int, width: int, wanted: bool) -> Struct:
    """``struct Join`` of attention.cu."""
    strides = strides_of(rank, sizes.kv_heads, sizes.new_keys, width)
    items = sizes.batch * sizes.kv_heads if wanted else 0
    numbers = (sizes.kv_heads, sizes.past, sizes.new_keys, width)
    return Struct(struct.pack("<4q4i", *strides.values(), items, *numbers))
