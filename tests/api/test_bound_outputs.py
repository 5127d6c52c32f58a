# SPDX-License-Identifier: Apache-2.0
"""Outputs in memory that is bound to them, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bascule as ort
from bascule.ir.save import to_proto
from bascule.ir.text import parse_graph

Array = np.ndarray[Any, Any]

GRAPH = f"""
g (float[n, 6] x) => (float[n, 6] sum, float[m, 3] halves, float[n, 6] same, float[2] fixed)
<float[6, 6] w = {{{", ".join(str(i % 7 - 3) for i in range(36))}}}, float[2] fixed = {{1.5, -2.5}}>
{{
    p = MatMul(x, w)
    sum = Add(p, x)
    r = Relu(sum)
    shape = Constant<value_ints = [-1, 3]>()
    halves = Reshape(r, shape)
    same = Identity(x)
}}
"""

W = (np.arange(36) % 7 - 3).reshape(6, 6).astype(np.float32)


def expected(x: Array) -> dict[str, Array]:
    total = x @ W + x
    halves = np.maximum(total, 0).reshape(-1, 3)
    return {"sum": total, "halves": halves, "same": x, "fixed": np.float32([1.5, -2.5])}


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(to_proto(parse_graph(GRAPH)).SerializeToString())


def bind(binding: Any, name: str, array: Array) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def check(session: ort.InferenceSession, x: Array, targets: dict[str, Array]) -> None:
    """Three runs: the first one learns where memory is needed, the next ones follow."""
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    for name, target in targets.items():
        bind(binding, name, target)
    for seed in range(3):
        x[:] = normal(*x.shape, seed=seed)
        wanted = {name: expected(x.copy())[name] for name in targets}
        session.run_with_iobinding(binding)
        for value, (name, target) in zip(binding.get_outputs(), targets.items()):
            assert value.data_ptr() == target.ctypes.data
            np.testing.assert_allclose(value.numpy(), wanted[name], rtol=1e-5, atol=1e-6)
            flat = target.reshape(-1)[: wanted[name].size]
            np.testing.assert_array_equal(flat, value.numpy().reshape(-1))


@pytest.mark.parametrize("rows", [1, 4, 500])
def test_every_output(session: ort.InferenceSession, rows: int) -> None:
    targets = {name: np.zeros_like(y) for name, y in expected(normal(rows, 6)).items()}
    check(session, normal(rows, 6), targets)


def test_more_room_than_needed(session: ort.InferenceSession) -> None:
    check(session, normal(3, 6), {"sum": np.zeros((5, 6), np.float32)})


def test_memory_that_is_not_aligned(session: ort.InferenceSession) -> None:
    check(session, normal(7, 6), {"sum": np.zeros(43, np.float32)[1:].reshape(7, 6)})


@pytest.mark.parametrize("name", ["sum", "halves", "same"])
@pytest.mark.parametrize("offset", [0, 1, -4])
def test_over_the_input(session: ort.InferenceSession, name: str, offset: int) -> None:
    memory = np.zeros(64, np.float32)
    x = memory[10:40].reshape(5, 6)
    target = memory[10 + offset : 40 + offset].reshape(expected(x)[name].shape)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    bind(binding, name, target)
    for seed in range(3):
        x[:] = normal(5, 6, seed=seed)
        wanted = expected(x.copy())[name]
        session.run_with_iobinding(binding)
        np.testing.assert_allclose(target, wanted, rtol=1e-5, atol=1e-6)


def test_one_over_the_other(session: ort.InferenceSession) -> None:
    memory = np.zeros(40, np.float32)
    binding = session.io_binding()
    x = normal(5, 6)
    binding.bind_cpu_input("x", x)
    bind(binding, "sum", memory[:30].reshape(5, 6))
    bind(binding, "halves", memory[10:].reshape(10, 3))
    for _ in range(3):
        memory[:] = 0
        session.run_with_iobinding(binding)
        np.testing.assert_allclose(memory[:10], expected(x)["sum"].reshape(-1)[:10], rtol=1e-5)
        np.testing.assert_allclose(memory[10:], expected(x)["halves"].reshape(-1), rtol=1e-5)


def test_no_copy_is_made(session: ort.InferenceSession) -> None:
    x = normal(9, 6)
    targets = [np.zeros_like(expected(x)[name]) for name in ("halves", "sum")]
    run_into = session._program.run_into
    copies = [run_into([x], [1, 0], targets) for _ in range(3)]
    assert [made is None for made in copies[1]] == [True, True]
    for target, name in zip(targets, ("halves", "sum")):
        np.testing.assert_allclose(target, expected(x)[name], rtol=1e-5, atol=1e-6)


def test_changing_shapes(session: ort.InferenceSession) -> None:
    for rows in (2, 3, 2, 3, 2):
        check(session, normal(rows, 6), {"sum": np.zeros((rows, 6), np.float32)})


def test_memory_that_must_not_be_written(session: ort.InferenceSession) -> None:
    target = np.zeros((5, 6), np.float32)
    target.flags.writeable = False
    binding = session.io_binding()
    binding.bind_cpu_input("x", normal(5, 6))
    binding.bind_ortvalue_output("sum", ort.OrtValue.ortvalue_from_numpy(target))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="read-only"):
            session.run_with_iobinding(binding)
    assert not target.any()


@pytest.mark.parametrize("target", [np.zeros((4, 6), np.float32), np.zeros((5, 6), np.float64)])
def test_memory_that_does_not_fit(session: ort.InferenceSession, target: Array) -> None:
    binding = session.io_binding()
    binding.bind_cpu_input("x", normal(5, 6))
    bind(binding, "sum", target)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="the buffer of output 'sum'"):
            session.run_with_iobinding(binding)


@pytest.mark.parametrize("gap", ["columns", "transposed"])
def test_memory_with_gaps(session: ort.InferenceSession, gap: str) -> None:
    x = normal(4, 6)
    whole = np.zeros((4, 8) if gap == "columns" else (6, 4), np.float32)
    target = ort.OrtValue(whole[:, 1:7] if gap == "columns" else whole.T)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("sum", target)
    for seed in range(3):
        x[:] = normal(4, 6, seed=seed)
        session.run_with_iobinding(binding)
        written = whole[:, 1:7] if gap == "columns" else whole.T
        np.testing.assert_allclose(written, expected(x)["sum"], 1e-5)
        np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], written)
    assert gap == "transposed" or not whole[:, [0, 7]].any()
