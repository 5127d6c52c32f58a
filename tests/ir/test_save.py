# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from bascule.errors import InvalidArgument
from bascule.ir import save
from bascule.ir.graph import Graph, Node
from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.printer import format_graph
from bascule.ir.save import save_model, to_bytes, to_proto
from bascule.ir.text import parse_graph
from tests.ir.models import TEXTS, identity_model, raw_tensor, text_model
from tests.ir.test_infer import fused_model

ARRAY = np.arange(5000, dtype=np.float32)


def weight(path: Path) -> np.ndarray:
    constant = load_model(path).graph.initializers["w"].constant
    assert constant is not None
    return constant.numpy()


@pytest.mark.parametrize("name", TEXTS)
def test_round_trip(name: str) -> None:
    first = load_model(text_model(name))
    data = to_bytes(first)
    onnx.checker.check_model(data)
    second = load_model(data)
    assert format_graph(second.graph) == format_graph(first.graph)
    assert second.functions.keys() == first.functions.keys()
    assert to_bytes(second) == data


def test_metadata_survives() -> None:
    proto = identity_model(raw_tensor(ARRAY))
    proto.producer_name, proto.model_version, proto.doc_string = "p", 7, "d"
    proto.metadata_props.add(key="k", value="v")
    proto.graph.metadata_props.add(key="g", value="v")
    proto.graph.node[0].metadata_props.add(key="n", value="v")
    proto.graph.output[0].metadata_props.add(key="o", value="v")
    proto.graph.output[0].type.tensor_type.shape.dim[0].denotation = "X"
    assert to_proto(load_model(proto)) == proto
    assert to_bytes(load_model(proto)) == proto.SerializeToString()


def test_without_payloads() -> None:
    proto = to_proto(load_model(identity_model(raw_tensor(ARRAY))), payloads=False)
    assert list(proto.graph.initializer[0].dims) == [5000]
    assert not proto.graph.initializer[0].raw_data


def test_files(tmp_path: Path) -> None:
    model = load_model(identity_model(raw_tensor(ARRAY)))
    save_model(model, tmp_path / "inside.onnx")
    save_model(model, tmp_path / "beside.onnx", external_data=True)
    save_model(model, tmp_path / "named.onnx", external_data="weights")
    save_model(model, tmp_path / "small.onnx", external_data=True, size_threshold=1 << 20)
    for name in ("inside", "beside", "named", "small"):
        np.testing.assert_array_equal(weight(tmp_path / f"{name}.onnx"), ARRAY)
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"))
    assert (tmp_path / "beside.onnx").stat().st_size < 1000
    assert (tmp_path / "weights").stat().st_size == ARRAY.nbytes
    assert not list(tmp_path.glob("*.tmp"))


def test_external_data_is_aligned(tmp_path: Path) -> None:
    model = load_model(identity_model(raw_tensor(ARRAY)))
    model.graph.constant(np.ones(300, np.float32), "v")
    model.graph.constant(np.ones(3000, np.float64), "u")
    save_model(model, tmp_path / "m.onnx", external_data=True)
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    entries = [{e.key: e.value for e in t.external_data} for t in proto.graph.initializer]
    offsets = [int(e["offset"]) for e in entries]
    assert [offset % align for offset, align in zip(offsets, (4096, 64, 4096))] == [0, 0, 0]
    load_model(tmp_path / "m.onnx")


def test_shared_bytes_are_written_once(tmp_path: Path) -> None:
    model = load_model(identity_model(raw_tensor(ARRAY)))
    for name in ("v", "u"):
        model.graph.constant(ARRAY, name)
    save_model(model, tmp_path / "m.onnx", external_data=True)
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    offsets = [{e.key: e.value for e in t.external_data}["offset"] for t in proto.graph.initializer]
    assert offsets == ["0", "20480", "20480"]  # the first is a copy
    found = load_model(tmp_path / "m.onnx").graph.initializers
    for name in ("w", "v", "u"):
        constant = found[name].constant
        assert constant is not None
        np.testing.assert_array_equal(constant.numpy(), ARRAY)


@pytest.mark.parametrize("external", [False, True])
def test_a_mapped_source_may_be_overwritten(tmp_path: Path, external: bool) -> None:
    path = tmp_path / "m.onnx"
    save_model(load_model(identity_model(raw_tensor(ARRAY))), path, external_data=external)
    model = load_model(path)
    save_model(model, path, external_data=external)
    save_model(model, path, external_data=external)
    np.testing.assert_array_equal(weight(path), ARRAY)


def test_impossible_places(tmp_path: Path) -> None:
    model = load_model(identity_model(raw_tensor(ARRAY)))
    with pytest.raises(InvalidArgument, match="cannot be written"):
        save_model(model, tmp_path / "no/m.onnx")
    for name in ("../data", "a/b", "", "m.onnx", ".."):
        with pytest.raises(InvalidArgument, match="plain name"):
            save_model(model, tmp_path / "m.onnx", external_data=name)
    assert os.listdir(tmp_path) == []


def test_too_big_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "MAX_PROTOBUF_BYTES", 1000)
    model = load_model(identity_model(raw_tensor(ARRAY)))
    with pytest.raises(InvalidArgument, match="external_data=True"):
        to_bytes(model)
    with pytest.raises(InvalidArgument, match="external_data=True"):
        save_model(model, tmp_path / "m.onnx", external_data=False)
    save_model(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()


def test_fused_operators_are_written_as_functions() -> None:
    model, function = fused_model()
    second = Node("Twice", [model.graph.outputs[0]], domain="bascule", name="second")
    model.graph.append(second)
    model.graph.set_output(0, second.output)
    infer_types(model, lambda node: function)
    proto = to_proto(model, definitions=lambda node: function)
    onnx.checker.check_model(proto, full_check=True)
    assert [(f.domain, f.name) for f in proto.functions] == [("bascule", "Twice")]
    overloads = {n.overload for n in proto.graph.node if n.domain == "bascule"}
    assert overloads == {proto.functions[0].overload}


def test_bodies_are_written_as_functions() -> None:
    model = parse_graph("g (float[3] a) => (float[3] y) { t = bascule.Elementwise(a) y = Neg(t) }")
    node = model.graph.nodes[0]
    body = parse_graph(
        "body (float[3] x) => (float[3] z) <float one = {1}> { z = Add(x, one) }"
    ).graph
    body.parent = node
    node.attributes["body"] = body
    proto = to_proto(model)
    onnx.checker.check_model(proto)
    assert not proto.graph.node[0].attribute
    assert [n.op_type for n in proto.functions[0].node] == ["Constant", "Add"]
    assert ("bascule", "Elementwise", proto.functions[0].overload) in load_model(proto).functions


def test_values_that_share_a_name_are_told_apart() -> None:
    model = parse_graph("g (float[3] a) => (float[3] y) { t = Neg(a) y = Exp(t) }")
    model.graph.nodes[0].output.name = "a"
    onnx.checker.check_model(to_bytes(model))


def test_an_output_listed_twice() -> None:
    model = parse_graph("g (float[3] a) => (float[3] y, float[3] z) { y = Neg(a) z = Exp(a) }")
    graph = model.graph
    graph.outputs[1].output_count -= 1
    graph.outputs[1] = graph.outputs[0]
    graph.outputs[0].output_count += 1
    onnx.checker.check_model(to_bytes(model))


def test_empty_lists_keep_their_type() -> None:
    model = parse_graph("g (float[3] a) => (float[3] y) { y = Neg(a) }")
    node = model.graph.nodes[0]
    node.op_type, node.attributes = "RNN", {"activation_alpha": [], "activations": []}
    kinds = {a.name: a.type for a in to_proto(model).graph.node[0].attribute}
    assert kinds == {"activation_alpha": 6, "activations": 8}


def test_nested_graphs_keep_their_names() -> None:
    model = load_model(text_model("loop"))
    body = model.graph.nodes[-1].attributes["body"]
    assert isinstance(body, Graph)
    proto = to_proto(model).graph.node[-1].attribute[0].g
    assert [i.name for i in proto.input] == ["i", "k", "x"]
