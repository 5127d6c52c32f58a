# SPDX-License-Identifier: Apache-2.0
"""How many channels stand side by side in the tensors of domain com.microsoft.nchwc.

onnxruntime takes what suits the processor it optimizes on, 8 or 16, and writes it down nowhere: a
file is meant for processors of the same kind. What it rounded up to whole blocks tells, though,
unless every number of channels is a multiple of 16.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from bascule.canonical.builder import invalid_node, known_constant
from bascule.canonical.contrib.block_layout import filled, without_blocks
from bascule.canonical.registry import NCHWC_DOMAIN
from bascule.errors import NotImplemented as NotSupported
from bascule.ir.graph import Graph, Model, Node, Value

LOGGER = logging.getLogger(__name__)

_SIZES = (8, 16)
_UNTOLD = (
    "nothing in the model tells whether its channels stand in blocks of 8 or of 16, as onnxruntime "
    "chose for the processor that it optimized the model on"
)
_ADVICE = (
    "save the model at ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL, which leaves channels as "
    "they are"
)


def note_block_size(model: Model, otherwise: int | None) -> None:
    """Give every node of the domain the attribute ``block_size``, and blocks no axis of their own.

    It is `otherwise` where the model does not tell. Raises InvalidGraph for a node whose channels
    are not whole blocks, or which reads blocks as no optimizer writes it, and NotImplemented where
    nothing tells the size.
    """
    nodes = [node for node in model.graph.walk_nodes() if node.domain == NCHWC_DOMAIN]
    if not nodes:
        return
    sizes = {size for graph in model.graph.walk_graphs() for size in _join_blocks(graph)}
    candidates = [size for size in _SIZES if sizes <= {size}]
    padded = _channels(model.graph.walk_nodes())
    for node in nodes:
        candidates = [size for size in candidates if _fits(node, size, padded)]
        if not candidates:
            raise invalid_node(node, 1, f"its channels are not whole blocks of {_SIZES}")
    if len(candidates) > 1:
        candidates = _by_zeros(nodes, candidates)
    if len(candidates) > 1:
        if otherwise is None:
            raise NotSupported(f"{_UNTOLD}: {_ADVICE}", op=nodes[0].op_type)
        LOGGER.warning(
            "%s; taken to be %d, as on this processor. If it was another one, results are wrong: "
            "%s.",
            _UNTOLD,
            otherwise,
            _ADVICE,
        )
        candidates = [otherwise]
    for node in nodes:
        node.attributes["block_size"] = candidates[0]


def _channels(nodes: Iterable[Node]) -> dict[Value, int]:
    """The channels, whole blocks of them, of the values in blocks, as far as weights tell."""
    found: dict[Value, int] = {}
    for node in nodes:
        if node.is_op("Conv", domain=NCHWC_DOMAIN):
            shape = _weight_shape(node)
            if shape is not None:
                found[node.output] = shape[0]
        elif not node.is_op("ReorderInput", "ReorderOutput", domain=NCHWC_DOMAIN):
            given = [found[value] for value in node.inputs if value in found]
            if not given:
                continue
            if node.is_op("Reshape"):
                raise invalid_node(node, 1, "it takes apart what is in blocks of channels")
            every = len(given) == len(node.inputs)
            if not node.is_op("Concat"):
                found[node.output] = given[0]
            elif every:
                found[node.output] = sum(given)
    return found


def _fits(node: Node, size: int, padded: dict[Value, int]) -> bool:
    """Whether a node may be one of blocks of this size."""
    if node.op_type == "ReorderOutput":
        value = node.input(0)
        channels = node.attribute("channels", 0)
        return value not in padded or channels < 1 or -(-channels // size) * size == padded[value]
    shape = _weight_shape(node)
    if shape is None:
        return True
    outputs, inputs = shape[:2]
    group: int = node.attribute("group", 1)
    if outputs % size:
        return False
    if group == 1:
        return inputs < size or inputs % size == 0
    depthwise = inputs == 1 and group == outputs
    return depthwise or (inputs % size == 0 and outputs % (group * size) == 0)


def _weight_shape(node: Node) -> tuple[int, ...] | None:
    weights = node.input(1) if node.op_type == "Conv" else None
    shape = None if weights is None else weights.static_shape
    return shape if shape is not None and len(shape) == 4 else None


def _by_zeros(nodes: list[Node], candidates: list[int]) -> list[int]:
    """Those of the sizes by which most weights of the last channels, which fill blocks, are 0."""
    counts = dict.fromkeys(candidates, 0)
    for node in nodes:
        weights = known_constant(node.input(1)) if node.op_type == "Conv" else None
        if weights is None or weights.ndim != 4 or not weights.size or weights.flat[-1]:
            continue
        for size in candidates:
            plain = without_blocks(weights, node.attribute("group", 1), size)
            counts[size] += filled(plain) + filled(plain.swapaxes(0, 1))
    most = max(counts.values())
    return [size for size in candidates if counts[size] == most]


def _join_blocks(graph: Graph) -> Iterator[int]:
    """Undo the axis of their own that blocks get for a sum of tensors that may differ in size.

    Gives the lengths of these axes.
    """
    for node in graph.nodes:
        if not node.is_op("Add", "Sum"):
            continue
        apart = [None if value is None else value.producer for value in node.inputs]
        sizes = {_split_size(each) for each in apart}
        joined = node.output.only_use()
        if sizes == {None} or None in sizes or joined is None or not joined.is_op("Reshape"):
            continue
        yield from (size for size in sizes if size is not None)
        for index, reshape in enumerate(apart):
            assert reshape is not None
            node.set_input(index, reshape.input(0))
            if reshape.output.is_unused:
                graph.remove(reshape)
        node.output.type = None
        joined.output.replace_uses(node.output)
        graph.remove(joined)


def _split_size(node: Node | None) -> int | None:
    """The last axis that a Reshape gives to blocks, or None where the node is no such one."""
    if node is None or not node.is_op("Reshape"):
        return None
    shape = known_constant(node.input(1))
    if shape is None or shape.shape != (5,) or shape[[0, 2, 3]].any():
        return None
    source = node.input(0)
    inner = None if source is None else source.producer
    while inner is not None and inner.domain != NCHWC_DOMAIN:
        value = inner.input(0)
        inner = None if value is None else value.producer
    return None if inner is None else int(shape[4])
