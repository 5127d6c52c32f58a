# SPDX-License-Identifier: Apache-2.0
"""Compute equal things once, and keep equal constants once.

Before:
    g (float[2] x) => (float[2] y) <float a = {2}, float b = {2}> {
        s = Exp(x)
        t = Mul(s, a)
        u = Exp(x)
        v = Mul(u, b)
        y = Add(t, v)
    }
After:
    g (float[2] x) => (float[2] y) <float a = {2}> { s = Exp(x) t = Mul(s, a) y = Add(t, t) }
Keeps:
    g (float[2] x) => (float[2] y) {
        a = RandomUniformLike(x)
        b = RandomUniformLike(x)
        y = Add(a, b)
    }
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Graph, Node, Value
from bascule.optimizer.context import Context
from bascule.optimizer.fold_constants import RANDOM
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.rewrite import may_stand_for

_WHOLE = 4096
"""Constants in attributes are compared up to this many bytes."""

_PURE = (ONNX_DOMAIN, FUSED_DOMAIN, "ai.onnx.ml")
"""The domains whose operators, but for random ones, depend on nothing but their inputs."""

_SAMPLE = 1024
"""Initializers are compared by this many bytes first, so that few of the large ones are read."""


@graph_pass
def eliminate_common_subexpressions(graph: Graph, context: Context) -> int:
    return _merge_constants(graph) + _merge_nodes(graph, {})


def _merge_nodes(graph: Graph, outer: dict[Hashable, list[Node]]) -> int:
    """Replace nodes by earlier equal ones, of this graph or of those around it."""
    known = dict(outer)
    count = 0
    for node in graph:
        for inner in node.subgraphs:
            count += _merge_nodes(inner, known)
        key = _key(node)
        if key is None:
            continue
        alike = known.get(key, [])
        other = next((each for each in alike if _has_equal_attributes(each, node)), None)
        if other is None:
            known[key] = [*alike, node]
        elif all(map(may_stand_for, other.outputs, node.outputs)):
            for new, old in zip(other.outputs, node.outputs):
                old.replace_uses(new)
            graph.remove(node)
            count += 1
    return count


def _key(node: Node) -> Hashable | None:
    """What equal nodes share besides attributes; None for a node that is unlike any other."""
    if node.domain not in _PURE or node.op_type in RANDOM or node.subgraphs or not node.outputs:
        return None
    if node.is_op("Dropout") and len(node.inputs) > 2:
        return None
    inputs = tuple(map(id, node.inputs))
    return (node.op_type, node.domain, node.overload, inputs, len(node.outputs))


def _has_equal_attributes(a: Node, b: Node) -> bool:
    return a.attributes.keys() == b.attributes.keys() and all(
        _frozen(value) == _frozen(b.attributes[name]) for name, value in a.attributes.items()
    )


def _frozen(value: Any) -> Hashable:
    if isinstance(value, array):
        return value.typecode, value.tobytes()
    if isinstance(value, list):
        return repr([_frozen(item) for item in value])
    if isinstance(value, Constant) and value.strings is None and value.nbytes <= _WHOLE:
        return f"{value.dtype} {value.shape} {bytes(value.raw or b'').hex()}"
    if isinstance(value, (int, float, str)):
        return f"{type(value).__name__} {value!r}"
    return f"object {id(value)}"


def _merge_constants(root: Graph) -> int:
    """Let equal initializers of one graph be one."""
    count = 0
    for graph in root.walk_graphs():
        known: dict[Hashable, list[Value]] = {}
        for value in list(graph.initializers.values()):
            constant = constant_of(value)
            if constant is None or value.is_graph_output:
                continue
            alike = known.setdefault(_sample(constant), [])
            for other in alike:
                assert other.constant is not None
                if _equal(other.constant, constant):
                    value.replace_uses(other)
                    del graph.initializers[value.name]
                    count += 1
                    break
            else:
                alike.append(value)
    return count


def _sample(constant: Constant) -> Hashable:
    """Equal for equal constants, and rarely for others; reads little of a large one."""
    if constant.strings is not None:
        return (constant.shape, tuple(constant.strings.reshape(-1)))
    raw = constant.raw or memoryview(b"")
    return (constant.dtype, constant.shape, bytes(raw[:_SAMPLE]), bytes(raw[-_SAMPLE:]))


def _equal(a: Constant, b: Constant) -> bool:
    if a.strings is not None or b.strings is not None or a.nbytes <= _SAMPLE:
        return True  # the sample was all of it
    return bool(
        np.array_equal(np.frombuffer(a.raw or b"", np.uint8), np.frombuffer(b.raw or b"", np.uint8))
    )
