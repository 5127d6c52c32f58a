# SPDX-License-Identifier: Apache-2.0
"""Products whose columns are several results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import bascule
from tests.providers.cuda.against_cpu import normal
from tests.providers.cuda.test_matmul_library import library as library
from tests.support import cuda_emulation
from tests.support.cuda_emulation import EmulatedDevice, run_node
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())


@pytest.mark.parametrize("rows", [(1,), (2, 3), (1, 1), (0,)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("by_library", [True, False])
def test_parts(
    rows: tuple[int, ...], dtype: str, has_bias: bool, by_library: bool, library: Any
) -> None:
    device = EmulatedDevice()
    if by_library:
        device.cublas, device.stream = library, SimpleNamespace(ptr=0)
    a, b = normal(*rows, 16).astype(dtype), normal(16, 24, seed=1).astype(dtype)
    bias = normal(24, seed=2).astype(dtype) if has_bias else None
    got = run_node(
        "SplitMatMul", [a, b, bias], domain="bascule", outputs=3, device=device, constants=[1, 2]
    )
    expected = a.astype("float64") @ b.astype("float64") + (0 if bias is None else bias)
    for y, part in zip(got, np.split(expected, 3, -1), strict=True):
        assert y.dtype.name == dtype and y.shape == part.shape
        np.testing.assert_allclose(y, part, rtol=2e-3 if dtype == "float16" else 1e-5, atol=2e-3)


def model(rows: int) -> bytes:
    """Three products of one matrix, and one whose columns are split."""
    text = f"""
    <ir_version: 10, opset_import: ["": 21]>
    g (float[{rows},8] x) => (float[{rows},4] q, float[{rows},4] k, float[{rows},2] s,
                               float[{rows},2] t)
    {{
        a = MatMul (x, wa)
        q = Add (a, ba)
        b = MatMul (x, wb)
        k = Add (b, bb)
        c = MatMul (q, wc)
        s, t = Split <axis = 1, num_outputs = 2> (c)
    }}
    """
    made = onnx.parser.parse_model(text)
    for seed, (name, shape) in enumerate(
        [("wa", (8, 4)), ("ba", (4,)), ("wb", (8, 4)), ("bb", (4,)), ("wc", (4, 4))]
    ):
        made.graph.initializer.append(onnx.numpy_helper.from_array(normal(*shape, seed=seed), name))
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("rows", [1, 5])
def test_a_session_makes_them(rows: int) -> None:
    content, feeds = model(rows), {"x": normal(rows, 8, seed=9)}
    session = EmulatedSession(content)
    # The parts of one row are dense as they are.
    made = ["MatMul", "Split"] if rows == 1 else ["SplitMatMul"]
    assert [row.op_type for row in session.explain().rows] == made * 2
    on_cpu = bascule.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert "SplitMatMul" not in {row.op_type for row in on_cpu.explain().rows}
    for _ in range(3):
        for got, expected in zip(session.run(None, feeds), on_cpu.run(None, feeds), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_matrix_that_changes_from_run_to_run() -> None:
    """Of a model that has the operator already, with columns that would be laid out anew."""
    text = """
    <ir_version: 10, opset_import: ["": 21, "bascule": 1]>
    g (float[1,1024] x, float[1024,66] w) => (float[1,33] y, float[1,33] z)
    { y, z = bascule.SplitMatMul (x, w) }
    """
    session = EmulatedSession(onnx.parser.parse_model(text).SerializeToString())
    for seed in range(3):
        x, w = normal(1, 1024, seed=seed), normal(1024, 66, seed=9 + seed)
        parts = session.run(None, {"x": x, "w": w})
        np.testing.assert_allclose(np.concatenate(parts, -1), x @ w, atol=0.2)


def test_products_inside_of_a_loop() -> None:
    """The CPU provider, which knows what a sound Loop is, has no such product."""
    text = """
    <ir_version: 10, opset_import: ["": 21]>
    g (float[2,8] x, int64 n) => (float[2,8] last) {
        last = Loop <body = step (int64 i, bool c, float[2,8] x1) => (bool d, float[2,8] z)
        { a = MatMul(x1, v) b = MatMul(x1, w) z = Mul(a, b) d = Identity(c) }> (n, , x)
    }
    """
    made = onnx.parser.parse_model(text)
    for seed, name in enumerate("vw"):
        weight = onnx.numpy_helper.from_array(normal(8, 8, seed=seed), name)
        made.graph.initializer.append(weight)
    content = made.SerializeToString()
    feeds = {"x": normal(2, 8, seed=9), "n": np.array(2, dtype=np.int64)}
    on_cpu = bascule.InferenceSession(content, providers=["CPUExecutionProvider"])
    [expected] = on_cpu.run(None, feeds)
    [found] = EmulatedSession(content).run(None, feeds)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
