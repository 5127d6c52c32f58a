# SPDX-License-Identifier: Apache-2.0
"""bascule.convert: forms of files, weights in and out, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import bascule
from bascule import errors
from bascule.cli import main
from bascule.tools.convert import Conversion, convert
from bascule.tools.convert.document import Document
from bascule.tools.convert.safetensors import read_safetensors, write_safetensors
from bascule.tools.convert.text import EXTRAS, to_text
from bascule.tools.digest import digest

DIGITS = Path(bascule.__file__).parent / "examples" / "digits.onnx"


def weights() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return {
        "enc.weight": generator.standard_normal((32, 48)).astype(np.float32),
        "dec.weight": generator.standard_normal((48, 32)).astype(np.float64),
        "/table": generator.integers(0, 9, (40, 40)),
        "bias": generator.standard_normal(48).astype(np.float32),
        "small": np.float32([0.1, 1e-7, 3, -2.5e20]),
        "tiny.q": generator.integers(-8, 8, (64, 64)).astype(ml_dtypes.int4),
        "names": np.array(["a", 'b "c"', "d\\e"], object),
    }


def rich_model() -> onnx.ModelProto:
    """A model with all that a conversion may lose."""
    nodes = [
        helper.make_node("MatMul", ["x:0", "enc.weight"], ["/h"], name="/enc/MatMul"),
        helper.make_node("Add", ["/h", "bias"], ["a"], name="add", doc_string="adds"),
        helper.make_node("LeakyRelu", ["a"], ["b"], name="leaky", alpha=0.123456789),
        helper.make_node("Cast", ["b"], ["c"], name="cast", to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["c", "dec.weight"], ["y"], name="dec"),
        helper.make_node(
            "Constant", [], ["k"], name="const", value=numpy_helper.from_array(weights()["bias"])
        ),
        helper.make_node("Custom", ["k"], ["z"], domain="own", floats=[0.1, 1e-8, 5], text="é\n"),
    ]
    nodes[0].metadata_props.add(key="who", value='me\n"and" others')
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 32], "an output")]
    graph = helper.make_graph(
        nodes,
        "rich graph",
        [helper.make_tensor_value_info("x:0", TensorProto.FLOAT, ["n", 32])],
        [*outputs, helper.make_tensor_value_info("z", TensorProto.FLOAT, [48])],
        [numpy_helper.from_array(array, name) for name, array in weights().items()],
        doc_string="a graph",
        value_info=[helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 48], "inner")],
    )
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.initializer[0].doc_string = "of the encoder"
    graph.quantization_annotation.add(tensor_name="a")
    body = [helper.make_node("Identity", ["p"], ["q"], doc_string="inside")]
    function = helper.make_function(
        "own", "Custom", ["p"], ["q"], body, [helper.make_opsetid("", 21)], ["floats", "text"]
    )
    function.doc_string = "a function"
    model = helper.make_model(
        graph,
        functions=[function],
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("own", 1)],
        ir_version=10,
        producer_name="tests",
        doc_string='a "model"\nof two lines',
        model_version=7,
    )
    helper.set_model_props(model, {"author": "me"})
    return model


def same(one: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Two models are the same but for the way that elements are stored."""
    copies = []
    for proto in (one, other):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        for node in [*copy.graph.node, *(n for f in copy.functions for n in f.node)]:
            node.domain = node.domain
            for attribute in node.attribute:
                attribute.doc_string = ""
                if attribute.HasField("t"):
                    _plain(attribute.t)
        for tensor in copy.graph.initializer:
            _plain(tensor)
        copies.append(copy)
    assert copies[0] == copies[1]


def _plain(tensor: onnx.TensorProto) -> None:
    plain = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
    plain.doc_string = tensor.doc_string
    tensor.CopyFrom(plain)


def touched(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With fields set that a parser sets to their defaults, too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for each in (*copy.opset_import, *(i for f in copy.functions for i in f.opset_import)):
        each.domain = each.domain
    return copy


@pytest.mark.parametrize("external", [None, False, True, "w.data", "w.safetensors"])
def test_files_hold_what_they_held(external: bool | str | None, tmp_path: Path) -> None:
    proto = rich_model()
    convert(proto, tmp_path / "a.onnx", external_data=external)
    made = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    outside = [t.name for t in made.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    if external:
        location = external if isinstance(external, str) else "a.onnx.data"
        assert (tmp_path / location).exists()
        packed = [] if location.endswith("safetensors") else ["tiny.q"]
        assert outside == ["enc.weight", "dec.weight", "/table", *packed]
    else:
        assert not outside and len(list(tmp_path.iterdir())) == 1
    again = convert(tmp_path / "a.onnx", tmp_path / "b.onnx", external_data=False)
    same(onnx.load(tmp_path / "b.onnx"), proto)
    same(again.proto(), proto)
    if external == "w.safetensors":
        found = read_safetensors(tmp_path / "w.safetensors").tensors
        np.testing.assert_array_equal(found["dec.weight"].numpy(), weights()["dec.weight"])


def test_a_model_may_be_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    convert(rich_model(), path, external_data="a.data")
    for external in ("a.data", False, "a.safetensors", "a.data"):
        convert(path, path, external_data=external)
        same(convert(path).proto(), rich_model())


def test_the_text_form_and_back(tmp_path: Path) -> None:
    proto = rich_model()
    convert(proto, tmp_path / "a.onnxtxt")
    text = (tmp_path / "a.onnxtxt").read_text()
    assert "alpha: float = 0.12345679" in text and '"/enc/MatMul"' in text
    assert "{0.1,1e-07,3,-2.5e+20}" in text.replace(" ", "")
    assert (tmp_path / "a.onnxtxt.data").exists()
    back = convert(tmp_path / "a.onnxtxt").proto()
    same(touched(back), touched(proto))
    assert not any(each.key == EXTRAS for each in back.metadata_props)


def test_the_text_form_of_graphs_that_share_names(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[3] x, bool c) => (float[3] y) {
          y = If (c) <
            then_branch = g () => (float[3] p) { [a] q = Relu (x)  p = Neg (q) },
            else_branch = g () => (float[3] p) { [a] q = Exp (x)  p = Neg (q) }>
        }""")
    branches = [each.g for each in proto.graph.node[0].attribute]
    proto.graph.doc_string = "outer"
    branches[1].doc_string = "branch"
    branches[1].node[0].doc_string = "exponential"
    branches[1].output[0].doc_string = "of the branch"
    convert(proto, tmp_path / "a.onnxtxt")
    same(touched(convert(tmp_path / "a.onnxtxt").proto()), touched(proto))


def test_the_text_may_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "a.onnxtxt"
    convert(rich_model(), path)
    text = path.read_text().replace("= LeakyRelu <alpha: float = 0.12345679> (a)", "= Relu (a)")
    path.write_text(text)
    made = convert(path).proto()
    assert "Relu" in [node.op_type for node in made.graph.node]
    assert made.graph.node[0].metadata_props[0].value == 'me\n"and" others'
    assert made.graph.node[1].doc_string == "adds"


@pytest.mark.parametrize(
    "numbers",
    [[0.1, 1 / 3, -1e-45, 3.4028235e38], [float("nan"), float("inf"), -float("inf"), -0.0]],
)
def test_all_digits_of_numbers(numbers: list[float]) -> None:
    nodes = [helper.make_node("Constant", [], ["a"], value_floats=numbers)]
    nodes.append(helper.make_node("Identity", ["w"], ["b"]))
    array = np.array([*numbers, 1e300, 1e-320], np.float64)
    graph = helper.make_graph(
        nodes,
        "g",
        [],
        [helper.make_tensor_value_info("b", TensorProto.DOUBLE, [6])],
        [numpy_helper.from_array(array, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    back = parser.parse_model(to_text(model))
    found = np.array(back.graph.node[0].attribute[0].floats, np.float32)
    np.testing.assert_array_equal(found, np.array(numbers, np.float32))
    np.testing.assert_array_equal(numpy_helper.to_array(back.graph.initializer[0]), array)


def test_what_the_text_cannot_say_is_told(tmp_path: Path) -> None:
    proto = onnx.load(DIGITS)
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.float32([1]), "s")
    indices = numpy_helper.from_array(np.int64([2]), "i")
    proto.graph.sparse_initializer.add(values=values, indices=indices, dims=[4])
    with pytest.raises(errors.Fail, match=r"cannot say all.*sparse_initializer"):
        to_text(proto)
    whole = onnx.load(DIGITS)
    whole.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    with pytest.raises(errors.Fail, match=r"cannot say all.*sparse_initializer"):
        convert(whole, tmp_path / "a.onnxtxt")
    assert not list(tmp_path.iterdir())


def test_text_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "a.onnxtxt"
    head = '<ir_version: 9, opset_import: ["" : 20]> g '
    for text in (
        "",
        "nothing of this kind",
        f"{head}(float x) => (float y) {{ y = ",
        f"{head}({'seq(' * 100_000}float{')' * 100_000} x) => (float y) {{ y = Relu(x) }}",
        f"{head}({'seq(' * 120}float{')' * 120} x) => (float y) {{ y = Relu(x) }}",
        f"{head}(float x) => (float y) {{ y = Relu <a = {'[' * 100_000} (x) }}",
        head + "(bool x) => (bool y) { y = If (x) <then_branch = " * 100_000,
    ):
        path.write_text(text)
        with pytest.raises(errors.InvalidProtobuf, match=r"is not an ONNX model|nests deeper"):
            convert(path)
    path.write_text(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[4] x) => (float[4] y)\n'
        '<float[4] w = ["location": "../w.data"]> { y = Add(x, w) }'
    )
    (tmp_path.parent / "w.data").write_bytes(b"\0" * 16)
    with pytest.raises(errors.Fail, match="is refused"):
        convert(path)
    with pytest.raises(errors.NoSuchFile):
        convert(tmp_path / "none.onnxtxt")


def test_weights_out_and_in(tmp_path: Path) -> None:
    proto = rich_model()
    path = tmp_path / "w.safetensors"
    convert(proto, path)
    tensors = read_safetensors(path).tensors
    assert set(tensors) == {*weights(), "k"} - {"tiny.q", "names"}
    array = tensors["enc.weight"].numpy() * 2
    from bascule.ir.constant import Constant

    write_safetensors(path, {"enc.weight": Constant.from_numpy(array), "k": tensors["k"]})
    result = convert(proto, weights=path)
    assert set(result.replaced) == {"enc.weight", "k"}
    made = {each.name: each for each in result.proto().graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(made["enc.weight"]), array)
    assert made["enc.weight"].doc_string == "of the encoder"
    for name, wrong in (("enc.wieght", array), ("enc.weight", array.T), ("bias", array)):
        write_safetensors(path, {name: Constant.from_numpy(np.ascontiguousarray(wrong))})
        with pytest.raises(errors.InvalidArgument, match=name):
            convert(proto, weights=path)


def test_long_lists_of_numbers_stay(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value_floats=[0.5] * 5000)
    graph = helper.make_graph(
        [node], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5000])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    convert(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert onnx.load(tmp_path / "b.onnx") == model


def test_a_session_without_a_file() -> None:
    result = bascule.convert(DIGITS, to="float16", keep_io_types=True)
    assert isinstance(result, Conversion) and bascule.Conversion is Conversion
    image = {"image": np.zeros((2, 1, 8, 8), np.float32)}
    wanted = bascule.InferenceSession(DIGITS).run(None, image)[0]
    np.testing.assert_allclose(result.session().run(None, image)[0], wanted, atol=1e-3)


def test_documents_are_digested_alike(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnxtxt"):
        convert(DIGITS, tmp_path / name)
    convert(tmp_path / "b.onnxtxt", tmp_path / "c.onnx", external_data="c.safetensors")
    found = {digest(path).digest for path in (DIGITS, tmp_path / "a.onnx", tmp_path / "c.onnx")}
    assert len(found) == 1


def test_arguments_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match="suffix"):
        convert(DIGITS, tmp_path / "a.bin")
    with pytest.raises(errors.InvalidArgument, match="no output"):
        convert(DIGITS, external_data=True)
    with pytest.raises(errors.InvalidArgument, match="plain name"):
        convert(DIGITS, tmp_path / "a.onnx", external_data="../a.data")
    with pytest.raises(errors.NoSuchFile):
        convert(tmp_path / "nothing.onnx")
    with pytest.raises(errors.Fail):
        convert(rich_model(), tmp_path / "a.safetensors", weights=DIGITS)


def test_tensors_in_the_protobuf_and_out_of_it() -> None:
    document = Document.read(rich_model())
    found = document.weights()
    assert set(found) == {*weights(), "k"}
    stored = {name for name, tensor in found.items() if document.stored(tensor) is not None}
    assert stored == {"enc.weight", "dec.weight", "/table", "tiny.q"}
    for name, array in weights().items():
        np.testing.assert_array_equal(document.constant(found[name]).numpy(), array)


# --- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, text = str(tmp_path / "half.onnx"), str(tmp_path / "digits.onnxtxt")
    arguments = ["convert", str(DIGITS)]
    assert main([*arguments, half, "--to", "float16", "--keep-io-types"]) == 0
    shown = capsys.readouterr().out
    assert "float16: 11 of 11 nodes" in shown and "written: " in shown
    assert main([*arguments, half, "--to", "float16", "--budget", "1e-4", "--json"]) == 1
    assert "cannot be met" in capsys.readouterr().err
    both = ["--keep-io-types", "--opset", "15", "--dim", "N=2", "--json"]
    assert main([*arguments, half, "--to", "float16", "--budget", "1e-4", *both]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["opset"]["after"] == 15 and record["precision"]["error"] <= 1e-4
    assert record["precision"]["kept"] and record["written"] == [half]
    assert main([*arguments, text]) == 0
    assert main(["convert", text, str(tmp_path / "w.safetensors")]) == 0
    again = ["convert", text, half, "--external-data", "--weights", str(tmp_path / "w.safetensors")]
    assert main(again) == 0 and (tmp_path / "half.onnx.data").exists()
    assert "9 tensors replaced" in capsys.readouterr().out
    np.savez(tmp_path / "feeds.npz", image=np.zeros((1, 1, 8, 8), np.float32))
    fed = [*arguments, half, "--opset", "9", "-i", str(tmp_path / "feeds.npz"), "--inline"]
    assert main(fed) == 0
    assert "same bits" in capsys.readouterr().out


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a.onnx")
    for arguments in (
        [out, "--opset", "1"],
        [str(tmp_path / "a.pb")],
        [out, "--inline", "--external-data"],
        [out, "--external-data", "../b"],
    ):
        assert main(["convert", str(DIGITS), *arguments]) == 2
        assert "bascule convert: " in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nothing.onnx"), out]) == 1
    for arguments in ([out, "--budget", "0"], [out, "--to", "float8"]):
        with pytest.raises(SystemExit):
            main(["convert", str(DIGITS), *arguments])
    assert not list(tmp_path.iterdir())
