# SPDX-License-Identifier: Apache-2.0
"""bascule.load and the Model that it makes."""

from __future__ import annotations

import copy
import html.parser
import importlib.resources
import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bascule
from tests.api.models import FLOAT, linear, model, scaled, tensor

X = np.random.default_rng(3).standard_normal((2, 3)).astype(np.float32)


@pytest.fixture
def two_outputs() -> bascule.Model:
    return bascule.load(linear())


def identity(dtype: int = FLOAT, name: str = "x", shape: Any = ("n", 3)) -> bascule.Model:
    node = helper.make_node("Identity", [name], ["y"])
    return bascule.load(model([node], [tensor(name, dtype, shape)], [tensor("y", dtype, shape)]))


# --- loading


def test_load_takes_a_path_bytes_and_a_proto(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "linear.onnx")
    for source in (tmp_path / "linear.onnx", str(tmp_path / "linear.onnx")):
        assert str(tmp_path) in repr(bascule.load(source))
    for source in (linear(), linear().SerializeToString()):
        assert bascule.load(source)(X)["s"].shape == (2, 2)


def test_load_sets_options() -> None:
    loaded = bascule.load(
        linear(),
        providers=["CPUExecutionProvider"],
        intra_op_num_threads=1,
        dims={"n": 2},
        config={"session.disable_winograd": "1"},
    )
    options = loaded.session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.disable_winograd") == "1"
    assert loaded.inputs[0].shape == (2, 3)


def test_load_keeps_the_given_options_as_they_are() -> None:
    options = bascule.SessionOptions()
    bascule.load(linear(), session_options=options, intra_op_num_threads=1)
    assert options.intra_op_num_threads == 0


def test_load_refuses_unknown_options() -> None:
    with pytest.raises(TypeError, match="did you mean 'intra_op_num_threads'"):
        bascule.load(linear(), intra_op_threads=1)
    with pytest.raises(TypeError, match=r"there are .*enable_profiling"):
        bascule.load(linear(), zzz=1)


def test_types_are_shipped() -> None:
    assert (importlib.resources.files("bascule") / "py.typed").is_file()


# --- what it takes and gives


def test_inputs_and_outputs_are_described() -> None:
    loaded = bascule.load(scaled())
    x, scale = loaded.inputs
    assert (x.name, x.dtype, x.shape, x.type) == ("x", np.float32, ("n", 3), "tensor(float)")
    assert not x.optional and scale.optional
    assert [str(info) for info in loaded.outputs] == ["y: float32[n, 3]"]


@pytest.mark.parametrize(
    ("dtype", "shape", "text"),
    [
        (TensorProto.STRING, [], "string[]"),
        (TensorProto.BFLOAT16, [None, 2], "bfloat16[?, 2]"),
        (TensorProto.INT4, None, "int4[...]"),
    ],
)
def test_annotations(dtype: int, shape: Any, text: str) -> None:
    assert identity(dtype, shape=shape).inputs[0].annotation == text


def test_a_sequence_has_no_element_type() -> None:
    info = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    out = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    loaded = bascule.load(model([helper.make_node("Identity", ["x"], ["y"])], [info], [out]))
    assert loaded.inputs[0].dtype is loaded.inputs[0].shape is None
    assert str(loaded.inputs[0]) == "x: seq(tensor(float))"
    np.testing.assert_array_equal(loaded((X, X))[1], X)


def test_one_output_is_the_array() -> None:
    result = identity()(X)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, X)


def test_several_outputs_are_a_tuple_with_names(two_outputs: bascule.Model) -> None:
    outputs = two_outputs(x=X)
    y, s = outputs
    np.testing.assert_array_equal(y, np.maximum(s, 0))
    assert outputs["y"] is outputs[0] is outputs.y is y and outputs[-1] is s
    assert outputs[:1] == (y,) and len(outputs) == 2
    assert dict(outputs).keys() == {"y", "s"} and list(outputs.items())[1] == ("s", s)
    assert "y" in dir(outputs) and repr(outputs).startswith("Outputs({\n  'y': array(")
    for made in (pickle.loads(pickle.dumps(outputs)), copy.deepcopy(outputs)):
        assert made.names == ("y", "s")
        np.testing.assert_array_equal(made.s, s)
    with pytest.raises(KeyError, match="no output 'z'"):
        outputs["z"]
    with pytest.raises(AttributeError, match="no output 'yy'; did you mean 'y'"):
        _ = outputs.yy


def test_inputs_with_a_default_come_by_name_or_last() -> None:
    loaded = bascule.load(scaled())
    three = np.full(1, 3, np.float32)
    np.testing.assert_array_equal(loaded(X), X * 2)
    np.testing.assert_array_equal(loaded(X, three), X * 3)
    np.testing.assert_array_equal(loaded(scale=three, x=X), X * 3)


def test_an_input_may_be_named_self() -> None:
    np.testing.assert_array_equal(identity(name="self")(self=X), X)


def test_numbers_and_lists_take_the_element_type() -> None:
    assert identity()([[1, 2, 3]]).dtype == np.float32
    assert identity(TensorProto.INT8, shape=[])(-3) == -3
    assert identity(TensorProto.BFLOAT16, shape=[])(1.5) == 1.5
    assert identity(shape=[])(np.float32(2)) == 2
    assert identity(TensorProto.STRING, shape=[2])(["a", "ß"]).tolist() == ["a", "ß"]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (TensorProto.INT64, 1.5),
        (TensorProto.INT8, 300),
        (TensorProto.BOOL, 2),
        (FLOAT, 1j),
        (FLOAT, "a"),
        (FLOAT, [[1], [1, 2]]),
        (TensorProto.STRING, 1),
    ],
)
def test_numbers_that_do_not_fit(dtype: int, value: Any) -> None:
    with pytest.raises(bascule.capi._pybind_state.InvalidArgument, match=r"input x: .*cannot hold"):
        identity(dtype, shape=None)(value)


# --- other libraries


def test_torch_in_is_torch_out_without_a_copy(two_outputs: bascule.Model) -> None:
    torch = pytest.importorskip("torch")
    given = torch.from_numpy(X.copy())
    outputs = two_outputs(given)
    assert all(isinstance(value, torch.Tensor) for value in outputs)
    np.testing.assert_array_equal(outputs.y.numpy(), two_outputs(X).y)
    assert isinstance(two_outputs(given.t().contiguous().t()).y, torch.Tensor)


def test_torch_results_are_over_the_memory_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    loaded = identity()
    kept: list[Any] = []
    run = loaded.session.run

    def spy(*arguments: Any) -> list[Any]:
        kept.extend(run(*arguments))
        return kept

    monkeypatch.setattr(loaded.session, "run", spy)
    result = loaded(torch.from_numpy(X))
    assert result.data_ptr() == kept[0].ctypes.data


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "bool", "complex64", "float64"])
def test_torch_element_types(name: str) -> None:
    torch = pytest.importorskip("torch")
    numbers = {"float8_e4m3fn": TensorProto.FLOAT8E4M3FN, "float64": TensorProto.DOUBLE}
    dtype = numbers.get(name) or TensorProto.DataType.Value(name.upper())
    given = torch.ones(2, 3).to(getattr(torch, name))
    result = identity(dtype)(given)
    assert result.dtype == given.dtype and result.to(torch.complex64).sum() == 6


def test_element_types_without_dlpack_stay_numpy() -> None:
    torch = pytest.importorskip("torch")
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.INT4),
        helper.make_node("SequenceConstruct", ["x", "x"], ["list"]),
    ]
    outputs = [
        tensor("narrow", TensorProto.INT4),
        helper.make_tensor_sequence_value_info("list", FLOAT, None),
    ]
    result = bascule.load(model(nodes, [tensor("x")], outputs))(torch.ones(1, 3))
    assert isinstance(result.narrow, np.ndarray) and result.narrow.astype(int).sum() == 3
    assert all(isinstance(item, torch.Tensor) for item in result.list)


def test_any_library_with_dlpack(monkeypatch: pytest.MonkeyPatch) -> None:
    class Array:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **arguments: Any) -> Any:
            return self.array.__dlpack__(**arguments)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    Array.__module__ = "arrays.core"
    library = types.ModuleType("arrays")
    monkeypatch.setitem(sys.modules, "arrays", library)
    assert isinstance(identity()(Array(X)), np.ndarray)  # it cannot take memory over
    library.from_dlpack = lambda value: Array(np.from_dlpack(value))  # type: ignore[attr-defined]
    result = identity()(Array(X))
    assert isinstance(result, Array)
    np.testing.assert_array_equal(result.array, X)
    monkeypatch.setitem(sys.modules, "arrays", None)
    Array.__array_namespace__ = lambda self: library  # type: ignore[attr-defined]
    assert isinstance(identity()(Array(X)), Array)


def test_ort_values_give_ort_values() -> None:
    result = identity()(bascule.OrtValue.ortvalue_from_numpy(X))
    assert isinstance(result, bascule.OrtValue)
    np.testing.assert_array_equal(result.numpy(), X)


# --- what is wrong with a call


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"^input x: float32\[n, 3\] is not given; given: nothing. Signature: model\(x: "),
        ((), {"scale": 1}, r"input x: .* is not given; given: 'scale'"),
        ((X, X, X), {}, "3 inputs are given by position, 2 fit"),
        ((X,), {"x": X}, "input 'x' is given by position and by name"),
        ((X,), {"Scales": X}, r"no input 'Scales'; the closest is 'scale', as in model\(scale="),
        ((X,), {"zzz": X}, r"no input 'zzz'\. Signature: .*scale: float32\[1\] = \.\.\."),
    ],
)
def test_wrong_names(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        bascule.load(scaled())(*args, **kwargs)


def test_a_name_that_python_cannot_spell() -> None:
    loaded = identity(name="input.1")
    np.testing.assert_array_equal(loaded(**{"input.1": X}), X)
    with pytest.raises(TypeError, match=r"as in model\(\*\*\{'input.1': ...\}\)"):
        loaded(input_1=X)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (X.astype(np.float64), r"'x' expects float32\[n, 3\], float64\[2, 3\] is given \(give it"),
        (X[0], r"'x' expects float32\[n, 3\], float32\[3\] is given\. Signature: model\(x: "),
        (X[:, :2], r"'x' expects float32\[n, 3\], float32\[2, 2\] is given"),
        (np.array(["a"]), r"'x' expects float32\[n, 3\], string\[1\] is given\. "),
    ],
)
def test_wrong_arrays(two_outputs: bascule.Model, value: Any, message: str) -> None:
    with pytest.raises(bascule.capi._pybind_state.InvalidArgument, match=message):
        two_outputs(value)


def test_wrong_tensors(two_outputs: bascule.Model) -> None:
    torch = pytest.importorskip("torch")
    wrong = bascule.capi._pybind_state.InvalidArgument
    with pytest.raises(wrong, match=r"int64\[2, 3\] is given \(give it as .to\(torch.float32\)\)"):
        two_outputs(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(wrong, match=r"'x' requires a gradient, .*\.detach\(\)"):
        two_outputs(torch.ones(2, 3, requires_grad=True))


def test_what_is_no_array(two_outputs: bascule.Model) -> None:
    with pytest.raises(RuntimeError, match=r"dict.*input 'x'"):
        two_outputs({"x": X})


# --- what it shows


def test_repr(two_outputs: bascule.Model) -> None:
    assert repr(two_outputs).splitlines() == [
        "Model graph: 2 nodes on CPUExecutionProvider",
        "  input   x  float32[n, 3]",
        "  output  y  float32[n, 2]",
        "  output  s  float32[n, 2]",
    ]
    assert "input, may be left out  scale  float32[1]" in repr(bascule.load(scaled()))


def test_rich_table() -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=100).print(identity(name="[red]x"))
    assert "[red]x" in out.getvalue() and "float32[n, 3]" in out.getvalue()


def test_html_escapes_names() -> None:
    class Cells(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: set[str] = set()
            self.texts: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.tags.add(tag)

        def handle_data(self, data: str) -> None:
            self.texts.append(data)

    page = Cells()
    page.feed(identity(name="<script>alert('&')</script>")._repr_html_())
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "<script>alert('&')</script>" in page.texts and "float32[n, 3]" in page.texts
