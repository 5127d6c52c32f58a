# SPDX-License-Identifier: Apache-2.0
"""Products of one A with several matrices, in one launch.

No graph has this operator: ``joining.py`` makes it of MatMuls. Its inputs are A, ``[..., K]``, the
matrices, which are constant and lie on the host, and as many biases or none. With a single matrix
for several products that is cut between its columns. Attributes: parts, the number of products;
transB and alpha, as MatMul has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bascule.providers.cuda.call import Call
from bascule.providers.cuda.entry import upload
from bascule.providers.cuda.libraries.cublaslt import Problem
from bascule.providers.cuda.operators.matmul import MOST_STREAMED_ROWS, Epilogue, multiply
from bascule.providers.cuda.registry import FLOATS, Kernel
from bascule.providers.cuda.tensor import Tensor

Array = np.ndarray[Any, Any]

MOST_PARTS = 16
_VECTOR = 16


def joined_matmul(call: Call, a: Tensor, *constants: Array) -> tuple[Tensor, ...]:
    """A product for each output."""
    parts, transposed = int(call.attribute("parts")), bool(call.attribute("transB", 0))
    matrices = tuple(each for each in constants if each.ndim == 2)
    biases = constants[len(matrices) :]
    columns = matrices[0].shape[0 if transposed else 1]
    n = columns * len(matrices) // parts
    shape = (*a.shape[:-1], n)
    rows = math.prod(a.shape[:-1])
    bias = _kept(call, "biases", lambda: np.concatenate(biases)) if biases else None
    alpha = float(call.attribute("alpha", 1.0))
    if rows == 1:
        b = _kept(call, "side by side", lambda: _side_by_side(matrices, transposed))
        y = multiply(call, a.reshaped((1, a.size)), b, False, transposed, Epilogue(alpha, bias))
    else:
        b = _kept(call, "stacked", lambda: _stacked(matrices, parts, transposed))
        y = call.empty((parts, *shape), a.dtype)
        if y.size and not _at_once(call, a, b, bias, y, alpha, transposed):
            for i in range(parts):
                own = Epilogue(alpha, None if bias is None else bias.part(i * n, (n,)))
                matrix = b.part(i * b.size // parts, b.shape[1:])
                into = y.part(i * y.size // parts, shape)
                multiply(call, a, matrix, False, transposed, own, into=into)
    return tuple(y.part(i * rows * n, shape) for i in range(parts))


KERNEL = Kernel("joined_matmul", joined_matmul, FLOATS, range(1, 1 + 2 * MOST_PARTS), False, None)


def _kept(call: Call, key: str, make: Callable[[], Array]) -> Tensor:
    def uploaded(keeping: Call) -> Tensor:
        tensor: Tensor = upload(make(), keeping.device, keeping.device.allocate)
        return tensor

    kept: Tensor = call.prepared(key, uploaded)
    return kept


def _stacked(matrices: Sequence[Array], parts: int, transposed: bool) -> Array:
    """[parts, K, N]; transposed [parts, N, K]."""
    if len(matrices) == parts:
        return np.stack(matrices)
    [whole] = matrices
    if transposed:
        rows: Array = whole.reshape(parts, -1, whole.shape[1])
        return rows
    columns: Array = whole.reshape(whole.shape[0], parts, -1).swapaxes(0, 1)
    return columns


def _side_by_side(matrices: Sequence[Array], transposed: bool) -> Array:
    """[K, all columns]; transposed [all columns, K]."""
    return np.concatenate(matrices, axis=0 if transposed else 1)


def _at_once(
    call: Call,
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    y: Tensor,
    alpha: float,
    transposed: bool,
) -> bool:
    """By cuBLASLt as a batch, if it can; a few rows are better streamed."""
    library, parts = call.device.cublas, y.shape[0]
    n, k = y.shape[-1], a.shape[-1]
    m = a.size // k if k else 0
    if library is None or m <= MOST_STREAMED_ROWS:
        return False
    addresses = a.address | y.address | _VECTOR
    problem = Problem(
        a.dtype,
        m,
        n,
        k,
        transpose_b=transposed,
        batch=parts,
        b_stride=k * n,
        d_stride=m * n,
        bias_stride=n if bias is not None else 0,
        alpha=alpha,
        bias=bias is not None,
        alignment=addresses & -addresses,
    )
    plan = call.prepared(f"plan {problem}", lambda _: library.plan(problem))
    if plan is None:
        return False
    workspace = call.workspace(plan.workspace) if plan.workspace else None
    plan.run(
        a.address,
        b.address,
        y.address,
        y.address,
        0 if bias is None else bias.address,
        0 if workspace is None else workspace.address,
        call.device.stream.ptr,
    )
    return True
