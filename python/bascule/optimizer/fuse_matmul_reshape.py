# SPDX-License-Identifier: Apache-2.0
"""Let MatMul work on all leading axes, where Reshapes around it join and part them.

Before:
    g (float[2,3,8] x, float[8,4] w, float[4] b) => (float[2,3,4] y) {
        flat = Constant<value_ints = [-1, 8]>()
        shape = Constant<value_ints = [2, 3, 4]>()
        rows = Reshape(x, flat)
        product = bascule.MatMul(rows, w, b)
        y = Reshape(product, shape)
    }
After:
    g (float[2,3,8] x, float[8,4] w, float[4] b) => (float[2,3,4] y) { y = bascule.MatMul(x, w, b) }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.pattern import any_of, fused, op, optional, shared, values
from bascule.optimizer.rewrite import Match, Reject, rule

x, w, bias, flat, shape = values("x", "w", "bias", "flat", "shape")

_ROWS = shared(op.Reshape(x, flat))
_PRODUCT = any_of(op.MatMul(_ROWS, w), fused.MatMul(_ROWS, w, optional(bias)))


@rule(op.Reshape(_PRODUCT, shape))
def fuse_matmul_reshape(match: Match) -> Value | Reject | None:
    node, value, y = match.node(_PRODUCT), match[x], match.root.output
    if node.attribute("transA", 0) or match[_ROWS].rank != 2 or match[w].rank != 2:
        return None
    outer, rows, last = value.shape, match[_ROWS].shape, y.shape
    columns = match[_PRODUCT].shape
    if outer is None or rows is None or last is None or columns is None:
        return None
    if len(outer) != len(last) or len(outer) < 2:
        return None
    if not _same(outer[-1], rows[-1]) or not _same(last[-1], columns[-1]):
        return Reject("the columns are not known to stay", value)
    # The number of elements stays, so one leading size may be unknown.
    if sum(not _same(a, b) for a, b in zip(outer[:-1], last[:-1])) > (0 if 0 in outer else 1):
        return Reject("the leading axes are not known to come back", value)
    return match.build.node(
        "MatMul", [value, *node.inputs[1:]], node.attributes, domain=node.domain, type=y.type
    ).output


def _same(a: object, b: object) -> bool:
    return a is not None and a == b
