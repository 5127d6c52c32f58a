# SPDX-License-Identifier: Apache-2.0
"""Casts, quantization and random numbers."""

from __future__ import annotations

from tests.support.operators import references
from tests.support.operators.case import case, dtype_number
from tests.support.typed import fixed, numbers, small

CASES = [
    case("Cast", small(3, 5, digits=True), expect=references.cast, to=dtype_number("T2")),
    case("CastLike", small(3, 5, digits=True), fixed(1), expect=references.cast),
    case("QuantizeLinear", numbers(3, 5), fixed(2), fixed(0), expect=references.unwidened),
    case("DequantizeLinear", numbers(3, 5), fixed(2), fixed(0), output_dtype=dtype_number("T3")),
    case("DynamicQuantizeLinear", numbers(3, 5), outputs=3),
    case(
        "QLinearMatMul",
        numbers(3, 4),
        fixed(0.5),
        fixed(1),
        numbers(4, 5),
        fixed(0.25),
        fixed(0),
        fixed(2),
        fixed(1),
        expect=references.quantized_product,
    ),
    case(
        "QLinearConv",
        numbers(1, 2, 5, 5),
        fixed(0.5),
        fixed(1),
        numbers(3, 2, 3, 3),
        fixed(0.25),
        fixed(0),
        fixed(2),
        fixed(1),
        numbers(3, integers=(-1000, 1000)),
    ),
    case("MatMulInteger", numbers(3, 4), numbers(4, 5), fixed(1), fixed(2)),
    case("ConvInteger", numbers(1, 2, 5, 5), numbers(3, 2, 3, 3), fixed(1)),
    case("RandomNormal", own=True, shape=[3, 5], seed=1.0, dtype=dtype_number("T")),
    case("RandomUniform", own=True, shape=[3, 5], seed=1.0, dtype=dtype_number("T")),
    case("RandomNormalLike", numbers(3, 5), own=True, seed=1.0, dtype=dtype_number("T2")),
    case("RandomUniformLike", numbers(3, 5), own=True, seed=1.0, dtype=dtype_number("T2")),
    case("Bernoulli", numbers(3, 5, low=0, high=1), own=True, seed=1.0, dtype=dtype_number("T2")),
    case(
        "Multinomial",
        numbers(3, 5, low=-2, high=0),
        own=True,
        seed=1.0,
        sample_size=4,
        dtype=dtype_number("T2"),
    ),
]
