# SPDX-License-Identifier: Apache-2.0
"""How each elementwise operator is written in CUDA C++: as a call of kernels/operators.cuh."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.registry import FIXED_WIDTH, FLOATS, INTEGERS, NUMBERS

Write = Callable[[Node, Sequence[str]], str]
"""The expression of a node, of the expressions of its inputs ("" for one that is left out)."""


class Refused(Exception):
    """Why a node cannot be written."""


CONVERTIBLE = FIXED_WIDTH - {DataType.COMPLEX64, DataType.COMPLEX128}
"""What Cast takes and makes."""
_FLOAT8 = frozenset(
    (
        DataType.FLOAT8E4M3FN,
        DataType.FLOAT8E4M3FNUZ,
        DataType.FLOAT8E5M2,
        DataType.FLOAT8E5M2FNUZ,
    )
)
_SIGNED = frozenset((DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64))
_QUANTIZED = _FLOAT8 | {
    *(DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16),
    *(DataType.INT4, DataType.UINT4, DataType.INT2, DataType.UINT2),
    *(DataType.FLOAT4E2M1, DataType.FLOAT6E2M3, DataType.FLOAT6E3M2),
}
_HALVES = frozenset((DataType.FLOAT16, DataType.BFLOAT16))

_C_TYPES = {
    **{dtype: dtype.numpy.name for dtype in FIXED_WIDTH},
    **{dtype: f"{dtype.numpy.name}_t" for dtype in INTEGERS},
    **{d: f"{d.name.lower()}_t" for d in DataType if d.is_integer and d.bits < 8},
    DataType.FLOAT: "float",
    DataType.DOUBLE: "double",
    DataType.BOOL: "bool",
    DataType.COMPLEX64: "uint64_t",
    DataType.COMPLEX128: "ulonglong2",
}


def c_type(dtype: DataType) -> str:
    """The element type in the kernels."""
    return _C_TYPES[dtype]


def float_literal(number: float, dtype: DataType = DataType.FLOAT) -> str:
    """A float32 (or float64) constant; exact."""
    if dtype is DataType.DOUBLE:
        bits = np.float64(number).view(np.uint64)
        return repr(float(number)) if math.isfinite(number) else f"double_of({bits:#x}ull)"
    exact = np.float32(number)
    if not np.isfinite(exact):
        return f"float_of({exact.view(np.uint32):#x}u)"
    return f"{float(exact)!r}f"  # of the double: it has every digit


def result_dtype(node: Node) -> DataType:
    """The element type of the first output."""
    dtype = node.output.dtype
    if dtype is None:
        raise Refused("the type of the result is unknown")
    return dtype


def input_dtype(node: Node, index: int) -> DataType:
    """The element type of an input that is there."""
    value = node.input(index)
    if value is None or value.dtype is None:
        raise Refused(f"input {index} is missing or of unknown type")
    return value.dtype


def write(node: Node, inputs: Sequence[str]) -> str:
    """The expression that computes `node`; Refused says why there is none."""
    key = node.op_type if node.domain == "" else f"{node.domain}.{node.op_type}"
    found = OPERATORS.get(key)
    if found is None:
        raise Refused("it is not an elementwise operator")
    if len(inputs) != len(node.inputs):
        raise Refused("its inputs do not fit")
    return found(node, inputs)


def _call(function: str, *arguments: str) -> str:
    return f"op::{function}({', '.join(arguments)})"


def _require(node: Node, dtypes: frozenset[DataType], inputs: Sequence[int]) -> None:
    """All of `inputs` are of one type, of `dtypes`."""
    first = input_dtype(node, inputs[0])
    if first not in dtypes:
        raise Refused(f"no kernel for {first.onnx_name}")
    if any(input_dtype(node, index) is not first for index in inputs):
        raise Refused("the types of its inputs differ")


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of so many operands of one type, and of float attributes."""

    name: str
    dtypes: frozenset[DataType]
    operands: int = 1
    attributes: tuple[tuple[str, float], ...] = ()

    def __call__(self, node: Node, inputs: Sequence[str]) -> str:
        if len(inputs) != self.operands:
            raise Refused(f"it has {len(inputs)} inputs, not {self.operands}")
        _require(node, self.dtypes, range(self.operands))
        parameters = [float_literal(node.attribute(*each)) for each in self.attributes]
        return _call(self.name, *inputs, *parameters)


def _clip(node: Node, inputs: Sequence[str]) -> str:
    _require(node, NUMBERS, [i for i, text in enumerate(inputs) if text])
    x, least, largest = (*inputs, "", "")[:3]
    if least:
        x = _call("at_least", x, least)
    return _call("at_most", x, largest) if largest else x


def _variadic(name: str, dtypes: frozenset[DataType], at_once: bool) -> Write:
    def write_all(node: Node, inputs: Sequence[str]) -> str:
        _require(node, dtypes, range(len(inputs)))
        if len(inputs) == 1:
            return inputs[0]
        if at_once:
            return _call(name, *inputs)
        result = inputs[0]
        for other in inputs[1:]:
            result = _call(name, result, other)
        return result

    return write_all


def _comparison(name: str) -> Write:
    def write_comparison(node: Node, inputs: Sequence[str]) -> str:
        allowed = NUMBERS | {DataType.BOOL} if name == "equal" else NUMBERS
        return _Function(name, allowed, 2)(node, inputs)

    return write_comparison


def _gelu(node: Node, inputs: Sequence[str]) -> str:
    form = node.attribute("approximate", "none")
    if form not in ("none", "tanh"):
        raise Refused(f"approximate='{form}' is neither 'none' nor 'tanh'")
    return _Function("gelu" if form == "none" else "gelu_tanh", FLOATS)(node, inputs)


def _mod(node: Node, inputs: Sequence[str]) -> str:
    name = "remainder" if node.attribute("fmod", 0) else "modulo"
    return _Function(name, NUMBERS, 2)(node, inputs)


def _bit_shift(node: Node, inputs: Sequence[str]) -> str:
    direction = node.attribute("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise Refused(f"direction='{direction}' is neither LEFT nor RIGHT")
    return _Function(f"shift_{direction.lower()}", INTEGERS, 2)(node, inputs)


_BASES = FLOATS | {DataType.INT32, DataType.INT64}


def _pow(node: Node, inputs: Sequence[str]) -> str:
    _require(node, _BASES, [0])
    _require(node, NUMBERS, [1])
    return _call("pow", *inputs)


def _where(node: Node, inputs: Sequence[str]) -> str:
    _require(node, frozenset((DataType.BOOL,)), [0])
    _require(node, FIXED_WIDTH, [1, 2])
    return _call("where", *inputs)


def _is_inf(node: Node, inputs: Sequence[str]) -> str:
    _require(node, FLOATS | _FLOAT8, [0])
    wanted = [node.attribute(f"detect_{sign}", 1) != 0 for sign in ("positive", "negative")]
    return _call("is_inf", *inputs, *(str(each).lower() for each in wanted))


def _identity(node: Node, inputs: Sequence[str]) -> str:
    _require(node, FIXED_WIDTH, [0])
    return inputs[0]


def _cast(node: Node, inputs: Sequence[str]) -> str:
    _require(node, CONVERTIBLE, [0])
    target = result_dtype(node)
    if target not in CONVERTIBLE:
        raise Refused(f"no conversion to {target.onnx_name}")
    mode = node.attribute("round_mode", "up")
    if mode not in ("up", "down", "nearest"):
        raise Refused(f"round_mode='{mode}' is not known")
    options = []
    if target is DataType.FLOAT8E8M0:
        saturate = str(node.attribute("saturate", 1) != 0).lower()
        options = [saturate, f"RoundMode::{mode}"]
    elif target in _FLOAT8:
        options = [str(node.attribute("saturate", 1) != 0).lower()]
    return f"convert<{c_type(target)}>({', '.join([inputs[0], *options])})"


def _quantize(node: Node, inputs: Sequence[str]) -> str:
    numbers = frozenset((DataType.FLOAT, *_HALVES, DataType.INT32))
    _require(node, numbers, [0])
    _require(node, numbers | {DataType.FLOAT8E8M0}, [1])
    target = result_dtype(node)
    if target not in _QUANTIZED:
        raise Refused(f"no quantization to {target.onnx_name}")
    if node.input(2) is not None and input_dtype(node, 2) is not target:
        raise Refused("the zero point is of another type than the result")
    # The type of the scale says how the quotient is rounded.
    precision = DataType(node.attribute("precision", 0)) or input_dtype(node, 1)
    if precision not in _HALVES | {DataType.INT32}:
        precision = DataType.FLOAT
    x, scale, zero = (*inputs, "")[:3]
    function = f"quantize_linear<{c_type(target)}, {c_type(precision)}>"
    saturate = str(node.attribute("saturate", 1) != 0).lower()
    return _call(function, x, scale, zero or "0.0f", saturate)


def _dequantize(node: Node, inputs: Sequence[str]) -> str:
    _require(node, _QUANTIZED | {DataType.INT32}, [0])
    _require(node, frozenset((DataType.FLOAT, *_HALVES, DataType.FLOAT8E8M0)), [1])
    target = result_dtype(node)
    if target not in _HALVES | {DataType.FLOAT}:
        raise Refused(f"no dequantization to {target.onnx_name}")
    if node.input(2) is not None and input_dtype(node, 2) is not input_dtype(node, 0):
        raise Refused("the zero point is of another type than the numbers")
    return _call(f"dequantize_linear<{c_type(target)}>", *(text for text in inputs if text))


def _qlinear_add(node: Node, inputs: Sequence[str]) -> str:
    _require(node, frozenset((DataType.INT8, DataType.UINT8)), [0])
    given = [i for i in (0, 2, 3, 5, 7) if node.input(i) is not None]
    _require(node, frozenset((input_dtype(node, 0),)), given)
    _require(node, frozenset((DataType.FLOAT,)), [1, 4, 6])
    zero = f"{c_type(input_dtype(node, 0))}{{0}}"
    return _call("qlinear_add", *(text or zero for text in (*inputs, "")[:8]))


# fmt: off
_OF_FLOATS = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor",
    "HardSwish", "Log", "Mish", "Reciprocal", "Round", "Sigmoid", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Tan", "Tanh",
)
# fmt: on
_SNAKE = {"HardSwish": "hard_swish"}
_LOGIC = frozenset((DataType.BOOL,))
_SELU = (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))

OPERATORS: dict[str, Write] = {
    **{name: _Function(_SNAKE.get(name, name.lower()), FLOATS) for name in _OF_FLOATS},
    "Abs": _Function("abs", NUMBERS),
    "Add": _Function("add", NUMBERS, 2),
    "And": _Function("logical_and", _LOGIC, 2),
    "BitShift": _bit_shift,
    "BitwiseAnd": _Function("bitwise_and", INTEGERS, 2),
    "BitwiseNot": _Function("bitwise_not", INTEGERS),
    "BitwiseOr": _Function("bitwise_or", INTEGERS, 2),
    "BitwiseXor": _Function("bitwise_xor", INTEGERS, 2),
    "Cast": _cast,
    "Celu": _Function("celu", FLOATS, 1, (("alpha", 1.0),)),
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "Div": _Function("div", NUMBERS, 2),
    "Elu": _Function("elu", FLOATS, 1, (("alpha", 1.0),)),
    "Equal": _comparison("equal"),
    "Gelu": _gelu,
    "Greater": _comparison("greater"),
    "GreaterOrEqual": _comparison("greater_or_equal"),
    "HardSigmoid": _Function("hard_sigmoid", FLOATS, 1, (("alpha", 0.2), ("beta", 0.5))),
    "Identity": _identity,
    "IsInf": _is_inf,
    "IsNaN": _Function("is_nan", FLOATS | _FLOAT8),
    "LeakyRelu": _Function("leaky_relu", FLOATS, 1, (("alpha", 0.01),)),
    "Less": _comparison("less"),
    "LessOrEqual": _comparison("less_or_equal"),
    "Max": _variadic("max", NUMBERS, at_once=False),
    "Mean": _variadic("mean", FLOATS, at_once=True),
    "Min": _variadic("min", NUMBERS, at_once=False),
    "Mod": _mod,
    "Mul": _Function("mul", NUMBERS, 2),
    "Neg": _Function("neg", FLOATS | _SIGNED),
    "Not": _Function("logical_not", _LOGIC),
    "Or": _Function("logical_or", _LOGIC, 2),
    "PRelu": _Function("prelu", NUMBERS, 2),
    "Pow": _pow,
    "QuantizeLinear": _quantize,
    "Relu": _Function("relu", NUMBERS),
    "Selu": _Function("selu", FLOATS, 1, _SELU),
    "Shrink": _Function("shrink", NUMBERS, 1, (("lambd", 0.5), ("bias", 0.0))),
    "Sign": _Function("sign", NUMBERS),
    "Sub": _Function("sub", NUMBERS, 2),
    "Sum": _variadic("sum", FLOATS, at_once=True),
    "Swish": _Function("swish", FLOATS, 1, (("alpha", 1.0),)),
    "ThresholdedRelu": _Function("thresholded_relu", FLOATS, 1, (("alpha", 1.0),)),
    "Where": _where,
    "Xor": _Function("logical_xor", _LOGIC, 2),
    f"{FUSED_DOMAIN}.QLinearAdd": _qlinear_add,
}
"""By operator, with the domain before it where that is not the standard's."""

SCALARS = {
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "QuantizeLinear": (1, 2),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
}
"""Inputs that have no part in the shape of the result. In a body they are one element each."""
