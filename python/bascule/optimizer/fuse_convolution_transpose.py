# SPDX-License-Identifier: Apache-2.0
"""Let a convolution read a few channels where they are, rather than transposed.

Before:
    g (float[1,2,2,3] x, float[2,2,2,2] w) => (float[1,1,2,2] y) {
        t = Transpose<perm = [0, 2, 3, 1]>(x)
        y = bascule.Conv<channels_last = 1>(t, w)
    }
After:
    g (float[1,2,2,3] x, float[2,2,2,2] w) => (float[1,1,2,2] y) {
        y = bascule.Conv<channels_last = 1, planes = 1>(x, w)
    }
Keeps:
    g (float[1,5,2,3] x, float[2,5,2,2] w) => (float[1,1,2,2] y) {
        t = Transpose<perm = [0, 2, 3, 1]>(x)
        y = bascule.Conv<channels_last = 1>(t, w)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import COMPUTED_IN_FLOAT
from bascule.ir.graph import FUSED_DOMAIN, Value
from bascule.optimizer.pattern import fused, op, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")

_CHANNELS = (2, 3, 4)
"""Numbers of channels that a convolution puts side by side as it copies its input."""


@rule(
    fused.Conv(
        op.Transpose(x, perm=(0, 2, 3, 1)),
        ...,
        channels_last=1,
        group=lambda group: group in (None, 1),
    )
)
def fuse_convolution_transpose(match: Match) -> Value | None:
    node, weights = match.root, match.root.input(1)
    if match[x].dtype not in COMPUTED_IN_FLOAT or weights is None or weights.shape is None:
        return None
    if weights.shape[1] not in _CHANNELS or weights.shape[2:] == (1, 1):
        return None
    return match.build.node(
        "Conv",
        [match[x], *node.inputs[1:]],
        node.attributes | {"planes": 1},
        domain=FUSED_DOMAIN,
        type=node.output.type,
    ).output
