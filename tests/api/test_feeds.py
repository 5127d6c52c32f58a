# SPDX-License-Identifier: Apache-2.0
"""What can be fed, and what is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

import bascule as ort
from bascule import errors
from bascule.feeds import convert
from bascule.ir.dtype import DataType
from bascule.ir.types import MapType, TensorType
from tests.api.models import FLOAT, identity, linear, model, session, single, tensor

INTEGERS = [dtype for dtype in DataType if dtype.is_integer]

X = np.random.default_rng(7).standard_normal((4, 3)).astype(np.float32)


class Exporter:
    """An object that offers nothing but DLPack."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Converter:
    """An object that offers nothing but __array__."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.array


class Subclass(np.ndarray):  # type: ignore[type-arg]
    pass


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "arrange",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: np.flip(np.flip(x).copy()),
        lambda x: x.astype(">f4"),
        read_only,
        lambda x: x.view(Subclass),
        lambda x: x.tolist(),
        lambda x: [row.tolist() for row in x],
        Exporter,
        Converter,
        ort.OrtValue.ortvalue_from_numpy,
    ],
)
def test_arrays_of_any_layout_and_kind(arrange: Any) -> None:
    (y,) = identity(FLOAT).run(None, {"x": arrange(X)})
    assert type(y) is np.ndarray and y.flags.writeable
    np.testing.assert_array_equal(y, X)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.onnx_name)
def test_integers_from_a_list(dtype: DataType) -> None:
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", dtype, ["n"])],
        [tensor("y", dtype, ["n"])],
        opset=25,
        ir_version=13,
    )
    (y,) = session(proto).run(None, {"x": [0, 1, 0]})
    assert y.dtype == dtype.numpy and y.tolist() == [0, 1, 0]


def test_float16_from_a_list() -> None:
    (y,) = identity(TensorProto.FLOAT16).run(None, {"x": [[1, 2.5]]})
    assert y.dtype == np.float16 and y.tolist() == [[1, 2.5]]


def test_arrays_are_not_cast() -> None:
    with pytest.raises(
        errors.InvalidArgument,
        match=r"Unexpected input data type\. Actual: \(tensor\(double\)\) , expected: \(tensor\(fl",
    ):
        identity(FLOAT).run(None, {"x": X.astype(np.float64)})


@pytest.mark.parametrize("value", [1, 1.5, True, "text", b"text", object(), {1: 2}, [object()]])
def test_what_is_no_tensor(value: Any) -> None:
    with pytest.raises(RuntimeError):
        identity(FLOAT).run(None, {"x": value})


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "bé", ""]),
        np.array(["a", "bé", ""], object),
        np.array([b"a", "bé".encode(), b""], "S3"),
        np.array([b"a", "bé".encode(), b""], "V3"),
        ["a", "bé", ""],
        np.array(["", "bé", "a"])[::-1],
    ],
    ids=["U", "object", "S", "V", "list", "reversed"],
)
def test_strings(value: Any) -> None:
    (y,) = identity(TensorProto.STRING).run(None, {"x": value})
    assert y.dtype == object and y.tolist() == ["a", "bé", ""]


def test_objects_in_string_arrays_become_text() -> None:
    (y,) = identity(TensorProto.STRING).run(None, {"x": np.array([1, None, "x"], object)})
    assert y.tolist() == ["1", "None", "x"]


def test_numbers_for_a_string_input_are_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"expected: \(tensor\(string\)\)"):
        identity(TensorProto.STRING).run(None, {"x": X})


def test_text_that_is_no_utf8() -> None:
    """Bytes that are none stand in a str as U+DC80 to U+DCFF; other surrogates say nothing."""
    made = identity(TensorProto.STRING)
    assert made.run(None, {"x": np.array(["a", "\udcff"], object)})[0].tolist() == ["a", "\udcff"]
    message = r"item 1 has a lone surrogate, which is no UTF-8 \[input: x\]"
    for feed in (np.array(["a", "\ud800"], object), np.array(["a", "\ud800"]), ["a", "\ud800"]):
        with pytest.raises(errors.InvalidArgument, match=message):
            made.run(None, {"x": feed})


@pytest.mark.parametrize("dtype", [DataType.BFLOAT16, DataType.FLOAT8E4M3FN, DataType.FLOAT8E5M2])
def test_narrow_floats_over_dlpack(dtype: DataType) -> None:
    x = np.array([[1, 2, 3]], np.float32).astype(dtype.numpy)
    value = ort.OrtValue.from_dlpack(ort.OrtValue(x))
    assert value.data_ptr() == x.ctypes.data
    assert value.numpy().dtype == dtype.numpy
    (y,) = identity(int(dtype)).run(None, {"x": value})
    assert y.tobytes() == x.tobytes()


def test_dlpack_of_another_library() -> None:
    torch = pytest.importorskip("torch")
    for dtype, number in ((torch.float32, FLOAT), (torch.bfloat16, TensorProto.BFLOAT16)):
        x = torch.arange(6, dtype=dtype).reshape(2, 3)
        (y,) = identity(number).run(None, {"x": x})
        np.testing.assert_array_equal(y.astype(np.float32), x.float().numpy())
        back = torch.from_dlpack(ort.OrtValue(y))
        assert back.dtype == dtype and torch.equal(back, x)
        value = ort.OrtValue.from_dlpack(x)
        assert value.data_ptr() == x.data_ptr()


SEQUENCE = helper.make_tensor_sequence_value_info("x", FLOAT, None)


def test_sequences_in_and_out() -> None:
    output = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    made = single("Identity", [SEQUENCE], output)
    assert made.get_inputs()[0].type == "seq(tensor(float))"
    assert made.get_inputs()[0].shape == []
    (y,) = made.run(None, {"x": [X, X[:1]]})
    assert isinstance(y, list)
    np.testing.assert_array_equal(y[0], X)
    np.testing.assert_array_equal(y[1], X[:1])
    assert made.run(None, {"x": []}) == [[]]
    with pytest.raises(errors.InvalidArgument, match="expected to be of type: 3 but received a t"):
        made.run(None, {"x": X})
    with pytest.raises(errors.InvalidArgument):
        made.run(None, {"x": (X,)})


def test_optional_inputs_may_be_left_out() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    x = helper.make_value_info("x", kind)
    made = single("OptionalHasElement", [x], tensor("y", TensorProto.BOOL, []))
    assert made.get_inputs()[0].type == "optional(tensor(float))"
    assert bool(made.run(None, {"x": X})[0]) is True
    assert bool(made.run(None, {"x": None})[0]) is False
    assert bool(made.run(None, {})[0]) is False


def test_maps() -> None:
    kind = MapType(DataType.STRING, TensorType(DataType.FLOAT))
    converted = convert("x", {"a": np.float32(4), "c": np.float32(1.5)}, kind)
    assert {key: (item.dtype, float(item)) for key, item in converted.items()} == {
        "a": (np.float32, 4.0),
        "c": (np.float32, 1.5),
    }
    assert convert("x", {"a": 4.0}, kind)["a"].dtype == np.float32
    with pytest.raises(RuntimeError):
        convert("x", [{"a": 4.0}], kind)


def test_maps_hold_single_elements_whatever_the_model_declares() -> None:
    kind = MapType(DataType.INT64, TensorType(DataType.FLOAT, (1,)))
    converted = convert("x", {3: 4.0, 5: np.ones(1, np.float32)}, kind)
    assert {key: float(np.squeeze(item)) for key, item in converted.items()} == {3: 4.0, 5: 1.0}


def test_scalars_stay_arrays() -> None:
    (y,) = identity(FLOAT, []).run(None, {"x": np.array(3.0, np.float32)})
    assert type(y) is np.ndarray and y.shape == ()


def test_missing_unknown_and_none() -> None:
    made = session(linear())
    with pytest.raises(
        ValueError, match=r"Required inputs \(\['x'\]\) are missing from input feed \(\['z'\]\)"
    ):
        made.run(None, {"z": X})
    with pytest.raises(errors.InvalidArgument, match="Invalid input name: w"):
        made.run(None, {"x": X, "w": X})
    with pytest.raises(errors.Fail, match="Missing Input: x"):
        made.run(None, {"x": None})
    with pytest.raises(AttributeError):
        made.run(None, [X])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.run(None, {"x": X}, 3)  # type: ignore[arg-type]


def test_ranks_and_sizes() -> None:
    made = session(linear())
    with pytest.raises(
        errors.InvalidArgument, match="Invalid rank for input: x Got: 1 Expected: 2 Please fix"
    ):
        made.run(None, {"x": X[0]})
    with pytest.raises(
        errors.InvalidArgument,
        match=r"(?s)Got invalid dimensions for input: x for the .* index: 1 Got: 2 Expected: 3",
    ):
        made.run(None, {"x": X[:, :2]})


def test_ml_dtypes_scalars_are_arrays() -> None:
    (y,) = identity(TensorProto.BFLOAT16, []).run(None, {"x": np.array(1.5, ml_dtypes.bfloat16)})
    assert y.shape == () and float(y) == 1.5
