# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from bascule.errors import InvalidGraph

from .comparison import (
    assert_rewritten,
    assert_same,
    assert_unchanged_meaning,
    canonical,
    checked,
    model_of,
    normal,
    op_types,
    run,
)

ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
COMPARISONS = {"Greater": np.greater, "Less": np.less}
LOGIC = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}


@pytest.mark.parametrize("op_type", [*ARITHMETIC, *COMPARISONS])
@pytest.mark.parametrize("axis, shape", [(1, (3, 4)), (0, (2,)), (0, (2, 3)), (1, (3,)), (0, ())])
def test_limited_broadcast(op_type: str, axis: int, shape: tuple[int, ...]) -> None:
    a, b = normal(2, 3, 4, 5), normal(*shape) + np.float32(2)
    aligned = b.reshape(b.shape + (1,) * (4 - axis - b.ndim))
    expected = {**ARITHMETIC, **COMPARISONS}[op_type](a, aligned)
    assert_rewritten(op_type, [a, b], 6, [expected], broadcast=1, axis=axis)


@pytest.mark.parametrize("op_type", LOGIC)
def test_limited_broadcast_of_logic(op_type: str) -> None:
    a, b = normal(2, 3, 4) > 0, normal(2, 3) > 0
    expected = LOGIC[op_type](a, b[:, :, None])
    assert_rewritten(op_type, [a, b], 1, [expected], broadcast=1, axis=0)


def test_limited_broadcast_of_equal_and_pow() -> None:
    a, b = np.arange(24).reshape(2, 3, 4), np.array([0, 4, 20])
    assert_rewritten("Equal", [a, b], 4, [a == b[None, :, None]], broadcast=1, axis=1)
    x, y = abs(normal(2, 3, 4)), normal(3)
    assert_rewritten("Pow", [x, y], 6, [x ** y[None, :, None]], broadcast=1, axis=1)


def test_limited_broadcast_from_the_end() -> None:
    a, b = normal(2, 3, 4), normal(3, 4)
    model = assert_rewritten("Add", [a, b], 6, [a + b], broadcast=1)
    assert op_types(model) == ["Add"]
    assert_rewritten("Add", [a, b[0]], 6, [a + b[0]], broadcast=1, axis=-1)


def test_limited_broadcast_without_room() -> None:
    with pytest.raises(InvalidGraph, match="leaves no room"):
        canonical(model_of("Add", [normal(2, 3), normal(2, 3)], 6, broadcast=1, axis=1))


@pytest.mark.parametrize(
    "op_type", ["Abs", "Neg", "Relu", "Exp", "Floor", "Ceil", "Sigmoid", "Tanh", "Elu", "LeakyRelu"]
)
def test_consumed_inputs(op_type: str) -> None:
    x = normal(3, 4)
    expected = run(model_of(op_type, [x], 6), [x])
    assert_rewritten(op_type, [x], 1, expected, consumed_inputs=[0])


def test_selu_defaults() -> None:
    x = normal(3, 4)
    alpha, gamma = np.float32(1.6732), np.float32(1.0507)
    expected = np.where(x > 0, gamma * x, gamma * (alpha * np.exp(x) - alpha)).astype(np.float32)
    assert_rewritten("Selu", [x], 1, [expected])


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_prelu_of_channels(opset: int, rank: int) -> None:
    x, slope = normal(2, 3, 4, 5)[(...,) + (0,) * (4 - rank)], abs(normal(3))
    expected = np.where(x < 0, x * slope.reshape(3, *(1,) * (rank - 2)), x)
    assert_rewritten("PRelu", [x, slope], opset, [expected])


def test_prelu_of_one_slope() -> None:
    x, slope = normal(2, 3, 4), abs(normal(1))
    assert_rewritten("PRelu", [x, slope], 6, [np.where(x < 0, x * slope, x)])


@pytest.mark.parametrize("opset", [1, 6])
def test_clip(opset: int) -> None:
    x = normal(3, 4)
    assert_rewritten("Clip", [x], opset, [np.clip(x, -0.5, 0.25)], min=-0.5, max=0.25)
    assert_rewritten("Clip", [x], opset, [np.minimum(x, np.float32(0.25))], max=0.25)
    assert_rewritten("Clip", [x], opset, [np.maximum(x, np.float32(-0.5))], min=-0.5)
    assert_rewritten("Clip", [x], opset, [x])


def test_clip_keeps_the_element_type() -> None:
    x = normal(3, 4).astype(np.float16)
    expected = np.clip(x, np.float16(-0.5), np.float16(0.5))
    assert_rewritten("Clip", [x], 6, [expected], min=-0.5, max=0.5)
    model = canonical(model_of("Clip", [x], 6, min=-0.5, max=3.4e38))
    assert_same(run(checked(model), [x]), [np.maximum(x, np.float16(-0.5))])


def test_cast_to_name() -> None:
    x = normal(3, 4) * 5
    assert_rewritten("Cast", [x], 1, [x.astype(np.int64)], to="INT64")
    assert_rewritten("Cast", [x], 5, [x.astype(np.float64)], to="DOUBLE")


def test_cast_to_unknown_name() -> None:
    with pytest.raises(InvalidGraph, match="no element type 'FLOAT128'"):
        canonical(model_of("Cast", [normal(2)], 1, to="FLOAT128"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_cast_of_infinity_to_fnuz(dtype: type) -> None:
    x = np.array([1, -2, np.inf, -np.inf, np.nan, 1e4], dtype=dtype)
    model = canonical(model_of("Cast", [x], 19, to=TensorProto.FLOAT8E4M3FNUZ))
    assert op_types(model) == ["IsInf", "Where", "Cast"]
    (found,) = run(checked(model), [x])
    finite = np.array([1, -2, np.nan, np.nan, np.nan, 240]).astype(ml_dtypes.float8_e4m3fnuz)
    assert np.isnan(found.astype(np.float32)).tolist() == [False, False, True, True, True, False]
    assert found[-1] == finite[-1]


def test_cast_of_integers_to_fnuz_is_kept() -> None:
    x = np.array([1, 2], dtype=np.int32)
    model = canonical(model_of("Cast", [x], 19, to=TensorProto.FLOAT8E4M3FNUZ))
    assert op_types(model) == ["Cast"]


def test_erf_of_integers() -> None:
    x = np.array([-3, 0, 1, 3], dtype=np.int32)
    model = canonical(model_of("Erf", [x], 9))
    assert op_types(model) == ["Cast", "Erf", "Cast"]
    assert_same(run(checked(model), [x]), [np.array([0, 0, 0, 0], dtype=np.int32)])


@pytest.mark.parametrize("opset, mask_type", [(1, None), (6, None), (7, None), (10, np.bool_)])
def test_dropout_for_inference(opset: int, mask_type: type | None) -> None:
    x = normal(3, 4)
    mask = np.ones(x.shape, dtype=mask_type or x.dtype)
    test = {"is_test": 1} if opset < 7 else {}
    model = assert_rewritten("Dropout", [x], opset, [x, mask], outputs=2, ratio=0.3, **test)
    assert "Identity" in op_types(model)
    assert_rewritten("Dropout", [x], opset, [x], **test)


def test_dropout_in_training() -> None:
    x = normal(3, 4)
    model = canonical(model_of("Dropout", [x], 6, ratio=0.0, outputs=2))
    assert op_types(model) == ["Dropout", "CastLike"]
    assert_same(run(checked(model), [x]), [x, np.ones_like(x)])


@pytest.mark.parametrize("op_type", ["Sum", "Mean", "Max", "Min"])
def test_variadic(op_type: str) -> None:
    inputs = [normal(3, 4), normal(3, 4) * 2, normal(3, 4) - 1]
    expected = run(model_of(op_type, inputs, 13), inputs)
    assert_rewritten(op_type, inputs, 1, expected, consumed_inputs=[0, 0, 0])
    assert_unchanged_meaning(op_type, inputs, 8)
