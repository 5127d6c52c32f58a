# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnx
import pytest

from bascule.ir import wire
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


def test_big_training_info_is_dropped() -> None:
    model = identity_model(raw_tensor(np.ones(3, np.float32)))
    plain = model.SerializeToString()
    model.training_info.add().algorithm.name = "a" * 300
    assert cut(model.SerializeToString()).data == plain


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
