# SPDX-License-Identifier: Apache-2.0
"""Fuse a 1x1 convolution into the depthwise one that alone reads it.

Some channels at a time can then go through both, and what lies between stays in a cache.

Before:
    g (float[1,2,3,1] x) => (float[1,2,2,2] y)
    <float[2,1,1,1] w = {2, 3}, float[2] b = {1, -4}, float[2,1,1,2] taps = {1, 2, 3, 4}> {
        t = bascule.Conv<channels_last = 1, activation = "Relu">(x, w, b)
        y = bascule.Conv<channels_last = 1, group = 2, activation = "HardSwish">(t, taps)
    }
After:
    g (float[1,2,3,1] x) => (float[1,2,2,2] y)
    <float[2,1,1,1] w = {2, 3}, float[2] b = {1, -4}, float[2,1,1,2] taps = {1, 2, 3, 4}> {
        y = bascule.PointwiseDepthwiseConv<channels_last = 1, group = 2, activation = "HardSwish",
            inner_activation = "Relu">(x, w, b, taps)
    }
Keeps:
    g (float[1,2,3,1] x) => (float[1,2,2,2] y, float[1,2,3,2] t)
    <float[2,1,1,1] w = {2, 3}, float[2,1,1,2] taps = {1, 2, 3, 4}> {
        t = bascule.Conv<channels_last = 1>(x, w)
        y = bascule.Conv<channels_last = 1, group = 2>(t, taps)
    }
Keeps:
    g (float[1,2,3,1] x) => (float[1,1,1,2] y)
    <float[2,1,1,1] w = {2, 3}, float[2,1,1,2] taps = {1, 2, 3, 4}> {
        t = bascule.Conv<channels_last = 1, strides = [2, 2]>(x, w)
        y = bascule.Conv<channels_last = 1, group = 2>(t, taps)
    }
"""

from __future__ import annotations

from bascule.ir.dtype import COMPUTED_IN_FLOAT
from bascule.ir.graph import FUSED_DOMAIN, Node, Value
from bascule.optimizer.pattern import constant_of, fused
from bascule.optimizer.rewrite import Match, rule

_POINTWISE = fused.Conv(..., channels_last=1, group=lambda group: group in (None, 1))


@rule(fused.Conv(_POINTWISE, ..., channels_last=1))
def fuse_pointwise_depthwise(match: Match) -> Value | None:
    inner, outer = match.node(_POINTWISE), match.root
    if outer.output.dtype not in COMPUTED_IN_FLOAT or not _is_pointwise(inner):
        return None
    channels = _weights(inner)[0]
    if _weights(outer)[:2] != (channels, 1) or outer.attribute("group", 1) != channels:
        return None
    if channels == 1 or outer.input(3) is not None:
        return None
    activation = {
        f"inner_{name}": value
        for name, value in inner.attributes.items()
        if name.startswith("activation")
    }
    return match.build.node(
        "PointwiseDepthwiseConv",
        [*_three(inner), *_three(outer)[1:]],
        outer.attributes | activation,
        domain=FUSED_DOMAIN,
        type=outer.output.type,
    ).output


def _is_pointwise(node: Node) -> bool:
    return (
        _weights(node)[2:] == (1, 1)
        and node.input(3) is None
        and all(stride == 1 for stride in node.attribute("strides", ()))
        and all(pad == 0 for pad in node.attribute("pads", ()))
    )


def _weights(node: Node) -> tuple[int, ...]:
    """The shape of the weights, if they are constant."""
    constant = constant_of(node.input(1))
    return () if constant is None or len(constant.shape) != 4 else tuple(constant.shape)


def _three(node: Node) -> list[Value | None]:
    """Input, weights and bias."""
    return [node.input(index) for index in range(3)]
