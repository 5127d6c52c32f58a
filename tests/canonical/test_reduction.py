# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .comparison import (
    assert_rewritten,
    assert_same,
    canonical,
    checked,
    model_of,
    normal,
    op_types,
    run,
)

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceL1": lambda x, **k: np.sum(abs(x), **k),
    "ReduceL2": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    "ReduceLogSum": lambda x, **k: np.log(np.sum(x, **k)),
    "ReduceLogSumExp": lambda x, **k: np.log(np.sum(np.exp(x), **k)),
    "ReduceMax": np.max,
    "ReduceMean": np.mean,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceSumSquare": lambda x, **k: np.sum(x * x, **k),
}


@pytest.mark.parametrize(
    "op_type, opset",
    [
        (op_type, opset)
        for op_type in REDUCTIONS
        for opset in ((1, 11) if op_type == "ReduceSum" else (1, 11, 13, 17))
    ],
)
def test_axes_attribute(op_type: str, opset: int) -> None:
    x, reduce = abs(normal(2, 3, 4)), REDUCTIONS[op_type]
    expected = np.asarray(reduce(x, axis=(0, 2)))
    assert_rewritten(op_type, [x], opset, [expected], axes=[0, 2], keepdims=0)
    assert_rewritten(op_type, [x], opset, [np.asarray(reduce(x, axis=(0, 1, 2), keepdims=True))])


@pytest.mark.parametrize("op_type", ["ReduceLogSum", "ReduceLogSumExp"])
def test_logarithm_of_integers(op_type: str) -> None:
    x = np.arange(1, 13, dtype=np.int32).reshape(3, 4)
    model = canonical(model_of(op_type, [x], 18, keepdims=0))
    assert op_types(model) == ["Cast", op_type, "Cast"]
    expected = REDUCTIONS[op_type](x.astype(np.float64)).astype(np.int32)
    assert_same(run(checked(model), [x]), [expected])


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
def test_arg(op_type: str) -> None:
    x = normal(3, 4)
    expected = np.argmax(x if op_type == "ArgMax" else -x, axis=1)
    assert_rewritten(op_type, [x], 1, [expected], axis=1, keepdims=0)
