# SPDX-License-Identifier: Apache-2.0
"""Kernels that are Python functions on arrays in device memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.registry import Kernel
from bascule.providers.cuda.tensor import Tensor


def python_kernel(node: Node, function: Callable[..., Any], captured: bool) -> Kernel | str:
    """The kernel that calls `function` with an array of the device for each input of `node`.

    It returns an array, or a tuple with one for each output. Without `captured` it is called in
    every run. Instead of a kernel the reason why the arrays cannot be.
    """
    for value in (*node.inputs, *node.outputs):
        if value is None or (value.type is None and value in node.outputs):
            continue
        if not isinstance(value.type, TensorType):
            return f"'{value.name}' is not known to be a tensor"
        if not _has_arrays(value.type.dtype):
            return f"there are no CuPy arrays of {value.type.dtype.onnx_name}"

    def run(call: Call, *inputs: Tensor | None) -> Any:
        returned = function(*(None if x is None else call.array(x) for x in inputs))
        results = returned if isinstance(returned, (tuple, list)) else (returned,)
        if len(results) < len(node.outputs):
            raise TypeError(
                f"the function for CUDA returned {len(results)} outputs; the node has "
                f"{len(node.outputs)}"
            )
        return tuple(
            _output(call, index, result, inputs) if call.wants(index) else None
            for index, result in enumerate(results[: len(node.outputs)])
        )

    return Kernel("python", run, (), frozenset(), frozenset(), not captured, None, {}, {})


def _has_arrays(dtype: DataType) -> bool:
    """Whether CuPy has arrays of an element type: those of NumPy itself, but for strings."""
    return dtype.numpy.kind in "biufc"


def _output(call: Call, index: int, result: Any, inputs: tuple[Tensor | None, ...]) -> Tensor:
    value, xp = call.node.outputs[index], call.device.xp
    if not isinstance(result, (xp.ndarray, np.generic, int, float, complex)):
        raise TypeError(
            f"output {index} '{value.name}' of the function for CUDA is an object of type "
            f"{type(result).__module__}.{type(result).__name__}; expected an array of CuPy"
        )
    made = call.tensor(xp.asarray(result))
    problem = _problem(value, made)
    if problem:
        raise TypeError(f"output {index} '{value.name}' of the function for CUDA is {problem}")
    # The memory of an input may be overwritten when nothing reads the input any more.
    return call.copied(made) if any(_overlap(made, x) for x in inputs) else made


def _problem(value: Value, made: Tensor) -> str:
    """How a tensor is not what the graph states; empty if it is that."""
    if value.type is None:
        return ""
    assert isinstance(value.type, TensorType)
    shape = value.type.shape
    fits = shape is None or (
        len(shape) == made.rank
        and all(not isinstance(d, int) or d == size for d, size in zip(shape, made.shape))
    )
    if made.dtype is value.type.dtype and fits:
        return ""
    return f"{TensorType(made.dtype, made.shape)}{list(made.shape)}; expected {value.type}" + (
        "" if shape is None else f"{list(shape)}"
    )


def _overlap(one: Tensor, other: Tensor | None) -> bool:
    if other is None or not one.nbytes or not other.nbytes:
        return False
    return one.address < other.address + other.nbytes and other.address < one.address + one.nbytes
