# SPDX-License-Identifier: Apache-2.0
"""Damaged models: each is loaded, or refused by an exception of ours."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest

import bascule
from bascule import errors
from bascule.errors import InvalidGraph
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_functions
from bascule.ir.load import load_model
from bascule.ir.save import to_bytes
from bascule.ir.wire import field
from tests.ir.models import HEADER, hostile_seeds

SEEDS = hostile_seeds()
EXTREMES = [0, 1, -1, 3, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63), 1_000_000]


def attempt(data: bytes) -> None:
    try:
        model = load_model(data)
        inline_functions(model)
        infer_types(model)
        to_bytes(model)
    except errors.ALL:
        pass


@pytest.mark.parametrize("name", SEEDS)
def test_truncated(name: str) -> None:
    data = SEEDS[name]
    for end in range(0, len(data), max(1, len(data) // 200)):
        attempt(data[:end])


def damage(data: bytes, source: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(source.choice([1, 1, 2, 4, 16])):
        position = source.randrange(max(len(damaged), 1))
        action = source.randrange(5)
        if action == 0:
            damaged[position : position + 1] = bytes(
                byte ^ 1 << source.randrange(8) for byte in damaged[position : position + 1]
            )
        elif action == 1:
            value = source.choice([0, 1, 0x7F, 0x80, 0xFF, 8, 10, 0x42])
            damaged[position : position + 1] = bytes([value])
        elif action == 2:
            del damaged[position : position + source.randrange(1, 8)]
        elif action == 3:
            damaged[position:position] = source.randbytes(source.randrange(1, 11))
        else:
            start = source.randrange(max(len(damaged), 1))
            damaged[position:position] = damaged[start : start + source.randrange(1, 40)]
    return bytes(damaged)


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_bytes(name: str) -> None:
    source = random.Random(name)
    for _ in range(150):
        attempt(damage(SEEDS[name], source))


def damage_message(message: Any, source: random.Random) -> None:
    """Change one field somewhere below `message` to a value of the right type."""
    fields = message.ListFields()
    if not fields:
        return
    descriptor, value = source.choice(fields)
    many = not isinstance(value, (int, float, str, bytes)) and not hasattr(value, "ListFields")
    if descriptor.message_type is not None:
        damage_message(source.choice(value) if many else value, source)
        if many and source.random() < 0.1:
            del value[source.randrange(len(value))]
        return
    new: Any = None
    if descriptor.cpp_type in (descriptor.CPPTYPE_INT64, descriptor.CPPTYPE_UINT64):
        new = source.choice(EXTREMES)
    elif descriptor.cpp_type == descriptor.CPPTYPE_INT32:
        new = source.randrange(-1, 40)
    elif descriptor.cpp_type == descriptor.CPPTYPE_STRING:
        new = source.choice(["", "x", "y", "a", "Relu", "Reshape", "Concat", "axis"])
        new = new.encode() if isinstance(value, bytes) else new
    if new is None:
        return
    try:
        if many:
            value[source.randrange(len(value))] = new
        else:
            setattr(message, descriptor.name, new)
    except (ValueError, TypeError):
        pass


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_fields(name: str) -> None:
    source = random.Random(name)
    for _ in range(150):
        model = onnx.ModelProto.FromString(SEEDS[name])
        for _ in range(source.choice([1, 1, 2, 3])):
            damage_message(model, source)
        attempt(model.SerializeToString())


@pytest.mark.parametrize("depth", [5, 30, 40, 200, 2000])
def test_deep_nesting(depth: int) -> None:
    """If in If in If: graph field 1 is a node, its field 5 an attribute, whose field 6 a graph."""
    graph = field(1, field(4, b"Identity") + field(1, b"x") + field(2, b"y"))
    graph += field(12, field(1, b"y"))
    for _ in range(depth):
        branches = b"".join(
            field(5, field(1, name) + field(6, graph) + b"\xa0\x01\x05")
            for name in (
                (b"then_branch", b"else_branch") if len(graph) < 1000 else (b"then_branch",)
            )
        )
        graph = field(1, field(4, b"If") + field(1, b"c") + field(2, b"y") + branches)
        graph += field(12, field(1, b"y"))
    attempt(b"\x08\x08" + field(7, graph) + field(8, b"\x10\x15"))


def test_function_bomb() -> None:
    text = "g (float x) => (float y) { y = local.f40(x) }\n"
    head = '<opset_import: ["" : 21, "local" : 1], domain: "local"> '
    text += head + "f0 (x) => (y) { y = Neg(x) }\n"
    for depth in range(1, 41):
        text += f"{head}f{depth} (x) => (y) {{ t = local.f{depth - 1}(x) "
        text += f"y = local.f{depth - 1}(t) }}\n"
    model = load_model(onnx.parser.parse_model(HEADER + text))
    with pytest.raises(InvalidGraph, match="1099511627776 nodes"):
        inline_functions(model)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2147483648] x) => (float[N] y) { t = Softplus(x) y = Mul(x, t) }",
        "g (float[1000000000,1000000000] x, int64[1] s) => (float[N] y) "
        "{ s1 = Constant<value_ints = [-1]>() t = Reshape(x, s1) "
        "u = Cast<to = 1>(t) y = Add(u, u) }",
        "g (int64[4611686018427387904] s) => (float y) { y = ConstantOfShape(s) }",
        "g (int64[1048576,1048576] s) => (float y) "
        "{ m = Constant<value_ints = [-1]>() t = Reshape(s, m) y = ConstantOfShape(t) }",
        "g (float[1048576,1048576] x) => (float[N] y) { s = Shape(x) z = Constant<value_int = 0>() "
        "d = Gather(s, z) e = Mul(d, d) a = Constant<value_ints = [0]>() f = Unsqueeze(e, a) "
        "t = Reshape(x, f) u = Cast<to = 1>(t) y = Add(u, u) }",
        "g (float[2,3] x, float[3] w) => (float y) { y = LayerNormalization<axis = 99>(x, w) }",
        "g (float[2,3] x, float[3] w) => (float y, float m) "
        "{ y, m = LayerNormalization<axis = 9223372036854775807>(x, w) }",
    ],
)
def test_inference_bombs(text: str) -> None:
    attempt(onnx.parser.parse_model(HEADER + text).SerializeToString())


@pytest.mark.parametrize(
    ("domain", "op", "opset", "attributes"),
    [
        ("", "RegexFullMatch", 20, {}),
        ("ai.onnx.ml", "DictVectorizer", 1, {"int64_vocabulary": [1]}),
        ("ai.onnx.ml", "LabelEncoder", 1, {"classes_strings": ["a"]}),
        (
            "ai.onnx.ml",
            "TreeEnsemble",
            5,
            {
                "tree_roots": [0],
                "nodes_featureids": [0],
                "nodes_splits": onnx.numpy_helper.from_array(np.float32([1])),
                "nodes_modes": onnx.numpy_helper.from_array(np.uint8([0])),
                "nodes_truenodeids": [0],
                "nodes_falsenodeids": [0],
                "nodes_trueleafs": [1],
                "nodes_falseleafs": [1],
                "leaf_targetids": [0],
                "leaf_weights": onnx.numpy_helper.from_array(np.float32([1])),
            },
        ),
    ],
)
def test_unknown_types_before_unsafe_inference(
    domain: str, op: str, opset: int, attributes: dict[str, Any]
) -> None:
    """onnx reads a type that is not there."""
    nodes = [
        onnx.helper.make_node("Mystery", ["x"], ["a"], domain="own"),
        onnx.helper.make_node(op, ["a"], ["y"], domain=domain, **attributes),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [2, 2])],
        [onnx.ValueInfoProto(name="y")],
    )
    imports = [onnx.helper.make_opsetid(domain, opset), onnx.helper.make_opsetid("own", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    with pytest.raises(errors.ALL, match="Mystery"):
        bascule.InferenceSession(model.SerializeToString())


FUNCTION = """g (float[8,5] x, int64[4,1] i, float[5,3] w) => (float[N] y)
    {{ y = local.f<b = {}>(x, i, w) }}
    <opset_import: ["" : 21], domain: "local"> f <b> (x, i, w) => (y) {{ {} }}"""


@pytest.mark.parametrize(
    ("value", "body", "reason"),
    [
        ("-2147483648", "y = GatherND<batch_dims: int = @b>(x, i)", "batch_dims"),
        ('"a"', "y = GatherND<batch_dims: int = @b>(x, i)", "batch_dims"),
        ('"ij,j|k->ik"', "y = Einsum<equation: string = @b>(x, w)", "equation"),
        ("-5", "t = Cast<to: int = @b>(x) y = MatMul(t, w)", "'to' is -5"),
        ('"X"', "y = DepthToSpace<blocksize = 2, mode: string = @b>(x)", "'X', expected one of"),
        ("7", "y, t = Split<num_outputs: int = @b>(x)", "the node has 2 outputs"),
    ],
)
def test_attributes_that_calls_of_functions_give(value: str, body: str, reason: str) -> None:
    """With some of these onnx's inference reads other memory, or does not come to an end."""
    data = onnx.parser.parse_model(HEADER + FUNCTION.format(value, body)).SerializeToString()
    with pytest.raises(InvalidGraph, match=f"{reason}.*node: f_0/"):
        bascule.InferenceSession(data)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("y = GatherND<batch_dims = -2147483648>(x, i)", "batch_dims is -2147483648"),
        ("y = GatherND<batch_dims = -1>(x, i)", "batch_dims is -1"),
        ("t = Cast<to = -2147483648>(x) y = Sigmoid(t)", "'to' is -2147483648"),
        ("t = Cast<to = 99>(x) y = Sigmoid(t)", "'to' is 99"),
    ],
)
@pytest.mark.parametrize("level", [0, 99])
def test_attributes_out_of_range(node: str, reason: str, level: int) -> None:
    text = f"{HEADER}g (float[8,5] x, int64[4,1] i) => (float y) {{ {node} }}"
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel(level)
    reason = reason.replace("batch_dims", "attribute 'batch_dims'")
    with pytest.raises(InvalidGraph, match=reason):
        bascule.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)


ONES = (
    "<float[1,1,3,3] w = {1,1,1,1,1,1,1,1,1}, float[9] flat = {1,1,1,1,1,1,1,1,1}, float s = {2}>"
)


@pytest.mark.parametrize("level", [0, 99])
@pytest.mark.parametrize(
    "nodes",
    [
        'y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [2, 9223372036854775807]>(x, w)',
        'y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [2, -9223372036854775808]>(x, w)',
        "t = ConvTranspose(x, flat) y = Div(t, s)",
    ],
)
def test_convolutions_that_do_not_fit(nodes: str, level: int) -> None:
    text = f"{HEADER}g (float[1,1,4,4] x) => (float y) {ONES} {{ {nodes} }}"
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel(level)
    with pytest.raises(errors.ALL, match="ConvTranspose"):
        session = bascule.InferenceSession(
            onnx.parser.parse_model(text).SerializeToString(), options
        )
        session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})


@pytest.mark.parametrize("level", [0, 99])
def test_transposed_convolutions_of_no_elements(level: int) -> None:
    text = f"{HEADER}g (float[1,1,4,4] x) => (float y) {ONES}"
    text += "{ t = ConvTranspose<output_shape = [10, 0]>(x, w) y = Relu(t) }"
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel(level)
    session = bascule.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)
    assert session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})[0].shape == (1, 1, 10, 0)


@pytest.mark.parametrize("name", ["Resize", "LabelEncoder"])
def test_attributes_that_are_no_utf8(name: str) -> None:
    """Kernels take texts, so that the node says what it was given."""
    if name == "Resize":
        node = onnx.helper.make_node("Resize", ["x", "", "s"], ["y"], "bad", mode=b"lin\xffear")
        dtype = 1
    else:
        node = onnx.helper.make_node(
            name,
            ["x"],
            ["y"],
            "bad",
            domain="ai.onnx.ml",
            keys_floats=[1.0],
            values_strings=[b"\xff"],
        )
        dtype = 8
    info = onnx.helper.make_tensor_value_info
    scales = onnx.helper.make_tensor("s", 1, [2], [2.0, 2.0])
    graph = onnx.helper.make_graph(
        [node], "g", [info("x", 1, [2, 2])], [info("y", dtype, None)], [scales]
    )
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", 4)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    with pytest.raises(InvalidGraph, match=r"'bad': attribute '\w+' is no UTF-8"):
        bascule.InferenceSession(model.SerializeToString())


def test_widths_that_no_size_can_be() -> None:
    node = onnx.helper.make_node(
        "FeatureVectorizer",
        ["x", "x"],
        ["y"],
        "wide",
        domain="ai.onnx.ml",
        inputdimensions=[2**63 - 1, 2**63 - 1],
    )
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [info("x", 1, [2, 2])], [info("y", 1, None)])
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    with pytest.raises(errors.ALL, match="wide"):
        session = bascule.InferenceSession(model.SerializeToString())
        session.run(None, {"x": np.ones((2, 2), np.float32)})
