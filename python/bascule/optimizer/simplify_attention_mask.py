# SPDX-License-Identifier: Apache-2.0
"""Leave out constant attention masks that hide nothing, or only what is_causal hides.

Exporters that know a batch only by its example write such masks out. Others lose the axes along
which they repeat.

Before:
    g (float[1,2,2,8] q, float[1,2,2,8] k, float[1,2,2,8] v) => (float[1,2,2,8] y, float[1,2,2,8] z)
    <bool[2,2] all = {1, 1, 1, 1}, float[1,1,2,2] past = {0, -inf, 0, 0}> {
        y = Attention(q, k, v, all)
        z = Attention(q, y, v, past)
    }
After:
    g (float[1,2,2,8] q, float[1,2,2,8] k, float[1,2,2,8] v)
    => (float[1,2,2,8] y, float[1,2,2,8] z) {
        y = Attention(q, k, v)
        z = Attention<is_causal = 1>(q, y, v)
    }
Before:
    g (float[1,2,2,8] q, float[1,2,3,8] k, float[1,2,3,8] v) => (float[1,2,2,8] y)
    <float[1,2,2,3] mask = {0, 0, -1, 1, 0, 0, 0, 0, -1, 1, 0, 0}> {
        y = Attention(q, k, v, mask)
    }
After:
    g (float[1,2,2,8] q, float[1,2,3,8] k, float[1,2,3,8] v) => (float[1,2,2,8] y)
    <float[1,1,2,3] c = {0, 0, -1, 1, 0, 0}> { y = Attention(q, k, v, c) }
Keeps:
    g (float[1,2,2,8] q, float[1,2,3,8] k, float[1,2,3,8] v) => (float[1,2,2,8] y)
    <bool[2,2] all = {1, 1, 1, 1}> { y = Attention(q, k, v, all) }
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import constants, fused, op, values
from bascule.optimizer.rewrite import Match, rule

q, k, v = values("q", "k", "v")
(mask,) = constants("mask")

_FIRST_OPTION = 4
"""Inputs from here on are the cache, lengths and sinks."""


@rule(op.Attention(q, k, v, mask, ...), fused.Attention(q, k, v, mask, ...))
def simplify_attention_mask(match: Match) -> Value | None:
    node, array = match.root, match.array(mask)
    queries, keys = _length(match[q]), _length(match[k])
    if queries is None or keys is None or array.ndim < 2:
        return None
    has_options = any(value is not None for value in node.inputs[_FIRST_OPTION:])
    if not has_options and array.shape[-1] == keys:
        hidden = _hidden(array)
        if hidden is not None and not hidden.any():
            return _without(match, None, {})
        shows_scores = len(node.outputs) > 3 and not node.outputs[3].is_unused
        is_square = array.shape[-2] == queries == keys
        if hidden is not None and is_square and _is_causal(hidden) and not shows_scores:
            return _without(match, None, {"is_causal": 1})
    shorter = _without_repetitions(array)
    if shorter.shape == array.shape:
        return None
    return _without(match, match.build.constant(shorter, match[mask].name), {})


def _length(value: Value) -> int | None:
    """How many queries or keys there are."""
    size = None if value.shape is None or value.rank not in (3, 4) else value.shape[-2]
    return size if isinstance(size, int) else None


def _hidden(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Which keys are hidden, if that is all that the mask says."""
    if array.dtype == np.bool_:
        return ~array
    wide = array.astype(np.float64)
    hidden = wide <= float(np.finfo(np.float16 if array.dtype == np.float16 else np.float32).min)
    return hidden if not wide[~hidden].any() else None


def _is_causal(hidden: np.ndarray[Any, Any]) -> bool:
    """Whether the keys behind its own number are hidden from each query."""
    later = ~np.tri(hidden.shape[-1], dtype=bool)
    return np.array_equal(hidden, np.broadcast_to(later, hidden.shape))


def _without_repetitions(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Only the first item of outer axes, the batch's and the heads', along which all are equal."""
    for axis in range(array.ndim - 2):
        if array.shape[axis] > 1:
            first = array.take([0], axis)
            if np.array_equal(np.broadcast_to(first, array.shape), array):
                array = first
    return array


def _without(match: Match, other: Value | None, attributes: dict[str, Any]) -> Value:
    """The node with another mask, or none."""
    node: Node = match.root
    inputs = [*node.inputs[:3], other, *node.inputs[_FIRST_OPTION:]]
    made = match.build.node(
        "Attention",
        inputs,
        node.attributes | attributes,
        outputs=len(node.outputs),
        domain=node.domain,
        type=node.output.type,
    )
    for old, new in zip(node.outputs[1:], made.outputs[1:]):
        new.type = old.type
        old.replace_uses(new)
    return made.output
