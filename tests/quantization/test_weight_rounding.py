# SPDX-License-Identifier: Apache-2.0
"""Rounding of weights with fitted scales, and by what they are multiplied by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bascule.quantization.matmul_nbits_quantizer import (
    GPTQWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
    NVAWQWeightOnlyQuantConfig,
    RTNWeightOnlyQuantConfig,
)
from bascule.quantization.quant_utils import QuantFormat
from bascule.quantization.weight_rounding import (
    Blocks,
    InputStatistics,
    gptq,
    hqq,
    k_quant,
    round_to_nearest,
    row_scales,
)
from tests.quantization.models import Reader, run
from tests.quantization.test_quantize import RUNTIMES

ROWS, COLUMNS = 70, 24  # the last block is short


def weights(tail: float = 0.0, dtype: Any = np.float32) -> Any:
    """Normal numbers, a share `tail` of them ten times larger."""
    random = np.random.default_rng(1)
    found = random.standard_normal((ROWS, COLUMNS))
    found *= np.where(random.random(found.shape) < tail, 10, 1)
    return found.astype(dtype)


def inputs(count: int = 500) -> Any:
    """Rows whose elements depend on each other, and are of different sizes."""
    random = np.random.default_rng(2)
    mix = random.standard_normal((ROWS // 4, ROWS))
    mix *= random.permutation(np.geomspace(0.1, 10, ROWS))
    found = random.standard_normal((count, ROWS // 4)) @ mix
    return found + 0.05 * random.standard_normal(found.shape)


def statistics(rows: Any) -> InputStatistics:
    found = InputStatistics(rows.shape[-1])
    for part in np.array_split(rows, 3):
        found.add(part)
    return found


def product_error(x: Any, w: Any, restored: Any) -> float:
    return float(np.linalg.norm(x @ (restored - w)) / np.linalg.norm(x @ w))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_forms(bits: int, size: int, dtype: Any) -> None:
    w, found = weights(dtype=dtype), statistics(inputs())
    blocks = -(-ROWS // size)
    ways: list[Blocks] = [
        k_quant(w, size, bits),
        hqq(w, size, bits),
        gptq(w, found, size, bits, True, panel=48),
        gptq(w, found, size, bits, False, by_importance=True, search=True),
        round_to_nearest(w, size, bits, False, 0.9),
    ]
    for each in ways:
        assert each.integers.shape == (blocks, size, COLUMNS) and each.integers.dtype == np.uint8
        assert each.integers.max() <= (1 << bits) - 1
        assert not each.integers.reshape(-1, COLUMNS)[ROWS:].any()
        assert each.scales.shape == each.zeros.shape == (blocks, COLUMNS)
        assert each.scales.dtype == dtype and np.isfinite(each.scales).all()
    for each in ways[:2]:
        error = np.linalg.norm(each.restored(ROWS) - w) / np.linalg.norm(w)
        assert error < {2: 0.6, 4: 0.15, 8: 0.05}[bits]


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("tail", [0.0, 0.02])
def test_k_quant_is_nearer_where_weights_are_large(bits: int, tail: float) -> None:
    w = weights(tail)
    padded = np.zeros((96, COLUMNS))
    padded[:ROWS] = w
    counts = np.array([32, 32, ROWS - 64]).reshape(3, 1, 1)
    squares = (padded.reshape(3, 32, -1) ** 2).sum(axis=1, keepdims=True)
    importance = np.abs(padded).reshape(3, 32, -1) + np.sqrt(squares / counts)

    def errors(blocks: Blocks) -> Any:
        rest = np.zeros((96, COLUMNS))
        rest[:ROWS] = blocks.restored(ROWS) - w
        return (importance * rest.reshape(3, 32, -1) ** 2).sum(axis=1)

    plain, fitted = errors(round_to_nearest(w, 32, bits, False)), errors(k_quant(w, 32, bits))
    assert (fitted <= plain * (1 + 1e-5)).all()
    assert fitted.sum() < 0.9 * plain.sum()


def test_hqq_is_nearer_to_most_weights() -> None:
    w = weights(0.02)
    plain, fitted = (
        each.restored(ROWS) - w for each in (round_to_nearest(w, 32, 4, False), hqq(w, 32, 4))
    )
    assert np.abs(fitted).mean() < 0.97 * np.abs(plain).mean()
    assert (np.abs(fitted) ** 0.7).mean() < 0.97 * (np.abs(plain) ** 0.7).mean()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("how", [{}, {"by_importance": True}, {"search": True}, {"panel": 13}])
def test_gptq_keeps_the_product(symmetric: bool, how: dict[str, Any]) -> None:
    w, x = weights(), inputs()
    plain = round_to_nearest(w, 16, 4, symmetric).restored(ROWS)
    made = gptq(w, statistics(x), 16, 4, symmetric, **how).restored(ROWS)
    assert product_error(x, w, made) < 0.6 * product_error(x, w, plain)
    # On other inputs of the kind, too.
    others = x[::-1] + x
    assert product_error(others, w, made) < 0.6 * product_error(others, w, plain)


def test_gptq_of_independent_inputs_rounds_to_the_nearest() -> None:
    found = InputStatistics(ROWS)
    found.gram += 3 * np.eye(ROWS)
    w = weights()
    made, plain = gptq(w, found, 16, 4, False), round_to_nearest(w, 16, 4, False)
    np.testing.assert_array_equal(made.integers, plain.integers)
    np.testing.assert_array_equal(made.scales, plain.scales)


def test_gptq_by_definition() -> None:
    """One column, panels or not: each row's error goes to the rows below by H^-1."""
    w, x = weights()[:, :1], inputs()
    gram = x.T @ x
    gram += 0.01 * np.mean(np.diag(gram)) * np.eye(ROWS)
    left, grids = w[:, 0].astype(float), {}
    inverse = np.linalg.inv(gram)
    for i in range(ROWS):
        if i % 16 == 0:
            part = left[i : i + 16].astype(np.float32).reshape(-1, 1)
            grid = round_to_nearest(part, len(part), 4, False)
            grids[i // 16] = float(grid.scales[0, 0]), float(grid.zeros[0, 0])
        scale, zero = grids[i // 16]
        rounded = scale * (np.clip(np.rint(left[i] / scale + zero), 0, 15) - zero)
        error = (left[i] - rounded) / inverse[i, i]
        left[i + 1 :] -= error * inverse[i, i + 1 :]
        left[i] = rounded
        # What is settled is left out of the inverse.
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    made = gptq(w, statistics(x), 16, 4, False, panel=24).restored(ROWS)
    np.testing.assert_allclose(made[:, 0], left, atol=1e-5)


def test_gptq_without_inputs_of_a_row() -> None:
    x = inputs()
    x[:, 5] = 0
    made = gptq(weights(), statistics(x), 16, 4, False)
    assert np.isfinite(made.scales).all() and not made.restored(ROWS)[5].any()


@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_of_large_inputs_are_rounded_finer(symmetric: bool) -> None:
    w, x = weights(), np.random.default_rng(5).standard_normal((500, ROWS))
    x[:, ::9] *= 20
    factors = row_scales([w], statistics(x), 16, 4, symmetric)
    assert factors is not None and factors[::9].mean() > factors.mean()
    scaled = round_to_nearest(w * factors[:, None], 16, 4, symmetric).restored(ROWS)
    plain = round_to_nearest(w, 16, 4, symmetric).restored(ROWS)
    assert product_error(x, w, scaled / factors[:, None]) < 0.8 * product_error(x, w, plain)
    assert row_scales([w], statistics(np.eye(ROWS)), 16, 4, symmetric) is None


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_equal_weights(value: float) -> None:
    w, found = np.full((40, 3), value, np.float32), statistics(np.eye(40))
    for each in (k_quant(w, 16, 4), hqq(w, 16, 4), gptq(w, found, 16, 4, True)):
        np.testing.assert_allclose(each.restored(40), w, atol=1e-6)


# --- models


def model(dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Two products of one input, and one of what they become."""
    random = np.random.default_rng(4)
    kind = helper.tensor_dtype_to_np_dtype(dtype)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        array = random.standard_normal(shape) / np.sqrt(shape[0])
        return numpy_helper.from_array(array.astype(kind), name)

    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "a"], ["p"], name="first"),
        node("MatMul", ["x", "b"], ["q"], name="second"),
        node("Tanh", ["p"], ["t"]),
        node("Mul", ["t", "q"], ["m"]),
        node("MatMul", ["m", "c"], ["y"], name="third"),
    ]
    shapes = [["n", ROWS], ["n", 40]]
    ends = [helper.make_tensor_value_info(n, dtype, s) for n, s in zip("xy", shapes)]
    constants = [weight("a", ROWS, 32), weight("b", ROWS, 32), weight("c", 32, 40)]
    graph = helper.make_graph(nodes, "model", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def feeds(dtype: Any = np.float32) -> list[dict[str, Any]]:
    return [{"x": (part / 20).astype(dtype)} for part in np.array_split(inputs(60), 3)]


CONFIGURATIONS: dict[str, Any] = {
    "k_quant": lambda how: KQuantWeightOnlyQuantConfig(quant_format=how),
    "hqq": lambda how: HQQWeightOnlyQuantConfig(block_size=16, quant_format=how),
    "gptq": lambda how: GPTQWeightOnlyQuantConfig(Reader(feeds()), quant_format=how),
    "awq": lambda how: NVAWQWeightOnlyQuantConfig(
        calibration_data_reader=Reader(feeds()), quant_format=how
    ),
    "rtn": lambda how: RTNWeightOnlyQuantConfig({"a": 0.95}, quant_format=how),
}


@pytest.mark.parametrize("quant_format", list(QuantFormat))
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_models(name: str, quant_format: QuantFormat, tmp_path: Path) -> None:
    config = CONFIGURATIONS[name](quant_format)
    made = MatMulNBitsQuantizer(model(), block_size=16, algo_config=config)
    made.process()
    path = tmp_path / "q.onnx"
    made.model.save_model_to_file(path)
    found = [node.op_type for node in onnx.load(path).graph.node]
    operator = "MatMulNBits" if quant_format is QuantFormat.QOperator else "DequantizeLinear"
    assert found.count(operator) == 3
    want = np.concatenate(run("bascule", model(), feeds()))
    for runtime in RUNTIMES:
        got = np.concatenate(run(runtime, path, feeds()))
        assert np.linalg.norm(got - want) < 0.2 * np.linalg.norm(want)


def test_half_precision(tmp_path: Path) -> None:
    half = model(TensorProto.FLOAT16)
    for config in (
        HQQWeightOnlyQuantConfig(block_size=16),
        GPTQWeightOnlyQuantConfig(Reader(feeds(np.float16))),
        NVAWQWeightOnlyQuantConfig(calibration_data_reader=Reader(feeds(np.float16))),
    ):
        made = MatMulNBitsQuantizer(half, block_size=16, algo_config=config)
        made.process()
        made.model.save_model_to_file(tmp_path / "q.onnx")
        want = np.concatenate(run("bascule", half, feeds(np.float16))).astype(np.float32)
        got = np.concatenate(run("bascule", tmp_path / "q.onnx", feeds(np.float16)))
        assert np.linalg.norm(got - want) < 0.2 * np.linalg.norm(want)


def test_what_looks_at_inputs_is_nearer_than_rounding() -> None:
    errors, added = {}, {}
    want = np.concatenate(run("bascule", model(), feeds()))
    for name in ("gptq", "awq", "none"):
        config = CONFIGURATIONS[name](QuantFormat.QOperator) if name != "none" else None
        made = MatMulNBitsQuantizer(model(), block_size=16, algo_config=config)
        made.process()
        got = np.concatenate(run("bascule", made.model.model, feeds()))
        errors[name] = float(np.linalg.norm(got - want))
        added[name] = [node.op_type for node in made.model.graph.node].count("Mul") - 1
    assert errors["gptq"] < 0.7 * errors["none"] and errors["awq"] < 0.9 * errors["none"]
    # Both products of one input share what it is multiplied by.
    assert added["gptq"] == 0 and 1 <= added["awq"] <= 2
