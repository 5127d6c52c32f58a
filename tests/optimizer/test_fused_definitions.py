# SPDX-License-Identifier: Apache-2.0
"""The definitions of fused operators, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.save import to_proto
from bascule.ir.types import TensorType
from bascule.optimizer.fused import definition
from tests.optimizer.fusing import run_expanded
from tests.optimizer.graphs import assert_close, parse, type_of

Array = np.ndarray[Any, Any]


def run(call: str, arrays: list[Array | None], outputs: str = "y") -> list[Array]:
    """The outputs of one fused node, ``NAME<attributes>``, on these inputs."""
    present = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    types = {name: type_of(array) for name, array in present.items()}
    inputs = ", ".join(
        f"{types[name].dtype.onnx_name}[{','.join(map(str, array.shape))}] {name}"
        for name, array in present.items()
    )
    names = ", ".join(f"x{i}" if array is not None else "" for i, array in enumerate(arrays))
    results = ", ".join(f"float {name}" for name in outputs.split(", "))
    text = f"g ({inputs}) => ({results}) {{ {outputs} = bascule.{call}({names}) }}"
    model = parse(text)
    for value in model.graph.outputs:
        assert isinstance(value.type, TensorType)
        value.type = TensorType(value.type.dtype)
    return [np.asarray(each) for each in run_expanded(model, present)]


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_split_matmul() -> None:
    a, b, bias = normal(2, 3, 5), normal(5, 6), normal(6)
    parts = np.split(a @ b + bias, 2, axis=-1)
    assert_close(run("SplitMatMul", [a, b, bias], "y, z"), parts)
    assert_close(run("SplitMatMul", [a, b], "y, z"), np.split(a @ b, 2, axis=-1))


def test_matmul() -> None:
    a, b, bias, residual = normal(2, 5, 3), normal(4, 5), normal(4), normal(2, 3, 4)
    product = 0.5 * (a.swapaxes(1, 2) @ b.T)
    attributes = "<transA = 1, transB = 1, alpha = 0.5>"
    assert_close(run(f"MatMul{attributes}", [a, b]), [product])
    assert_close(run(f"MatMul{attributes}", [a, b, bias]), [product + bias])
    assert_close(run(f"MatMul{attributes}", [a, b, None, residual]), [product + residual])
    relu = attributes.replace(">", ', activation = "Relu">')
    expected = np.maximum(product + bias + residual, 0)
    assert_close(run(f"MatMul{relu}", [a, b, bias, residual]), [expected])


@pytest.mark.parametrize("a", [(5,), (5, 3), (2, 4, 5, 3)])
def test_matmul_of_unknown_ranks(a: tuple[int, ...]) -> None:
    x, w = normal(*a), normal(4, 5)
    model = parse(
        "g (float x, float w) => (float y) { y = bascule.MatMul<transA = 1, transB = 1>(x, w) }"
    )
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.type = TensorType(DataType.FLOAT)
    (y,) = run_expanded(model, {"x": x, "w": w})
    expected = (x if x.ndim == 1 else x.swapaxes(-1, -2)) @ w.T
    assert_close([np.asarray(y)], [expected])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Relu", lambda x, a, b: np.maximum(x, 0)),
        ("LeakyRelu", lambda x, a, b: np.where(x < 0, a * x, x)),
        ("Clip", lambda x, a, b: np.clip(x, a, b)),
        (
            "GeluTanh",
            lambda x, a, b: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        ),
        ("Sigmoid", lambda x, a, b: _sigmoid(x)),
        ("Tanh", lambda x, a, b: np.tanh(x)),
        ("Swish", lambda x, a, b: x * _sigmoid(a * x)),
        ("HardSwish", lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("HardSigmoid", lambda x, a, b: np.clip(a * x + b, 0, 1)),
        ("Elu", lambda x, a, b: np.where(x < 0, a * (np.exp(x) - 1), x)),
    ],
)
def test_activations(name: str, function: Any) -> None:
    a, b = normal(3, 4), normal(4, 5)
    attributes = f'activation = "{name}", activation_alpha = 0.3, activation_beta = 0.7'
    assert_close(
        run(f"MatMul<{attributes}>", [a, b]), [function(a @ b, 0.3, 0.7).astype(np.float32)]
    )


def test_gelu_is_exact() -> None:
    one = np.ones((1, 1), np.float32)
    assert_close(
        run('MatMul<activation = "Gelu">', [one, one]), [np.array([[0.8413447]], np.float32)]
    )


def test_convolutions_with_channels_last() -> None:
    x, w, bias, residual = normal(2, 5, 4, 3), normal(6, 3, 1, 1), normal(6), normal(2, 5, 4, 6)
    expected = np.maximum(x @ w[:, :, 0, 0].T + bias + residual, 0)
    call = 'Conv<channels_last = 1, activation = "Relu">'
    assert_close(run(call, [x, w, bias, residual]), [expected])
    scale = normal(2, 1, 1, 3)
    expected = (x * scale) @ w[:, :, 0, 0].T + bias
    assert_close(run("Conv<channels_last = 1>", [x, w, bias, None, scale]), [expected])
    expected = x @ w[:, :, 0, 0].T + bias
    planes = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    assert_close(run("Conv<channels_last = 1, planes = 1>", [planes, w, bias]), [expected])
    taps = normal(6, 1, 1, 1)
    expected = np.maximum(expected, 0) * taps[:, 0, 0, 0] + bias
    call = 'PointwiseDepthwiseConv<channels_last = 1, group = 6, inner_activation = "Relu">'
    assert_close(run(call, [x, w, bias, taps, bias]), [expected])
    w = normal(3, 6, 1, 1)
    expected = x @ w[:, :, 0, 0] + bias
    assert_close(run("ConvTranspose<channels_last = 1>", [x, w, bias]), [expected])


def test_pools_with_channels_last() -> None:
    x = normal(2, 4, 6, 3)
    blocks = x.reshape(2, 2, 2, 3, 2, 3)
    window = "<kernel_shape = [2, 2], strides = [2, 2], channels_last = 1>"
    assert_close(run(f"MaxPool{window}", [x]), [blocks.max((2, 4))])
    assert_close(run(f"AveragePool{window}", [x]), [blocks.mean((2, 4))])


def test_normalizations_with_channels_last() -> None:
    x, scale, bias = normal(2, 4, 5, 6), normal(6), normal(6)
    centered = x - x.mean((1, 2), keepdims=True)
    expected = centered / np.sqrt((centered**2).mean((1, 2), keepdims=True) + 1e-5) * scale + bias
    assert_close(run("InstanceNormalization<channels_last = 1>", [x, scale, bias]), [expected])
    groups = x.reshape(2, 4, 5, 2, 3)
    centered = groups - groups.mean((1, 2, 4), keepdims=True)
    normalized = centered / np.sqrt((centered**2).mean((1, 2, 4), keepdims=True) + 1e-5)
    expected = normalized.reshape(x.shape) * scale + bias
    call = "GroupNormalization<num_groups = 2, channels_last = 1>"
    assert_close(run(call, [x, scale, bias]), [expected])


def test_skip_normalizations() -> None:
    x, skip, scale, bias = normal(2, 3, 8), normal(1, 3, 8), normal(8), normal(8)
    total = x + skip
    centered = total - total.mean(-1, keepdims=True)
    expected = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-3) * scale
    call = "SkipLayerNormalization<epsilon = 0.001>"
    assert_close(run(call, [x, skip, scale], "y, z"), [expected, total])
    assert_close(run(call, [x, skip, scale, bias], "y, z"), [expected + bias, total])
    expected = total / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-3) * scale
    call = "SkipRMSNormalization<epsilon = 0.001>"
    assert_close(run(call, [x, skip, scale], "y, z"), [expected, total])


def test_elementwise() -> None:
    a, b = normal(2, 3), normal(3)
    body = "body (float[2,3] p, float[3] q) => (float[2,3] s, float[2,3] t) <float two = {2}>"
    call = f"Elementwise<body = {body} {{ s = Add(p, q) t = Mul(s, two) }}>"
    assert_close(run(call, [a, b], "y, z"), [a + b, 2 * (a + b)])


def test_what_has_no_definition() -> None:
    x = Value("x", TensorType(type_of(normal(1)).dtype))  # of unknown rank
    assert definition(Node("Conv", [x, x])) is None
    assert definition(Node("Unknown", [x], domain="bascule")) is None
    pool = Node("MaxPool", [x], attributes={"channels_last": 1}, domain="bascule")
    assert definition(pool) is None


def test_an_unknown_activation_is_an_error() -> None:
    x = Value("x", type_of(normal(2, 2)))
    node = Node("MatMul", [x, x], attributes={"activation": "Sine"}, domain="bascule")
    with pytest.raises(ValueError, match="unknown activation 'Sine'"):
        definition(node)


@pytest.mark.parametrize("outputs", ["y", "y, present_key, present_value, scores"])
def test_attention_with_a_sink(outputs: str) -> None:
    q, k, v, sink = normal(2, 3, 8), normal(2, 2, 5, 4), normal(2, 2, 5, 6), normal(2)
    call = "Attention<q_num_heads = 2, qk_matmul_output_mode = 3>"
    found = run(call, [q, k, v, None, None, None, None, sink], outputs)
    scores = np.einsum("bqhd,bhkd->bhqk", q.reshape(2, 3, 2, 4), k) / 2
    weights = np.exp(scores)
    weights /= weights.sum(-1, keepdims=True) + np.exp(sink)[:, None, None]
    y = np.einsum("bhqk,bhkd->bqhd", weights, v).reshape(2, 3, 12)
    expected = [y, k, v, weights]
    assert_close(found, [each.astype(np.float32) for each in expected[: len(found)]])


def test_update_cache() -> None:
    cache, rows = normal(2, 3, 5, 4), normal(2, 2, 12)
    expected = np.concatenate([cache, np.zeros((2, 3, 1, 4), np.float32)], 2)
    for item, start in enumerate((1, 4)):
        new = rows[item].reshape(2, 3, 4).swapaxes(0, 1)
        expected[item, :, start : start + 2] = new
    starts, length = np.array([1, 4]), np.array([6])
    assert_close(run("UpdateCache", [cache, rows, starts, length]), [expected])


def test_attention_with_caches() -> None:
    q, k, v = normal(2, 1, 8), normal(2, 1, 4), normal(2, 1, 6)
    keys, values = normal(2, 1, 5, 4), normal(2, 1, 5, 6)
    starts, length = np.array([1, 5]), np.array([6])
    call = "Attention<q_num_heads = 2, kv_num_heads = 1>"
    inputs = [q, k, v, None, keys, values, starts + 1, None, starts, length]
    found = run(call, inputs, "y, nk, nv")
    (new_keys,) = run("UpdateCache", [keys, k, starts, length])
    (new_values,) = run("UpdateCache", [values, v, starts, length])
    inputs = [q, new_keys, new_values, None, None, None, starts + 1]
    (expected,) = run("Attention<q_num_heads = 2>", inputs)
    assert_close(found, [expected, new_keys, new_values])


def test_cache_rows() -> None:
    keys, values = normal(2, 1, 5, 4), normal(2, 1, 5, 4) + 1
    q, k, v = normal(2, 1, 8), normal(2, 1, 4), normal(2, 1, 4) + 2
    angles = normal(7, 2)
    cosine, sine = np.cos(angles), np.sin(angles)
    starts, length, ids = np.array([1, 4]), np.array([6]), np.array([[1], [4]])
    inputs = [q, k, v, keys, values, starts, length, cosine, sine, ids]
    call = "CacheRows<num_heads = 2, kv_num_heads = 1>"
    y, new_keys, new_values = run(call, inputs, "y, nk, nv")

    def turned(x: Array) -> Array:
        heads = x.reshape(2, 1, -1, 4)
        low, high = np.split(heads, 2, axis=-1)
        c, s = cosine[ids][:, :, None], sine[ids][:, :, None]
        return np.concatenate([low * c - high * s, low * s + high * c], -1).reshape(x.shape)

    (expected_keys,) = run("UpdateCache", [keys, turned(k), starts, length])
    (expected_values,) = run("UpdateCache", [values, v, starts, length])
    assert_close([y, new_keys, new_values], [turned(q), expected_keys, expected_values])


def test_project() -> None:
    x, w, bias, residual = normal(2, 4), normal(6, 4), normal(6), normal(2, 6)
    scale, shift = normal(4) + 1, normal(4)
    call = 'Project<transB = 1, normalization = "LayerNormalization", epsilon = 0.001>'
    centered = x - x.mean(-1, keepdims=True)
    normal_rows = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-3) * scale + shift
    found = run(call, [x, w, bias, residual, scale, shift])
    assert_close(found, [normal_rows @ w.T + bias + residual])


@pytest.mark.parametrize("gated", [0, 1])
def test_project_nbits(gated: int) -> None:
    rng = np.random.default_rng(3)
    x, bytes_, scales = normal(2, 16), rng.integers(0, 256, (6, 1, 8)), normal(6, 1) / 9
    norm = normal(16) + 1
    numbers = np.stack([bytes_ & 15, bytes_ >> 4], -1).reshape(6, 16) - 8
    rows = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * norm
    y = rows @ (numbers * scales).T
    if gated:
        y = y[:, :3] / (1 + np.exp(-y[:, :3])) * y[:, 3:]
    residual = normal(2, y.shape[1])
    attributes = f"K = 16, N = 6, bits = 4, block_size = 16, epsilon = 0.001, gated = {gated}"
    inputs = [x, bytes_.astype(np.uint8), scales, None, None, norm, residual]
    found = run(f"ProjectNBits<{attributes}>", inputs)
    assert_close(found, [(y + residual).astype(np.float32)])


def test_nodes_that_compute_the_same_share_a_definition() -> None:
    model = parse(
        "g (float[3, 3] a, float[3, 3] b, float[2, 3, 3] c) => (float[2, 3, 3] y) {"
        " p = bascule.MatMul<alpha = 0.5>(a, b) q = bascule.MatMul<alpha = 0.5>(p, b)"
        " r = bascule.MatMul<alpha = 0.25>(q, b) s = bascule.MatMul<alpha = 0.5>(r, b, , a)"
        " t = bascule.MatMul<alpha = 0.5>(c, b) y = Add(s, t) }"
    )
    infer_types(model, definition)
    proto = to_proto(model, definitions=definition)
    p, q, r, s, t, _ = (node.overload for node in proto.graph.node)
    assert p == q
    # Another factor, a residual, another rank.
    assert len({p, r, s, t}) == 4 == len(proto.functions)
