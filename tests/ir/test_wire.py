# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from array import array

import numpy as np
import onnx
import onnx.helper
import pytest

from bascule.ir import wire
from bascule.ir.load import load_model
from bascule.ir.save import to_proto
from tests.ir.models import TEXTS, identity_model, raw_tensor, text_model


def cut(data: bytes) -> wire.Skeleton:
    return wire.cut_payloads(memoryview(data))


def test_big_payloads_are_cut_and_the_rest_stays() -> None:
    array = np.arange(5000, dtype=np.float32)
    model = identity_model(raw_tensor(array))
    skeleton = cut(model.SerializeToString())
    assert len(skeleton.data) < 300
    assert [p.field for p in skeleton.payloads] == [9]
    assert bytes(skeleton.payloads[0].data) == array.tobytes()
    proto = onnx.ModelProto.FromString(skeleton.data)
    tensor = proto.graph.initializer[0]
    assert (tensor.segment.begin, tensor.segment.end) == (0, skeleton.nonce)
    tensor.ClearField("segment")
    model.graph.initializer[0].ClearField("raw_data")
    assert proto == model


@pytest.mark.parametrize("name", TEXTS)
def test_small_models_are_left_as_they_are(name: str) -> None:
    data = text_model(name)
    skeleton = cut(data)
    if not skeleton.payloads:
        assert skeleton.data == data


def test_training_info_is_cut() -> None:
    model = identity_model(raw_tensor(np.ones(3, np.float32)))
    model.training_info.add().algorithm.initializer.append(raw_tensor(np.ones(3000, np.float32)))
    skeleton = cut(model.SerializeToString())
    assert len(skeleton.data) < 300
    assert [len(p.data) for p in skeleton.payloads] == [12000]


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",  # a length of eleven bytes
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of 2^64 - 1
        b"\x3a\x05abc",  # shorter than its length
        b"\x3b",  # a group
        b"\x0d\x00\x00",  # a cut number
        b"\x08\x80",  # a cut varint
    ],
)
def test_damaged_data_is_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        cut(data)


def test_depth_is_limited() -> None:
    content = b""
    for _ in range(200):
        attribute = wire.field(6, content)
        content = wire.field(1, wire.field(5, attribute)) + b"\x52" + wire.varint(300) + b"x" * 300
    with pytest.raises(wire.WireError, match="too deep"):
        cut(wire.field(7, content))


def test_varints_decode() -> None:
    numbers = [0, 1, 127, 128, 300, 2**31, 2**63, 2**64 - 1] * 100
    encoded = b"".join(wire.varint(n) for n in numbers)
    assert wire.decode_varints(memoryview(encoded)).tolist() == numbers
    assert wire.decode_varints(memoryview(b"")).tolist() == []


def test_varints_decode_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_CHUNK_BYTES", 16)
    numbers = [2**i for i in range(64)]
    encoded = b"".join(wire.varint(n) for n in numbers)
    assert wire.decode_varints(memoryview(encoded)).tolist() == numbers


@pytest.mark.parametrize("data", [b"\x80", b"\x80" * 11 + b"\x00"])
def test_damaged_varints_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_varints(memoryview(data))


def list_model(
    **attributes: list[int] | list[float] | list[str],
) -> onnx.ModelProto:
    node = onnx.helper.make_node("Odd", [], ["y"], name="n", domain="com.microsoft", **attributes)
    graph = onnx.helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="y")])
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


LISTS: dict[str, list[int] | list[float] | list[str]] = {
    "bytes": [0, 1, 127] * 2000,
    "integers": [0, -1, 2**63 - 1, -(2**63), 128, 300] * 400,
    "floats": np.random.default_rng(0).normal(size=3000).astype(np.float32).tolist(),
    "strings": ["a" * (i % 7) for i in range(3000)],
    "few": [5, 6],
    "few_floats": [0.5],
}


def test_long_lists_are_cut() -> None:
    model = list_model(**LISTS)
    skeleton = cut(model.SerializeToString())
    assert [p.field for p in skeleton.payloads] == [8, 7, 8]
    proto = onnx.ModelProto.FromString(skeleton.data)
    found = {a.name: a for a in proto.graph.node[0].attribute}
    assert found["bytes"].doc_string == f"{skeleton.nonce}:0"
    assert not found["bytes"].ints
    assert found["few"].ints == [5, 6]
    assert not found["few"].doc_string
    assert len(found["strings"].strings) == 3000


@pytest.mark.parametrize("as_proto", [False, True])
def test_long_lists_are_read_and_written(as_proto: bool) -> None:
    proto = list_model(**LISTS)
    model = load_model(proto if as_proto else proto.SerializeToString())
    (node,) = model.graph
    assert {name: list(value) for name, value in node.attributes.items()} == LISTS
    assert isinstance(node.attributes["floats"], array)
    assert type(node.attributes["few"]) is list
    assert list(to_proto(model).graph.node[0].attribute) == list(proto.graph.node[0].attribute)


def test_unusual_lists_are_left_to_protobuf() -> None:
    """Packed, in pieces, before the name or the type, or with other fields between."""
    numbers = [1, 300, 70000] * 1000
    packed = wire.field(8, b"".join(wire.varint(n) for n in numbers))
    single = b"".join(b"\x40" + wire.varint(n) for n in numbers)
    name, kind = wire.field(1, b"a"), b"\xa0\x01\x07"
    for content, times in (
        (name + packed + kind, 1),
        (name + packed + single + kind, 2),
        (name + single + packed + kind, 2),
        (kind + name + single, 1),
        (name + single + kind + single + kind, 2),
        (single + name + kind, 1),
        (name + single + wire.field(13, b"doc") + kind, 1),
    ):
        attribute = onnx.AttributeProto.FromString(content)
        assert list(attribute.ints) == numbers * times
        head = list_model()
        node = head.graph.node[0].SerializeToString() + wire.field(5, content)
        head.graph.ClearField("node")
        graph = head.graph.SerializeToString() + wire.field(1, node)
        head.ClearField("graph")
        (found,) = load_model(head.SerializeToString() + wire.field(7, graph)).graph
        assert list(found.attributes["a"]) == numbers * times


def test_a_file_cannot_name_a_list() -> None:
    model = list_model(**LISTS)
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "few":
            attribute.doc_string = "0:0"
    for source in (model, model.SerializeToString()):
        (node,) = load_model(source).graph
        assert node.attributes["few"] == [5, 6]
