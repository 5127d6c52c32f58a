# SPDX-License-Identifier: Apache-2.0
"""Products with few rows, of 16-bit elements or in TF32, with what follows, by our own kernel.

It competes with cuBLASLt, which may need a launch for parts of K and one for the activation. Which
is faster depends on the shape; it is timed once for a GPU, as the library's own algorithms are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.product import Product
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.tuning import copies, fastest

SPLITS = (1, 2, 4, 8)
"""Blocks that K is cut between."""
_DTYPES = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16))
_FIRST_CAPABILITY = 90
_MOST_ROWS = 4096
_TILE = 64
_THREADS = 256
_DEPTH = 128
"""Bytes of K in a stage."""
_SHARED = 6 * 2 * _TILE * _DEPTH
"""Bytes of six stages of a tile of A and one of B."""
_VECTOR = 16
_ACTIVATIONS = frozenset(("", "Clip", "Gelu", "GeluTanh", "HardSwish", "Relu", "Swish"))
_LONG = 1 << 31
_VERSION = 3
"""Of the kernel: another one has to be timed anew."""

Way = Callable[[Call, Product, Tensor], bool]


def multiply_by_clusters(call: Call, p: Product, y: Tensor, library: Way) -> bool:
    """Compute a product into `y` if this is a faster way than `library`."""
    if call.device.cublas is None or not fits(call, p, y):
        return False
    splits = call.planned(f"way {_key(p)}", lambda keeping: _fastest(keeping, p, y, library))
    if splits:
        launch(call, p, y, splits)
    return bool(splits)


def fits(call: Call, p: Product, y: Tensor) -> bool:
    """Whether the kernel can compute a product."""
    if call.device.capability < _FIRST_CAPABILITY or p.transpose_a or p.batch:
        return False
    if p.a.dtype not in _DTYPES or not 0 < p.m <= _MOST_ROWS:
        return False
    if p.a.dtype is DataType.FLOAT and not call.device.cublas.tf32:
        return False
    if p.epilogue.activation.name not in _ACTIVATIONS:
        return False
    tensors = (p.a, p.b, y, p.epilogue.bias, p.epilogue.residual)
    is_aligned = all(t is None or t.address % _VECTOR == 0 for t in tensors)
    unit = _VECTOR // p.a.itemsize
    is_whole = p.k > 0 and p.n % (unit * p.parts) == p.k % unit == 0
    return is_aligned and is_whole and max(p.n, p.k) < _LONG


def launch(call: Call, p: Product, y: Tensor, splits: int) -> None:
    """Compute a product into `y`, with K cut between the blocks of clusters of so many."""
    layout, name = "columns" if p.transpose_b else "rows", type_name(y.dtype)
    call.launch(
        f"cluster_matmul.{layout}_{name}",
        f"cluster_matmul_{layout}_{splits}_{name}",
        (-(-p.n // _TILE), -(-p.m // _TILE), splits),
        _THREADS,
        *(p.a, p.b, y, *map(np.int32, (p.m, p.n, p.k, p.n // p.parts, p.constant))),
        *p.epilogue.arguments,
        shared=_SHARED,
    )


def _key(p: Product) -> str:
    e = p.epilogue
    present = f"{e.bias is not None} {e.residual is not None}"
    sizes = f"{p.a.dtype} {p.m} {p.n} {p.k} {p.transpose_b} {p.constant} {p.parts}"
    return f"{sizes} {e.alpha} {present} {e.activation}"


def _fastest(call: Call, p: Product, y: Tensor, library: Way) -> int:
    """How many blocks to cut K between; 0 for the library."""
    tiles = -(-p.m // _TILE) * -(-p.n // _TILE)
    most = 2 * call.device.processors
    least = 2 * _DEPTH // p.a.itemsize
    choices = (0, *(s for s in SPLITS if s == 1 or (p.k >= least * s and tiles * s <= most)))
    others: list[Product] = []

    def start(number: int) -> Callable[[int], None]:
        if not others:
            addresses, owner = copies(call.device, p.b.address, p.b.nbytes)
            others.extend(_with_b(p, address, owner) for address in addresses)
        splits = choices[number]
        if splits == 0 and not library(call, p, y):  # which also chooses its algorithm
            raise NotImplementedError("the library cannot do it")

        def run(turn: int) -> None:
            product = others[turn % len(others)]
            if splits:
                launch(call, product, y, splits)
            else:
                library(call, product, y)

        return run

    key = f"cluster_matmul {_VERSION} {_key(p)}"
    return choices[fastest(call.device, key, len(choices), start)]


def _with_b(p: Product, address: int, owner: object) -> Product:
    b = Tensor(p.b.dtype, p.b.shape, address, owner)
    return replace(p, b=b)
