# SPDX-License-Identifier: Apache-2.0
"""Random operators of the CUDA provider: seeds as on the CPU, distributions without one."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest

import bascule
from bascule.ir.dtype import DataType
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import emulated_device, run_node
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
TRAINING = np.array(True)


def check_seeded(
    op_type: str, inputs: list[Any], attributes: dict[str, Any], outputs: int = 1
) -> None:
    expected = native.run_node(op_type, inputs, attributes, outputs)
    actual = run_node(
        op_type, inputs, attributes, outputs, output_dtypes=[e.dtype for e in expected]
    )
    for a, e in zip(actual, expected):
        assert a.dtype == e.dtype and a.shape == e.shape
        np.testing.assert_allclose(a.astype(np.float64), e.astype(np.float64), 1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", [3.0, 2.0**40])
def test_seeds(dtype: Any, seed: float) -> None:
    number = int(DataType.from_numpy(np.dtype(dtype)))
    common = {"shape": [5, 7], "dtype": number, "seed": seed}
    check_seeded("RandomNormal", [], {**common, "mean": 2.0, "scale": 3.0})
    check_seeded("RandomUniform", [], {**common, "low": -1.0, "high": 3.0})
    x = np.ones((4, 3), dtype)
    check_seeded("RandomNormalLike", [x], {"seed": seed})
    check_seeded("RandomUniformLike", [x], {"seed": seed, "dtype": 1})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.float8_e5m2])
def test_seeded_choices(dtype: Any) -> None:
    x = np.random.default_rng(1).random((30, 20)).astype(dtype)
    ratio = np.float32(0.3)
    check_seeded("Dropout", [x, ratio, TRAINING], {"seed": 5}, 2)
    if dtype is not ml_dtypes.float8_e5m2:
        check_seeded("Bernoulli", [x], {"seed": 5.0})
        check_seeded("Bernoulli", [x], {"seed": 5.0, "dtype": 7})
        check_seeded("Multinomial", [x], {"seed": 5.0, "sample_size": 40})
        check_seeded("Multinomial", [x], {"seed": 5.0, "sample_size": 3, "dtype": 7})


def test_dropout_for_inference() -> None:
    x = np.random.default_rng(1).random((30, 20)).astype(np.float32)
    y, mask = run_node("Dropout", [x, np.float32(0.3)], outputs=2)
    np.testing.assert_array_equal(y, x)
    assert mask.dtype == bool and mask.all()
    with pytest.raises(Exception, match="ratio"):
        run_node("Dropout", [x, np.float32(1.5), TRAINING])


@pytest.mark.parametrize("dtype", FLOATS)
def test_distributions(dtype: Any) -> None:
    bascule.set_seed(1)
    number = int(DataType.from_numpy(np.dtype(dtype)))
    common = {"shape": [100, 101], "dtype": number}
    y = run_node("RandomNormal", [], {**common, "mean": 2.0, "scale": 3.0})[0].astype(np.float64)
    assert abs(y.mean() - 2) < 0.1 and abs(y.std() - 3) < 0.1
    tails = (np.abs(y - 2) > 6).mean()
    assert 0.035 < tails < 0.056
    y = run_node("RandomUniform", [], {**common, "low": -1.0, "high": 3.0})[0].astype(np.float64)
    assert y.min() >= -1 and y.max() <= 3 and abs(y.mean() - 1) < 0.05
    assert abs(np.histogram(y, 4)[0] / y.size - 0.25).max() < 0.02


def test_set_seed() -> None:
    def draw() -> np.ndarray:
        result: np.ndarray = run_node("RandomUniform", [], {"shape": [50]})[0]
        return result

    bascule.set_seed(4)
    first, second = draw(), draw()
    bascule.set_seed(4)
    np.testing.assert_array_equal(draw(), first)
    assert (first != second).any()


def test_choices() -> None:
    bascule.set_seed(2)
    p = np.full(20_000, 0.3, np.float32)
    (y,) = run_node("Bernoulli", [p])
    assert set(np.unique(y)) == {0, 1} and abs(y.mean() - 0.3) < 0.02
    logits = np.log(np.array([[0.1, 0.2, 0.7]], np.float32))
    (y,) = run_node("Multinomial", [logits], {"sample_size": 20_000})
    assert y.dtype == np.int32
    np.testing.assert_allclose(np.bincount(y[0], minlength=3) / y.size, [0.1, 0.2, 0.7], atol=0.02)
    x = np.ones((100, 200), np.float16)
    y, mask = run_node("Dropout", [x, np.float32(0.25), TRAINING], outputs=2)
    assert abs(mask.mean() - 0.75) < 0.02
    np.testing.assert_array_equal(y, np.where(mask, np.float16(4 / 3), 0))


# fmt: off
DRAWS = {
    "RandomNormal": "y = RandomNormal <shape = [20, 10]> ()",
    "RandomUniform": "y = RandomUniform <shape = [20, 10]> ()",
    "RandomNormalLike": "y = RandomNormalLike (x)",
    "RandomUniformLike": "y = RandomUniformLike (x)",
    "Bernoulli": "y = Bernoulli (x)",
    "Multinomial": "m = Multinomial <sample_size = 10> (x) y = Cast <to = 1> (m)",
    "Dropout": "r = Constant <value_float = 0.5> () t = Constant <value = bool {1}> () "
               "y = Dropout (x, r, t)",
    "two": "a = RandomUniform <shape = [20, 10]> () b = RandomUniform <shape = [20, 10]> () "
           "y = Sub (a, b)",
}
# fmt: on


@pytest.mark.parametrize("name", DRAWS)
def test_every_run_draws_anew(name: str) -> None:
    """By hand, captured and replayed: no two runs give the same, nor do two nodes."""
    bascule.set_seed(3)
    text = f"g (float[20, 10] x) => (float[20, 10] y) {{ {DRAWS[name]} }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]> {text}')
    session = EmulatedSession(model.SerializeToString())
    assert {row.provider for row in session.explain().rows} == {"CUDAExecutionProvider"}
    device = emulated_device()
    before = device.replays
    feeds = {"x": np.full((20, 10), 0.5, np.float32)}
    draws = [session.run(None, feeds)[0] for _ in range(6)]
    assert device.replays - before == 5
    assert len({draw.tobytes() for draw in draws}) == 6
    assert all(np.std(draw) > 0.1 for draw in draws)
