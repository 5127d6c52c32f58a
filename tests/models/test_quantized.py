# SPDX-License-Identifier: Apache-2.0
"""Models that onnxruntime's own tools have quantized give what onnxruntime gives."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bascule
from bascule import GraphOptimizationLevel
from bascule.examples import digits
from tests.models import llama_decoder as llama
from tests.support.exact_peer import exact_peer

ort = pytest.importorskip("onnxruntime")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of deprecated names in what it imports
    quantization = pytest.importorskip("onnxruntime.quantization")


Array = np.ndarray[Any, Any]
DATA = Path(__file__).parent / "data"
LEVELS = (GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL)
INT8, UINT8 = quantization.QuantType.QInt8, quantization.QuantType.QUInt8
QDQ, OPERATORS = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator


class Feeds(quantization.CalibrationDataReader):
    def __init__(self, feeds: list[dict[str, Array]]) -> None:
        self._feeds: Iterator[dict[str, Array]] = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


STATIC = {
    "QDQ, U8S8": {"quant_format": QDQ, "activation_type": UINT8, "weight_type": INT8},
    "QDQ, S8S8": {"quant_format": QDQ, "activation_type": INT8, "weight_type": INT8},
    "QDQ, U8U8": {"quant_format": QDQ, "activation_type": UINT8, "weight_type": UINT8},
    "QDQ, U8S8, columns": {
        "quant_format": QDQ,
        "activation_type": UINT8,
        "weight_type": INT8,
        "per_channel": True,
        "reduce_range": True,
    },
    "operators, U8S8": {
        "quant_format": OPERATORS,
        "activation_type": UINT8,
        "weight_type": INT8,
    },
    "operators, U8U8": {
        "quant_format": OPERATORS,
        "activation_type": UINT8,
        "weight_type": UINT8,
    },
}
DYNAMIC = {
    "dynamic, S8": {"weight_type": INT8},
    "dynamic, U8": {"weight_type": UINT8},
    "dynamic, S8, columns": {"weight_type": INT8, "per_channel": True},
}


def quantized(source: Path, feeds: list[dict[str, Array]], how: str, folder: Path) -> bytes:
    target = folder / "quantized.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how in DYNAMIC:
            quantization.quantize_dynamic(source, target, **DYNAMIC[how])
        else:
            quantization.quantize_static(source, target, Feeds(feeds), **STATIC[how])
    return target.read_bytes()


def assert_like_onnxruntime(model: bytes, feeds: dict[str, Array], bound: float, how: str) -> None:
    expected = exact_peer(model, in_floats=how.startswith("QDQ")).run(None, feeds)
    for level in LEVELS:
        options = bascule.SessionOptions()
        options.graph_optimization_level = level
        actual = bascule.InferenceSession(model, options).run(None, feeds)
        for one, other in zip(actual, expected):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            one, other = one.astype(np.float64), other.astype(np.float64)
            assert np.linalg.norm(one - other) <= bound * np.linalg.norm(other)
            if one.ndim == 2:
                np.testing.assert_array_equal(one.argmax(-1), other.argmax(-1))


@pytest.mark.parametrize("how", [*STATIC, *DYNAMIC])
def test_convolutions(how: str, tmp_path: Path) -> None:
    path, images, labels = digits()
    feeds = [{"image": images[i : i + 5]} for i in range(0, 20, 5)]
    model = quantized(path, feeds, how, tmp_path)
    assert_like_onnxruntime(model, {"image": images}, 1e-2, how)
    results = bascule.InferenceSession(model).run(None, {"image": images})[0]
    assert (results.argmax(1) == labels).mean() >= 0.9


@pytest.mark.parametrize("how", [*STATIC, *DYNAMIC])
def test_transformer(how: str, tmp_path: Path) -> None:
    with np.load(DATA / "bert.npz") as arrays:
        feeds = [
            {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"{i}/input")}
            for i in range(3)
        ]
    model = quantized(DATA / "bert.onnx", feeds, how, tmp_path)
    for each in feeds:
        assert_like_onnxruntime(model, each, 1e-2, how)


@pytest.mark.parametrize("block", [16, 32, 64])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_decoder_of_packed_weights(block: int, symmetric: bool, bits: int) -> None:
    quantizer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packer = quantizer.MatMulNBitsQuantizer(
            llama.llama_decoder(), bits=bits, block_size=block, is_symmetric=symmetric
        )
        packer.process()
    proto = packer.model.model
    assert sum(node.op_type == "MatMulNBits" for node in proto.graph.node) == 15
    model = proto.SerializeToString()
    peer = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    session = bascule.InferenceSession(model)
    ids = np.random.default_rng(1).integers(0, llama.VOCABULARY, (2, 7))
    feeds = llama.first_feeds(ids)
    for _ in range(5):
        actual, expected = session.run(None, feeds), peer.run(None, feeds)
        for one, other in zip(actual, expected):
            assert one.shape == other.shape
            assert np.linalg.norm(one - other) <= 1e-2 * np.linalg.norm(other)
        np.testing.assert_array_equal(actual[0].argmax(-1), expected[0].argmax(-1))
        feeds = llama.next_feeds(actual)
