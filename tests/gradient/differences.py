# SPDX-License-Identifier: Apache-2.0
"""Gradients checked by central differences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser

import bascule

Array = np.ndarray[Any, Any]

OPSET = onnx.defs.onnx_opset_version()
_NAMES = {"float64": "double", "float32": "float", "bool": "bool", "int64": "int64"}


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def normal(*shape: int) -> Array:
    """Normal numbers, none near zero, where many functions have a kink."""
    drawn = rng().standard_normal(shape)
    return np.where(drawn < 0, drawn - 0.2, drawn + 0.2)


def positive(*shape: int) -> Array:
    return rng().uniform(0.3, 2, shape)


def inside(*shape: int) -> Array:
    """Within -1 and 1."""
    return normal(*shape) / 4


def distinct(*shape: int) -> Array:
    """No two numbers near each other."""
    count = int(np.prod(shape))
    return rng().permutation(np.linspace(-2, 2.1, count)).reshape(shape)


def ints(*numbers: Any) -> Array:
    return np.array(numbers, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """An expression in ONNX text, or lines of it that make y, and what its names stand for."""

    text: str
    inputs: Mapping[str, Array]
    constants: Mapping[str, Array] = field(default_factory=dict)
    """Integers and truth values: inputs too when shapes are unknown."""
    wrt: tuple[str, ...] = ()
    reference: bool = True
    """Whether onnx's reference evaluator can run the gradient."""

    @property
    def body(self) -> str:
        return self.text if re.search(r"\by\s*[=,]|, y\b", self.text) else f"y = {self.text}"


def case(text: str, *, wrt: str = "", reference: bool = True, **values: Any) -> Case:
    """Shapes become normal numbers; floating-point arrays are differentiated with respect to."""
    arrays = {
        name: normal(*value) if isinstance(value, tuple) else np.asarray(value)
        for name, value in values.items()
    }
    floats = {name: a for name, a in arrays.items() if a.dtype.kind == "f"}
    others = {name: a for name, a in arrays.items() if a.dtype.kind != "f"}
    return Case(text, floats, others, tuple(wrt.split()) or tuple(floats), reference)


def model(case: Case, weights: Array | None, dynamic: bool) -> onnx.ModelProto:
    """The case's model; its output is y, or y times the input `weights`."""
    dtype = next(iter(case.inputs.values())).dtype
    inputs = dict(case.inputs)
    body, output = case.body, "y"
    if weights is not None:
        inputs["weights"] = weights
        body, output = f"{body}\n  weighted = Mul(y, weights)", "weighted"
    if dynamic:
        inputs.update(case.constants)
    listed = ", ".join(_declared(name, array, dynamic) for name, array in inputs.items())
    text = (
        f'<ir_version: 10, opset_import: ["" : {OPSET}]>\n'
        f"g ({listed}) => ({_NAMES[str(dtype)]} {output}) {{\n  {body}\n}}"
    )
    proto = onnx.parser.parse_model(text)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    if not dynamic:
        proto.graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in case.constants.items()
        )
    return proto


def _declared(name: str, array: Array, dynamic: bool) -> str:
    # A size that is not known has a name of its own: nothing says that two are equal.
    dims = [f"{name}_{axis}" if dynamic else str(size) for axis, size in enumerate(array.shape)]
    shape = f"[{','.join(dims)}]" if dims else ""
    return f"{_NAMES[str(array.dtype)]}{shape} {name}"


def central_differences(
    session: bascule.InferenceSession, feeds: Mapping[str, Array], name: str, step: float
) -> Array:
    """Of the sum of the first output, with respect to one input."""
    x = feeds[name]
    slopes = np.empty(x.size, x.dtype)
    for index in range(x.size):
        sums = []
        for sign in (1, -1):
            moved = x.copy()
            moved.flat[index] += sign * step
            sums.append(np.sum(session.run(None, {**feeds, name: moved})[0], dtype=np.float64))
        slopes[index] = (sums[0] - sums[1]) / (2 * step)
    return slopes.reshape(x.shape)


def assert_near(actual: Array, expected: Array, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)
