# SPDX-License-Identifier: Apache-2.0
"""Products whose columns are several results: one product of a batch, whose results are dense."""

from __future__ import annotations

from typing import Any

from bascule.ir.graph import FUSED_DOMAIN
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.libraries.cublaslt import Problem
from bascule.providers.cuda.operators.cluster_matmul import multiply_by_clusters
from bascule.providers.cuda.operators.library_matmul import run_plan
from bascule.providers.cuda.operators.matmul import MOST_STREAMED_ROWS, multiply
from bascule.providers.cuda.operators.product import Epilogue, Product
from bascule.providers.cuda.operators.strided import copy_strided, strides_of
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_VECTOR = 16


@kernel("SplitMatMul", domain=FUSED_DOMAIN, dtypes=FLOATS)
def split_matmul(
    call: Call, a: Tensor, b: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The columns of A @ B + bias in as many equal parts as there are outputs."""
    count = len(call.node.outputs)
    if b.rank != 2 or a.rank < 2 or b.shape[1] % count or a.shape[-1] != b.shape[0]:
        raise call.error(f"A of shape {a.shape} and B of shape {b.shape} have no {count} products")
    width = b.shape[1] // count
    shape = (*a.shape[:-1], width)
    rows = a.size // max(a.shape[-1], 1)
    epilogue, constant = Epilogue(bias=bias), call.is_constant(1)
    if rows == 1:
        parts = multiply(call, a, b, epilogue=epilogue, constant=constant)
        return tuple(parts.part(index * width, shape) for index in range(count))
    parts = call.empty((count, rows, width), a.dtype)
    product = Product(
        *(a, b, rows, b.shape[1], b.shape[0], False, False, (), parts.shape),
        *(epilogue, constant, count),
    )
    if parts.size and not _at_once(call, product, parts):
        whole = multiply(call, a, b, epilogue=epilogue, constant=constant)
        sizes, to = (rows, count, width), (width, rows * width, 1)
        copy_strided(call, whole, parts, sizes, strides_of(sizes), to)
    return tuple(parts.part(index * rows * width, shape) for index in range(count))


def _at_once(call: Call, p: Product, parts: Tensor) -> bool:
    """In a launch that writes dense results, if there is one."""
    if p.m > MOST_STREAMED_ROWS and multiply_by_clusters(call, p, parts, _by_library):
        return True
    return _by_library(call, p, parts)


def _by_library(call: Call, p: Product, parts: Tensor) -> bool:
    """By cuBLASLt, if it can do it: the columns of B are a batch of matrices."""
    library, bias, width = call.device.cublas, p.epilogue.bias, p.n // p.parts
    bits = _VECTOR | p.a.address | p.b.address | parts.address
    bits |= (width | p.n | p.m * width | p.k) * p.b.itemsize
    if library is None or p.k == 0:
        return False
    problem = Problem(
        p.a.dtype,
        p.m,
        width,
        p.k,
        batch=p.parts,
        b_stride=width,
        d_stride=p.m * width,
        b_row=p.n,
        bias=bias is not None,
        bias_stride=0 if bias is None else width,
        alignment=bits & -bits,
    )

    def make(_: Call) -> Any:
        return library.plan(problem)

    plan = call.planned(f"plan {problem}", make)
    if plan is None:
        return False
    run_plan(call, plan, [(p.a.address, p.b.address, parts.address, parts.address)], bias)
    return True
