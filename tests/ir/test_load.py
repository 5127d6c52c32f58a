# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import mmap
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

from bascule.errors import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile
from bascule.ir.dtype import DataType
from bascule.ir.graph import AttributeReference, Graph
from bascule.ir.load import load_model
from bascule.ir.types import MapType, OptionalType, SequenceType, TensorType
from tests.ir.models import HEADER, TEXTS, identity_model, raw_tensor, text_model


def parse(body: str, header: str = HEADER) -> onnx.ModelProto:
    return onnx.parser.parse_model(header + body)


def read_weight(tensor: TensorProto) -> np.ndarray:
    model = load_model(identity_model(tensor).SerializeToString())
    constant = model.graph.initializers["w"].constant
    assert constant is not None
    return constant.numpy()


# --- sources


def test_sources(tmp_path: Path) -> None:
    array = np.arange(1000, dtype=np.float32)
    proto = identity_model(raw_tensor(array))
    data = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        proto,
    ):
        model = load_model(source)
        constant = model.graph.initializers["w"].constant
        assert constant is not None
        np.testing.assert_array_equal(constant.numpy(), array)
    assert load_model(path).path == str(path)


def test_weights_view_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(identity_model(raw_tensor(np.ones(1000, np.float32))).SerializeToString())
    constant = load_model(path).graph.initializers["w"].constant
    assert constant is not None
    assert constant.mapped
    assert constant.raw is not None
    assert isinstance(constant.raw.obj, mmap.mmap)


def test_bytes_are_not_copied() -> None:
    data = identity_model(raw_tensor(np.ones(1000, np.float32))).SerializeToString()
    constant = load_model(data).graph.initializers["w"].constant
    assert constant is not None
    assert constant.raw is not None
    assert constant.raw.obj is data


def test_format_of_onnxruntime() -> None:
    with pytest.raises(InvalidProtobuf, match="onnxruntime's own format"):
        load_model(b"\x18\0\0\0ORTM" + bytes(16))


def test_pointer_of_git_lfs(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    (tmp_path / "m.onnx").write_text(text)
    with pytest.raises(InvalidProtobuf, match=r"pointer of Git LFS.*git lfs pull"):
        load_model(tmp_path / "m.onnx")


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile, match=r"failed\. File doesn't exist"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(NoSuchFile, match="null byte"):
        load_model("a\0b")
    with pytest.raises(InvalidProtobuf, match="Protobuf parsing failed"):
        load_model(tmp_path)
    (tmp_path / "empty").touch()
    for empty in (tmp_path / "empty", b"", b"\x08\x0a"):
        with pytest.raises(InvalidArgument, match="No graph was found in the protobuf"):
            load_model(empty)
    with pytest.raises(InvalidProtobuf, match="Failed to load model because protobuf parsing"):
        load_model(b"garbage" * 10)
    for wrong in (None, 3, ""):
        with pytest.raises(TypeError, match="Unable to load from type"):
            load_model(wrong)  # type: ignore[arg-type]


# --- tensors


TYPES = [
    np.float32,
    np.float64,
    np.float16,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
    np.bool_,
    np.complex64,
    np.complex128,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e5m2fnuz,
    ml_dtypes.float8_e8m0fnu,
    ml_dtypes.uint4,
    ml_dtypes.int4,
    ml_dtypes.uint2,
    ml_dtypes.int2,
    ml_dtypes.float4_e2m1fn,
    ml_dtypes.float6_e2m3fn,
    ml_dtypes.float6_e3m2fn,
]


@pytest.mark.parametrize("count", [0, 1, 5, 601])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: np.dtype(t).name)
def test_every_type_raw_and_typed(dtype: type, count: int) -> None:
    array = (np.arange(count) % 2 + 0.5).astype(np.float32).astype(dtype)
    kind = DataType.from_numpy(dtype)
    raw = onnx.numpy_helper.from_array(array, "w")
    np.testing.assert_array_equal(read_weight(raw), array)
    typed = TensorProto(name="w", data_type=int(kind), dims=[count])
    if kind in (DataType.FLOAT, DataType.COMPLEX64):
        typed.float_data.extend(array.view(np.float32))
    elif kind in (DataType.DOUBLE, DataType.COMPLEX128):
        typed.double_data.extend(array.view(np.float64))
    elif kind is DataType.INT64:
        typed.int64_data.extend(array)
    elif kind in (DataType.UINT32, DataType.UINT64):
        typed.uint64_data.extend(array)
    elif kind.bits == 6:
        typed.int32_data.extend(array.view(np.uint8) & 0x3F)
    elif kind.bits < 8:
        typed.int32_data.extend(raw.raw_data)
    elif kind.bits == 16 and kind.is_float:
        typed.int32_data.extend(array.view(np.uint16))
    elif kind.is_float or kind is DataType.BOOL:
        typed.int32_data.extend(array.view(np.uint8))
    else:
        typed.int32_data.extend(array.astype(np.int32))
    np.testing.assert_array_equal(read_weight(typed), array)


def test_negative_integers_in_typed_fields() -> None:
    for dtype in (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64):
        tensor = helper.make_tensor("w", dtype, [400], [-3, 7] * 200)
        assert read_weight(tensor).tolist() == [-3, 7] * 200


def test_strings() -> None:
    tensor = helper.make_tensor("w", TensorProto.STRING, [2, 1], ["a", "ß"])
    assert read_weight(tensor).tolist() == [["a"], ["ß"]]


def test_bool_bytes_become_zero_and_one() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.BOOL, dims=[3], raw_data=b"\x00\x02\xff")
    assert read_weight(tensor).view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize("size", [3, 300])
def test_two_payloads_are_refused(size: int) -> None:
    tensor = raw_tensor(np.ones(size, np.float32))
    tensor.float_data.extend([2.0] * size)
    with pytest.raises(InvalidGraph, match="'w' stores its elements twice"):
        load_model(identity_model(tensor).SerializeToString())
    with pytest.raises(InvalidGraph, match="'w' stores its elements twice"):
        load_model(identity_model(tensor))


def test_two_payloads_in_a_function_default_are_refused() -> None:
    model = onnx.ModelProto.FromString(text_model("function"))
    default = model.functions[0].attribute_proto.add(name="d", type=onnx.AttributeProto.TENSOR)
    default.t.CopyFrom(raw_tensor(np.ones(300, np.float32)))
    default.t.float_data.extend([2.0] * 300)
    with pytest.raises(InvalidGraph, match="twice"):
        load_model(model.SerializeToString())


def test_a_file_cannot_name_a_payload() -> None:
    model = identity_model(raw_tensor(np.ones(300, np.float32)))
    other = model.graph.initializer.add(name="v", data_type=1, dims=[300])
    other.segment.begin, other.segment.end = 0, 12345
    with pytest.raises(InvalidGraph, match="segment"):
        load_model(model.SerializeToString())


@pytest.mark.parametrize(
    "dims", [[-1], [4], [2, 1], [2**62], [2**62, 2**62], [2**40, 2**40, 0], [1] * 100 + [3]]
)
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.INT4, TensorProto.STRING])
def test_impossible_shapes_are_refused(dims: list[int], dtype: int) -> None:
    tensor = TensorProto(name="w", data_type=dtype, dims=dims)
    if dtype != TensorProto.STRING:
        tensor.raw_data = b"\0" * 12
    else:
        tensor.string_data.extend([b"a"] * 3)
    with pytest.raises((InvalidGraph, Fail), match="'w'"):
        load_model(identity_model(tensor, dims=[3]).SerializeToString())


def test_wrong_typed_field_and_unknown_type() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], int32_data=[1])
    with pytest.raises(InvalidGraph, match="int32_data"):
        load_model(identity_model(tensor))
    tensor = TensorProto(name="w", dims=[1], raw_data=b"abcd")
    with pytest.raises(InvalidGraph, match="element type 0"):
        load_model(identity_model(tensor))


def test_sparse_initializers_become_dense() -> None:
    for indices, dims in (([1, 5], [2]), ([0, 1, 1, 2], [2, 2])):
        sparse = helper.make_sparse_tensor(
            helper.make_tensor("w", 1, [2], [1, 2]),
            helper.make_tensor("", 7, dims, indices),
            [2, 3],
        )
        model = identity_model(raw_tensor(np.ones(1, np.float32)))
        model.graph.ClearField("initializer")
        model.graph.sparse_initializer.append(sparse)
        constant = load_model(model).graph.initializers["w"].constant
        assert constant is not None
        assert constant.numpy().tolist() == [[0, 1, 0], [0, 0, 2]]
        model.graph.sparse_initializer[0].dims[:] = [2**20, 2**20]
        with pytest.raises(InvalidGraph, match="dense form"):
            load_model(model)
        model.graph.sparse_initializer[0].dims[:] = [1, 1]
        with pytest.raises(InvalidGraph, match="out of bounds"):
            load_model(model)


# --- graphs


@pytest.mark.parametrize("name", TEXTS)
def test_small_models_load(name: str) -> None:
    assert len(load_model(text_model(name)).graph) >= 1


def test_nested_graphs_share_outer_values() -> None:
    graph = load_model(text_model("if")).graph
    branch = graph.nodes[0].attributes["then_branch"]
    assert isinstance(branch, Graph)
    assert branch.captures() == [graph.inputs[0]]
    assert branch.parent is graph.nodes[0]


def test_attributes_of_every_kind() -> None:
    node = helper.make_node("Op", [], ["y"], domain="com.microsoft")
    make = helper.make_attribute
    node.attribute.extend(
        [
            make("f", 1.5),
            make("i", 2),
            make("s", "ü"),
            make("t", helper.make_tensor("t", 1, [], [1.0])),
            make("fs", [1.0, 2.5]),
            make("is", [1, 2]),
            make("ss", ["a", "b"]),
            make("tp", helper.make_tensor_type_proto(1, ["N", 2])),
            onnx.AttributeProto(name="b", type=onnx.AttributeProto.STRING, s=b"\xff\x00"),
        ]
    )
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", 1, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = load_model(model).graph.nodes[0].attributes
    assert (found["f"], found["i"], found["s"]) == (1.5, 2, "ü")
    assert isinstance(found["f"], float)
    assert (found["fs"], found["is"], found["ss"]) == ([1.0, 2.5], [1, 2], ["a", "b"])
    assert found["t"].numpy() == 1.0
    assert found["tp"] == TensorType(DataType.FLOAT, ("N", 2))
    assert found["b"].encode("utf-8", "surrogateescape") == b"\xff\x00"


def test_types_metadata_and_denotations() -> None:
    model = parse("g (seq(float[2]) s, float[N,?] a) => (float[N,?] y) { y = Identity(a) }")
    info = model.graph.input.add(name="o")
    info.type.CopyFrom(helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [1, None])))
    info = model.graph.input.add(name="m")
    info.type.map_type.key_type = TensorProto.INT64
    info.type.map_type.value_type.CopyFrom(helper.make_tensor_type_proto(1, []))
    model.graph.input[1].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    model.graph.node[0].metadata_props.add(key="stack", value="file.py:1")
    model.metadata_props.add(key="author", value="someone")
    loaded = load_model(model)
    s, a, o, m = loaded.graph.inputs
    assert s.type == SequenceType(TensorType(DataType.FLOAT, (2,)))
    assert a.shape == ("N", None)
    assert a.metadata == {"denotation.0": "DATA_BATCH"}
    assert o.type == OptionalType(TensorType(DataType.FLOAT, (1, None)))
    assert m.type == MapType(DataType.INT64, TensorType(DataType.FLOAT, ()))
    assert loaded.graph.nodes[0].metadata == {"stack": "file.py:1"}
    assert loaded.metadata == {"author": "someone"}


def test_nodes_are_ordered_and_named() -> None:
    model = load_model(parse("g (float a) => (float y) { y = Neg(t) t = Abs(a) }"))
    assert [node.name for node in model.graph] == ["Abs_1", "Neg_0"]


def test_absent_inputs_and_outputs() -> None:
    model = load_model(text_model("gap"))
    resize = model.graph.nodes[-1]
    assert [value is None for value in resize.inputs] == [False, True, False]
    text = "g (float[1,2,2] x, float[1,8,2] w, float[1,8,2] r) => (float[1,1,2] h) "
    lstm = load_model(parse(text + "{ z, h, c = LSTM<hidden_size = 2>(x, w, r, , ) }"))
    assert len(lstm.graph.nodes[0].inputs) == 3


def test_the_number_of_parts_stays_when_the_last_has_no_name() -> None:
    proto = parse("g (float[4] x, int64[2] sizes) => (float[3] y) { y = Split (x, sizes) }")
    proto.graph.node[0].output.append("")
    assert len(load_model(proto).graph.nodes[0].outputs) == 2


def test_defaults_of_inputs() -> None:
    model = parse("g (float[1] a) => (float[1] y) <float[1] a = {3}> { y = Neg(a) }")
    if len(model.graph.input) == 0:
        model.graph.input.append(helper.make_tensor_value_info("a", 1, [1]))
    graph = load_model(model).graph
    assert graph.inputs[0] is graph.initializers["a"]
    assert graph.inputs[0].constant is not None


def test_functions() -> None:
    model = load_model(text_model("function"))
    function = model.functions["local", "f", ""]
    assert function.attributes == ["alpha"]
    assert function.opset_imports[""] == 21
    constant = function.body.nodes[0]
    assert constant.attributes["value_float"] == AttributeReference("alpha", 1)


def test_every_opset_is_accepted() -> None:
    for version in range(1, onnx.defs.onnx_opset_version() + 1):
        header = f'<ir_version: 8, opset_import: ["" : {version}]>'
        model = parse("g (float[1] x) => (float[1] y) { y = Relu(x) }", header)
        assert load_model(model).opset_imports == {"": version}


def test_newer_ir_is_accepted_when_all_of_it_is_known() -> None:
    data = text_model("chain")
    model = onnx.ModelProto.FromString(data)
    model.ir_version = 99
    assert load_model(model).ir_version == 99
    with pytest.raises(Fail, match="Unsupported model IR version: 99, max supported IR version"):
        load_model(model.SerializeToString() + b"\xa2\x7d\x03abc")
    load_model(data + b"\xa2\x7d\x03abc")


# --- invalid models, by the message that users look for

ONE = "g (float[2] x) => (float[2] y) "
INVALID = {
    "dangling": (
        InvalidArgument,
        ONE + "{ y = Add(x, Q) }",
        "Node input 'Q' is not a graph input, initializer, or output of a previous node.",
    ),
    "duplicate": (
        Fail,
        ONE + "{ y = Neg(x) y = Abs(x) }",
        r"Duplicate definition of name \(y\)",
    ),
    "cycle": (Fail, ONE + "{ t = Add(x, y) y = Neg(t) }", "the graph is not acyclic."),
    "self cycle": (
        Fail,
        "g (bool c) => (float y) { y = If(c) <then_branch = a () => (p) { p = Neg(y) }, "
        "else_branch = b () => (q) { q = Abs(y) }> }",
        "the graph is not acyclic.",
    ),
    "no output": (Fail, ONE + "{ t = Neg(x) }", r"Graph output \(y\) does not exist in the graph"),
    "attribute": (
        InvalidGraph,
        ONE + "{ y = Relu<foo = 1>(x) }",
        "Unrecognized attribute: foo for operator Relu",
    ),
    "missing attribute": (
        InvalidGraph,
        ONE + "{ y = Concat(x) }",
        "Required attribute 'axis' is missing.",
    ),
    "attribute type": (InvalidGraph, ONE + "{ y = Concat<axis = 1.0>(x) }", "'axis' is expected"),
    "inputs": (InvalidGraph, ONE + "{ y = Relu(x, x) }", "has input size 2 not in range"),
    "outputs": (InvalidGraph, ONE + "{ y, z = Relu(x) }", "has output size 2 not in range"),
    "equation": (InvalidGraph, ONE + '{ y = Einsum<equation = "%">(x) }', "Invalid equation"),
    "split": (InvalidGraph, ONE + "{ y, z = Split<num_outputs = 1>(x) }", "num_outputs is 1"),
    "word": (
        InvalidGraph,
        ONE + '{ y = Gelu<approximate = "erf">(x) }',
        "attribute 'approximate' is 'erf', expected one of none, tanh",
    ),
    "no type": (InvalidGraph, ONE + "{ y = Cast<to = 0>(x) }", "is no element type"),
    "reference": (
        InvalidGraph,
        ONE + "{ y = Concat<axis: int = @axis>(x) }",
        "refers to one of a function",
    ),
    "recursion": (
        InvalidGraph,
        ONE + '{ y = local.f(x) }\n<opset_import: ["" : 21, "local" : 1], domain: "local"> '
        'f (x) => (y) { y = local.g(x) }\n<opset_import: ["" : 21, "local" : 1], domain: "local"> '
        "g (x) => (y) { y = local.f(x) }",
        "calls itself",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_models_are_refused(name: str) -> None:
    kind, text, message = INVALID[name]
    with pytest.raises(kind, match=message):
        load_model(parse(text))


def test_errors_name_the_node() -> None:
    model = parse(ONE + "{ y = Relu<foo = 1>(x) }")
    model.graph.node[0].name = "the_node"
    with pytest.raises(InvalidGraph, match="the_node"):
        load_model(model)


def test_opset_rules() -> None:
    text = "g (float[1] x) => (float[1] y) { y = Relu(x) }"
    with pytest.raises(Fail, match=r"only \*guarantees\* support .* Opset 99 is under development"):
        load_model(parse(text, '<ir_version: 8, opset_import: ["" : 99]>'))
    model = parse(text)
    model.ClearField("opset_import")
    with pytest.raises(Fail, match="Missing opset in the model"):
        load_model(model)
    model.ir_version = 2
    assert load_model(model).opset_imports == {"": 1}
    load_model(parse("g (float x) => (float y) { y = com.microsoft.Anything(x) }"))


def test_names_of_sizes_cannot_pose_as_numbers() -> None:
    model = parse(ONE + "{ y = Relu(x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "\x01100"
    with pytest.raises(InvalidGraph, match="control character"):
        load_model(model)
