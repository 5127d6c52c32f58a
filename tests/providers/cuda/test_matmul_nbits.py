# SPDX-License-Identifier: Apache-2.0
"""Products with packed weights of the CUDA provider, on the emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule import errors
from tests.support import cuda_emulation
from tests.support.cuda_emulation import run_node, unused_device

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

ERRORS = {"float32": 1e-5, "float16": 2e-3}


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
@pytest.mark.parametrize("m", [1, 3, 11, 20])
def test_few_and_many_rows(bits: int, dtype: str, zeros: str, m: int) -> None:
    device = unused_device()
    Case(m, 13, 200, bits, 64, dtype, zeros, bias=True).check(device)
    streamed = any(name.startswith("matmul_nbits") for name in device.launches)
    assert streamed == (m <= 16)


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


def test_wrong_inputs_are_refused() -> None:
    case = Case(1, 4, 64, 4, 32, "float32")
    case.attributes["bits"] = 3
    with pytest.raises(errors.Fail, match="bits is 3"):
        case.check()
    case.attributes.update(bits=4, N=5)
    with pytest.raises(errors.Fail, match="B has shape"):
        case.check()
