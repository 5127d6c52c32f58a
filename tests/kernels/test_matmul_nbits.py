# SPDX-License-Identifier: Apache-2.0
"""bascule.MatMulNBits against float64, and against its definition."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from bascule.ir.graph import FUSED_DOMAIN, Model
from bascule.optimizer.fused.body import OPSET
from tests.optimizer.fusing import run_expanded
from tests.support.native import node_graph, run_node

Array = np.ndarray[Any, Any]


def pack(numbers: Array, bits: int) -> Array:
    """Along the last axis, the first number in the lowest bits of a byte."""
    per = 8 // bits
    missing = -numbers.shape[-1] % per
    padded = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, missing)])
    groups = padded.reshape(*numbers.shape[:-1], -1, per).astype(np.uint32)
    return (groups << (np.arange(per) * bits)).sum(-1).astype(np.uint8)


class Case:
    """Weights with everything that belongs to them, and what they stand for."""

    def __init__(
        self, k: int, n: int, bits: int, block: int, zeros: str = "none", groups: bool = False
    ) -> None:
        rng = np.random.default_rng(k + n + bits)
        blocks = -(-k // block)
        patterns = rng.integers(0, 1 << bits, (n, blocks * block))
        self.scales = (rng.uniform(0.5, 1.5, (n, blocks)) / (1 << bits)).astype(np.float32)
        self.b = pack(patterns, bits).reshape(n, blocks, block * bits // 8)
        zero: Array = np.full((n, blocks), float(1 << (bits - 1)))
        self.zeros: Array | None = None
        if zeros == "packed":
            zero = rng.integers(0, 1 << bits, (n, blocks)).astype(np.float64)
            self.zeros = pack(zero.astype(np.int64), bits)
        elif zeros == "float":
            zero = rng.uniform(0, 1 << bits, (n, blocks)).astype(np.float32).astype(np.float64)
            self.zeros = zero.astype(np.float32)
        self.groups = rng.permutation(np.arange(k) // block).astype(np.int32) if groups else None
        at = self.groups if self.groups is not None else np.arange(k) // block
        self.weights = (patterns[:, :k] - zero[:, at]) * self.scales[:, at]
        self.attributes = {"K": k, "N": n, "bits": bits, "block_size": block}

    def inputs(self, a: Array, bias: Array | None = None) -> list[Array | None]:
        scales = self.scales.astype(a.dtype)
        return [a, self.b, scales, self.zeros, self.groups, bias]

    def run(self, a: Array, bias: Array | None = None, **options: Any) -> Array:
        result: Array = run_node(
            "MatMulNBits", self.inputs(a, bias), self.attributes, domain="bascule", **options
        )[0]
        return result


def normal(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def assert_close(actual: Array, case: Case, a: Array, tolerance: float = 3e-6) -> None:
    wide = a.astype(np.float64)
    expected, magnitude = wide @ case.weights.T, np.abs(wide) @ np.abs(case.weights.T)
    assert actual.shape == expected.shape and actual.dtype == a.dtype
    error = np.abs(actual.astype(np.float64) - expected)
    assert (error <= tolerance * magnitude + 1e-30).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize(
    "k, n, block",
    [(64, 32, 16), (100, 37, 32), (256, 130, 64), (33, 1, 16), (600, 40, 128), (700, 33, 256)],
)
def test_sizes(k: int, n: int, block: int, zeros: str, bits: int) -> None:
    case = Case(k, n, bits, block, zeros)
    for rows in (1, 2, 5, 70):
        a = normal(rows, k)
        packed = case.run(a, constants=(1, 2, 3))
        assert_close(packed, case, a)
        assert case.run(a).tobytes() == packed.tobytes()  # weights that are fed


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_groups(bits: int) -> None:
    case = Case(96, 40, bits, 32, "packed", groups=True)
    a = normal(3, 96)
    assert_close(case.run(a, constants=(1, 2, 3, 4)), case, a)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_types(dtype: Any) -> None:
    case = Case(128, 48, 4, 32)
    case.scales = case.scales.astype(dtype).astype(np.float32)
    wide = (case.weights / np.repeat(Case(128, 48, 4, 32).scales, 32, 1)).round()
    case.weights = wide * np.repeat(case.scales, 32, 1)
    a = normal(4, 128).astype(dtype)
    result = case.run(a, constants=(1, 2))
    assert_close(result, case, a, float(ml_dtypes.finfo(dtype).eps))


def test_shapes_bias_and_nothing() -> None:
    case = Case(64, 24, 4, 32)
    a, bias = normal(2, 3, 64), normal(24)
    plain = case.run(a, constants=(1, 2))
    np.testing.assert_allclose(case.run(a, bias, constants=(1, 2, 5)), plain + bias, rtol=1e-5)
    assert case.run(a[:, :0]).shape == (2, 0, 24)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [16, 32, 256])
def test_same_bits(block: int, bits: int) -> None:
    case = Case(512, 200, bits, block, "packed")
    a = normal(147, 512)
    whole = case.run(a, constants=(1, 2, 3))
    for threads in (2, 3):
        assert case.run(a, constants=(1, 2, 3), threads=threads).tobytes() == whole.tobytes()
    for start, stop in ((0, 1), (5, 7), (20, 60), (100, 140)):
        part = case.run(a[start:stop], constants=(1, 2, 3))
        assert part.tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38, 1e-42, 1e6])
def test_rows_that_integers_cannot_hold(odd: float, bits: int) -> None:
    """A number that is none, or leaves the others of its block few bits, is for its row alone."""
    case = Case(256, 70, bits, 32)
    patterns = case.weights.copy()
    case.weights[:, 40] = 0  # a number that counts for nothing may still be the largest
    case.b[:, 1, 8 * bits // 8] = pack(np.full((70, 8 // bits), 1 << (bits - 1)), bits)[:, 0]
    case.weights[:, 40 : 40 + 8 // bits] = 0
    a = normal(9, 256)
    plain = case.run(a, constants=(1, 2))
    assert not np.array_equal(patterns, case.weights)
    for row in (0, 4, 8):
        changed = a.copy()
        changed[row, 40] = odd
        result = case.run(changed, constants=(1, 2))
        others = np.arange(9) != row
        assert result[others].tobytes() == plain[others].tobytes()
        if np.isfinite(odd):
            assert_close(result, case, changed)
        else:
            assert np.isnan(result[row]).all()
    changed = a.copy()
    changed[2, 32:64] = odd if np.isfinite(odd) and odd < 1e30 else 1
    assert_close(case.run(changed, constants=(1, 2)), case, changed)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_whole_products(bits: int) -> None:
    """What `session.disable_product_parts` asks for: multiply-adds of floats, in one order."""
    case = Case(128, 20, bits, 32)
    a = normal(2, 128)
    case.attributes["bascule.whole_products"] = 1
    assert_close(case.run(a, constants=(1, 2)), case, a)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize("groups", [False, True])
def test_definition(groups: bool, zeros: str, bits: int) -> None:
    case = Case(80, 21, bits, 16, zeros, groups)
    a, bias = normal(3, 80), normal(21)
    graph = node_graph(
        "MatMulNBits", case.inputs(a, bias), case.attributes, domain=FUSED_DOMAIN, static=True
    )
    feeds = {f"input_{i}": x for i, x in enumerate(case.inputs(a, bias)) if x is not None}
    (expected,) = run_expanded(Model(graph, {"": OPSET, FUSED_DOMAIN: 1}), feeds)
    np.testing.assert_allclose(case.run(a, bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"N": 23}, "B has shape"),
        ({"K": 65}, "B has shape"),
        ({"K": 60}, "60"),
        ({"bits": 3}, "bits"),
        ({"block_size": 24}, "block_size"),
        ({"block_size": 0}, "block_size"),
        ({"N": -1}, "N"),
        ({"K": 1 << 62}, "K|B has shape"),
    ],
)
def test_refuses(changes: dict[str, int], message: str) -> None:
    case = Case(64, 24, 4, 32)
    case.attributes |= changes
    for constants in ((), (1, 2)):
        with pytest.raises(Exception, match=message):
            case.run(normal(2, 64), constants=constants)


def test_refuses_tensors_of_other_sizes() -> None:
    case = Case(64, 24, 4, 32, "packed")
    a = normal(2, 64)
    for index, name in ((2, "scales"), (3, "zero_points")):
        inputs = case.inputs(a)
        given = inputs[index]
        assert given is not None
        inputs[index] = given[:-1]
        with pytest.raises(Fail, match=name):
            run_node("MatMulNBits", inputs, case.attributes, domain="bascule")
    with pytest.raises(Fail, match="bias"):
        case.run(a, normal(23))
    bad = Case(64, 24, 4, 32, groups=True)
    assert bad.groups is not None
    bad.groups[3] = 2
    with pytest.raises(Exception, match="g_idx"):
        bad.run(a)
