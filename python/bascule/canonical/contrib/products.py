# SPDX-License-Identifier: Apache-2.0
"""Matrix products with operands that are transposed first, a factor, and an activation."""

from __future__ import annotations

from bascule.canonical.contrib.activations import activate
from bascule.canonical.contrib.axes import permute
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value


@operator("FusedMatMul")
def fused_matmul(
    build: ContribBuilder,
    A: Value,
    B: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Outputs:
    a = _batch_outside(build, A) if transBatchA else A
    b = _batch_outside(build, B) if transBatchB else B
    return _product(build, a, b, alpha, transA, transB)


@operator("TransposeMatMul")
def transpose_matmul(
    build: ContribBuilder,
    A: Value,
    B: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Outputs:
    return _product(build, A, B, alpha, transA, transB)


@operator("FusedMatMulActivation")
def fused_matmul_activation(
    build: ContribBuilder,
    A: Value,
    B: Value,
    *,
    activation: str,
    activation_alpha: float | None = None,
    activation_axis: int | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Outputs:
    a = _batch_outside(build, A) if transBatchA else A
    b = _batch_outside(build, B) if transBatchB else B
    y = _product(build, a, b, alpha, transA, transB)
    if activation == "Softmax":
        return build.op("Softmax", y, axis=-1 if activation_axis is None else activation_axis)
    return _activate(build, y, activation, activation_alpha, activation_beta, activation_gamma)


@operator("FusedGemm")
def fused_gemm(
    build: ContribBuilder,
    A: Value,
    B: Value,
    C: Value | None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Outputs:
    y = build.op("Gemm", A, B, C, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _activate(build, y, activation, activation_alpha, activation_beta, activation_gamma)


@operator("GemmFastGelu")
def gemm_fast_gelu(build: ContribBuilder, X: Value, W: Value, bias: Value | None) -> Outputs:
    return build.op("Gelu", build.plus(build.op("MatMul", X, W), bias), approximate="tanh")


def _batch_outside(build: ContribBuilder, x: Value) -> Value:
    """``[rows, batch..., columns]`` as ``[batch..., rows, columns]``."""
    rank = build.typed(x).rank
    return x if rank is not None and rank < 3 else permute(build, x, (1, -1), (1, 0, 2))


def _product(
    build: ContribBuilder, a: Value, b: Value, alpha: float, trans_a: int, trans_b: int
) -> Value:
    """In the standard's operators, which fusions know, where the ranks can be found."""
    operands = [(a, trans_a), (b, trans_b)]
    if any(trans and build.typed(x).rank is None for x, trans in operands):
        # The fused operator needs no rank to swap the last two axes; a vector has none to swap.
        flags = {"transA": int(bool(trans_a)), "transB": int(bool(trans_b))}
        return build.fused("MatMul", a, b, alpha=alpha, **flags)[0]
    y = build.op("MatMul", *(_swapped(build, x) if trans else x for x, trans in operands))
    return y if alpha == 1.0 else build.op("Mul", y, build.like(alpha, build.typed(y)))


def _swapped(build: ContribBuilder, x: Value) -> Value:
    """With the last two axes swapped, of which a vector has only one."""
    axes = list(range(x.rank or 0))
    return build.op("Transpose", x, perm=[*axes[:-2], *reversed(axes[-2:])])


def _activate(
    build: ContribBuilder,
    y: Value,
    activation: str,
    alpha: float | None,
    beta: float | None,
    gamma: float | None,
) -> Value:
    """With parameters that have names of their own."""
    second = gamma if activation == "Selu" else beta
    return activate(build, y, activation, (alpha, second))
