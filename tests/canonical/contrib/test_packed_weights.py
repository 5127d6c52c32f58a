# SPDX-License-Identifier: Apache-2.0
"""GatherBlockQuantized and MatMulNBits as models have them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported
from tests.kernels.test_matmul_nbits import Case, pack

from .comparison import Array, check, model_of, normal, operators, session


def run(op_type: str, inputs: list[Array | None], attributes: dict[str, Any]) -> Array:
    model = model_of(op_type, inputs, attributes)
    feeds = {f"in{i}": array for i, array in enumerate(inputs) if array is not None}
    result: Array = session(model).run(None, feeds)[0]
    return result


@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_matmul_nbits(bits: int, zeros: str) -> None:
    case = Case(96, 40, bits, 32, zeros)
    a, bias = normal(2, 3, 96), normal(40)
    y = run("MatMulNBits", case.inputs(a, bias), case.attributes)
    np.testing.assert_allclose(y, a @ case.weights.T + bias, rtol=1e-4, atol=1e-4)


def test_matmul_nbits_refuses() -> None:
    case = Case(96, 40, 4, 32)
    inputs = case.inputs(normal(2, 96))
    with pytest.raises(InvalidGraph, match="required attribute 'K' is missing"):
        run("MatMulNBits", inputs, {"N": 40, "block_size": 32})
    with pytest.raises(Exception, match="another provider"):
        run("MatMulNBits", inputs, {**case.attributes, "weight_prepacked": 1})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bits", 0, "'bits' is 0, expected 2, 4 or 8"),
        ("bits", -1, "'bits' is -1"),
        ("bits", 2**63 - 1, "'bits' is 9223372036854775807"),
        ("block_size", 0, "block_size is 0"),
        ("block_size", 24, "block_size is 24"),
        ("K", -96, "K is -96"),
        ("N", 0, "N is 0"),
        ("K", 2**40, "B has 1920 bytes, expected 21990232555520 for 40 x 1099511627776"),
    ],
)
def test_matmul_nbits_of_impossible_sizes(name: str, value: int, reason: str) -> None:
    """What the operator stands for is not even written down: it holds K numbers."""
    case = Case(96, 40, 4, 32)
    with pytest.raises(InvalidGraph, match=reason):
        run("MatMulNBits", case.inputs(normal(2, 96)), {**case.attributes, name: value})


def test_rows_of_a_scalar() -> None:
    inputs = [np.array(3, np.uint8), np.array([0]), np.ones(1, np.float32)]
    with pytest.raises(InvalidGraph, match="data has no axes"):
        run("GatherBlockQuantized", inputs, {"bits": 4, "block_size": 16})


@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(5,), (2, 3), ()])
def test_gather_bytes(shape: tuple[int, ...], bits: int, with_zeros: bool) -> None:
    rng = np.random.default_rng(bits)
    numbers = rng.integers(0, 1 << bits, (11, 96))
    scales = rng.uniform(0.5, 1.5, (11, 3)).astype(np.float32)
    zeros = rng.integers(0, 1 << bits, (11, 3)) if with_zeros else np.full((11, 3), 1 << (bits - 1))
    table = (numbers - np.repeat(zeros, 32, 1)) * np.repeat(scales, 32, 1)
    at = rng.integers(-11, 11, shape)
    given = pack(zeros, bits) if with_zeros else None
    attributes = {"bits": bits, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
    y = run("GatherBlockQuantized", [pack(numbers, bits), at, scales, given], attributes)
    np.testing.assert_allclose(y, table[at], rtol=1e-6)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("gathered, quantized", [(0, 1), (1, 0), (0, 2), (2, 1), (-1, 0)])
def test_gather_nibbles(gathered: int, quantized: int, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    low = -8 if dtype is ml_dtypes.int4 else 0
    sizes = [4, 6, 5]
    sizes[quantized] = 32
    numbers = rng.integers(low, low + 16, sizes)
    sizes[quantized] = 2
    scales = rng.uniform(0.5, 1.5, sizes).astype(np.float32)
    zeros = rng.integers(low, low + 16, sizes)
    wide = [np.repeat(x, 16, quantized) for x in (zeros, scales)]
    table = (numbers - wide[0]) * wide[1]
    at = rng.integers(0, 4, (2, 2))
    attributes = {"block_size": 16, "gather_axis": gathered, "quantize_axis": quantized}
    inputs = [numbers.astype(dtype), at, scales, zeros.astype(dtype)]
    y = run("GatherBlockQuantized", inputs, attributes)
    np.testing.assert_allclose(y, np.take(table, at, gathered), rtol=1e-6)


def test_gather_out_of_range() -> None:
    data = np.arange(64, dtype=np.uint8).reshape(2, 32)
    scales = np.ones((2, 2), np.float32)
    at = np.array([1, 2, -3, -1])
    attributes = {"bits": 8, "block_size": 16}
    y = run("GatherBlockQuantized", [data, at, scales, None], attributes)
    np.testing.assert_array_equal(y[[0, 3]], np.tile(data[1].astype(float) - 128, (2, 1)))
    np.testing.assert_array_equal(y[1:3], np.zeros((2, 32)))


MEANINGS = np.array(
    [
        [sign * size / 12 for sign in (1, -1) for size in (0, 0.0625, 8, 12, 4, 6, 2, 3)],
        [
            *(-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0),
            *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1),
        ],
    ]
)


@pytest.mark.parametrize("quant_type", [0, 1])
@pytest.mark.parametrize(
    "n, k, block_size, transposed",
    [(40, 96, 32, 1), (3, 48, 16, 1), (6, 24, 16, 1), (5, 7, 32, 1), (5, 8, 16, 0), (1, 1, 16, 1)],
)
def test_matmul_bnb4(n: int, k: int, block_size: int, transposed: int, quant_type: int) -> None:
    rng = np.random.default_rng([n, k])
    patterns = rng.integers(0, 16, n * k + n * k % 2).astype(np.uint8)
    absmax = rng.uniform(0.5, 2, -(-n * k // block_size)).astype(np.float32)

    def reference(a: Array, b: Array, factors: Array) -> Array:
        weights = MEANINGS[quant_type][patterns[: n * k]] * np.repeat(factors, block_size)[: n * k]
        weights = weights.reshape(n, k)
        return a @ (weights.T if transposed else weights)

    inputs = [normal(2, 3, k if transposed else n), patterns[::2] << 4 | patterns[1::2], absmax]
    attributes = {"K": k, "N": n, "block_size": block_size, "quant_type": quant_type}
    attributes["transB"] = transposed
    for constants in ([1, 2], []):
        # The other runtime's kernel transposes the weights in any case.
        check(
            "MatMulBnb4",
            reference,
            inputs,
            attributes,
            constants=constants,
            elsewhere=bool(transposed),
        )


def test_matmul_bnb4_refuses() -> None:
    inputs = [normal(2, 16), np.zeros(8, np.uint8), np.ones(1, np.float32)]
    attributes = {"K": 16, "N": 1, "block_size": 16, "quant_type": 2}
    with pytest.raises(InvalidGraph, match="'quant_type' is 2"):
        run("MatMulBnb4", inputs, attributes)
    with pytest.raises(InvalidGraph, match="block_size is 24"):
        run("MatMulBnb4", inputs, {**attributes, "quant_type": 1, "block_size": 24})


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("k, n", [(32, 1), (100, 7), (256, 40)])
def test_matmul_fp_q4(k: int, n: int, kind: int) -> None:
    generator = np.random.default_rng(k)
    blocks = -(-k // 32)
    scales = generator.uniform(0.1, 1, (n, blocks, 1)).astype(np.float32)
    zeros = generator.integers(0, 16, (n, blocks, 1)) if kind else np.full((n, blocks, 1), 8)
    numbers = generator.integers(0, 16, (n, blocks, 32))
    parts = [scales.view(np.uint8)] + [zeros.astype(np.uint8)] * kind
    parts.append((numbers[..., :16] | numbers[..., 16:] << 4).astype(np.uint8))
    blob = np.concatenate(parts, axis=-1).reshape(-1)
    weights = ((numbers - zeros) * scales.astype(np.float64)).reshape(n, -1)[:, :k].T
    inputs = [normal(2, 3, k), blob, np.array([k, n])]
    attributes = {"blk_quant_type": kind}
    check(
        "MatMulFpQ4",
        lambda a, *_: a @ weights,
        inputs,
        attributes,
        dtypes=[np.float32],
        constants=[1, 2],
    )
    assert operators(session(model_of("MatMulFpQ4", inputs, attributes, constants=[1, 2]))) == [
        "bascule.MatMulNBits"
    ]


def test_matmul_fp_q4_refuses() -> None:
    a, blob, shape = normal(2, 32), np.zeros(84, np.uint8), np.array([32, 4])
    with pytest.raises(InvalidGraph, match="'B' has 84 bytes, expected 80"):
        session(model_of("MatMulFpQ4", [a, blob, shape], {"blk_quant_type": 0}, constants=[1, 2]))
    with pytest.raises(InvalidGraph, match=r"'B_shape' is \[32, 0\]"):
        session(model_of("MatMulFpQ4", [a, blob, np.array([32, 0])], constants=[1, 2]))
    with pytest.raises(NotSupported, match="'blk_quant_type' of 2"):
        session(model_of("MatMulFpQ4", [a, blob, shape], {"blk_quant_type": 2}, constants=[1, 2]))
    with pytest.raises(NotSupported, match="weight that is computed"):
        session(model_of("MatMulFpQ4", [a, blob, shape]))
