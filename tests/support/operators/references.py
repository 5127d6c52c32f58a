# SPDX-License-Identifier: Apache-2.0
"""What operators compute, where onnx.reference has no or another opinion than the standard's text.

`by` makes a reference of a function of the inputs, which it is given in the widest type.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from onnx.reference import ReferenceEvaluator
from PIL import Image

from bascule.ir.dtype import DataType
from tests.support.typed import (
    COMPLEX,
    Call,
    TypeText,
    integer_range,
    node_model,
    widen_value,
    widened,
)

Array = np.ndarray[Any, Any]


_EPSILON = float(np.float32(1e-5))


def by(function: Callable[..., Any]) -> Callable[[Call], list[Any]]:
    """Outputs by a function of the inputs; a tuple is several."""

    def expect(call: Call) -> list[Any]:
        with np.errstate(all="ignore"):
            found = function(*(widen_value(value) for value in call.inputs))
        return list(found) if isinstance(found, tuple) else [found]

    return expect


def plainly(function: Callable[..., Any]) -> Callable[[Call], list[Any]]:
    """One output by a function of the inputs in the types of the call."""
    return lambda call: [function(*call.inputs)]


def same(call: Call) -> list[Any]:
    """The first input, as it is."""
    return [call.inputs[0]]


def unwidened(call: Call) -> list[Any]:
    """By onnx.reference in the types of the call: for operators that round by their types."""
    model, [alone] = node_model(call.case, [call.binding])
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, alone.feeds))


def _run_in_double(call: Call, parameter: str, x: Array) -> list[Any]:
    """The call by onnx.reference, with `x` in float64 for the first input."""
    wide = {name: widened(bound) for name, bound in call.binding.items()}
    model, [alone] = node_model(call.case, [wide | {parameter: TypeText("tensor(double)")}])
    values = [x.astype(np.float64), *list(call.feeds.values())[1:]]
    feeds = {
        name: value.astype(alone.feeds[name].dtype) for name, value in zip(alone.feeds, values)
    }
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, feeds))


def in_double(parameter: str) -> Callable[[Call], list[Any]]:
    """For operators that compute in floats whatever the type of their input."""
    return lambda call: _run_in_double(call, parameter, call.inputs[0])


def interpolated(call: Call) -> list[Any]:
    """By onnx.reference in float64, rounded to nearest, ties to even, into the type's range."""
    dtype = call.case.input_type(0, call.binding).dtype

    def run(x: Array) -> Array:
        return np.asarray(_run_in_double(call, "T1", x)[0])

    x = call.inputs[0]
    if dtype in COMPLEX:
        return [run(x.real) + 1j * run(x.imag)]
    if dtype.is_float:
        return [run(x)]
    low, high = (0, 1) if dtype is DataType.BOOL else integer_range(dtype)
    return [np.clip(np.rint(run(x)), low, high)]


def cast(call: Call) -> list[Any]:
    """Text of a float is the shortest that reads back as the same element."""
    x, to = call.inputs[0], call.case.output_type(0, call.binding).dtype
    source = DataType.from_numpy(x.dtype)
    if to is source:
        return [x]
    if to is DataType.STRING:
        return [np.frompyfunc(lambda element: _text(element, source), 1, 1)(x)]
    exact = x.astype(np.int64 if source is DataType.STRING else np.float32)
    if to is DataType.BOOL:
        return [exact != 0]
    if to.is_integer:
        return [exact.astype(np.int64).astype(to.numpy)]
    if to is DataType.FLOAT8E8M0:
        # It has no zero: the smallest power of two is next to it. Between two it goes up.
        return [2.0 ** np.ceil(np.log2(np.maximum(np.abs(exact), 2.0**-127)))]
    return [exact.astype(np.float32).astype(to.numpy)]


def quantized_product(call: Call) -> list[Any]:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (
        x.astype(np.float64) for x in call.inputs
    )
    result = ((a - a_zero) * a_scale) @ ((b - b_zero) * b_scale) / y_scale
    dtype = call.case.output_type(0, call.binding).dtype
    if dtype.is_float:
        largest = float(ml_dtypes.finfo(dtype.numpy).max)
        return [np.clip(result + y_zero, -largest, largest)]
    return [np.clip(np.rint(result) + y_zero, *integer_range(dtype))]


def _text(element: Any, dtype: DataType) -> str:
    if not dtype.is_float:
        return str(element)
    for digits in range(17):
        text = f"{float(element):.{digits}e}"
        if np.array(float(text)).astype(dtype.numpy) == element:
            break
    return str(float(text))


class Bitmap:
    """Pixels as the bytes of a BMP file."""

    def __call__(self, dtype: DataType, random: np.random.Generator) -> Array:
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (3, 5, 3), np.uint8)).save(stream, "BMP")
        return np.frombuffer(stream.getvalue(), dtype.numpy)


def pixels(call: Call) -> list[Any]:
    return [np.asarray(Image.open(io.BytesIO(call.inputs[0].tobytes())))]


def scattered(x: Array, indices: Array, updates: Array) -> Array:
    result = x.copy()
    np.put_along_axis(result, indices.astype(np.int64), updates, 0)
    return result


def nothing(x: Array) -> Any:
    """Zero, the empty string or False, as an element of x."""
    return "" if x.dtype == object else np.zeros((), x.dtype)


def softmax(axis: int) -> Callable[[Call], list[Any]]:
    """Of float16, numerators and sum are rounded to it: the standard defines it by a function."""

    def expect(call: Call) -> list[Any]:
        [x] = call.inputs
        rounded = np.float16 if x.dtype == np.float16 else np.float64
        x = widen_value(x)
        e = np.exp(x - x.max(axis, keepdims=True)).astype(rounded).astype(np.float64)
        return [e / e.sum(axis, keepdims=True).astype(rounded).astype(np.float64)]

    return expect


def normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    deviation = x - x.mean(axes, keepdims=True)
    return deviation / np.sqrt((deviation**2).mean(axes, keepdims=True) + epsilon)


def group_normalization(x: Array, scale: Array, bias: Array) -> Array:
    groups = normalized(x.reshape(len(x), 2, -1), (2,), _EPSILON).reshape(x.shape)
    return groups * scale[:, None] + bias[:, None]


def layer_normalization(x: Array, scale: Array) -> tuple[Array, Array, Array]:
    inverse = 1 / np.sqrt(x.var(-1, keepdims=True) + _EPSILON)
    return normalized(x, (-1,), _EPSILON) * scale, x.mean(-1, keepdims=True), inverse


def mean_variance_normalization(x: Array) -> Array:
    deviation = x - x.mean((0, 2, 3), keepdims=True)
    return deviation / (np.sqrt((deviation**2).mean((0, 2, 3), keepdims=True)) + 1e-9)


def local_response(x: Array) -> Array:
    """Of three neighbouring channels."""
    squares = np.pad(x**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
    sums = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    return x / (1 + np.float64(np.float32(1e-4)) / 3 * sums) ** 0.75


def global_lp_pool(x: Array) -> Array:
    return np.sqrt((x**2).sum((2, 3), keepdims=True))


def affine_grid(theta: Array, size: Array) -> Array:
    height, width = size[2:]
    y = ((np.arange(height) * 2 + 1) / height - 1)[:, None]
    x = (np.arange(width) * 2 + 1) / width - 1
    points = np.stack(np.broadcast_arrays(x, y, 1.0), -1)
    return np.einsum("hwk,nik->nhwi", points, theta)


def overlapped(x: Array, image: Array, block: Array) -> Array:
    """Col2Im with strides of two: text of windows that overlap is joined."""
    height, width = ((image - block) // 2 + 1).tolist()
    windows = x.reshape(1, -1, *block.tolist(), height, width)
    result = np.full((1, windows.shape[1], *image.tolist()), nothing(x), x.dtype)
    for i in range(block[0]):
        for j in range(block[1]):
            result[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2] += windows[:, :, i, j]
    return result


def unique_rows(x: Array) -> tuple[Array, ...]:
    text = x.astype(str) if x.dtype == object else x
    rows, *places = np.unique(text, True, True, True, axis=0)
    return (rows, places[0], places[1].reshape(-1), places[2])


def one_hot(indices: Array, depth: Array, values: Array) -> Array:
    # Unsigned types take -1 for their largest number, which is out of range.
    whole = indices.astype(np.int64) if indices.dtype.kind != "u" else indices
    hot = (whole[:, None] == np.arange(3)) | (whole[:, None] == np.arange(3) - 3)
    return np.where(hot, values[1], values[0])


def constant_padded(x: Array, pads: Array) -> Array:
    widths = pads.reshape(2, -1).T.tolist()
    return np.pad(x, widths, constant_values=nothing(x))


def center_padded(x: Array, shape: Array) -> Array:
    """A matrix of three rows and five columns as five by three."""
    return constant_padded(x[:, 1:4], np.array([1, 0, 1, 0]))


def triangle(upper: bool) -> Callable[[Call], list[Any]]:
    return by(
        lambda x, k=0: np.where(
            np.triu(np.ones(x.shape, bool), k) if upper else np.tri(*x.shape, k, bool),
            x,
            nothing(x),
        )
    )
