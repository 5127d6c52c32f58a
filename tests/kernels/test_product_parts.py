# SPDX-License-Identifier: Apache-2.0
"""Products of float32 and float16 by parts of bfloat16, on processors with tile registers.

Elsewhere the same tests run with the kernels that there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

import bascule
from bascule import _native

SIZES = [
    (96, 192, 192),
    (196, 128, 128),
    (97, 193, 200),
    (128, 768, 224),
    (225, 1537, 193),
    (500, 300, 250),
]
needs_tiles = pytest.mark.skipif(not _native.has_bfloat16_tiles(), reason="needs AMX")


def model(text: str, **weights: np.ndarray[Any, Any]) -> bytes:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    data: bytes = proto.SerializeToString()
    return data


def product(m: int, k: int, n: int, seed: int = 0) -> tuple[bytes, dict[str, Any], Any]:
    """relu(x w + b), what it is fed, and the result in float64."""
    generator = np.random.default_rng(seed)
    x, w, b = (generator.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (n,)))
    body = "{ t = MatMul(x, w) u = Add(t, b) y = Relu(u) }"
    data = model(f"(float[{m}, {k}] x) => (float[{m}, {n}] y) {body}", w=w, b=b)
    return data, {"x": x}, np.maximum(x.astype(float) @ w + b, 0)


def session(data: bytes, threads: int = 1, **config: str) -> bascule.InferenceSession:
    options = bascule.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in config.items():
        options.add_session_config_entry(f"session.{key}", value)
    return bascule.InferenceSession(data, options)


def run(data: bytes, feeds: dict[str, Any], **more: Any) -> np.ndarray[Any, Any]:
    (y,) = session(data, **more).run(None, feeds)
    return np.asarray(y)


def error(y: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.abs(y - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("sizes", SIZES)
def test_products_are_as_exact_as_float32(sizes: tuple[int, int, int]) -> None:
    data, feeds, expected = product(*sizes)
    whole = run(data, feeds, disable_product_parts="1")
    assert error(run(data, feeds), expected) <= max(1.5 * error(whole, expected), 3e-7)


@needs_tiles
def test_the_switch_works() -> None:
    data, feeds, _ = product(128, 768, 224)
    assert (run(data, feeds) != run(data, feeds, disable_product_parts="1")).any()


@pytest.mark.parametrize("sizes", SIZES[:3])
def test_threads_change_nothing(sizes: tuple[int, int, int]) -> None:
    data, feeds, _ = product(*sizes)
    first = run(data, feeds)
    for threads in (2, 3):
        np.testing.assert_array_equal(run(data, feeds, threads=threads), first)


def test_a_batch_changes_nothing() -> None:
    generator = np.random.default_rng(3)
    w = generator.standard_normal((256, 200)).astype(np.float32)
    text = "(float[n, 100, 256] x) => (float[n, 100, 200] y) { y = MatMul(x, w) }"
    made = session(model(text, w=w), threads=2)
    x = generator.standard_normal((3, 100, 256)).astype(np.float32)
    (batch,) = made.run(None, {"x": x})
    for index in range(3):
        (alone,) = made.run(None, {"x": x[index : index + 1]})
        np.testing.assert_array_equal(batch[index], alone[0])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["x", "w"])
def test_what_is_not_finite_is_multiplied_as_it_is(value: float, where: str) -> None:
    generator = np.random.default_rng(4)
    x = generator.standard_normal((100, 256)).astype(np.float32)
    w = generator.standard_normal((256, 200)).astype(np.float32)
    (x if where == "x" else w)[7, 150] = value
    text = "(float[100, 256] x) => (float[100, 200] y) { y = MatMul(x, w) }"
    with np.errstate(invalid="ignore"):
        expected = x.astype(float) @ w
    np.testing.assert_allclose(run(model(text, w=w), {"x": x}), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("where", ["x", "w"])
def test_what_is_not_finite_changes_nothing_else(dtype: Any, where: str) -> None:
    generator = np.random.default_rng(9)
    x = generator.standard_normal((2, 100, 256)).astype(dtype)
    w = generator.standard_normal((256, 200)).astype(dtype)
    name = "float" if dtype == np.float32 else "float16"
    text = f"({name}[n, 100, 256] x) => ({name}[n, 100, 200] y) {{ y = MatMul(x, w) }}"
    whole = run(model(text, w=w), {"x": x})
    x_with, w_with = x.copy(), w.copy()
    (x_with[1] if where == "x" else w_with)[7, 150] = np.inf
    data = model(text, w=w_with)
    y = run(data, {"x": x_with})
    np.testing.assert_array_equal(run(data, {"x": x_with}, threads=3), y)
    np.testing.assert_array_equal(run(data, {"x": x_with[1:]}), y[1:])
    if where == "x":  # one row has it
        np.testing.assert_array_equal(np.delete(y[1], 7, 0), np.delete(whole[1], 7, 0))
        np.testing.assert_array_equal(y[0], whole[0])
    else:  # and of columns those of its panel at most
        np.testing.assert_array_equal(y[..., :128], whole[..., :128])
    assert not np.isfinite(y).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e15])
def test_sizes_of_numbers(scale: float) -> None:
    generator = np.random.default_rng(5)
    x = (generator.standard_normal((100, 256)) * scale).astype(np.float32)
    w = generator.standard_normal((256, 200)).astype(np.float32)
    text = "(float[100, 256] x) => (float[100, 200] y) { y = MatMul(x, w) }"
    assert error(run(model(text, w=w), {"x": x}), x.astype(float) @ w) < 1e-6


@pytest.mark.parametrize(
    "stride,kernel,dilation", [(1, 1, 1), (2, 3, 1), (1, 5, 1), (1, 3, 13), (1, 3, 25)]
)
def test_convolutions(stride: int, kernel: int, dilation: int) -> None:
    generator = np.random.default_rng(6)
    x = generator.standard_normal((1, 64, 21, 20)).astype(np.float32)
    w = generator.standard_normal((200, 64, kernel, kernel)).astype(np.float32)
    r = generator.standard_normal((1, 200, 21 // stride + stride // 2, 20 // stride))
    pad, result = dilation * (kernel // 2), f"float[1, 200, {r.shape[2]}, {r.shape[3]}]"
    attributes = f"<pads = [{pad}, {pad}, {pad}, {pad}], strides = [{stride}, {stride}], "
    attributes += f"dilations = [{dilation}, {dilation}]>"
    body = f"{{ t = Conv {attributes} (x, w) u = Add(t, r) y = Relu(u) }}"
    text = f"(float[1, 64, 21, 20] x, {result} r) => ({result} y) {body}"
    feeds = {"x": x, "r": r.astype(np.float32)}
    data = model(text, w=w)
    whole = run(data, feeds, disable_product_parts="1")
    assert error(run(data, feeds, threads=2), whole.astype(float)) < 2e-6


@pytest.mark.parametrize("sizes", SIZES)
def test_products_of_float16(sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    generator = np.random.default_rng(7)
    x, w, r = (generator.standard_normal(s).astype(np.float16) for s in ((m, k), (k, n), (m, n)))
    body = "{ t = MatMul(x, w) u = Add(t, r) y = Relu(u) }"
    text = f"(float16[{m}, {k}] x, float16[{m}, {n}] r) => (float16[{m}, {n}] y) {body}"
    data, feeds = model(text, w=w), {"x": x, "r": r}
    expected = np.maximum(x.astype(float) @ w.astype(float) + r, 0)
    y = run(data, feeds)
    half_step = np.abs(expected) * 2.0**-11 + 1e-4
    assert (np.abs(y.astype(float) - expected) <= 1.01 * half_step).all()
    np.testing.assert_array_equal(run(data, feeds, threads=3), y)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_float16_that_is_not_finite(value: float) -> None:
    generator = np.random.default_rng(8)
    x = generator.standard_normal((100, 256)).astype(np.float16)
    w = generator.standard_normal((256, 200)).astype(np.float16)
    x[7, 150] = value
    text = "(float16[100, 256] x) => (float16[100, 200] y) { y = MatMul(x, w) }"
    with np.errstate(invalid="ignore"):
        expected = x.astype(float) @ w.astype(float)
    np.testing.assert_allclose(run(model(text, w=w), {"x": x}), expected, rtol=2e-3, atol=1e-3)
