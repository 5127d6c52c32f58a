# SPDX-License-Identifier: Apache-2.0
"""bascule digest: what counts, what does not, and that it is what docs/digest.md says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bascule.cli import main
from bascule.tools.digest import digest
from tests.api.models import FLOAT, endless, linear, model, scaled, tensor

RNG = np.random.default_rng(5)


def of(source: Any) -> str:
    return digest(source).digest


def branches() -> onnx.ModelProto:
    """Four branches of one input that are joined, with a weight, a constant and a nested graph."""
    weight = numpy_helper.from_array(RNG.standard_normal((3, 3)).astype(np.float32), "w")
    branch = helper.make_graph(
        [
            helper.make_node("Mul", ["b", "w"], ["inner"], name="inner"),
            helper.make_node("Cast", ["inner"], ["then_out"], to=FLOAT, name="cast"),
        ],
        "then",
        [],
        [tensor("then_out", shape=None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["else_out"], name="else_identity")],
        "else",
        [],
        [tensor("else_out", shape=None)],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("MatMul", ["x", "w"], ["b"], name="b"),
        helper.make_node("LeakyRelu", ["x"], ["c"], name="c", alpha=0.25),
        helper.make_node("Softmax", ["x"], ["d"], name="d", axis=0),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["e"], name="e", then_branch=branch, else_branch=other),
        helper.make_node("Concat", ["a", "b", "c", "d", "e"], ["y"], axis=1),
    ]
    return model(nodes, [tensor("x", shape=(3, 3))], [tensor("y", shape=(3, 15))], [weight])


# --- what does not count


def test_order_of_nodes() -> None:
    proto = branches()
    expected = of(proto)
    for seed in range(5):
        nodes = list(proto.graph.node)
        random.Random(seed).shuffle(nodes)
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        assert of(proto) == expected


def rename(graph: onnx.GraphProto, kept: set[str]) -> None:
    def new(name: str) -> str:
        return name if name in kept or not name else f"renamed_{name}"

    graph.name += "_renamed"
    for initializer in graph.initializer:
        initializer.name = new(initializer.name)
    for node in graph.node:
        node.name = f"node_{node.name}"
        node.doc_string = "text"
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename(attribute.g, kept)
    for output in graph.output:
        output.name = new(output.name)


def test_names_in_between() -> None:
    proto = branches()
    expected = of(proto)
    rename(proto.graph, {"x", "y"})
    assert proto.graph.initializer[0].name == "renamed_w"
    assert of(proto) == expected


def test_descriptions() -> None:
    proto = linear()
    expected = of(proto)
    proto.producer_name, proto.doc_string, proto.ir_version = "me", "text", 11
    proto.graph.doc_string = "text"
    proto.metadata_props.add(key="author", value="me")
    proto.opset_import.append(helper.make_opsetid("unused", 3))
    proto.graph.value_info.append(tensor("m", shape=("n", 2)))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert of(proto) == expected


def test_order_of_attributes_and_encoding(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=1)
    weight = numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w")
    proto = model(
        [node], [tensor("x", shape=(1, 2, 8, 8))], [tensor("y", shape=(1, 2, 4, 4))], [weight]
    )
    expected = of(proto)
    attributes = list(proto.graph.node[0].attribute)[::-1]
    del proto.graph.node[0].attribute[:]
    proto.graph.node[0].attribute.extend(attributes)
    data = proto.SerializeToString()
    # Fields of one message may come in any order, and in parts.
    ir_version = onnx.ModelProto(ir_version=10).SerializeToString()
    assert of(data + ir_version) == expected
    (tmp_path / "model.onnx").write_bytes(data)
    with open(tmp_path / "model.onnx", "rb") as file:
        assert of(file) == expected
    assert of(str(tmp_path / "model.onnx")) == of(tmp_path / "model.onnx") == expected


def typed(array: Any, dtype: int) -> onnx.TensorProto:
    return helper.make_tensor("w", dtype, array.shape, array.flatten())


def raw(array: Any, dtype: int) -> onnx.TensorProto:
    return numpy_helper.from_array(array, "w")


@pytest.mark.parametrize(
    "dtype",
    [
        "FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "INT64", "INT32", "INT8",
        "UINT64", "BOOL", "COMPLEX64", "UINT4", "INT4", "FLOAT4E2M1",
    ],
)  # fmt: skip
def test_where_a_tensor_is_stored(dtype: str, tmp_path: Path) -> None:
    number = TensorProto.DataType.Value(dtype)
    array = RNG.integers(0, 2, (3, 5)).astype(helper.tensor_dtype_to_np_dtype(number))

    def identity(weights: Sequence[onnx.TensorProto], nodes: Any = ()) -> onnx.ModelProto:
        last = helper.make_node("Identity", ["w"], ["y"])
        return model([*nodes, last], [], [tensor("y", number, [3, 5])], weights, 13, 25)

    expected = of(identity([raw(array, number)]))
    assert of(identity([typed(array, number)])) == expected
    constant = helper.make_node("Constant", [], ["w"], value=raw(array, number))
    assert of(identity([], [constant])) == expected
    path = tmp_path / "external.onnx"
    onnx.save(
        identity([raw(array, number)]),
        path,
        save_as_external_data=True,
        location="data.bin",
        size_threshold=0,
    )
    found = digest(path)
    assert (found.digest, found.external_files) == (expected, ["data.bin"])
    changed = array.copy()
    changed[2, 4] = 1 - changed[2, 4]
    assert of(identity([raw(changed, number)])) != expected


def test_bits_behind_the_last_element() -> None:
    weight = numpy_helper.from_array(np.array([1, 2, 3], helper.tensor_dtype_to_np_dtype(22)), "w")
    proto = model(
        [helper.make_node("Identity", ["w"], ["y"])],
        [],
        [tensor("y", TensorProto.INT4, [3])],
        [weight],
        opset=25,
    )
    expected = of(proto)
    data = bytearray(proto.graph.initializer[0].raw_data)
    data[-1] |= 0xF0
    proto.graph.initializer[0].raw_data = bytes(data)
    assert of(proto) == expected


@pytest.mark.parametrize(
    ("attribute", "array"),
    [
        ({"value_float": 1.5}, np.array(1.5, np.float32)),
        ({"value_floats": [1.5, 2]}, np.array([1.5, 2], np.float32)),
        ({"value_int": 3}, np.array(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
    ],
)
def test_forms_of_constants(attribute: dict[str, Any], array: Any) -> None:
    value = numpy_helper.from_array(array)
    outputs = [tensor("y", value.data_type, array.shape)]
    plain, short = (
        model([helper.make_node("Constant", [], ["y"], **given)], [], outputs)
        for given in ({"value": value}, attribute)
    )
    assert of(plain) == of(short)


def test_sparse_and_dense_initializers() -> None:
    dense = numpy_helper.from_array(np.array([[0, 2], [3, 0]], np.float32), "w")
    values = numpy_helper.from_array(np.array([2, 3], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 2]), "i")
    node, output = helper.make_node("Identity", ["w"], ["y"]), tensor("y", shape=(2, 2))
    proto = model([node], [], [output])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 2]))
    assert of(proto) == of(model([node], [], [output], [dense]))


def test_tensors_that_are_stored_twice() -> None:
    one, two = (
        numpy_helper.from_array(np.arange(3, dtype=np.float32), name) for name in ("w", "v")
    )
    inputs, outputs = [tensor("x", shape=(3,))], [tensor("y", shape=(3,))]

    def made(second: str, weights: Any) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Add", ["x", "w"], ["s"]),
            helper.make_node("Mul", ["s", second], ["y"]),
        ]
        return model(nodes, inputs, outputs, weights)

    assert of(made("w", [one])) == of(made("v", [one, two]))


# --- what counts


def _node(index: int, **fields: Any) -> Callable[[onnx.ModelProto], Any]:
    def change(proto: onnx.ModelProto) -> None:
        node = proto.graph.node[index]
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(node, name)[:] = value
            else:
                setattr(node, name, value)

    return change


def _flip_a_bit(proto: onnx.ModelProto) -> None:
    data = bytearray(proto.graph.initializer[0].raw_data)
    data[-1] ^= 1
    proto.graph.initializer[0].raw_data = bytes(data)


def _rename_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = proto.graph.node[6].output[0] = "z"


def _rename_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = "z"
    for node in proto.graph.node[:4]:
        node.input[0] = "z"


def _name_a_size(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def _change_nested(proto: onnx.ModelProto) -> None:
    proto.graph.node[5].attribute[0].g.node[0].op_type = "Abs"


def _change_capture(proto: onnx.ModelProto) -> None:
    branches = {attribute.name: attribute.g for attribute in proto.graph.node[5].attribute}
    branches["else_branch"].node[0].input[0] = "d"


def _add_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "unused"))


def _reshape_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [1, 9]


def _retype_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = TensorProto.INT32


def _make_default(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(tensor("w", shape=(3, 3)))


def _newer(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 22


def _drop_attribute(proto: onnx.ModelProto) -> None:
    del proto.graph.node[3].attribute[:]


def _set_alpha(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].attribute[0].f = 0.5


def _dead_node(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Relu", ["x"], ["dead"]))


@pytest.mark.parametrize(
    "change",
    [
        _flip_a_bit,
        _rename_output,
        _rename_input,
        _name_a_size,
        _change_nested,
        _change_capture,
        _add_weight,
        _reshape_weight,
        _retype_weight,
        _make_default,
        _newer,
        _drop_attribute,
        _set_alpha,
        _dead_node,
        _node(0, op_type="Sigmoid"),
        _node(1, input=["w", "x"]),
        _node(6, input=["b", "a", "c", "d", "e"]),
    ],
)
def test_what_counts(change: Callable[[onnx.ModelProto], Any]) -> None:
    proto = branches()
    before = of(proto)
    change(proto)
    assert of(proto) != before


def test_order_and_names_of_outputs() -> None:
    proto = linear()
    before = of(proto)
    outputs = list(proto.graph.output)[::-1]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    assert of(proto) != before


def test_defaults_of_inputs() -> None:
    proto = scaled()
    before = of(proto)
    proto.graph.initializer[0].float_data[0] = 3
    assert of(proto) != before


def test_number_of_outputs() -> None:
    inputs, outputs = [tensor("x", shape=(6,))], [tensor("a", shape=None)]
    two, three = (
        model([helper.make_node("Split", ["x"], names, num_outputs=len(names))], inputs, outputs)
        for names in (["a", "b"], ["a", "b", "c"])
    )
    for proto in (two, three):
        del proto.graph.node[0].attribute[:]
        proto.opset_import[0].version = 13
    assert of(two) != of(three)


def test_whole_numbers_and_fractions() -> None:
    """A domain that nobody knows may have either under one name."""
    found = set()
    for value in (1, 1.0, "1", [1], [1.0], ["1"]):
        node = helper.make_node("Op", ["x"], ["y"], domain="my", a=value)
        found.add(of(model([node], [tensor("x")], [tensor("y")], domains=[("my", 1)])))
    assert len(found) == 6


def test_bodies_of_loops() -> None:
    proto = endless()
    before = of(proto)
    body = proto.graph.node[0].attribute[0].g
    body.node[1].input[1] = "x"  # the value of the graph around it, no longer that of the round
    assert of(proto) != before


def functions(*names: str, op_type: str = "Relu", inner: str = "t") -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    made = [
        helper.make_function(
            "my",
            name,
            ["a"],
            ["b"],
            [
                helper.make_node(op_type, ["a"], [inner]),
                helper.make_node("Neg" if name == "f" else "Abs", [inner], ["b"]),
            ],
            imports[:1],
        )
        for name in names
    ]
    nodes = [
        helper.make_node("f", ["x"], ["m"], domain="my"),
        helper.make_node("g", ["m"], ["y"], domain="my"),
    ]
    graph = helper.make_graph(nodes, "graph", [tensor("x")], [tensor("y")])
    return helper.make_model(graph, opset_imports=imports, functions=made, ir_version=10)


def test_functions() -> None:
    expected = of(functions("f", "g"))
    assert of(functions("g", "f", inner="other")) == expected
    assert of(functions("f", "g", op_type="Sigmoid")) != expected
    assert of(functions("f", "g", "unused")) != expected


# --- random numbers


def noise(*nodes: tuple[str, list[str], str], op_type: str = "RandomNormal") -> onnx.ModelProto:
    draws = [helper.make_node(op_type, [], [name], shape=[3]) for name in ("r", "s")]
    others = [helper.make_node(op_type, inputs, [name]) for op_type, inputs, name in nodes]
    outputs = [tensor(name, shape=(3,)) for _, _, name in nodes]
    return model([*draws, *others], [], outputs)


def test_two_draws_are_not_one() -> None:
    same, other = (noise(("Sub", ["r", name], "y")) for name in "rs")
    assert of(same) != of(other)
    one = noise(("Sub", ["r", "r"], "y"), ("Neg", ["s"], "z"))
    two = noise(("Sub", ["r", "s"], "y"), ("Neg", ["r"], "z"))
    assert of(one) != of(two)


def test_two_draws_in_functions_and_bodies() -> None:
    def made(second: str) -> onnx.ModelProto:
        function = helper.make_function(
            "my",
            "draw",
            [],
            ["b"],
            [helper.make_node("RandomUniform", [], ["b"], shape=[3])],
            [helper.make_opsetid("", 21)],
        )
        nodes = [
            helper.make_node("draw", [], ["r"], domain="my"),
            helper.make_node("draw", [], ["s"], domain="my"),
            helper.make_node("Sub", ["r", second], ["y"]),
            helper.make_node("Sub", ["s", "s"], ["z"]),
        ]
        outputs = [tensor("y", shape=(3,)), tensor("z", shape=(3,))]
        proto = model(nodes, [], outputs, domains=[("my", 1)])
        proto.functions.append(function)
        return proto

    assert of(made("r")) != of(made("s"))


# --- the command


def test_digest_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "linear.onnx")
    onnx.save(linear(), path)
    assert main(["digest", path, path]) == 0
    shown = capsys.readouterr()
    assert shown.out.count(of(linear())) == 2 and shown.err == ""
    assert main(["digest", path, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record == {
        "model": path,
        "digest": of(linear()),
        "nodes": 3,
        "tensors": 2,
        "tensor_bytes": 32,
        "external_files": [],
    }
    assert main(["digest", str(tmp_path / "missing.onnx")]) == 1
    assert "bascule digest: NoSuchFile" in capsys.readouterr().err
