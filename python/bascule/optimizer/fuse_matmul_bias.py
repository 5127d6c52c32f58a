# SPDX-License-Identifier: Apache-2.0
"""Fuse MatMul and the Add of a bias row, and Gemm, into the MatMul that has a bias.

Before:
    g (float[2,3,8] x, float[8,4] w, float[4] b) => (float[2,3,4] y) {
        t = MatMul(x, w)
        y = Add(t, b)
    }
After:
    g (float[2,3,8] x, float[8,4] w, float[4] b) => (float[2,3,4] y) { y = bascule.MatMul(x, w, b) }
Rejects, "the addend is not one row":
    g (float[2,3,8] x, float[8,4] w, float[3,1] b) => (float[2,3,4] y) {
        t = MatMul(x, w)
        y = Add(t, b)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, Value
from bascule.optimizer.normalization import reshaped
from bascule.optimizer.pattern import any_of, constant_of, fused, op, values
from bascule.optimizer.rewrite import Builder, Match, Reject, rule

a, b, bias = values("a", "b", "bias")

_PRODUCT = any_of(op.MatMul(a, b), fused.MatMul(a, b, activation=lambda name: not name))


@rule(op.Add(_PRODUCT, bias))
def fuse_matmul_bias(match: Match) -> Value | Reject | None:
    y, node = match[_PRODUCT], match.node(_PRODUCT)
    if y.rank is None or y.rank < 2 or y.shape is None or match[b].rank in (None, 1):
        return Reject("the rank of the product is not known", y)
    if match[a].rank == 1 or not isinstance(y.shape[-1], int):
        return None
    row = reshaped(match.build, match[bias], (y.shape[-1],), y.rank)
    if row is None:
        return Reject("the addend is not one row", match[bias])
    return match.fused.MatMul(match[a], match[b], row, **node.attributes)


_GEMM = op.Gemm(a, b, ...)


@rule(_GEMM)
def fuse_gemm(match: Match) -> Value | Reject:
    node, y = match.root, match.root.output
    addend, beta = node.input(2), float(node.attribute("beta", 1.0))
    bias_row = residual = None
    if addend is not None and beta:  # as in BLAS, 0 leaves out C, NaN and all
        scaled = _scaled(match.build, addend, beta)
        if scaled is None:
            return Reject("C is scaled by beta and not constant", addend)
        bias_row = _row(match.build, scaled, y)
        if bias_row is None and (y.shape is None or None in y.shape or scaled.shape != y.shape):
            return Reject("C is neither one row nor of the shape of the result", addend)
        residual = scaled if bias_row is None else None
    attributes = {
        "transA": node.attribute("transA", 0) or None,
        "transB": node.attribute("transB", 0) or None,
        "alpha": None if node.attribute("alpha", 1.0) == 1.0 else node.attribute("alpha"),
    }
    inputs = [match[a], match[b], bias_row, residual]
    plain = bias_row is None and residual is None and not any(attributes.values())
    domain = "" if plain else FUSED_DOMAIN
    return match.build.node("MatMul", inputs, attributes, domain=domain).output


def _scaled(build: Builder, value: Value, beta: float) -> Value | None:
    if beta == 1.0:
        return value
    constant = constant_of(value)
    if constant is None or not constant.dtype.is_float:
        return None
    array = constant.numpy()
    with np.errstate(all="ignore"):
        scaled = (array.astype(np.float64) * beta).astype(array.dtype)
    return build.constant(scaled, value.name)


def _row(build: Builder, value: Value, y: Value) -> Value | None:
    """`value` as a row of `y`; a single constant is repeated."""
    if y.shape is None or not isinstance(y.shape[-1], int):
        return None
    columns = y.shape[-1]
    constant = constant_of(value)
    if constant is not None and constant.size == 1:
        return build.constant(np.repeat(constant.numpy().reshape(1), columns), value.name)
    return reshaped(build, value, (columns,), 2)
