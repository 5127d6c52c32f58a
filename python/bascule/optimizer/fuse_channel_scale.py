# SPDX-License-Identifier: Apache-2.0
"""Fuse a factor for each channel, as of squeeze and excitation, into the 1x1 convolution after it.

Before:
    g (float[1,2,3,2] x, float[1,1,1,2] s, float[4,2,1,1] w, float[4] b) => (float[1,2,3,4] y) {
        t = Mul(s, x)
        y = bascule.Conv<channels_last = 1>(t, w, b)
    }
After:
    g (float[1,2,3,2] x, float[1,1,1,2] s, float[4,2,1,1] w, float[4] b) => (float[1,2,3,4] y) {
        y = bascule.Conv<channels_last = 1>(x, w, b, , s)
    }
Keeps:
    g (float[1,2,3,2] x, float[1,1,3,2] s, float[4,2,1,1] w) => (float[1,2,3,4] y) {
        t = Mul(x, s)
        y = bascule.Conv<channels_last = 1>(t, w)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import COMPUTED_IN_FLOAT
from bascule.ir.graph import FUSED_DOMAIN, Value
from bascule.optimizer.pattern import fused, op, values
from bascule.optimizer.rewrite import Match, rule

x, scale = values("x", "scale")


@rule(fused.Conv(op.Mul(x, scale), ..., channels_last=1, group=lambda group: group in (None, 1)))
def fuse_channel_scale(match: Match) -> Value | None:
    node, weights = match.root, match.root.input(1)
    if match[x].dtype not in COMPUTED_IN_FLOAT or weights is None or weights.shape is None:
        return None
    if node.input(4) is not None or node.attribute("planes", 0) or weights.shape[2:] != (1, 1):
        return None
    pair = sorted((match[x], match[scale]), key=_spatial_size)
    known, whole = pair[0].shape, pair[1].shape
    if known is None or whole is None or len(known) != 4 or len(whole) != 4:
        return None
    if known[0] is None or known != (whole[0], 1, 1, whole[3]) or known[3] != weights.shape[1]:
        return None
    inputs = [pair[1], *(node.input(index) for index in range(1, 4)), pair[0]]
    return match.build.node(
        "Conv", inputs, node.attributes, domain=FUSED_DOMAIN, type=node.output.type
    ).output


def _spatial_size(value: Value) -> int:
    """0 for a value with one number for each channel."""
    return 0 if value.shape is not None and value.shape[1:3] == (1, 1) else 1
