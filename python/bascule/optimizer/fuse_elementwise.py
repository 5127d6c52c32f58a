# SPDX-License-Identifier: Apache-2.0
"""Fuse neighbouring elementwise operators of one shape into Elementwise.

A region grows from its last node backwards. It takes in a producer of the same shape whose other
readers, if any, come after the last node: so the fused node can stand in the place of the last one.

Before:
    g (float[2,3] a, float[2,3] b, float[3] c) => (float[2,3] y) { s = Add(a, c) y = Mul(s, b) }
After:
    g (float[2,3] a, float[2,3] b, float[3] c) => (float[2,3] y) {
        y = bascule.Elementwise<body = body
            (float[2,3] operand, float[3] operand_1, float[2,3] operand_2) => (float[2,3] t)
            { s = Add(operand, operand_1) t = Mul(s, operand_2) }>(a, c, b)
    }
Before:
    g (uint8[2,3] a, uint8[2,3] b) => (uint8[2,3] y) <float s = {0.5}, uint8 z = {7}> {
        f = DequantizeLinear(a, s, z)
        g = DequantizeLinear(b, s, z)
        h = Add(f, g)
        y = QuantizeLinear(h, s, z)
    }
After:
    g (uint8[2,3] a, uint8[2,3] b) => (uint8[2,3] y) {
        y = bascule.Elementwise<body = body
            (uint8[2,3] operand, uint8[2,3] operand_2) => (uint8[2,3] t)
            <float s = {0.5}, uint8 z = {7}> {
                f = DequantizeLinear(operand, s, z)
                g = DequantizeLinear(operand_2, s, z)
                h = Add(f, g)
                t = QuantizeLinear(h, s, z)
            }>(a, b)
    }
Keeps:
    g (float[2,3] a, float[2,1] b) => (float[2,3] y) { s = Exp(b) y = Mul(a, s) }
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Graph, Node, Value
from bascule.ir.replaced import inherit
from bascule.ir.types import TensorType
from bascule.optimizer.context import Context
from bascule.optimizer.dims import same_shape
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of
from bascule.optimizer.quantization import BYTES
from bascule.optimizer.rewrite import Builder, replace

# fmt: off
UNARY = frozenset((
    "Abs", "Acos", "Asin", "Atan", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish",
    "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus",
    "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
))
"""Elementwise operators whose result has the shape of the first input."""

BROADCASTING = frozenset((
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Min", "Mul", "Or", "Pow", "PRelu", "Sub", "Where", "Xor",
))
# fmt: on

_OF_BYTES = frozenset(("DequantizeLinear", "QuantizeLinear"))

_DTYPES = {DataType.BFLOAT16} | {d for d in DataType if d.bits >= 8 and d.numpy.kind in "fbiu"}


@graph_pass
def fuse_elementwise(graph: Graph, context: Context) -> int:
    count = 0
    for inner in list(graph.walk_graphs()):
        if inner.parent is None or not inner.parent.is_op("Elementwise", domain=FUSED_DOMAIN):
            count += _fuse_in(inner)
    return count


def _fuse_in(graph: Graph) -> int:
    count = 0
    position = {node: index for index, node in enumerate(graph)}
    taken: set[Node] = set()
    for last in reversed(graph.nodes):
        if last in taken or not _is_elementwise(last):
            continue
        region = _grow(last, position, taken)
        if len(region) < 2 or not any(_is_float(node) for node in region):
            continue
        taken.update(region)
        _replace(sorted(region, key=position.__getitem__))
        count += 1
    return count


def _is_elementwise(node: Node) -> bool:
    if not node.is_op(*UNARY, *BROADCASTING, *_OF_BYTES) or len(node.outputs) != 1:
        return False
    if node.op_type in _OF_BYTES and not _has_one_scale(node):
        return False
    values = [value for value in node.inputs if value is not None]
    return all(value.dtype in _DTYPES for value in (*values, node.output))


def _has_one_scale(node: Node) -> bool:
    """True for float32 numbers to bytes or back, with one scale and one zero point for all."""
    numbers, integers = node.input(0), node.output
    if node.is_op("DequantizeLinear"):
        numbers, integers = integers, numbers
    parameters = [constant_of(value) for value in node.inputs[1:]]
    return (
        numbers is not None
        and integers is not None
        and (numbers.dtype, integers.dtype in BYTES) == (DataType.FLOAT, True)
        and len(parameters) == 2
        and all(constant is not None and constant.shape == () for constant in parameters)
        and not any(node.attribute(name) for name in ("block_size", "output_dtype", "precision"))
    )


def _is_float(node: Node) -> bool:
    values = [value for value in (*node.inputs, node.output) if value is not None]
    return any(value.dtype is not None and value.dtype.is_float for value in values)


def _grow(last: Node, position: dict[Node, int], taken: set[Node]) -> set[Node]:
    """The region that ends in `last`."""
    region = {last}
    pending = [last]
    while pending:
        node = pending.pop()
        for value in node.inputs:
            producer = None if value is None else value.producer
            if producer is None or producer in region or producer in taken:
                continue
            if producer not in position or not _is_elementwise(producer):
                continue
            if not _has_shape_of(producer, node):
                continue
            if all(
                use.node in region or _is_after(use.node, last, position)
                for use in producer.output.uses
            ):
                region.add(producer)
                pending.append(producer)
                # Its own producers, and others that wait for it, may be ready now.
                pending.extend(each for each in region if each is not producer)
    return region


def _is_after(reader: Node, last: Node, position: dict[Node, int]) -> bool:
    """True when `reader`, or the node of this graph that holds it, comes after `last`."""
    node: Node | None = reader
    while node is not None and node not in position:
        node = node.graph.parent if node.graph is not None else None
    return node is not None and position[node] > position[last]


def _has_shape_of(producer: Node, reader: Node) -> bool:
    """True when the result of `reader` certainly has the shape of what it reads here."""
    if reader.op_type in UNARY or reader.op_type in _OF_BYTES:
        return reader.input(0) is producer.output
    return same_shape(producer.output.shape, reader.output.shape)


def _replace(region: list[Node]) -> None:
    """Put one fused node in the place of the last node of `region`."""
    last = region[-1]
    outer = last.graph
    assert outer is not None
    inside = {node.output for node in region}
    body = Graph(outer.fresh_name("elementwise"))
    mapped: dict[Value, Value] = {}
    inputs: list[Value] = []
    for node in region:
        copied = [None if v is None else mapped.get(v) for v in node.inputs]
        for index, value in enumerate(node.inputs):
            if value is None or copied[index] is not None:
                continue
            if value not in mapped:
                mapped[value] = _enter(body, outer, value)
                if mapped[value].constant is None:
                    inputs.append(value)
            copied[index] = mapped[value]
        copy = Node(
            node.op_type,
            copied,
            [Value(outer.fresh_name("element"), node.output.type)],
            dict(node.attributes),
        )
        copy.metadata = dict(node.metadata)
        body.append(copy)
        mapped[node.output] = copy.output
    results = [
        node.output
        for node in region
        if node.output.output_count
        or any(use.node.output not in inside for use in node.output.uses)
    ]
    for value in results:
        body.add_output(mapped[value])
    build = Builder(last)
    made = build.node(
        "Elementwise", inputs, {"body": body}, outputs=len(results), domain=FUSED_DOMAIN
    )
    inherit([made], region)
    for value, new in zip(results, made.outputs):
        new.type = value.type
    for value, new in zip(results, made.outputs):
        assert value.producer is not None
        replace(value.producer, [new], build)
    for node in reversed(region):
        if node.graph is not None:
            node.graph.remove(node)


def _enter(body: Graph, outer: Graph, value: Value) -> Value:
    """What stands in the body for a value from outside: an input, or a number."""
    constant = constant_of(value)
    if constant is not None and constant.size == 1 and not constant.shape:
        return body.add_initializer(Value(outer.fresh_name("number"), constant=constant))
    type = value.type
    assert isinstance(type, TensorType)
    return body.add_input(Value(outer.fresh_name("operand"), type))
