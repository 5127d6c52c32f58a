# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators, and those that work along one axis."""

from __future__ import annotations

from tests.support import formulas
from tests.support.operators import references
from tests.support.operators.case import case
from tests.support.typed import fixed, numbers, small

_UNIT = numbers(3, 5, low=-0.9375, high=0.9375)
_POSITIVE = numbers(3, 5, low=0.0625, high=4)
_REAL = numbers(3, 5)


CASES = [
    *(
        case(op_type, _REAL)
        for op_type in (
            "Abs",
            "Asinh",
            "Atan",
            "BitwiseNot",
            "Ceil",
            "Celu",
            "Cos",
            "Cosh",
            "Elu",
            "Exp",
            "Floor",
            "HardSigmoid",
            "LeakyRelu",
            "Mish",
            "Neg",
            "Not",
            "Relu",
            "Round",
            "Selu",
            "Sigmoid",
            "Sign",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Swish",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
        )
    ),
    case("Acos", _UNIT),
    case("Acosh", numbers(3, 5, low=1, high=4)),
    case("Asin", _UNIT),
    case("Atanh", _UNIT),
    case("Erf", _REAL, expect=references.by(formulas.erf)),
    case("Gelu", _REAL, expect=references.by(formulas.gelu)),
    case(
        "Gelu",
        _REAL,
        label="tanh",
        expect=references.by(formulas.gelu_tanh),
        approximate="tanh",
    ),
    case(
        "HardSwish",
        _REAL,
        expect=references.by(lambda x: x * formulas.hard_sigmoid(x, 1 / 6)),
    ),
    case("Log", _POSITIVE),
    case("Reciprocal", numbers(3, 5, nonzero=True)),
    case("Sqrt", _POSITIVE),
    case("IsNaN", fixed([1.5, float("nan"), float("inf"), -float("inf"), 0.0])),
    case("IsInf", fixed([1.5, float("nan"), float("inf"), -float("inf"), 0.0])),
    case("Shrink", small(3, 5, high=9), lambd=1.5, bias=0.5),
    case("Clip", _REAL, fixed(1), fixed(3)),
    case("Clip", _REAL, None, fixed(1), label="max"),
    case("Hardmax", _REAL, axis=0),
    case("Softmax", _REAL, expect=references.softmax(-1)),
    case("Softmax", _REAL, label="first_axis", expect=references.softmax(0), axis=0),
    case("LogSoftmax", _REAL),
    *(case(op_type, _REAL, numbers(1, 5)) for op_type in ("Add", "Sub", "Mul")),
    case("Div", _REAL, numbers(1, 5, nonzero=True)),
    case("Mod", _REAL, numbers(1, 5, nonzero=True), label="fmod", fmod=1),
    case("Mod", _REAL, numbers(1, 5, nonzero=True)),
    case("Pow", small(3, 5, nonzero=True, low=0.0625), fixed([0, 1, 2, 3, 5])),
    case("BitShift", _REAL, fixed([0, 1, 3, 7, 64]), label="left", direction="LEFT"),
    case("BitShift", _REAL, fixed([0, 1, 3, 7, 64]), label="right", direction="RIGHT"),
    *(
        case(op_type, _REAL, numbers(1, 5))
        for op_type in (
            "And",
            "Or",
            "Xor",
            "BitwiseAnd",
            "BitwiseOr",
            "BitwiseXor",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
        )
    ),
    *(
        case(op_type, _REAL, numbers(1, 5), numbers(3, 1))
        for op_type in ("Max", "Min", "Mean", "Sum")
    ),
    case("PRelu", small(3, 5), small(5)),
    case("SwiGLU", _REAL, _REAL),
    case("SwiGLU", _REAL, _REAL, label="alpha", alpha=1.5),
    case("Where", numbers(3, 1), _REAL, numbers(5)),
]
