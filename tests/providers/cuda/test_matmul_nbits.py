# SPDX-License-Identifier: Apache-2.0
"""Products with packed weights of the CUDA provider, on the emulated device."""

from __future__ import annotations

from typing import Any

import ml_dtypes  # noqa: F401, which gives NumPy bfloat16
import numpy as np
import pytest

from bascule import errors
from tests.support import cuda_emulation
from tests.support.cuda_emulation import EmulatedDevice, run_node, unused_device

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

ERRORS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def packed(numbers: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Rows of numbers as bytes, the first in the lowest bits."""
    each = 8 // bits
    rows = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % each)))
    apart = rows.reshape(rows.shape[0], -1, each).astype(np.uint8)
    shifts = np.arange(each, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(apart << shifts, axis=-1).astype(np.uint8)


class Case:
    """A node's inputs and what it should give."""

    def __init__(
        self, m: int, n: int, k: int, bits: int, size: int, dtype: str, zeros: str = "", **more: Any
    ) -> None:
        rng = np.random.default_rng(m * 7 + n * 5 + k * 3 + bits)
        blocks = -(-k // size)
        q = rng.integers(0, 1 << bits, (n, blocks * size))
        self.a = rng.normal(size=(m, k)).astype(dtype)
        scales = rng.normal(size=(n, blocks)).astype(dtype)
        self.bias = rng.normal(size=n).astype(dtype) if more.get("bias") else None
        z: Any = np.full((n, blocks), 1 << (bits - 1))
        self.zeros = None
        if zeros == "packed":
            z = rng.integers(0, 1 << bits, (n, blocks))
            self.zeros = packed(z, bits)
        elif zeros:
            z = self.zeros = rng.normal(3, 1, (n, blocks)).astype(zeros)
        groups = np.arange(k) // size
        self.groups = None
        if more.get("groups"):
            groups = rng.permutation(groups)
            self.groups = groups.astype(np.int32)
        self.b = packed(q, bits).reshape(n, blocks, -1)
        self.scales = scales
        self.attributes: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": size}
        numbers = q[:, :k] - z.astype("float64")[:, groups]
        if more.get("values"):
            values = rng.normal(size=1 << bits).astype(np.float32)
            self.attributes["values"] = values.tolist()
            numbers = values[q[:, :k]]
        self.weights = numbers * scales.astype("float64")[:, groups]

    def check(self, device: Any = None) -> None:
        inputs = [self.a, self.b, self.scales, self.zeros, self.groups, self.bias]
        (y,) = run_node(
            "MatMulNBits",
            inputs,
            self.attributes,
            domain="bascule",
            device=device,
            constants=(1, 2, 3, 4, 5),
        )
        expected = self.a.astype("float64") @ self.weights.T
        if self.bias is not None:
            expected += self.bias
        assert y.dtype == self.a.dtype
        error = ERRORS[y.dtype.name]
        size = np.abs(self.a.astype("float64")) @ np.abs(self.weights.T)
        assert np.max(np.abs(y - expected) / (size + 1)) < error


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("zeros", ["", "packed", "float32", "float16"])
@pytest.mark.parametrize("m", [1, 3, 11, 40])
def test_few_and_many_rows(bits: int, dtype: str, zeros: str, m: int) -> None:
    device = unused_device()
    Case(m, 13, 200, bits, 64, dtype, zeros, bias=True).check(device)
    streamed = any(name.startswith(("matmul_nbits", "stream")) for name in device.launches)
    assert streamed == (m <= 16)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("zeros", ["", "packed"])
@pytest.mark.parametrize("m", [5, 8, 19])
def test_sets_of_rows(size: int, zeros: str, m: int) -> None:
    device = unused_device()
    Case(m, 50, 384, 4, size, "float16", zeros).check(device)
    assert len(device.launches) == 1 + -(-m // 8)  # the first puts the weights into units


def test_no_rows_expand_nothing() -> None:
    device = unused_device()
    case = Case(1, 50, 384, 4, 32, "float16")
    inputs = [case.a[:0], case.b, case.scales]
    (y,) = run_node(
        "MatMulNBits",
        inputs,
        case.attributes,
        domain="bascule",
        device=device,
        constants=(1, 2),
    )
    assert y.shape == (0, 50)
    assert [name.split("_")[0] for name in device.launches] == ["pack"]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("size", [16, 32, 128])
@pytest.mark.parametrize("k", [96, 256, 2100])
def test_block_sizes(bits: int, size: int, k: int) -> None:
    Case(1, 9, k, bits, size, "float16").check()


@pytest.mark.parametrize("n", [1, 1057, 4300])
def test_numbers_of_columns(n: int) -> None:
    Case(1, n, 64, 4, 32, "float32", "packed").check()


@pytest.mark.parametrize("m", [1, 8])
def test_rows_longer_than_shared_memory(m: int) -> None:
    Case(m, 3, 13000, 4, 32, "float32", "packed").check()


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("m", [2, 17])
def test_values_in_place_of_numbers(bits: int, m: int) -> None:
    Case(m, 10, 128, bits, 64, "float32", values=True).check()


@pytest.mark.parametrize("m", [1, 17])
def test_groups_out_of_order(m: int) -> None:
    Case(m, 10, 128, 4, 16, "float32", "packed", groups=True).check()


TILED = [  # rows, columns, k, size of a block
    (1, 16, 128, 32),
    (1, 37, 320, 32),
    (2, 4300, 64, 32),
    (1, 2200, 1280, 64),
    (4, 90, 2176, 64),
    (1, 2048, 512, 128),
    (7, 33, 900, 128),
    (3, 41, 896, 128),
    (1, 2130, 2100, 512),
    (8, 16, 2048, 256),
]


@pytest.mark.parametrize("zeros", ["", "packed"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("sizes", TILED)
def test_products_on_tensor_cores(sizes: tuple[int, int, int, int], dtype: str, zeros: str) -> None:
    device = unused_device()
    m, n, k, block = sizes
    Case(m, n, k, 4, block, dtype, zeros, bias=True).check(device)
    assert [name.split("_")[0] for name in device.launches] == ["pack", "stream"]


@pytest.mark.host
def test_products_where_shared_memory_is_short() -> None:
    device = EmulatedDevice()
    device.capability, device.shared_memory = 89, 101376
    Case(1, 40, 4096, 4, 32, "float16", "packed").check(device)
    assert [name.split("_")[0] for name in device.launches] == ["pack", "stream"]


@pytest.mark.host
@pytest.mark.host
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("zeros", ["", "packed"])
def test_units_that_go_round_a_ring(size: int, zeros: str) -> None:
    """No lane may overwrite scales that others have yet to read."""
    device = EmulatedDevice()
    device.processors = 1
    Case(1, 128, 2048, 4, size, "float16", zeros).check(device)  # 8 units for each warp
    assert device.launches[-1].startswith("stream_nbits")


def test_long_rows_where_shared_memory_is_short() -> None:
    device = EmulatedDevice()
    device.capability, device.shared_memory = 75, 65536
    Case(8, 40, 4096, 2, 32, "float32", "packed").check(device)
    assert device.launches == ["matmul_nbits_2_4_4_float32"]


def projected(case: Case, norm: Any, residual: Any, gated: bool) -> np.ndarray[Any, Any]:
    """ProjectNBits in float64."""
    x = case.a.astype("float64")
    if norm is not None:
        x = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-3) * norm.astype("float64")
    y = x @ case.weights.T
    if case.bias is not None:
        y = y + case.bias.astype("float64")
    if gated:
        first, second = np.split(y, 2, axis=-1)
        y = first / (1 + np.exp(-first)) * second
    return y if residual is None else y + residual


@pytest.mark.parametrize("constants", [(), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        (1, 96, 512, 4, 32, "float16"),
        (1, 72, 200, 4, 32, "float16"),
        (40, 72, 200, 4, 32, "bfloat16"),
        (1, 4400, 128, 4, 32, "float16"),
        (2, 80, 2304, 4, 64, "bfloat16"),
        (3, 32, 320, 4, 32, "float16"),
        (20, 10, 200, 8, 64, "float16"),
        (1, 24, 256, 4, 32, "float32"),
    ],
)
def test_projections(
    form: Any, summed: bool, normalized: bool, gated: bool, constants: tuple[int, ...]
) -> None:
    m, n, k, bits, size, dtype = form
    case = Case(m, n, k, bits, size, dtype, "packed", bias=True)
    case.scales[:] *= np.asarray(0.3 / k**0.5, case.scales.dtype)
    case.weights *= 0.3 / k**0.5
    rng = np.random.default_rng(k)
    norm = rng.normal(1, 0.1, k).astype(dtype) if normalized else None
    kept = n // 2 if gated else n
    residual = rng.normal(size=(m, kept)).astype(dtype) if summed else None
    attributes = {**case.attributes, "gated": int(gated), "epsilon": 1e-3}
    inputs = [case.a, case.b, case.scales, case.zeros, case.bias, norm, residual]
    (y,) = run_node("ProjectNBits", inputs, attributes, domain="bascule", constants=constants)
    expected = projected(case, norm, residual, gated)
    assert y.shape == expected.shape
    assert y.dtype == case.a.dtype
    error = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}[dtype]
    np.testing.assert_allclose(y.astype("float64"), expected, error, error)


def test_wrong_inputs_are_refused() -> None:
    case = Case(1, 4, 64, 4, 32, "float32")
    case.attributes["bits"] = 3
    with pytest.raises(errors.Fail, match="bits is 3"):
        case.check()
    case.attributes.update(bits=4, N=5)
    with pytest.raises(errors.Fail, match="B has shape"):
        case.check()
