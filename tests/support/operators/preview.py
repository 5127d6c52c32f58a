# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.preview and ai.onnx.preview.training."""

from __future__ import annotations

import functools
from typing import Any

import onnx
from onnx import helper

from tests.support.operators import references
from tests.support.operators.case import case
from tests.support.typed import fixed, numbers

_preview = functools.partial(case, domain="ai.onnx.preview")
_training = functools.partial(case, domain="ai.onnx.preview.training")
_WEIGHTS = numbers(3, 5)
_SQUARES = numbers(3, 5, low=0.0625)
_RATE = fixed(0.25)
_COUNT = fixed(2)


def _square(names: list[str]) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """y = x * x * number of elements of z, of which the derivative by x is asked for."""
    x, z = names
    size, count, square, y = (f"{x}_{part}" for part in ("size", "count", "square", "y"))
    nodes = [
        helper.make_node("Size", [z], [size]),
        helper.make_node("CastLike", [size, x], [count]),
        helper.make_node("Mul", [x, x], [square]),
        helper.make_node("Mul", [square, count], [y]),
    ]
    return nodes, {"xs": [x], "zs": [z], "y": y}


CASES = [
    _preview("FlexAttention", numbers(2, 2, 3, 4), numbers(2, 2, 5, 4), numbers(2, 2, 5, 6)),
    _training("Adagrad", _RATE, _COUNT, _WEIGHTS, _WEIGHTS, _SQUARES, outputs=2),
    _training("Adam", _RATE, _COUNT, _WEIGHTS, _WEIGHTS, _WEIGHTS, _SQUARES, outputs=3),
    _training(
        "Momentum",
        _RATE,
        _COUNT,
        _WEIGHTS,
        _WEIGHTS,
        _WEIGHTS,
        outputs=2,
        alpha=0.5,
        beta=0.75,
        mode="nesterov",
        norm_coefficient=0.25,
    ),
    _training(
        "Gradient",
        _WEIGHTS,
        numbers(4),
        parameters=("T2", "T1"),
        before=_square,
        expect=references.by(lambda x, z: 2 * x * z.size),
    ),
]
