# SPDX-License-Identifier: Apache-2.0
"""Arrays of every element type, as NumPy and ml_dtypes have them, into a session and out of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import bascule as ort
from bascule import errors
from bascule.ir.dtype import DataType
from tests.api.models import model, session, tensor
from tests.support.typed import tensor_proto

Array = np.ndarray[Any, Any]

ALL = [dtype for dtype in DataType if dtype is not DataType.UNDEFINED]
NUMBERS = [dtype for dtype in ALL if dtype is not DataType.STRING]
FLOAT6 = (DataType.FLOAT6E2M3, DataType.FLOAT6E3M2)
OPSET = 28

every_type = pytest.mark.parametrize("dtype", ALL, ids=lambda dtype: dtype.onnx_name)
every_number = pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.onnx_name)


def patterns(dtype: DataType) -> Array:
    """Elements of every kind, [rows, 3]: all bit patterns of a narrow type, some of a wide one.

    The number of elements is odd, so that packed types end within a byte.
    """
    if dtype is DataType.STRING:
        return np.array([["", "a", "bé"], ["\0x", "日本", "x" * 40], ["1", "-", " "]], object)
    if dtype is DataType.BOOL:
        return np.array([[True, False, True]])
    count = (min(2**dtype.bits, 256) // 3 + 1) | 1
    if dtype.bits <= 8:
        bits = np.resize(np.arange(2**dtype.bits, dtype=np.uint8), (count, 3))
        if dtype.name.startswith("INT"):  # a byte repeats the sign of a packed element
            bits -= np.uint8(2 ** (dtype.bits - 1))
        return bits.view(dtype.numpy)
    size = count * 3 * dtype.numpy.itemsize
    return (
        np.random.default_rng(3).integers(0, 256, size, np.uint8).view(dtype.numpy).reshape(-1, 3)
    )


def same_bits(actual: Array, expected: Array) -> None:
    assert type(actual) is np.ndarray and actual.flags.writeable
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype == object:
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == expected.tobytes()


def kept(x: str, y: str, dtype: DataType) -> list[onnx.NodeProto]:
    """Nodes that make y of x as it is, by operators that have the type."""
    if dtype not in FLOAT6:
        return [helper.make_node("Identity", [x], [y])]
    return [
        helper.make_node("Optional", [x], [f"{x}_held"]),
        helper.make_node("OptionalGetElement", [f"{x}_held"], [y]),
    ]


def moved(op_type: str, inputs: list[str], y: str, dtype: DataType) -> list[onnx.NodeProto]:
    """Nodes that move elements, in float32 where the operator does not have the type."""
    if dtype not in FLOAT6:
        return [helper.make_node(op_type, inputs, [y])]
    return [
        helper.make_node("Cast", [inputs[0]], ["wide"], to=int(DataType.FLOAT)),
        helper.make_node(op_type, ["wide", *inputs[1:]], ["wide_moved"]),
        helper.make_node("Cast", ["wide_moved"], [y], to=int(dtype)),
    ]


@functools.cache
def moves(dtype: DataType) -> ort.InferenceSession:
    """`same` is x, `turned` x transposed, `constant` what the model holds."""
    nodes = [*kept("x", "same", dtype), *moved("Transpose", ["x"], "turned", dtype)]
    nodes += kept("held", "constant", dtype)
    initializers = [tensor_proto(patterns(dtype), "held")]
    outputs = [tensor(name, dtype, None) for name in ("same", "turned", "constant")]
    inputs = [tensor("x", dtype, ["n", "m"])]
    return session(model(nodes, inputs, outputs, initializers, opset=OPSET, ir_version=13))


def read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: Array) -> Array:
    if x.dtype == object:
        return x
    return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)


ARRANGED: dict[str, Callable[[Array], Array]] = {
    "plain": lambda x: x,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda x: x.T.copy().T,
    "broadcast": lambda x: np.broadcast_to(x[:1], (5, 3)),
    "read-only": read_only,
    "unaligned": unaligned,
    "empty": lambda x: x[:0],
    "no-columns": lambda x: x[:, :0],
    "one": lambda x: x[:1, :1],
}


@every_type
def test_arrays_of_any_layout(dtype: DataType) -> None:
    made = moves(dtype)
    assert made.get_inputs()[0].type == f"tensor({dtype.onnx_name})"
    for arrange in ARRANGED.values():
        x = arrange(patterns(dtype))
        before = x.copy()
        same, turned, constant = made.run(None, {"x": x})
        same_bits(same, before)
        same_bits(turned, before.T.copy())
        same_bits(constant, patterns(dtype))
        same_bits(x.copy(), before)


@every_type
def test_single_elements(dtype: DataType) -> None:
    nodes = [*kept("x", "same", dtype), *moved("Unsqueeze", ["x", "axis"], "row", dtype)]
    axis = helper.make_tensor("axis", int(DataType.INT64), [1], [0])
    proto = model(
        nodes,
        [tensor("x", dtype, [])],
        [tensor("same", dtype, None), tensor("row", dtype, None)],
        [axis],
        opset=OPSET,
        ir_version=13,
    )
    made = session(proto)
    for element in patterns(dtype).ravel()[:5]:
        x = np.array(element, dtype.numpy)
        same, row = made.run(None, {"x": x})
        same_bits(same, x)
        same_bits(row.reshape(()), x)
        if dtype is not DataType.STRING:  # a NumPy scalar is an array too
            same_bits(made.run(None, {"x": x[()]})[0], x)


@pytest.mark.parametrize(
    "dtype",
    [d for d in NUMBERS if d.numpy.itemsize > 1],
    ids=lambda dtype: dtype.onnx_name,
)
def test_the_other_byte_order(dtype: DataType) -> None:
    x = patterns(dtype)
    swapped = x.astype(dtype.numpy.newbyteorder(">"))
    assert swapped.tobytes() != x.tobytes()
    for feed in (swapped, swapped.T.copy().T, ort.OrtValue.ortvalue_from_numpy(swapped)):
        same, turned, _ = moves(dtype).run(None, {"x": feed})
        same_bits(same, x)
        same_bits(turned, x.T.copy())


@pytest.mark.parametrize("dtype", [d for d in NUMBERS if d.bits < 8], ids=lambda d: d.onnx_name)
def test_bits_beyond_a_packed_element_are_ignored(dtype: DataType) -> None:
    x = patterns(dtype)
    dirty = (x.view(np.uint8) | (256 - 2**dtype.bits)).view(dtype.numpy)
    _, turned, _ = moves(dtype).run(None, {"x": dirty})
    mask = 2**dtype.bits - 1
    np.testing.assert_array_equal(turned.view(np.uint8) & mask, x.T.copy().view(np.uint8) & mask)


@every_number
def test_ort_values(dtype: DataType) -> None:
    x = patterns(dtype)
    value = ort.OrtValue.ortvalue_from_numpy(x)
    assert value.data_type() == f"tensor({dtype.onnx_name})" and value.element_type() == dtype
    assert value.data_ptr() == x.ctypes.data
    [turned] = moves(dtype).run_with_ort_values(["turned"], {"x": value})
    assert turned.data_type() == f"tensor({dtype.onnx_name})"
    same_bits(turned.numpy(), x.T.copy())


@every_number
def test_bound_memory(dtype: DataType) -> None:
    made, x = moves(dtype), patterns(dtype)
    target = np.zeros(x.shape[::-1], dtype.numpy)
    for kind in (int(dtype), dtype.numpy):
        binding = made.io_binding()
        binding.bind_input("x", "cpu", 0, kind, x.shape, x.ctypes.data)
        binding.bind_output("turned", "cpu", 0, kind, target.shape, target.ctypes.data)
        value = ort.OrtValue.ortvalue_from_shape_and_type(x.shape, kind)
        binding.bind_ortvalue_output("same", value)
        binding.bind_output("constant")
        made.run_with_iobinding(binding)
        same_bits(target, x.T.copy())
        same_bits(value.numpy(), x)
        same_bits(binding.copy_outputs_to_cpu()[2], x)
        target[...] = np.zeros((), dtype.numpy)
    binding = made.io_binding()
    binding.bind_cpu_input("x", np.asfortranarray(x))
    binding.bind_output("turned")
    made.run_with_iobinding(binding)
    same_bits(binding.copy_outputs_to_cpu()[0], x.T.copy())


def test_bound_text() -> None:
    made, x = moves(DataType.STRING), patterns(DataType.STRING)
    binding = made.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("turned")
    made.run_with_iobinding(binding)
    same_bits(binding.copy_outputs_to_cpu()[0], x.T.copy())


@every_type
def test_another_type_is_refused(dtype: DataType) -> None:
    """The message names the input, what it got and what it expects, and nothing is cast."""
    made = moves(dtype)
    for other in (
        DataType.FLOAT,
        DataType.INT64,
        DataType.BFLOAT16,
        DataType.INT4,
        DataType.STRING,
    ):
        if other is dtype:
            continue
        with pytest.raises(errors.InvalidArgument) as caught:
            made.run(None, {"x": patterns(other)})
        message = str(caught.value)
        assert (
            f"Actual: (tensor({other.onnx_name})) , expected: (tensor({dtype.onnx_name}))"
            in message
        )
        assert "[input: x;" in message


@pytest.mark.parametrize("kind", ["datetime64[s]", "timedelta64[s]", "V4", "i4,f4"])
def test_types_that_the_standard_lacks(kind: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"expected: \(tensor\(float\)\)"):
        moves(DataType.FLOAT).run(None, {"x": np.zeros((2, 3), kind)})
