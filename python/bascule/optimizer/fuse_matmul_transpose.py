# SPDX-License-Identifier: Apache-2.0
"""Fuse a Transpose of the last two axes of an operand into MatMul.

Before:
    g (float[2,3,8] x, float[2,4,8] w) => (float[2,3,4] y) {
        t = Transpose<perm = [0, 2, 1]>(w)
        y = MatMul(x, t)
    }
After:
    g (float[2,3,8] x, float[2,4,8] w) => (float[2,3,4] y) { y = bascule.MatMul<transB = 1>(x, w) }
Before:
    g (float[2,3,8] x, float[8,4] w) => (float[2,3,4] y) {
        t = Transpose<perm = [0, 2, 1]>(x)
        y = bascule.MatMul<transA = 1>(t, w)
    }
After:
    g (float[2,3,8] x, float[8,4] w) => (float[2,3,4] y) { y = bascule.MatMul(x, w) }
Rejects:
    g (float[2,3,8] x, float[8,2,4] w) => (float[2,3,4] y) {
        t = Transpose<perm = [1, 0, 2]>(w)
        y = MatMul(x, t)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import fused, op, shared, values
from bascule.optimizer.rewrite import Match, rule

a, b = values("a", "b")

_LEFT, _RIGHT = shared(op.Transpose(a)), shared(op.Transpose(b))


@rule(op.MatMul(_LEFT, b), fused.MatMul(_LEFT, b, ...))
def fuse_matmul_transpose_left(match: Match) -> Value | None:
    if match[b].rank == 1 or not _swaps_last_two(match.node(_LEFT)):
        return None
    return _with_flag(match, [match[a], match[b]], "transA")


@rule(op.MatMul(a, _RIGHT), fused.MatMul(a, _RIGHT, ...))
def fuse_matmul_transpose_right(match: Match) -> Value | None:
    if match[a].rank == 1 or not _swaps_last_two(match.node(_RIGHT)):
        return None
    return _with_flag(match, [match[a], match[b]], "transB")


@rule(fused.MatMul(_LEFT, b, ..., transA=1))
def cancel_matmul_transpose(match: Match) -> Value | None:
    """Only where the product already undoes it: a Transpose may have come later."""
    if match[b].rank == 1 or not _swaps_last_two(match.node(_LEFT)):
        return None
    return _with_flag(match, [match[a], match[b]], "transA")


def _with_flag(match: Match, operands: list[Value], flag: str) -> Value:
    node = match.root
    attributes = node.attributes | {flag: 1 - node.attribute(flag, 0) or None}
    return match.fused.MatMul(*operands, *node.inputs[2:], **attributes)


def _swaps_last_two(node: Node) -> bool:
    rank = node.output.rank
    if rank is None or rank < 2:
        return False
    axes = list(range(rank))
    wanted = [*axes[:-2], axes[-1], axes[-2]]
    return list(node.attribute("perm") or reversed(axes)) == wanted
