# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of the CUDA provider agree with the CPU provider's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.providers.cuda.elementwise_bodies import Body
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

RANDOM = np.random.default_rng(5)
HALVES = [np.float16, ml_dtypes.bfloat16]
FLOATS = [np.float32, np.float64, *HALVES]
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
TOLERANCES = {
    np.float32: (3e-6, 1e-6),
    np.float64: (1e-13, 1e-13),
    np.float16: (2e-3, 1e-6),
    ml_dtypes.bfloat16: (1.6e-2, 1e-6),
}
SPECIAL = [0.0, -0.0, 0.5, 1.5, -2.5, 2.0, -1.0, 1.0, 30.0, -30.0, np.inf, -np.inf, np.nan, 6e-8]


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.asarray(RANDOM.standard_normal(shape)).astype(dtype)


def integers(dtype: Any, *shape: int) -> np.ndarray:
    """Of the whole range, the ends and small ones more often."""
    limits = np.iinfo(dtype)
    x = RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    small = RANDOM.integers(0, 5, shape).astype(dtype)
    x = np.where(RANDOM.random(shape) < 0.5, x, small)
    x.flat[:3] = limits.min, limits.max, limits.max
    return x


# fmt: off
OF_FLOATS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in (
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf",
        "Exp", "Floor", "HardSwish", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round",
        "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "Celu",
        "Elu", "Gelu", "HardSigmoid", "LeakyRelu", "Selu", "Shrink", "Swish", "ThresholdedRelu",
    )),
    ("Gelu", {"approximate": "tanh"}),
    ("Celu", {"alpha": 1.5}),
    ("Elu", {"alpha": 0.75}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.6}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}),
    ("Shrink", {"lambd": 0.25, "bias": 0.125}),
    ("Swish", {"alpha": 1.5}),
    ("ThresholdedRelu", {"alpha": 0.3}),
]
# fmt: on


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_floats(dtype: Any) -> None:
    x = np.concatenate([normal(40) * 3, RANDOM.random(40), SPECIAL]).astype(dtype)
    body = Body(x)
    (operand,) = body.inputs
    for op_type, attributes in OF_FLOATS:
        body.output(op_type, operand, **attributes)
    body.output("IsNaN", operand, dtype=np.bool_)
    body.output("IsInf", operand, dtype=np.bool_)
    body.output("IsInf", operand, dtype=np.bool_, detect_negative=0)
    body.output("IsInf", operand, dtype=np.bool_, detect_positive=0)
    with np.errstate(all="ignore"):
        body.check(*TOLERANCES[dtype])


ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Mod")
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


@pytest.mark.parametrize("dtypes", [(np.float32, np.float16), (np.float64, ml_dtypes.bfloat16)])
def test_pairs_of_floats(dtypes: tuple[Any, Any]) -> None:
    special = np.array(SPECIAL)
    pairs = [np.repeat(special, len(special)), np.tile(special, len(special))]
    body = Body()
    for dtype in dtypes:
        a, b, c = (
            body.input(np.concatenate([normal(60) * 3, each]).astype(dtype))
            for each in (*pairs, pairs[0])
        )
        for op_type in (*ARITHMETIC, "Sum", "Mean", "Pow"):
            body.output(op_type, a, b)
        for op_type in COMPARISONS:
            body.output(op_type, a, b, dtype=np.bool_)
        body.output("Mod", a, b, fmod=1)
        body.output("Max", a, b, c)
        body.output("Min", c, a, b)
        body.output("Pow", a, body.number(2, dtype))
        body.output("Pow", a, body.number(0.5, dtype))
        body.output("Pow", a, body.number(3, np.int64))
        body.output("Clip", a, body.number(-0.5, dtype), body.number(0.75, dtype))
        body.output("Clip", a, None, body.number(0.75, dtype))
        body.output("Clip", a, body.number(0.25, dtype))
        body.output("Where", body.node("Less", a, b, dtype=np.bool_), a, b, dtype=dtype)
    with np.errstate(all="ignore"):
        body.check(1e-6, 1e-38)


@pytest.mark.parametrize("signed", [INTEGERS[:4], INTEGERS[4:]])
def test_pairs_of_integers(signed: list[Any]) -> None:
    for dtypes in (signed[:2], signed[2:]):
        body = Body()
        for dtype in dtypes:
            a, b = (body.input(integers(dtype, 300)) for _ in range(2))
            for op_type in (*ARITHMETIC, "BitwiseAnd", "BitwiseOr", "BitwiseXor"):
                body.output(op_type, a, b)
            for op_type in COMPARISONS:
                body.output(op_type, a, b, dtype=np.bool_)
            for op_type in ("Abs", "BitwiseNot", "Relu", "Sign"):
                body.output(op_type, a)
            if np.iinfo(dtype).min < 0:
                body.output("Neg", a)
            shift = body.node("Min", b, body.number(9, dtype))
            body.output("BitShift", a, shift, direction="LEFT")
            body.output("BitShift", a, shift, direction="RIGHT")
            body.output("BitShift", a, b, direction="RIGHT")
            body.output("Mod", a, b, fmod=1)
            body.output("Shrink", a, lambd=2.0, bias=1.5)
            body.output("Clip", a, body.number(1, dtype), body.number(100, dtype))
            body.output("Max", a, b, shift)
        body.check()


@pytest.mark.parametrize("bases", [(np.int32, np.int64, np.float32), (np.float64, *HALVES)])
def test_powers_of_mixed_types(bases: tuple[Any, ...]) -> None:
    body = Body()
    exponents = [
        body.input(RANDOM.integers(0, 6, 100).astype(dtype)) for dtype in (*INTEGERS, *FLOATS)
    ]
    for base in bases:
        x = body.input(np.where(RANDOM.random(100) < 0.5, -1, 1.5 * normal(100)).astype(base))
        for exponent in exponents:
            body.output("Pow", x, exponent)
    if bases[0] is np.int32:
        negative = body.input(RANDOM.integers(-3, 0, 100))
        body.output("Pow", body.input(RANDOM.integers(-2, 3, 100)), negative)
    body.check(1e-6)


def test_logic() -> None:
    body = Body(RANDOM.random(50) < 0.5, RANDOM.random(50) < 0.5)
    a, b = body.inputs
    for op_type in ("And", "Or", "Xor", "Equal"):
        body.output(op_type, a, b)
    body.output("Not", a)
    body.check()


# Shapes that all come down to one kernel: vectors, rows, columns, and what has no pattern.
SHAPES: list[tuple[tuple[int, ...], ...]] = [
    ((), (), ()),
    ((0, 3), (3,), (1,)),
    ((5,), (1,), ()),
    ((1,), (33,), (1, 1)),
    ((64, 48), (48,), (64, 48)),
    ((65, 7), (7,), (65, 1)),
    ((40, 36), (40, 1), (36,)),
    ((2, 8, 7, 7), (8, 1, 1), (2, 8, 7, 7)),
    ((2, 8, 4, 4), (8, 1, 1), (2, 1, 1, 1)),
    ((2, 4, 8, 8), (2, 1, 1, 8), (8, 8)),
    ((3, 1, 5), (1, 4, 1), (5,)),
    ((7, 1, 3, 1, 5, 1), (1, 2, 1, 3, 1, 2), (7, 2, 3, 3, 5, 2)),
    ((2, 1) * 6, (1, 2) * 6, (2,)),  # more dimensions than one launch has
    ((1, 20000), (1, 1), (20000,)),
    ((300, 128), (128,), (300, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_broadcasting(shapes: tuple[tuple[int, ...], ...], dtype: Any) -> None:
    feeds = [normal(*shape, dtype=dtype) for shape in shapes]
    body = Body(*feeds)
    a, b, c = body.inputs
    total = body.node("Add", a, b)
    body.graph.add_output(body.node("Mul", total, c))
    body.check()


def test_operands_at_any_address() -> None:
    """A part of a tensor need not begin where vectors may."""
    from bascule.ir.dtype import DataType
    from bascule.providers.cuda import broadcasting
    from bascule.providers.cuda.tensor import Tensor

    aligned = Tensor(DataType.FLOAT, (4, 8), 512, None)
    row = Tensor(DataType.FLOAT, (8,), 1024, None)
    shifted = Tensor(DataType.FLOAT, (8,), 1028, None)
    whole = broadcasting.layout((4, 8), [aligned, row], [aligned], 4)
    walked = broadcasting.layout((4, 8), [aligned, shifted], [aligned], 4)
    assert whole is not None and walked is not None
    assert whole[16:24] == bytes([1, 0, 0, 0, 1, 0, 0, 0])
    assert walked[16:24] == bytes([1, 0, 0, 0, 0, 0, 0, 0])


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(Exception, match=r"Add node 'node'.*do not broadcast"):
        run_node("Add", [normal(3), normal(4)], output_dtypes=[np.float32])


@pytest.mark.parametrize("op_type, inputs, attributes, domain", [
    ("Add", [normal(4, 5), normal(5)], {}, ""),
    ("Mean", [normal(3, 4), normal(4), normal(3, 1)], {}, ""),
    ("Sum", [normal(3, 4)], {}, ""),
    ("Clip", [normal(9), np.float32(-1), None], {}, ""),
    ("Where", [RANDOM.random((3, 1)) < 0.5, normal(4).astype(np.complex64),
               normal(3, 4).astype(np.complex64)], {}, ""),
    ("Where", [RANDOM.random((3, 1)) < 0.5, normal(4).astype(np.complex128),
               normal(3, 4).astype(np.complex128)], {}, ""),
    ("Identity", [normal(3)], {}, ""),
    ("BitCast", [normal(3, 2)], {"to": 6}, ""),
    ("QLinearAdd", [integers(np.int8, 5, 6), np.float32(0.02), np.int8(3), integers(np.int8, 6),
                    np.float32(0.03), np.int8(-2), np.float32(0.04), np.int8(1)], {}, "bascule"),
])  # fmt: skip
def test_single_nodes(op_type: str, inputs: list[Any], attributes: Any, domain: str) -> None:
    (expected,) = native.run_node(op_type, inputs, attributes, domain=domain)
    given = [None if x is None else np.asarray(x) for x in inputs]
    for constants in ((), tuple(i for i, x in enumerate(given) if x is not None and x.size == 1)):
        (actual,) = run_node(op_type, given, attributes, domain=domain, constants=constants,
                             output_dtypes=[expected.dtype])  # fmt: skip
        np.testing.assert_allclose(actual, expected, 1e-6)


def test_one_kernel_for_all_constants() -> None:
    """Nodes that differ in shapes and in constants share a kernel; squares are products."""
    from bascule.providers.cuda.expressions import body_program

    def source(shape: tuple[int, ...], factor: float, exponent: float) -> str:
        body = Body(normal(*shape))
        product = body.node("Mul", body.inputs[0], body.number(factor))
        body.graph.add_output(body.node("Pow", product, body.number(exponent)))
        return body_program(body.graph, body.graph.inputs).source

    assert source((3, 4), 0.5, 2) == source((7,), 0.25, 2)
    assert source((7,), 0.5, 2) != source((7,), 0.5, 3)
    assert "op::pow(t0, 2.0f)" in source((7,), 0.5, 2)
